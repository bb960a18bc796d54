"""Scans of a whole cluster while it changes, and scans of single keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.cluster.base import ClusterTests
from txvalkeycluster import ClusterClient, RoutingError, key_slot


class ScanTests(ClusterTests):
    async def filled(self, count: int = 5000) -> ClusterClient[bytes]:
        """Return a client of a cluster with ``count`` keys."""
        client = await self.connect()
        await client.mset({f"key:{number}": number for number in range(count)})
        return client

    async def scanned(
        self,
        client: ClusterClient[bytes],
        change: Callable[[], Coroutine[Any, Any, None]] | None = None,
        **options: Any,
    ) -> Counter[bytes]:
        """Return the keys of one scan.  ``change`` starts after 500 keys and is awaited at the end."""
        found: Counter[bytes] = Counter()
        changing = None
        async for key in client.scan_iter(**options):
            found[key] += 1
            if change is not None and found.total() == 500:
                changing = Deferred.fromCoroutine(change())
        if changing is not None:
            await changing
        return found

    def assert_complete(self, found: Counter[bytes], count: int = 5000) -> None:
        self.assertEqual(set(found), {b"key:%d" % number for number in range(count)})

    async def test_a_stable_cluster(self) -> None:
        """A scan gives each key once, and has the filters of SCAN."""
        client = await self.filled()
        found = await self.scanned(client)
        self.assert_complete(found)
        self.assertEqual(set(found.values()), {1})
        some = await self.scanned(client, match="key:1?", count=100)
        self.assertEqual(set(some), {b"key:%d" % number for number in range(10, 20)})
        await client.rpush("list", 1)
        self.assertEqual(set(await self.scanned(client, type="list")), {b"list"})
        await client.flushall()
        self.assertEqual(await self.scanned(client), Counter())

    async def test_slots_move(self) -> None:
        """A scan gives every key while slots move between nodes, key by key and atomically."""
        client = await self.filled()
        one, two = self.cluster.servers[:2]

        async def move() -> None:
            await self.cluster.migrate_by_key(range(300), one, two)
            await self.cluster.migrate_atomically(1000, 3000, one, two)
            await self.cluster.migrate_by_key(range(300), two, one)
            await self.cluster.migrate_atomically(1000, 2000, two, one)

        self.assert_complete(await self.scanned(client, move, count=50))

    async def test_a_slot_half_moved(self) -> None:
        """A scan gives the keys of an open slot that have moved to the target already."""
        client = await self.filled(200)
        slot = 15495  # of "a"
        await client.mset({f"{{a}}{number}": number for number in range(300)})
        source, target = self.cluster.servers[2], self.cluster.servers[0]
        await self.cluster.open_slot(slot, source, target)
        for _ in range(2):
            keys = await self.cluster.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 75)
            await self.cluster.ask(source, "MIGRATE", self.cluster.host, target.port, "", 0, 5000, "KEYS", *keys)
        found = await self.scanned(client)
        self.assertLessEqual({b"{a}%d" % number for number in range(300)}, set(found))

    async def test_a_slot_that_opens_during_the_scan(self) -> None:
        """A scan gives every key of a source node, one of whose slots opens during the scan."""
        client = await self.filled(3000)
        source, target = self.cluster.servers[1], self.cluster.servers[0]
        first = (await self.cluster.ranges_of(source))[0][0]
        found: set[bytes] = set()
        async for key in client.scan_iter(count=10):
            if not found:
                await self.cluster.open_slot(first, source, target)
            found.add(key)
        self.assertEqual(len(found), 3000)

    async def test_a_slot_that_opens_to_a_node_without_slots(self) -> None:
        """A scan gives keys that have moved to a node that owns no slot yet."""
        client = await self.filled(200)
        source, target = self.cluster.servers[:2]
        for server in self.cluster.servers:
            # Without this a primary that has no slots any more becomes a replica.
            await self.cluster.ask(server, "CONFIG", "SET", "cluster-allow-replica-migration", "no")
        for owned in await self.cluster.ranges_of(target):
            await self.cluster.migrate_atomically(owned[0], owned[-1], target, self.cluster.servers[2])
        slot = key_slot("{b}")
        await client.mset({f"{{b}}{number}": number for number in range(100)})
        await self.cluster.open_slot(slot, source, target)
        keys = await self.cluster.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 50)
        await self.cluster.ask(source, "MIGRATE", self.cluster.host, target.port, "", 0, 5000, "KEYS", *keys)
        found = await self.scanned(client)
        self.assertLessEqual({b"{b}%d" % number for number in range(100)}, set(found))

    async def test_a_server_that_restarts_during_the_scan(self) -> None:
        """A scan gives every key of a server that restarts, though the old cursor is invalid in the new process."""
        client = await self.filled(2000)
        server = self.cluster.servers[0]
        found: set[bytes] = set()
        async for key in client.scan_iter(count=10):
            if len(found) == 200:
                await self.cluster.ask(server, "SAVE")
                await self.cluster.kill(server)
                await self.cluster.restart(server)
            found.add(key)
        self.assert_complete(Counter(found), 2000)

    async def test_a_primary_dies(self) -> None:
        """A scan gives every key when a primary dies and its replica takes over."""
        client = await self.filled()
        await client.wait(1, 5000)
        victim = self.cluster.servers[1]

        async def kill() -> None:
            await self.cluster.kill(victim)
            await self.cluster.wait_for_takeover(victim)

        self.assert_complete(await self.scanned(client, kill, count=20))

    async def test_graceful_failovers(self) -> None:
        """A scan gives every key during graceful failovers."""
        client = await self.filled()

        async def fail_over() -> None:
            await self.cluster.failover(self.cluster.servers[3])
            await self.cluster.failover(self.cluster.servers[4])

        self.assert_complete(await self.scanned(client, fail_over, count=20))

    async def test_slots_without_owner(self) -> None:
        """A scan does not wait for slots that have no owner."""
        client = await self.filled(100)
        for server in self.cluster.servers:
            await self.cluster.ask(server, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        for server in self.cluster.servers[:3]:
            await self.cluster.ask(server, "CLUSTER", "DELSLOTS", 16383)
        self.assert_complete(await self.scanned(client), 100)


class RandomScanTests(ClusterTests):
    """Scans one after the other, during random moves of slots and random failovers."""

    timeout = 300
    scans = 200

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.random = Random(2026)
        self.client = await self.connect(random=Random(2026))
        # Most of the keys are in slots that move.
        self.slots = [key_slot(f"{{t{number}}}") for number in range(24)]
        self.keys = {b"{t%d}%d" % (tag, number) for tag in range(24) for number in range(40)}
        self.keys |= {b"key:%d" % number for number in range(1000)}
        await self.client.mset(dict.fromkeys(self.keys, 1))
        self.members = {b"m%d" % number for number in range(600)}
        await self.client.sadd("{t0}s", *self.members)
        await self.client.hset("{t1}h", dict.fromkeys(self.members, 1))
        await self.client.zadd("{t2}z", dict.fromkeys(self.members, 1))

    async def change(self) -> None:
        """Move a few slots, or fail over."""
        kind = self.random.random()
        if kind < 0.1:
            replica = self.random.choice([s for s in self.cluster.servers if s not in await self.cluster.primaries()])
            await self.cluster.failover(replica)
            await self.cluster.wait_until_whole()
            return
        slots = self.random.sample(self.slots, self.random.randrange(1, 5))
        for slot in slots:
            source = await self.cluster.owner_of(slot)
            target = self.random.choice([s for s in await self.cluster.primaries() if s is not source])
            if kind < 0.8:
                await self.cluster.open_slot(slot, source, target)
                keys = await self.cluster.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, self.random.randrange(1, 40))
                await self.cluster.ask(source, "MIGRATE", self.cluster.host, target.port, "", 0, 5000, "KEYS", *keys)
                await self.scans_end(self.random.randrange(1, 4))
                await self.cluster.move_keys(slot, source, target)
                await self.cluster.close_slot(slot, source, target)
            else:
                await self.cluster.migrate_atomically(slot, slot, source, target)

    async def scans_end(self, count: int) -> None:
        """Wait until ``count`` more scans have ended."""
        goal = min(self.ended + count, self.scans)
        while self.ended < goal:
            await deferLater(reactor, 0.005)

    async def run_all(self, scan: Callable[[], AsyncIterator[Any]], expected: set[bytes]) -> None:
        """Scan while the cluster changes, and check that no scan misses anything."""
        self.ended = 0

        async def change_all_the_time() -> None:
            while self.ended < self.scans:
                await self.change()

        changing = Deferred.fromCoroutine(change_all_the_time())
        for number in range(self.scans):
            found = {item[0] if isinstance(item, tuple) else item async for item in scan()}
            self.ended += 1
            self.assertEqual(expected - found, set(), f"scan {number}")
        await changing

    async def test_keys(self) -> None:
        await self.run_all(lambda: self.client.scan_iter(count=self.random.randrange(5, 200)), self.keys)

    async def test_members(self) -> None:
        def scan() -> AsyncIterator[Any]:
            count = self.random.randrange(1, 60)
            scans: list[AsyncIterator[Any]] = [
                self.client.sscan_iter("{t0}s", count=count),
                self.client.hscan_iter("{t1}h", count=count),
                self.client.zscan_iter("{t2}z", count=count),
            ]
            return self.random.choice(scans)

        await self.run_all(scan, self.members)


class MemberScanTests(ClusterTests):
    async def test_every_kind_of_scan(self) -> None:
        client = await self.connect()
        await client.hset("h", {f"f{n}": n for n in range(1000)})
        await client.sadd("s", *range(1000))
        await client.zadd("z", {f"m{n}": n + 0.5 for n in range(1000)})
        fields = [pair async for pair in client.hscan_iter("h", count=10)]
        self.assertEqual(dict(fields), {b"f%d" % n: b"%d" % n for n in range(1000)})
        self.assertEqual({member async for member in client.sscan_iter("s")}, {b"%d" % n for n in range(1000)})
        scores = {member: score async for member, score in client.zscan_iter("z", "m1?")}
        self.assertEqual(scores, {b"m%d" % n: n + 0.5 for n in range(10, 20)})
        self.assertEqual([pair async for pair in client.hscan_iter("none")], [])

    async def test_the_key_moves(self) -> None:
        """A scan of a key gives every member, though the key moves to another node, where the cursor is invalid."""
        client = await self.connect()
        await client.hset("b", {f"f{n}": n for n in range(3000)})
        found: set[bytes] = set()
        async for name, _ in client.hscan_iter("b", count=10):
            if len(found) == 100:
                await self.cluster.migrate_atomically(3300, 3300, self.cluster.servers[0], self.cluster.servers[1])
            found.add(name)
        self.assertEqual(len(found), 3000)

    async def test_over_resp2_and_decoded(self) -> None:
        client = await self.connect(protocol=2, encoding="utf-8")
        await client.zadd("z", {"m": 1.5})
        self.assertEqual([pair async for pair in client.zscan_iter("z")], [("m", 1.5)])
        self.assertEqual([key async for key in client.scan_iter()], ["z"])

    async def test_the_command_scan(self) -> None:
        """The client refuses SCAN without a node, and execute_on() runs it on one node."""
        client = await self.connect()
        await self.assertFailure(client.scan(0), RoutingError)
        node = client.topology.primaries[0]
        self.assertEqual(await client.execute_on(node, "SCAN", 0), [b"0", []])
