"""The base of all kinds of work: workers that repeat a step, and the counting of outcomes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from txvalkeycluster import ClusterClient
from txvalkeycluster.errors import CommandTimeout, ConnectionLost

from ..findings import Findings
from ..ledger import Ledger, Outcome

#: The errors that any command may have during faults.
USUAL = (CommandTimeout, ConnectionLost)
#: The limit in seconds after its deadline for a command to fire.
GRACE = 5.0


@dataclass
class Environment:
    """What all kinds of work share."""

    reactor: Any
    client: ClusterClient[bytes]
    #: Makes another client of the cluster with the given options.  The run closes it.
    connect: Callable[..., ClusterClient[bytes]]
    findings: Findings
    ledger: Ledger
    random: Random


class Work:
    """One kind of work."""

    name: ClassVar[str]
    #: The number of workers.
    workers: ClassVar[int] = 3
    #: The longest pause of a worker between two steps, in seconds.
    pause: ClassVar[float] = 0.06

    def __init__(self, environment: Environment) -> None:
        self.reactor = environment.reactor
        self.client = environment.client
        self.connect = environment.connect
        self.findings = environment.findings
        self.ledger = environment.ledger
        self.random = Random(environment.random.random())
        self.timeout = self.client.options.timeout or 0.0
        self._stopping = False
        self._running: list[Deferred[None]] = []

    async def prepare(self) -> None:
        """Write the data that the work needs."""

    async def step(self, worker: int) -> None:
        """Do one piece of work."""
        raise NotImplementedError

    async def check(self) -> None:
        """Check the data of the work, when the work has stopped and the cluster is healthy."""

    def keys(self) -> Sequence[str]:
        """Return keys whose slots the faults should move."""
        return ()

    def probes(self) -> dict[str, Callable[[], Awaitable[Outcome]]]:
        """Return functions that try once whether the client works again, beside SET and GET."""
        return {}

    def start(self) -> None:
        """Start the workers."""
        self._running = [Deferred.fromCoroutine(self._repeat(worker)) for worker in range(self.workers)]

    async def stop(self) -> None:
        """Wait until each worker has ended its current step."""
        self._stopping = True
        await DeferredList(self._running)

    async def _repeat(self, worker: int) -> None:
        while not self._stopping:
            try:
                await self.step(worker)
            except Exception:
                # A step handles all documented errors.
                self.violation(f"a step raised:\n{Failure().getTraceback()}")  # type: ignore[no-untyped-call]
            await deferLater(self.reactor, self.random.uniform(0, self.pause))

    # ---- for steps and checks

    def violation(self, text: str) -> None:
        """Record a violation."""
        self.findings.violation(self.name, text)

    async def run(
        self,
        what: str,
        deferred: Deferred[Any],
        *,
        expected: tuple[type[BaseException], ...] = USUAL,
        fits: Callable[[BaseException], bool] = lambda _: True,
        timeout: float | None = None,
        cancel_after: float | None = None,
        takes: float = 0.0,
    ) -> Outcome:
        """Wait for the end of a command, and count its outcome.

        Args:
            what: The command, for the texts of violations.
            deferred: The Deferred of the command.
            expected: The errors that it may have.
            fits: Whether an expected error is the right one.
            timeout: Its own timeout in seconds, if it has one.
            cancel_after: After how many seconds it is cancelled.
            takes: How long it may block on a healthy cluster, in seconds.

        Returns:
            The outcome.
        """
        issued = self.reactor.seconds()
        timer = None
        if cancel_after is not None:
            timer = self.reactor.callLater(cancel_after, deferred.cancel)
            expected = (*expected, CancelledError)
        limit = (self.timeout if timeout is None else timeout) + GRACE
        outcome = await self.findings.observe(self.name, what, deferred, limit)
        if timer is not None and timer.active():
            timer.cancel()
        self.findings.note(self.name, what, outcome, expected, fits)
        self.findings.took(self.name, what, outcome, issued, takes)
        return outcome

    async def certainly(self, what: str, action: Callable[[], Deferred[Any]]) -> Any:
        """Return the reply of a command on a healthy cluster.  Three failures are a violation, and give None."""
        outcome = Outcome()
        for _ in range(3):
            outcome = await self.findings.observe(self.name, what, action(), self.timeout + GRACE)
            if outcome.succeeded:
                return outcome.reply
        self.violation(f"{what} failed on a healthy cluster: {outcome.error!r}")
        return None

    async def in_batches(self, items: Iterable[Any], action: Callable[[list[Any]], Awaitable[object]]) -> None:
        """Do something with 500 items at a time."""
        left = list(items)
        for start in range(0, len(left), 500):
            await action(left[start : start + 500])
