"""A worker: one of several processes that serve the same sockets.  `supervisor` starts it, and says what they tell.

The end of its standard input is the end of the supervisor, and so of the worker.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogBeginner
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from ..server import ProxyServer
from ..session import ClientSession
from ..settings import ProxySettings
from .json_log import as_json
from .listening import endpoint_of
from .peers import Peers
from .service import ProxyService, allow_open_files, tune_garbage_collector

_log = Logger()
_OUTPUT = 1


class WorkerServer(ProxyServer):
    """A server that tells when it has as many clients as it may have, and when it has not any more."""

    def __init__(self, reactor: Any, settings: ProxySettings, peers: Peers, changed: Callable[[], object]) -> None:
        """Make a server without clients.

        Args:
            reactor: The reactor.
            settings: The settings.
            peers: The other workers.
            changed: Called after each change of `full`.

        Raises:
            ValueError: The file of users is not valid.
            OSError: The file of users cannot be read.
        """
        super().__init__(reactor, settings, peers)
        self._changed = changed
        self.full = False

    def joined(self, session: ClientSession) -> None:
        """Note a new client."""
        super().joined(session)
        self._look()

    def left(self, session: ClientSession) -> None:
        """Note the end of a client."""
        super().left(session)
        self._look()

    def _look(self) -> None:
        full = len(self.sessions) >= self.settings.max_clients
        if full != self.full:
            self.full = full
            self._changed()


class _Control(LineOnlyReceiver):
    """The lines from the supervisor and to it."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        #: The exit status of this process.
        self.status = 0
        self._service: ProxyService | None = None
        self._server: WorkerServer | None = None
        self._refuse = False
        self._hurried = False
        self._folder = ""
        # Whether there is no supervisor any more.
        self._alone = False

    def lineReceived(self, line: bytes) -> None:
        told = json.loads(line)
        if "settings" in told:
            try:
                self._start(told)
            except Exception:
                _log.failure("the worker cannot start")
                self.status = 1
                self.end()
                return
        if self._server is None or self._service is None:
            return
        assert self._server.peers is not None
        self._server.peers.others = told.get("others", self._server.peers.others)
        self._refuse = told.get("refuse", self._refuse)
        self._accept_or_not()
        if "stop" in told:
            self._hurried = told["stop"] == "now"
            self.end()
            if self._hurried:
                self._service.hurry()

    def _start(self, told: dict[str, Any]) -> None:
        settings = ProxySettings.from_mapping(told["settings"])
        allow_open_files(settings)
        self._folder = told["folder"]
        peers = Peers(self._reactor, told["folder"], told["number"], settings.timeout)
        endpoints = [
            endpoint_of(self._reactor, "listen", description, descriptor)
            for description, descriptor in zip(settings.listen, told["descriptors"], strict=True)
        ]
        self._server = server = WorkerServer(self._reactor, settings, peers, self._fullness_changed)
        server.history.on_entry = lambda level, text: self._tell(event=[level, text])
        self._service = ProxyService(
            self._reactor, settings, endpoints=endpoints, make_server=lambda: server, heed_signals=False
        )
        self._service.startService()
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stop)
        self._service.whenListening().addCallback(lambda _: self._tell(ready=True))

    def _tell(self, **what: Any) -> None:
        self.sendLine(json.dumps(what).encode())  # type: ignore[no-untyped-call]

    def _fullness_changed(self) -> None:
        assert self._server is not None
        self._accept_or_not()
        self._tell(full=self._server.full)

    def _accept_or_not(self) -> None:
        """Leave new clients to workers that may have more, as long as there are some."""
        assert self._server is not None
        assert self._service is not None
        for port in self._service.ports:
            if self._server.full and not self._refuse:
                port.stopReading()  # type: ignore[attr-defined]
            else:
                port.startReading()  # type: ignore[attr-defined]

    def _stop(self) -> Deferred[None]:
        assert self._service is not None
        stopping = self._service.stopService()
        if self._hurried:
            self._service.hurry()
        return stopping.addBoth(self._tell_numbers)

    def _tell_numbers(self, result: Any) -> Any:
        assert self._server is not None
        line = json.dumps({"numbers": self._server.snapshot().as_json()})
        # The reactor writes nothing more.
        with suppress(OSError):
            os.write(_OUTPUT, f"{line}\n".encode())
        if self._alone:
            # The supervisor cannot do it, and the last worker can.
            with suppress(OSError):
                os.rmdir(self._folder)
        return result

    def end(self) -> None:
        """Let the requests of the clients end, and then the process."""
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._alone = True
        self.end()


@implementer(ILogObserver)
class _Written:
    """Writes events for the supervisor, which logs them."""

    def __call__(self, event: LogEvent) -> None:
        # There is no supervisor any more.
        with suppress(OSError):
            sys.stderr.write(as_json(event))


def _reactor() -> Any:
    """Return the reactor of this process: where there is epoll, the one that needs the least CPU time."""
    if hasattr(select, "epoll"):
        from ... import epollreactor

        epollreactor.install()
    from twisted.internet import reactor

    return reactor


def main() -> None:
    """Run a worker."""
    for number in (signal.SIGINT, signal.SIGHUP):
        # A terminal sends it to all processes.  The supervisor tells what is to be done.
        signal.signal(number, signal.SIG_IGN)
    globalLogBeginner.beginLoggingTo([_Written()], redirectStandardIO=False)
    tune_garbage_collector()
    reactor = _reactor()
    control = _Control(reactor)
    StandardIO(control)  # type: ignore[no-untyped-call]
    # Not Twisted's handler, for which a second signal is an error.
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, lambda *_: reactor.callFromThread(control.end))
    reactor.run()
    sys.exit(control.status)


if __name__ == "__main__":
    main()
