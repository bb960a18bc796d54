"""Checks between two faults that the cluster is whole, its replicas are up to date, and the client works."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater

from txvalkeycluster import ClusterClient, key_slot
from txvalkeycluster.slots import SLOT_COUNT
from txvalkeycluster.testing import LocalCluster, Server

from .findings import Findings, described
from .ledger import Ledger, Outcome

_POLL = 0.02
_PATIENCE = 60.0
# How long a probe is repeated, in seconds.
_GIVE_UP = 30.0
_TICK = 0.05

#: Tries once whether something works, and returns the outcome.
Probe = Callable[[], Awaitable[Outcome]]


class Health:
    """Checks the cluster and the client between two faults."""

    def __init__(
        self, reactor: Any, cluster: LocalCluster, client: ClusterClient[bytes], findings: Findings, ledger: Ledger
    ) -> None:
        self._reactor = reactor
        self._cluster = cluster
        self._client = client
        self._findings = findings
        self._ledger = ledger
        self._owners: list[str] = []
        self._stalls = _Stalls(reactor)
        self._values = count(1)

    def start(self) -> None:
        """Start to measure delays of the reactor."""
        self._stalls.start()

    def stop(self) -> None:
        """Stop measuring."""
        self._stalls.stop()

    async def settle(self, explained: set[int]) -> None:
        """Start a new epoch, and wait until the replicas have all writes that were acknowledged before.

        Args:
            explained: The slots whose owners the last fault changed.  Other slots with a new owner were taken over
                because a server seemed to be dead.  On a slow machine this happens without a fault.
        """
        while True:
            owners = await self._owner_of_each_slot()
            changed = {slot for slot, (was, now) in enumerate(zip(self._owners, owners, strict=False)) if was != now}
            if unexplained := changed - explained:
                self._findings.say(f"{len(unexplained)} slots were taken over without a fault")
                self._ledger.endanger(unexplained, epochs=2)
            self._owners = owners
            self._ledger.begin_epoch()
            await self._caught_up()
            if await self._owner_of_each_slot() == owners:
                return

    async def recovery(self, probes: Mapping[str, Probe]) -> float:
        """Return the time in seconds until each shard can be written and read, and each probe succeeds."""
        self._stalls.worst = 0.0
        every = dict(probes)
        for server in await self._cluster.primaries():
            tag = await self._tag_of(server)
            every[f"SET and GET on server {server.index}"] = partial(self._write_and_read, tag)
        times = [Deferred.fromCoroutine(self._until_it_succeeds(what, probe)) for what, probe in every.items()]
        return max(await gatherResults(times))

    async def _until_it_succeeds(self, what: str, probe: Probe) -> float:
        began = self._reactor.seconds()
        failures: list[str] = []
        while not (outcome := await probe()).succeeded and self._reactor.seconds() < began + _GIVE_UP:
            failures.append(f"{self._reactor.seconds() - began:.2f} s: {described(outcome.error)}")
            await deferLater(self._reactor, _POLL)
        took: float = self._reactor.seconds() - began
        if took > self._findings.healthy + self._stalls.worst:
            how = "succeeded" if outcome.succeeded else "had not succeeded"
            text = f"{what} {how} {took:.2f} s after the cluster was healthy"
            late = f"the longest delay of the reactor was {self._stalls.worst:.2f} s"
            self._findings.violation(
                "recovery", f"{text}; {late}; {failures[:1] + failures[1:][-2:]}; {self._client!r}"
            )
        return took

    async def _write_and_read(self, tag: str) -> Outcome:
        # Each probe has a new key, because an earlier SET whose reply was lost may be executed late.
        value = str(next(self._values))
        key = f"{{{tag}}}:{value}"
        written = await self._findings.observe("recovery", f"SET {key}", self._client.set(key, value), _GIVE_UP)
        if not written.succeeded:
            return written
        read = await self._findings.observe("recovery", f"GET {key}", self._client.get(key), _GIVE_UP)
        if read.succeeded and read.reply != value.encode():
            self._findings.violation("recovery", f"GET {key} gave {read.reply!r}, not {value}")
        return read

    async def _tag_of(self, server: Server) -> str:
        ranges = await self._cluster.ranges_of(server)
        return next(tag for tag in map("probe:{}".format, count()) if any(key_slot(tag) in owned for owned in ranges))

    async def _owner_of_each_slot(self) -> list[str]:
        witness = next(server for server in self._cluster.servers if server.alive)
        owners = [""] * SLOT_COUNT
        for start, end, primary, *_ in await self._cluster.ask(witness, "CLUSTER", "SLOTS"):
            owners[start : end + 1] = [primary[2].decode()] * (end - start + 1)
        return owners

    async def _caught_up(self) -> None:
        """Wait until every replica has the writes that its primary has now."""
        goals = {}
        for server in await self._cluster.primaries():
            goals[server.port] = (await self._cluster.ask(server, "ROLE"))[1]
        for server in self._cluster.servers:
            if server.port not in goals:
                await until(self._reactor, partial(self._has, server, goals), f"{server} to catch up")

    async def _has(self, server: Server, goals: dict[int, int]) -> bool:
        role = await self._cluster.ask(server, "ROLE")
        return bool(role[0] == b"slave" and role[3] == b"connected" and role[4] >= goals.get(role[2], 0))


class _Stalls:
    """Measures delays of the reactor, which are not the fault of the client."""

    def __init__(self, reactor: Any) -> None:
        self.worst = 0.0
        self._reactor = reactor
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor
        self._last = 0.0

    def start(self) -> None:
        self._last = self._reactor.seconds()
        self._loop.start(_TICK, now=False)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def _tick(self) -> None:
        now = self._reactor.seconds()
        self.worst = max(self.worst, now - self._last - _TICK)
        self._last = now


async def until(reactor: Any, condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until a condition holds.  Raises TimeoutError after a minute."""
    give_up = reactor.seconds() + _PATIENCE
    while not await condition():
        if reactor.seconds() > give_up:
            raise TimeoutError(f"waited {_PATIENCE:g} s for {what}")
        await deferLater(reactor, _POLL)
