"""Reads of keys whose values never change, so that a reply for the wrong command is noticed.

The value of a key contains its name.  One kind of work cancels commands, and one gives them short deadlines.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from ..ledger import Outcome
from .base import Environment
from .counters import CountingWork


class SteadyWork(CountingWork):
    """Work that reads keys which never change, and increments counters."""

    steady = 30

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        # The keys of each worker.
        self.steady_keys = [[f"{self.name}:steady:{w}:{n}" for n in range(self.steady)] for w in range(self.workers)]

    async def prepare(self) -> None:
        """Write the keys."""
        names = [key for keys in self.steady_keys for key in keys]
        await self.client.mset({key: value_of(key) for key in names})

    def keys(self) -> Sequence[str]:
        """Return these keys and the counters."""
        return [*super().keys(), *(key for keys in self.steady_keys for key in keys)]

    def verify(self, key: str, outcome: Outcome) -> None:
        """Compare a reply with the value of the key."""
        if outcome.succeeded and outcome.reply != value_of(key):
            self.violation(f"GET {key} gave {outcome.reply!r}")

    async def read(self, key: str, *, timeout: float | None = None, cancel_after: float | None = None) -> None:
        """Read a key."""
        words = ("GET", key)
        sent = self.client.execute(*words) if timeout is None else self.client.execute(*words, timeout=timeout)
        self.verify(key, await self.run(" ".join(words), sent, timeout=timeout, cancel_after=cancel_after))


class Cancels(SteadyWork):
    """Several commands at once, some of which are cancelled."""

    name = "cancels"
    pause = 0.2

    async def step(self, worker: int) -> None:
        """Send a few reads and increments, and cancel some of them within 5 ms."""
        issued: list[Coroutine[Any, Any, None]] = []
        for key in self.random.sample(self.steady_keys[worker], 6):
            issued.append(self.read(key, cancel_after=self._moment()))
            if self.random.random() < 0.3:
                increment = self.random.choice([self.increment, self.increment_in_transaction])
                issued.append(increment(self.random.choice(self.tallies), cancel_after=self._moment()))
        await gatherResults([Deferred.fromCoroutine(each) for each in issued])

    def _moment(self) -> float | None:
        return self.random.uniform(0, 0.005) if self.random.random() < 0.4 else None


class Timeouts(SteadyWork):
    """Commands with a deadline of a few milliseconds."""

    name = "timeouts"

    async def step(self, worker: int) -> None:
        """Read or increment with a short deadline."""
        timeout = self.random.uniform(0.001, 0.05)
        if self.random.random() < 0.5:
            await self.read(self.random.choice(self.steady_keys[worker]), timeout=timeout)
        else:
            increment = self.random.choice([self.increment, self.increment_in_transaction])
            await increment(self.random.choice(self.tallies), timeout=timeout)


def value_of(key: str) -> bytes:
    """Return the value of a key that never changes."""
    return f"the value of {key}".encode()
