"""Several processes for one proxy: they serve the same sockets, which the supervisor opens and keeps open.

Workers are new programs with inherited sockets, not forks.  A worker that ends is started again.  SIGHUP replaces all
workers, one after the other: the next one accepts clients before the last one is told to stop, and the sockets stay
open, so that no connection is refused.

A worker reads lines of JSON: first its settings, and then what changes.  It writes lines of JSON: when it accepts
clients, when it has as many as it may have, changes of state for the status page, and what it has done in all, when it
ends.  Its log is its standard error.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProcessTransport
from twisted.internet.protocol import Factory
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from ..server import ProxyServer
from ..settings import ProxySettings
from ..snapshot import Snapshot
from ..web.history import History
from .listening import close_ports, endpoint_of, open_ports
from .peers import MOST_NUMBERS, Peers
from .service import SharedRun, at_next_signal, made_server
from .website import Website
from .worker_answers import WorkerAnswers
from .worker_process import WorkerProcess

_log = Logger()
# The first file descriptor that a worker inherits, after standard input, output and error.
_FIRST = 3
# A worker that ended is started again after a pause, which grows while workers end early.  In seconds.
_LEAST_PAUSE, _MOST_PAUSE = 0.1, 5.0
# A worker that has run for this time has not ended early, in seconds.
_STABLE = 10.0
# A worker that does not accept clients after this time is killed, in seconds.
_READY_TIMEOUT = 60.0
# Workers that have not ended by themselves are killed after this time, in seconds.
_KILL_LATE, _KILL_SOON = 5.0, 1.0


class Supervisor(Service):
    """A service that runs the workers of a proxy."""

    def __init__(self, reactor: Any, settings: ProxySettings) -> None:
        """Make a supervisor without workers.

        Args:
            reactor: The reactor.
            settings: The settings; ``workers`` is at least 1.

        Raises:
            SettingsError: An endpoint or the file of users is not valid.
        """
        self._reactor = reactor
        self.seconds = reactor.seconds
        self._settings = settings
        self._endpoints = [endpoint_of(reactor, "listen", each) for each in settings.listen]
        #: Asks the workers, for the web site.
        self.answers = WorkerAnswers(reactor, settings, self)
        self._website = Website(reactor, settings, self.answers)
        # Each worker reads it, too.  A mistake ends the supervisor at once.
        made_server(lambda: ProxyServer(reactor, settings))
        self._shared: list[IListeningPort] = []
        self._ports: list[IListeningPort] = []
        #: The folder of the sockets of the workers, while they run.
        self.folder = ""
        self._serial = 0
        #: The workers that run.
        self.workers: list[WorkerProcess] = []
        #: What the workers that have ended have done.
        self.done = Snapshot()
        #: The last changes of state, of this process and of all workers.
        self.history = History()
        self._pause = _LEAST_PAUSE
        self._filling: IDelayedCall | None = None
        # Workers up to this serial number are to be replaced.
        self._outdated = 0
        self._replacing = SharedRun(self._replace)
        self._refusing = False
        self._stopping = SharedRun(self._stop)
        self._hangup: Any = None

    @property
    def draining(self) -> bool:
        """Whether it lets the requests of the clients end, and stops."""
        return self._stopping.running

    def privilegedStartService(self) -> None:
        """Open the ports, as root if there are privileges.

        Raises:
            CannotListenError: A port cannot be opened.
        """
        self._open()

    def startService(self) -> None:
        """Start the workers.

        Raises:
            CannotListenError: A port cannot be opened.
        """
        if self.running:
            return
        self._open()
        super().startService()  # type: ignore[no-untyped-call]
        self.folder = mkdtemp(prefix="valkey-proxy-")
        self._pause = _LEAST_PAUSE
        self._fill()
        self._reactor.callWhenRunning(self._listen_to_hangups)

    def _open(self) -> None:
        if self._shared:
            return
        if self._stopping.running:
            raise RuntimeError("the proxy has not stopped yet")
        factory = Factory()
        factory.noisy = False
        opening = [
            (description, endpoint.listen(factory).addCallback(self._opened))
            for description, endpoint in zip(self._settings.listen, self._endpoints, strict=True)
        ]
        opening += self._website.open()
        try:
            open_ports(self._reactor, opening, self._ports)
        except Exception:
            self._shared.clear()
            raise

    def _opened(self, port: Any) -> Any:
        # The workers accept the clients.
        port.stopReading()
        self._shared.append(port)
        return port

    def _listen_to_hangups(self) -> None:
        if self.running and hasattr(signal, "SIGHUP"):
            self._hangup = signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.replace_workers))

    def _note(self, level: Any, text: str, **fields: object) -> None:
        """Write a line of the log, and show it on the status page."""
        _log.emit(level, text, **fields)
        self.history.add(level.name, text.format(**fields))

    # ---- workers

    def _start(self, place: int) -> WorkerProcess | None:
        """Start a worker; return None if the system does not let us."""
        self._serial += 1
        taken = {each.number for each in self.workers}
        number = next(
            each % (MOST_NUMBERS - 1) + 1
            for each in range(self._serial - 1, self._serial + MOST_NUMBERS)
            if each % (MOST_NUMBERS - 1) + 1 not in taken
        )
        worker = WorkerProcess(self, self._serial, number, place)
        inherited = {_FIRST + each: port.fileno() for each, port in enumerate(self._shared)}  # type: ignore[attr-defined]
        try:
            transport: IProcessTransport = self._reactor.spawnProcess(
                worker,
                sys.executable,
                [sys.executable, "-m", "txvalkeycluster.proxy.process.worker"],
                env=dict(os.environ),
                childFDs={0: "w", 1: "r", 2: "r", **inherited},
            )
        except OSError as reason:
            self._note(LogLevel.error, "a worker cannot be started: {reason}", reason=reason)
            return None
        worker.transport = transport
        self.workers.append(worker)
        worker.tell(
            settings=asdict(self._share(place)),
            folder=self.folder,
            number=number,
            descriptors=list(inherited),
            others=[],
            refuse=self._refusing,
        )
        self._tell_all()
        late = self._reactor.callLater(_READY_TIMEOUT, self._not_ready, worker)
        worker.ready.addCallback(self._is_ready, late)
        return worker

    def _share(self, place: int) -> ProxySettings:
        """Return the settings of a worker: it has its part of what is limited for all clients together."""
        settings = self._settings
        count = settings.workers
        clients, rest = divmod(settings.max_clients, count)
        return replace(
            settings,
            workers=0,
            metrics="",
            max_clients=clients + (place < rest),
            max_total_bytes=max(settings.max_total_bytes // count, 1),
            max_output=max(settings.max_output // count, 1),
        )

    def _is_ready(self, ready: bool, late: IDelayedCall) -> bool:
        if late.active():
            late.cancel()
        self.changed()
        return ready

    def _not_ready(self, worker: WorkerProcess) -> None:
        self._note(LogLevel.error, "worker {number} is killed: it does not accept clients", number=worker.number)
        worker.kill()

    def _tell_all(self) -> None:
        numbers = [each.number for each in self.workers]
        for worker in self.workers:
            worker.tell(others=[number for number in numbers if number != worker.number])

    def changed(self) -> None:
        """Let the workers refuse clients if all have as many as they may have.  Otherwise the others accept them."""
        accepting = [worker for worker in self.workers if worker.accepts]
        refusing = bool(accepting) and all(worker.full for worker in accepting)
        if refusing != self._refusing:
            self._refusing = refusing
            for worker in self.workers:
                worker.tell(refuse=refusing)

    def ended(self, worker: WorkerProcess, reason: Failure) -> None:
        """Note the end of a worker.  It is started again if it was not told to stop."""
        self.workers.remove(worker)
        self.done.add(worker.numbers.without_gauges())
        with suppress(OSError):
            os.unlink(Peers(self._reactor, self.folder, 0).socket_of(worker.number))
        self._tell_all()
        self.changed()
        if not self.running or worker.stopping:
            return
        text = "worker {number} has ended: {reason}"
        self._note(LogLevel.error, text, number=worker.number, reason=reason.value)
        if worker.ready.called and self.seconds() - worker.started >= _STABLE:
            self._pause = _LEAST_PAUSE
        self._fill_later()

    def _fill_later(self) -> None:
        if self._filling is None:
            self._filling = self._reactor.callLater(self._pause, self._fill)
            self._pause = min(2 * self._pause, _MOST_PAUSE)

    def _fill(self) -> None:
        """Start a worker at each place that has none."""
        self._filling = None
        for place in range(self._settings.workers):
            if not any(each.place == place and not each.stopping for each in self.workers) and not self._start(place):
                self._fill_later()
                return

    def replace_workers(self) -> Deferred[None]:
        """Start a new worker for each one of now, and stop the old one when the new one accepts clients.

        If a new worker ends before, the old one and those after it stay.

        Returns:
            A Deferred that fires with None at the end.
        """
        self._outdated = self._serial
        return self._replacing.run()

    async def _replace(self) -> None:
        while self.running:
            old = next((each for each in self.workers if each.serial <= self._outdated and not each.stopping), None)
            if old is None:
                return
            outdated = self._outdated
            new = self._start(old.place)
            accepts = new is not None and await new.ready
            if not self.running:
                return
            if not accepts:
                text = "worker {number} stays, because its successor has ended"
                self._note(LogLevel.error, text, number=old.number)
                if self._outdated == outdated:
                    return
                continue
            for each in self.workers:
                if each.place == old.place and each is not new:
                    self._retire(each)

    def _retire(self, worker: WorkerProcess) -> None:
        """Let a worker end by itself, as long as it does not take too long."""
        if not worker.stopping:
            worker.stop()
            self._kill_later(worker, self._settings.stop_timeout + _KILL_LATE)

    def _kill_later(self, worker: WorkerProcess, seconds: float) -> None:
        late = self._reactor.callLater(seconds, self._kill, worker)
        worker.gone.addCallback(lambda _: late.cancel() if late.active() else None)

    def _kill(self, worker: WorkerProcess) -> None:
        self._note(LogLevel.error, "worker {number} is killed: it does not end", number=worker.number)
        worker.kill()

    # ---- the end

    def stopService(self) -> Deferred[None]:
        """Close the ports, and end the workers when the requests of their clients have ended.

        A second SIGTERM or SIGINT ends the requests at once.

        Returns:
            A Deferred that fires with None when all workers have ended.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return self._stopping.run()

    async def _stop(self) -> None:
        undo = at_next_signal(self._reactor, self.hurry)
        try:
            if self._filling is not None:
                self._filling.cancel()
                self._filling = None
            ports, self._ports, self._shared = self._ports, [], []
            await close_ports(self._website.others(ports))
            for worker in self.workers:
                self._retire(worker)
            await DeferredList([worker.gone for worker in self.workers])
            await self._website.close()
            rmtree(self.folder, ignore_errors=True)
        finally:
            undo()
            if self._hangup is not None:
                signal.signal(signal.SIGHUP, self._hangup)
                self._hangup = None

    def hurry(self) -> None:
        """End the requests under way, if the service is stopping."""
        if self._stopping.running:
            for worker in self.workers:
                worker.tell(stop="now")
                self._kill_later(worker, _KILL_SOON)
