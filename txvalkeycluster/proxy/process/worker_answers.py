"""What the workers answer together: their numbers, whether they are ready, and what the status page shows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from ..settings import ProxySettings
from ..snapshot import Snapshot
from ..web.status import DRAINS, Part, Readiness, readiness_of_all, status_of, worker_row
from .peers import PeerError, Peers, part_in, readiness_in, snapshot_in
from .worker_process import WorkerProcess

if TYPE_CHECKING:
    from .supervisor import Supervisor

# How long a worker may take to tell its numbers, in seconds.
_PATIENCE = 5.0
# The same for the status page and for health checks, which come again soon.
_SHORT_PATIENCE = 1.0


class _NotReady(Exception):
    """A worker cannot serve requests."""

    def __init__(self, readiness: Readiness) -> None:
        super().__init__(readiness.text)
        self.readiness = readiness


def _refusal(failure: Failure) -> Readiness:
    """Return why a worker is not ready."""
    reason = failure.value
    return reason.readiness if isinstance(reason, _NotReady) else Readiness(False, str(reason))


def _state(worker: WorkerProcess, answers: bool) -> str:
    if worker.stopping:
        return "stopping"
    if not worker.ready.called:
        return "starting"
    return "running" if answers else "no answer"


class WorkerAnswers:
    """Asks all workers of a supervisor."""

    def __init__(self, reactor: Any, settings: ProxySettings, supervisor: Supervisor) -> None:
        """Make it; the workers need not run yet.

        Args:
            reactor: The reactor.
            settings: The settings.
            supervisor: Has the workers.
        """
        self._reactor = reactor
        self._settings = settings
        self._supervisor = supervisor
        self._began = reactor.seconds()

    def snapshot(self) -> Deferred[Snapshot]:
        """Add up the numbers of all workers, also of those that have ended.

        Returns:
            A Deferred that fires with the numbers.  It fails with PeerError if a worker does not answer.
        """
        return Deferred.fromCoroutine(self._snapshot())

    async def _snapshot(self) -> Snapshot:
        for worker, answered, reply in await self._ask("NUMBERS", _PATIENCE):
            # A worker that has ended meanwhile has told its numbers, or they are those of the last time.
            if worker in self._supervisor.workers:
                if not answered and not worker.told_all:
                    raise PeerError(f"worker {worker.number} does not answer")
                if not worker.told_all:
                    worker.numbers = snapshot_in(reply)
        return self._total()

    async def _ask(self, question: str, patience: float) -> list[tuple[WorkerProcess, bool, Any]]:
        """Return for each worker that has started whether it has answered, and its answer or a Failure."""
        peers = Peers(self._reactor, self._supervisor.folder, 0)
        asked = [worker for worker in self._supervisor.workers if worker.ready.called]
        asking = [Deferred.fromCoroutine(peers.ask(each.number, question, patience=patience)) for each in asked]
        answers: Any = await DeferredList(asking, consumeErrors=True)
        return [(worker, answered, reply) for worker, (answered, reply) in zip(asked, answers, strict=True)]

    def _total(self) -> Snapshot:
        total = Snapshot()
        total.add(self._supervisor.done)
        for worker in self._supervisor.workers:
            total.add(worker.numbers)
        return total

    def readiness(self) -> Deferred[Readiness]:
        """Return whether the proxy can serve requests.

        Returns:
            A Deferred that fires with the answer.  A worker that does not answer accepts no clients, and others do.
        """
        return Deferred.fromCoroutine(self._readiness())

    async def _readiness(self) -> Readiness:
        if self._supervisor.draining:
            return DRAINS
        peers = Peers(self._reactor, self._supervisor.folder, 0)

        async def ask(worker: WorkerProcess) -> Readiness:
            answer = readiness_in(await peers.ask(worker.number, "READY", patience=_SHORT_PATIENCE))
            if not answer.ready:
                raise _NotReady(answer)
            return answer

        asking = [Deferred.fromCoroutine(ask(worker)) for worker in self._supervisor.workers if worker.accepts]
        found: Any = await DeferredList(asking, fireOnOneCallback=True, consumeErrors=True) if asking else []
        if isinstance(found, tuple):
            for each in asking:
                each.cancel()
            ready: Readiness = found[0]
            return ready
        return readiness_of_all([_refusal(failure) for _, failure in found])

    def status(self) -> Deferred[dict[str, Any]]:
        """Return what the status page shows, as far as the workers answer.

        Returns:
            A Deferred that fires with it.
        """
        return Deferred.fromCoroutine(self._status())

    async def _status(self) -> dict[str, Any]:
        parts: dict[int, Part] = {}
        for worker, answered, reply in await self._ask("STATUS", _SHORT_PATIENCE):
            if answered:
                part = parts[worker.number] = part_in(reply)
                if not worker.told_all:
                    worker.numbers = part.numbers
        workers = self._supervisor.workers
        rows = [worker_row(each.number, _state(each, each.number in parts), each.numbers) for each in workers]
        accepting = [parts[each.number].readiness for each in workers if each.accepts and each.number in parts]
        return status_of(
            list(parts.values()),
            self._total(),
            DRAINS if self._supervisor.draining else readiness_of_all(accepting),
            history=self._supervisor.history.as_json(),
            now=time.time(),
            uptime=self._reactor.seconds() - self._began,
            max_clients=self._settings.max_clients,
            workers=rows,
        )
