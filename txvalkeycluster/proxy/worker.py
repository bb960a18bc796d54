"""A worker: one of several processes that serve the same sockets.  `supervisor` starts it.

Its standard input has its settings in one line of JSON, and then the numbers of the other workers, in a line for each
change.  The end of the input is the end of the supervisor, and so of the worker.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.logger import ILogObserver, LogEvent, eventAsText, globalLogBeginner
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from .inherited import inherited_endpoints
from .peers import Peers
from .service import ProxyService, tune_garbage_collector
from .settings import ProxySettings

_reactor: Any = reactor
#: What a worker writes when it accepts clients.
READY = b"ready"


class _Control(LineOnlyReceiver):
    """The lines from the supervisor."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self) -> None:
        self._service: ProxyService | None = None

    def lineReceived(self, line: bytes) -> None:
        told = json.loads(line)
        if self._service is None:
            self._start(told)
        else:
            assert self._service.server.peers is not None
            self._service.server.peers.others = told["others"]

    def _start(self, told: dict[str, Any]) -> None:
        settings = ProxySettings.from_mapping(told["settings"])
        peers = Peers(_reactor, told["folder"], told["number"])
        peers.others = told["others"]
        endpoints = inherited_endpoints(_reactor, settings.listen, told["descriptors"])
        self._service = ProxyService(_reactor, settings, endpoints=endpoints, peers=peers)
        _reactor.addSystemEventTrigger("before", "shutdown", self._service.stopService)
        self._service.startService()
        self._service.whenListening().addCallback(self._ready)

    def _ready(self, ports: object) -> None:
        self.sendLine(READY)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if _reactor.running:
            _reactor.stop()


@implementer(ILogObserver)
class _Written:
    """Writes events for the supervisor, which logs them."""

    def __call__(self, event: LogEvent) -> None:
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if text:
            sys.stderr.write(f"{text.strip()}\n")


def main() -> None:
    """Run a worker."""
    globalLogBeginner.beginLoggingTo([_Written()], redirectStandardIO=False)
    tune_garbage_collector()
    StandardIO(_Control())  # type: ignore[no-untyped-call]
    _reactor.run()


if __name__ == "__main__":
    main()
