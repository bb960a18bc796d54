"""Several processes for one proxy: they serve the same sockets, which the supervisor opens and keeps open.

Workers are new programs with inherited sockets, not forks.  A worker that ends is started again.  SIGHUP replaces all
workers, one after the other: the next one accepts clients before the last one is told to stop, and the sockets stay
open, so that no connection is refused.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProcessTransport
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from .peers import Peers, snapshot_of, total_of
from .service import open_metrics
from .settings import ProxySettings
from .snapshot import Snapshot
from .worker import READY

_log = Logger()
# The first file descriptor that a worker inherits, after standard input, output and error.
_FIRST = 3
# A worker that ended is started again after this time, in seconds.
_AGAIN = 1.0


class _Worker(ProcessProtocol):
    """The process of one worker."""

    def __init__(self, number: int, ended: Callable[[_Worker, Failure], None]) -> None:
        self.number = number
        #: Fires with None when the worker accepts clients.  Fails if it ends before.
        self.ready: Deferred[None] = Deferred()
        #: Fires with None when the process has ended.
        self.gone: Deferred[None] = Deferred()
        self.stopping = False
        self._ended = ended
        self._unlogged = ""

    def outReceived(self, data: bytes) -> None:
        if READY in data and not self.ready.called:
            self.ready.callback(None)

    def errReceived(self, data: bytes) -> None:
        lines = (self._unlogged + data.decode("utf-8", "replace")).split("\n")
        self._unlogged = lines.pop()
        for line in lines:
            _log.info("worker {number}: {line}", number=self.number, line=line)

    def tell(self, what: dict[str, Any]) -> None:
        """Send a line."""
        transport: Any = self.transport
        transport.write(json.dumps(what).encode() + b"\n")

    def stop(self, how: int = signal.SIGTERM) -> None:
        """Tell the worker to end."""
        self.stopping = True
        transport: Any = self.transport
        if transport is not None and transport.pid:
            transport.signalProcess(how)

    def processEnded(self, reason: Failure) -> None:
        self._ended(self, reason)
        if not self.ready.called:
            self.ready.errback(reason)
        self.gone.callback(None)


class Supervisor(Service):
    """A service that runs the workers of a proxy."""

    def __init__(self, reactor: Any, settings: ProxySettings) -> None:
        """Make a supervisor without workers.

        Args:
            reactor: The reactor.
            settings: The settings; ``workers`` is at least 1.

        Raises:
            ValueError: An endpoint is not valid.
        """
        self._reactor = reactor
        self._settings = settings
        self._endpoints = [serverFromString(reactor, each) for each in settings.listen]  # type: ignore[no-untyped-call]
        self._ports: list[IListeningPort] = []
        self._folder = ""
        self._count = 0
        #: The workers that run.
        self.workers: list[_Worker] = []
        self._opening: Deferred[Any] | None = None
        self._metrics: IListeningPort | None = None
        self._replacing: Deferred[None] | None = None

    def privilegedStartService(self) -> None:
        """Open the ports, as root if there are privileges."""
        self._open()

    def startService(self) -> None:
        """Start the workers."""
        super().startService()  # type: ignore[no-untyped-call]
        self._open()
        self._folder = mkdtemp(prefix="valkey-proxy-")
        assert self._opening is not None
        self._opening.addCallback(lambda _: [self._start() for _ in range(self._settings.workers)])
        self._opening.addErrback(self._failed)
        self._reactor.callWhenRunning(self._listen_to_hangups)
        if self._settings.metrics:
            opening = open_metrics(self._reactor, self._settings.metrics, self.snapshot)
            opening.addCallbacks(lambda port: setattr(self, "_metrics", port), self._failed)

    def _open(self) -> None:
        if self._opening is None:
            opening = [endpoint.listen(Factory()).addCallback(self._opened) for endpoint in self._endpoints]
            self._opening = DeferredList(opening, fireOnOneErrback=True, consumeErrors=True)

    def _opened(self, port: Any) -> None:
        # The workers accept the clients.
        port.stopReading()
        self._ports.append(port)

    def _failed(self, failure: Failure) -> None:
        _log.failure("the proxy cannot start", failure)
        if self._reactor.running:
            self._reactor.stop()

    def _listen_to_hangups(self) -> None:
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.replace_workers))

    # ---- workers

    def _start(self) -> _Worker:
        self._count += 1
        worker = _Worker(self._count, self._ended)
        descriptors = [port.fileno() for port in self._ports]  # type: ignore[attr-defined]
        inherited = {_FIRST + place: descriptor for place, descriptor in enumerate(descriptors)}
        command = [sys.executable, "-m", "txvalkeycluster.proxy.worker"]
        transport: IProcessTransport = self._reactor.spawnProcess(
            worker,
            sys.executable,
            command,
            env=dict(os.environ),
            childFDs={0: "w", 1: "r", 2: "r", **inherited},
        )
        worker.transport = transport
        most = -(-self._settings.max_clients // self._settings.workers)
        settings = replace(self._settings, workers=0, metrics="", max_clients=most)
        others = [each.number for each in self.workers]
        worker.tell(
            {
                "settings": asdict(settings),
                "folder": self._folder,
                "number": worker.number,
                "descriptors": list(inherited),
                "others": others,
            }
        )
        self.workers.append(worker)
        self._tell_all()
        worker.ready.addErrback(lambda _: None)
        return worker

    def _tell_all(self) -> None:
        numbers = [each.number for each in self.workers]
        for worker in self.workers:
            worker.tell({"others": [number for number in numbers if number != worker.number]})

    def _ended(self, worker: _Worker, reason: Failure) -> None:
        self.workers.remove(worker)
        self._tell_all()
        if self.running and not worker.stopping:
            _log.error("worker {number} has ended: {reason}", number=worker.number, reason=reason.value)
            self._reactor.callLater(_AGAIN, self._start_again)

    def _start_again(self) -> None:
        if self.running:
            self._start()

    def replace_workers(self) -> Deferred[None]:
        """Start a new worker for each old one, and stop the old one when the new one accepts clients.

        Returns:
            A Deferred that fires with None when all new workers accept clients.
        """
        if self._replacing is None:
            self._replacing = Deferred.fromCoroutine(self._replace())
        waiter: Deferred[None] = Deferred()
        self._replacing.chainDeferred(waiter)
        return waiter

    async def _replace(self) -> None:
        try:
            for old in list(self.workers):
                new = self._start()
                await new.ready
                if new not in self.workers:
                    _log.error("worker {number} stays, because its successor has ended", number=old.number)
                    return
                old.stop()
        finally:
            self._replacing = None

    def snapshot(self) -> Deferred[Snapshot]:
        """Return a Deferred that fires with the numbers of all workers."""
        return Deferred.fromCoroutine(self._snapshot())

    async def _snapshot(self) -> Snapshot:
        peers = Peers(self._reactor, self._folder, 0)
        peers.others = [worker.number for worker in self.workers]
        return total_of([snapshot_of(reply) for reply in await peers.ask_all("NUMBERS")])

    def stopService(self) -> Deferred[None]:
        """Close the ports, and end the workers when the requests of their clients have ended.

        Returns:
            A Deferred that fires with None when all workers have ended.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        ports, self._ports = self._ports, []
        for port in [*ports, *([self._metrics] if self._metrics is not None else [])]:
            await (port.stopListening() or succeed(None))
        for worker in self.workers:
            worker.stop()
        late = self._reactor.callLater(self._settings.stop_timeout + 5.0, self._kill)
        await DeferredList([worker.gone for worker in self.workers])
        if late.active():
            late.cancel()
        rmtree(self._folder, ignore_errors=True)

    def _kill(self) -> None:
        for worker in self.workers:
            worker.stop(signal.SIGKILL)
