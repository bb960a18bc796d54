"""Counters: each INCR is executed at most once, and exactly once if it was acknowledged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from ..ledger import Outcome, Tally
from .base import Environment, Work


class CountingWork(Work):
    """Work that increments counters."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.tallies = [Tally(self.ledger, self.name, key) for key in self.counter_keys()]

    def counter_keys(self) -> Sequence[str]:
        """Return the keys of the counters."""
        return [f"{self.name}:counter:{number}" for number in range(20)]

    def keys(self) -> Sequence[str]:
        """Return the keys of the counters."""
        return self.counter_keys()

    async def check(self) -> None:
        """Compare each counter with the acknowledged increments and those in doubt."""
        for tally in self.tallies:
            value = await self.certainly(f"GET {tally.key}", partial(self.client.get, tally.key))
            for problem in tally.problems(int(value or 0)):
                self.violation(problem)

    async def increment(self, tally: Tally, *, timeout: float | None = None, cancel_after: float | None = None) -> None:
        """Increment a counter."""
        before = tally.begin()
        words = ("INCR", tally.key)
        sent = self.client.execute(*words) if timeout is None else self.client.execute(*words, timeout=timeout)
        self.end(tally, before, await self.run(" ".join(words), sent, timeout=timeout, cancel_after=cancel_after))

    async def increment_in_transaction(
        self, tally: Tally, *, timeout: float | None = None, cancel_after: float | None = None
    ) -> None:
        """Increment a counter in a transaction."""
        before = tally.begin()
        transaction = self.client.transaction() if timeout is None else self.client.transaction(timeout=timeout)
        sent = transaction.incr(tally.key).execute(raise_first=True).addCallback(lambda replies: replies[0])
        self.end(tally, before, await self.run("a transaction", sent, timeout=timeout, cancel_after=cancel_after))

    def end(self, tally: Tally, before: Counter[int], outcome: Outcome) -> None:
        """Record the outcome of an increment."""
        if problem := tally.end(before, outcome):
            self.violation(problem)


class Counters(CountingWork):
    """INCR."""

    name = "counters"
    workers = 5

    async def step(self, worker: int) -> None:
        """Increment any counter."""
        await self.increment(self.random.choice(self.tallies))
