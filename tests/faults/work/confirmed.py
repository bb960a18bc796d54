"""Writes that WAIT has confirmed: no fault of a primary may lose them."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.task import deferLater

from txvalkeycluster.errors import ConnectFailed, ReplyError

from .base import USUAL, Environment, Work

# In milliseconds.
_WAITS = (100, 1000, 3000)
# In seconds.  WAIT fails after a connection with unconfirmed writes was lost, but not for ever.  So only writes shortly
# before WAIT count as confirmed.
_SOON = 0.8


@dataclass(frozen=True, slots=True)
class _Write:
    """A confirmed write.  Times are in reactor.seconds()."""

    key: str
    written_at: float
    confirmed_at: float


class Confirmed(Work):
    """SET of a few new keys, then WAIT for one replica of each shard.

    Each primary has one replica.  A write that the replica has survives every fault of the primary alone.
    """

    name = "confirmed"
    workers = 4
    pause = 0.2

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._confirmed: list[_Write] = []
        self._number = 0

    async def step(self, worker: int) -> None:
        """Write, wait, and record the confirmed writes."""
        written: dict[str, float] = {}
        for _ in range(self.random.randint(1, 4)):
            self._number += 1
            key = f"confirmed:{self._number}"
            if (await self.run(f"SET {key}", self.client.set(key, key))).succeeded:
                written[key] = self.reactor.seconds()
        await deferLater(self.reactor, self.random.choice([0, 0, 0.3]))
        begun = self.reactor.seconds()
        # WritesUnconfirmed is a kind of ConnectionLost.
        expected = (*USUAL, ConnectFailed, ReplyError)
        limit = self.random.choice(_WAITS)
        timeout = self.timeout + limit / 1000
        outcome = await self.run(
            "WAIT", self.client.wait(1, limit), expected=expected, timeout=timeout, takes=limit / 1000
        )
        if outcome.succeeded and outcome.reply >= 1:
            now = self.reactor.seconds()
            self._confirmed += [_Write(key, at, now) for key, at in written.items() if begun - at < _SOON]

    async def check(self) -> None:
        """Read every confirmed key."""
        await self.in_batches([w for w in self._confirmed if not self.ledger.may_be_erased(w.written_at)], self._read)

    async def _read(self, writes: list[_Write]) -> None:
        values = await self.certainly("MGET", lambda: self.client.mget(*(write.key for write in writes)))
        for write, value in zip(writes, values or (), strict=values is not None):
            if value != write.key.encode():
                times = write.written_at - self.findings.began, write.confirmed_at - self.findings.began
                when = "acknowledged at {:.2f} s and confirmed at {:.2f} s".format(*times)
                self.violation(f"{write.key}, {when}, is {value!r}")
