"""`ProxyService`: a proxy as a Twisted service."""

from __future__ import annotations

import gc
import resource
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger

from ..server import ProxyServer
from ..settings import ProxySettings, SettingsError
from ..snapshot import Snapshot
from ..web.status import DRAINS, Readiness, part_of, readiness_of, status_of
from .listening import close_ports, endpoint_of, open_ports
from .website import Website

_log = Logger()
# The open files that are not those of clients, such as connections to nodes.
_OTHER_FILES = 512


class SharedRun:
    """Runs a coroutine; whoever asks for it while it runs waits for the same end."""

    def __init__(self, start: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Make a run that has not begun.

        Args:
            start: Starts the coroutine.
        """
        self.running = False
        self._start = start
        self._waiters: list[Deferred[None]] = []

    def run(self) -> Deferred[None]:
        """Begin, unless it runs.

        Returns:
            A Deferred that fires when it has ended.
        """
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        if not self.running:
            self.running = True
            Deferred.fromCoroutine(self._start()).addBoth(self._ended)
        return waiter

    def _ended(self, result: Any) -> None:
        self.running = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(result)


class ProxyService(Service):
    """A proxy that starts and stops with a Twisted application.

    It can be started again after it has stopped, but not with sockets of systemd.

    Example:
        application = Application("proxy")
        ProxyService(reactor, ProxySettings(cluster="valkey://10.0.0.1:7000")).setServiceParent(application)
    """

    def __init__(
        self,
        reactor: Any,
        settings: ProxySettings,
        *,
        endpoints: Sequence[IStreamServerEndpoint] | None = None,
        make_server: Callable[[], ProxyServer] | None = None,
        heed_signals: bool = True,
    ) -> None:
        """Make a proxy that does not listen yet.

        Args:
            reactor: The Twisted reactor.
            settings: The settings.
            endpoints: Where to listen, in place of ``settings.listen``.
            make_server: Makes the server at each start; by default a `ProxyServer` without other workers.
            heed_signals: Whether SIGTERM and SIGINT end the requests under way while the service stops.

        Raises:
            SettingsError: An endpoint or the file of users is not valid.
        """
        self._reactor = reactor
        self._settings = settings
        self._heed_signals = heed_signals
        self._descriptions = list(settings.listen)
        if endpoints is None:
            endpoints = [endpoint_of(reactor, "listen", each) for each in settings.listen]
        else:
            self._descriptions = [f"endpoint {number}" for number in range(len(endpoints))]
        self._endpoints = endpoints
        self._website = Website(reactor, settings, self)
        self._make = make_server or (lambda: ProxyServer(reactor, settings))
        self.server = made_server(self._make)
        #: The ports that are open.
        self.ports: list[IListeningPort] = []
        self._peers_port: IListeningPort | None = None
        self._listening: Deferred[Any] | None = None
        self._used = False
        self._stopping = SharedRun(self._stop)
        # Fires when the requests under way must end at once.
        self._impatient: Deferred[None] = Deferred()

    def privilegedStartService(self) -> None:
        """Open the ports, as root if there are privileges.

        Raises:
            CannotListenError: A port cannot be opened.
        """
        self._listen()

    def startService(self) -> None:
        """Open the ports, and connect to the cluster.

        Raises:
            CannotListenError: A port cannot be opened.
        """
        if self.running:
            return
        self._listen()
        super().startService()  # type: ignore[no-untyped-call]
        self.server.start()

    def _listen(self) -> None:
        if self._listening is not None:
            return
        if self._stopping.running:
            raise RuntimeError("the proxy has not stopped yet")
        if self._used:
            self.server = self._make()
        opening = [
            (name, endpoint.listen(self.server))
            for name, endpoint in zip(self._descriptions, self._endpoints, strict=True)
        ]
        opening += self._website.open()
        open_ports(self._reactor, opening, self.ports)
        if self.server.peers is not None:
            self._peers_port = self.server.peers.listen(self.server)
        self._used = True
        self._impatient = Deferred()
        self._listening = DeferredList([listening for _, listening in opening])

    def whenListening(self) -> Deferred[list[IListeningPort]]:
        """Wait until every endpoint is open or has failed.

        Returns:
            A Deferred that fires with the open ports.
        """
        waiter: Deferred[Any] = Deferred()
        assert self._listening is not None
        self._listening.chainDeferred(waiter)
        return waiter.addCallback(lambda _: self.ports)

    # ---- what the web site shows

    def snapshot(self) -> Deferred[Snapshot]:
        """Return all numbers of this process."""
        return succeed(self.server.snapshot())

    def readiness(self) -> Deferred[Readiness]:
        """Return whether the proxy can serve requests."""
        return succeed(DRAINS if self._stopping.running else readiness_of(self.server))

    def status(self) -> Deferred[dict[str, Any]]:
        """Return what the status page shows."""
        server = self.server
        part = part_of(server)
        shown = status_of(
            [part],
            part.numbers,
            DRAINS if self._stopping.running else part.readiness,
            history=server.history.as_json(),
            now=time.time(),
            uptime=server.seconds() - server.begun,
            max_clients=self._settings.max_clients,
            workers=[],
        )
        return succeed(shown)

    # ---- the end

    def stopService(self) -> Deferred[None]:
        """Close the ports, let the requests of the clients end, and disconnect them.

        A second SIGTERM or SIGINT ends the requests at once, as `hurry`.

        Returns:
            A Deferred that fires with None when everything has ended, at the latest after ``stop_timeout``.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return self._stopping.run()

    def hurry(self) -> None:
        """End the requests under way, if the service is stopping."""
        if self._stopping.running and not self._impatient.called:
            self._impatient.callback(None)

    async def _stop(self) -> None:
        undo = at_next_signal(self._reactor, self.hurry) if self._heed_signals else lambda: None
        limit = self._reactor.callLater(self._settings.stop_timeout, self.hurry)
        try:
            if self._listening is not None:
                await self.whenListening()
            ports, self.ports = self.ports[:], []
            self._listening = None
            await close_ports(self._website.others(ports))
            for ending in (self.server.stop, self.server.close):
                if not self._impatient.called:
                    await DeferredList([ending(), self._impatient], fireOnOneCallback=True)
            if self._impatient.called:
                self.server.abort()
            await self.server.close()
            if self._peers_port is not None:
                await close_ports([self._peers_port])
                self._peers_port = None
            await self._website.close()
        finally:
            undo()
            if limit.active():
                limit.cancel()


def made_server(make: Callable[[], ProxyServer]) -> ProxyServer:
    """Make a server.

    Raises:
        SettingsError: The file of users cannot be used.
    """
    try:
        return make()
    except OSError as reason:
        raise SettingsError("users", f"cannot be read: {reason.strerror}: {reason.filename}") from reason
    except SettingsError:
        raise
    except ValueError as reason:
        raise SettingsError("users", f"is not valid: {reason}") from reason


def tune_garbage_collector() -> None:
    """Let Python look for cycles less often, in a process that is nothing but a proxy.

    Each request under way is a list, so the usual limit of 700 objects is reached in every turn of the reactor.  This
    saves 7% of the CPU time of a request.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def allow_open_files(settings: ProxySettings) -> None:
    """Raise the limit of open files of this process to what its clients need, as far as the system lets it."""
    wanted = settings.max_clients + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return
    limit = wanted if hard == unlimited else min(wanted, hard)
    if limit > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit < wanted:
        _log.warn(
            "the system allows {limit} open files, but max_clients needs {wanted} (ulimit -n)",
            limit=limit,
            wanted=wanted,
        )


# What is called at the next SIGTERM or SIGINT, and the handlers of the time before.
_at_signal: list[Callable[[], object]] = []
_before: dict[int, Any] = {}


def at_next_signal(reactor: Any, act: Callable[[], object]) -> Callable[[], None]:
    """Call a function at every SIGTERM and SIGINT, while a service stops.

    Args:
        reactor: The reactor.  A signal also stops it, if it was another reason that ended the service.
        act: The function.  It is called by the reactor.

    Returns:
        A function that undoes this.
    """

    def undo() -> None:
        if act in _at_signal:
            _at_signal.remove(act)
        if not _at_signal:
            for number, handler in _before.items():
                signal.signal(number, handler)
            _before.clear()

    def arrived() -> None:
        for each in _at_signal[:]:
            each()
        with suppress(ReactorNotRunning):
            reactor.stop()

    def handle(*_: object) -> None:
        reactor.callFromThread(arrived)

    _at_signal.append(act)
    if not _before and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            _before[number] = signal.signal(number, handle) or signal.SIG_DFL
    return undo
