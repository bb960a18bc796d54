"""Scans of keys and members that never change: each complete scan must give all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence, Set
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from txvalkeycluster import key_slot

from .base import Environment, Work

_COUNT = 2000
# The limit of a scan while slots move, in seconds.  Only the steps of a scan have deadlines.
_PATIENCE = 120.0


class Scans(Work):
    """SCAN of the cluster, HSCAN, SSCAN and ZSCAN of a few large keys."""

    name = "scans"
    workers = 5
    pause = 0.1

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._names = frozenset(f"stable:{n}" for n in range(_COUNT))
        self._members = frozenset(f"member:{n}" for n in range(_COUNT))
        self._hashes, self._sets, self._sorted_sets = (
            [f"large:{kind}:{n}" for n in range(3)] for kind in ("hash", "set", "zset")
        )

    def keys(self) -> Sequence[str]:
        """Return the large keys, and as many of the others."""
        return [*sorted(self._names)[:9], *self._hashes, *self._sets, *self._sorted_sets]

    async def prepare(self) -> None:
        """Write the keys and members."""
        names = sorted(self._names)
        await self.in_batches(names, lambda some: self.client.mset(dict.fromkeys(some, "stable")))
        members = sorted(self._members)
        for key in self._hashes:
            await self.client.hset(key, {name: f"of {name}" for name in members})
        for key in self._sets:
            await self.client.sadd(key, *members)
        for key in self._sorted_sets:
            await self.client.zadd(key, {name: int(name.partition(":")[2]) for name in members})

    async def step(self, worker: int) -> None:
        """Scan once."""
        count = self.random.choice([10, 50, 200, 1000])
        kind = self.random.choice(["keys", "keys", "hash", "set", "zset"])
        if kind == "keys":
            match = self.random.choice([None, "stable:*"])
            await self._scan(
                f"SCAN count={count} match={match}", self.client.scan_iter(match, count=count), self._names
            )
            return
        if kind == "hash":
            key = self.random.choice(self._hashes)
            members: AsyncIterator[Any] = self._names_of(self.client.hscan_iter(key, count=count))
        elif kind == "set":
            key = self.random.choice(self._sets)
            members = self.client.sscan_iter(key, count=count)
        else:
            key = self.random.choice(self._sorted_sets)
            members = self._names_of(self.client.zscan_iter(key, count=count))
        await self._scan(f"{kind} {key} count={count}", members, self._members)

    async def _names_of(self, pairs: AsyncIterator[tuple[bytes, Any]]) -> AsyncIterator[bytes]:
        async for name, value in pairs:
            expected = b"of " + name if isinstance(value, bytes) else float(name.partition(b":")[2])
            if value != expected:
                self.violation(f"a scan gave {value!r} with {name!r}")
            yield name

    async def _scan(self, what: str, items: AsyncIterator[bytes], expected: Set[str]) -> None:
        # A slow reader gives slots time to move during a scan.
        pause = self.random.choice([0, 0, 0.02, 0.05])

        async def gather() -> set[str]:
            found: set[str] = set()
            given = 0
            async for item in items:
                found.add(item.decode())
                # Duplicates count too, so that they do not make the reader slower.
                given += 1
                if pause and given % 100 == 0:
                    await deferLater(self.reactor, pause)
            return found

        began = self.findings.elapsed
        outcome = await self.run(what, Deferred.fromCoroutine(gather()), timeout=_PATIENCE, takes=_PATIENCE)
        if not outcome.succeeded:
            return
        self.findings.scans += 1
        if missing := expected - outcome.reply:
            some = ", ".join(f"{name} (slot {key_slot(name)})" for name in sorted(missing)[:5])
            self.violation(f"{what}, begun at {began:.1f} s, missed {len(missing)} of {len(expected)}: {some}")
