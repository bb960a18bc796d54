"""Faults of the servers of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from random import Random
from typing import Any

from twisted.internet.task import deferLater

from txvalkeycluster import key_slot
from txvalkeycluster.slots import SLOT_COUNT
from txvalkeycluster.testing import LocalCluster, Server

from .health import until
from .ledger import Ledger

# In MB: more than the system buffers for a socket that nobody reads.
_FILLING = 24


class ServerFaults:
    """Each method is a fault.  It returns a description when the fault is over.  The cluster may recover later."""

    def __init__(
        self, reactor: Any, cluster: LocalCluster, ledger: Ledger, random: Random, keys: Iterable[Sequence[str]]
    ) -> None:
        """``keys`` are the keys whose slots the faults move, for each kind of work."""
        #: The slots whose owners the current fault changes.
        self.explained: set[int] = set()
        self._reactor = reactor
        self._cluster = cluster
        self._ledger = ledger
        self._random = random
        self._slots = [sorted(map(key_slot, each)) for each in keys if each]
        self._paused: list[Server] = []

    async def kill(self) -> str:
        """SIGKILL a primary.  It restarts as a replica when its replica has taken over."""
        victim = await self._primary()
        text = await self._endanger(victim)
        await self._cluster.kill(victim)
        self._resume_replicas()
        await self._cluster.wait_for_takeover(victim)
        await self._pause(0, 1)
        await self._cluster.restart(victim)
        return f"server {victim.index}{text}"

    async def pause_long(self) -> str:
        """SIGSTOP a primary until its replica has taken over, then SIGCONT."""
        victim = await self._primary()
        text = await self._endanger(victim)
        await self._cluster.pause(victim)
        self._resume_replicas()
        await self._cluster.wait_for_takeover(victim)
        await self._pause(0, 1)
        await self._cluster.resume(victim)
        return f"server {victim.index}{text}"

    async def pause_short(self) -> str:
        """SIGSTOP a primary for a short time, so that no replica takes over."""
        victim = await self._primary()
        await self._cluster.pause(victim)
        seconds = await self._pause(0.2, 1)
        await self._cluster.resume(victim)
        return f"server {victim.index} for {seconds:.2f} s"

    async def failover(self) -> str:
        """Fail over gracefully, without a loss of writes."""
        primary, replica = await self._primary_and_replica()
        self.explained = await self._slots_of(primary)
        await self._cluster.failover(replica)
        return f"server {primary.index} to {replica.index}"

    async def takeover(self) -> str:
        """Make a replica take over by force, without the agreement of the other nodes."""
        primary, replica = await self._primary_and_replica()
        text = await self._endanger(primary)
        taken = self._cluster.ask(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
        self._resume_replicas()
        await taken
        await self._cluster.wait_for_takeover(primary)
        await until(self._reactor, lambda: self._is_replica(primary), f"{primary} to be a replica")
        return f"server {replica.index} from {primary.index}{text}"

    async def move_by_key(self) -> str:
        """Move slots with keys of the work, one by one."""
        source, target = await self._two_primaries()
        slots = await self._used_slots(source, self._random.randint(10, 60))
        self.explained = set(slots)
        await self._cluster.migrate_by_key(slots, source, target)
        return f"{len(slots)} slots from server {source.index} to {target.index}"

    async def slots_half_open(self) -> str:
        """Leave a few slots half moved for a while."""
        source, target = await self._two_primaries()
        slots = await self._used_slots(source, self._random.randint(2, 12))
        self.explained = set(slots)
        for slot in slots:
            await self._cluster.open_slot(slot, source, target)
            await self._move_some(slot, source, target)
        seconds = await self._pause(0.5, 3)
        text = f"{len(slots)} slots from server {source.index} to {target.index} for {seconds:.2f} s"
        if self._random.random() < 0.3:
            source, target = await self._fail_one_over(source, target)
            text += f", which then were {source.index} and {target.index}"
            await self._pause(0.5, 3)
        for slot in slots:
            await self._cluster.move_keys(slot, source, target)
            await self._cluster.close_slot(slot, source, target)
        return text

    async def move_atomically(self) -> str:
        """Move a range of slots atomically."""
        source, target = await self._two_primaries()
        longest = max(await self._cluster.ranges_of(source), key=len)
        first = self._random.randrange(longest.start, longest.stop)
        last = min(first + self._random.randint(0, 400), longest.stop - 1)
        self.explained = set(range(first, last + 1))
        await self._cluster.migrate_atomically(first, last, source, target)
        return f"slots {first} to {last} from server {source.index} to {target.index}"

    async def client_kill(self) -> str:
        """Close every connection of clients with CLIENT KILL."""
        for server in self._cluster.servers:
            for kind in ("pubsub", "normal"):
                await self._cluster.ask(server, "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        return "all servers"

    async def debug_sleep(self) -> str:
        """Make a server sleep for a short time, so that no replica takes over."""
        server = self._random.choice(self._cluster.servers)
        seconds = self._random.uniform(0.1, 1.5)
        await self._cluster.ask(server, "DEBUG", "SLEEP", f"{seconds:.2f}")
        return f"server {server.index} for {seconds:.2f} s"

    async def script_flush(self) -> str:
        """Flush the scripts of every server."""
        for server in self._cluster.servers:
            await self._cluster.ask(server, "SCRIPT", "FLUSH")
        return "all servers"

    async def new_addresses(self) -> str:
        """Save and kill every server, and start it on another port."""
        self.explained = set(range(SLOT_COUNT))
        self._ledger.endanger(self.explained)
        # Writes between the SAVE of a primary and its end are lost, even if its replica has them.
        began = self._reactor.seconds()
        await self._cluster.restart_elsewhere()
        self._ledger.erase(began, self._reactor.seconds())
        return "all servers"

    async def restore(self) -> None:
        """Make every server run again, after a fault that failed."""
        for server in self._cluster.servers:
            if server.alive:
                await self._cluster.resume(server)
            else:
                await self._cluster.restart(server)

    # ---- choice of servers

    async def _primary(self) -> Server:
        return self._random.choice(await self._cluster.primaries())

    async def _two_primaries(self) -> list[Server]:
        return self._random.sample(await self._cluster.primaries(), 2)

    async def _primary_and_replica(self) -> tuple[Server, Server]:
        primary = await self._primary()
        return primary, self._random.choice(await self._cluster.replicas_of(primary))

    async def _slots_of(self, server: Server) -> set[int]:
        return {slot for owned in await self._cluster.ranges_of(server) for slot in owned}

    # ---- loss of writes

    async def _endanger(self, primary: Server) -> str:
        """Prepare for a primary that is killed or replaced next, and loses the writes that it has not replicated.

        On one machine there are almost no such writes.  So in most cases this method stops the replica a little before,
        and fills the buffers between both servers.  Then all writes from here on are lost.

        Returns:
            A text that describes the loss.
        """
        slots = await self._slots_of(primary)
        self.explained |= slots
        self._ledger.endanger(slots)
        if self._random.random() < 0.3:
            return ""
        for replica in await self._cluster.replicas_of(primary):
            await self._cluster.pause(replica)
            self._paused.append(replica)
        key = next(key for key in map("filling:{}".format, count()) if key_slot(key) in slots)
        for _ in range(_FILLING):
            await self._cluster.ask(primary, "SET", key, bytes(1 << 20))
        seconds = await self._pause(0.05, 0.5)
        return f", whose last {seconds:.2f} s are lost"

    def _resume_replicas(self) -> None:
        paused, self._paused = self._paused, []
        for replica in paused:
            self._cluster.resume(replica)

    # ---- slots

    async def _used_slots(self, source: Server, number: int) -> list[int]:
        """Return some slots of a server with keys of the work, about as many for each kind of work."""
        owned = await self._slots_of(source)
        chosen = {self._random.choice(self._random.choice(self._slots)) for _ in range(3 * number)} & owned
        return self._random.sample(sorted(chosen), min(number, len(chosen))) or [min(owned)]

    async def _move_some(self, slot: int, source: Server, target: Server) -> None:
        """Move about half of the keys of an open slot."""
        keys = await self._cluster.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)
        some = [key for key in keys if self._random.random() < 0.5]
        if some:
            await self._cluster.ask(source, "MIGRATE", self._cluster.host, target.port, "", 0, 5000, "KEYS", *some)

    async def _fail_one_over(self, source: Server, target: Server) -> tuple[Server, Server]:
        """Fail over one of two primaries gracefully.  Return the two primaries afterwards."""
        old = self._random.choice([source, target])
        self.explained |= await self._slots_of(old)
        new = self._random.choice(await self._cluster.replicas_of(old))
        await self._cluster.failover(new)
        await self._cluster.wait_until_whole()
        return (new, target) if old is source else (source, new)

    async def _is_replica(self, server: Server) -> bool:
        return bool((await self._cluster.ask(server, "ROLE"))[0] == b"slave")

    async def _pause(self, least: float, most: float) -> float:
        seconds = self._random.uniform(least, most)
        await deferLater(self._reactor, seconds)
        return seconds
