"""Scans of a whole cluster while it changes under them, and of single keys."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred

from tests.cluster.base import ClusterTests
from txvalkeycluster import ClusterClient, RoutingError


class ScanTests(ClusterTests):
    #: Whether CLUSTERSCAN is there, as it is from 9.1 on.
    old = False

    async def filled(self, count: int = 5000) -> ClusterClient:
        client = await self.connect()
        if self.old:
            for node in client.nodes():
                await client.execute_on(node, "ACL", "SETUSER", "default", "-clusterscan")
        await client.mset({f"key:{number}": number for number in range(count)})
        return client

    async def scanned(self, client: ClusterClient, meanwhile: Any = None, **options: Any) -> Counter[bytes]:
        """The keys of one scan; something else begins once it has given some."""
        found: Counter[bytes] = Counter()
        befalling = None
        async for key in client.scan_iter(**options):
            found[key] += 1
            if meanwhile is not None and sum(found.values()) == 500:
                befalling = Deferred.fromCoroutine(meanwhile())
        if befalling is not None:
            await befalling
        return found

    def assert_whole(self, found: Counter[bytes], count: int = 5000) -> None:
        self.assertEqual(set(found), {b"key:%d" % number for number in range(count)})

    async def test_nothing_happens(self) -> None:
        """Each key once, with the filters of SCAN."""
        client = await self.filled()
        found = await self.scanned(client)
        self.assert_whole(found)
        self.assertEqual(set(found.values()), {1})
        some = await self.scanned(client, match="key:1?", count=100)
        self.assertEqual(set(some), {b"key:%d" % number for number in range(10, 20)})
        await client.rpush("list", 1)
        self.assertEqual(set(await self.scanned(client, type="list")), {b"list"})
        await client.flushall()
        self.assertEqual(await self.scanned(client), Counter())

    async def test_slots_move(self) -> None:
        """Back and forth, atomically and key by key."""
        client = await self.filled()
        one, two = self.cluster.servers[:2]

        async def move() -> None:
            await self.cluster.migrate_by_key(range(300), one, two)
            await self.cluster.migrate_atomically(1000, 3000, one, two)
            await self.cluster.migrate_by_key(range(300), two, one)
            await self.cluster.migrate_atomically(1000, 2000, two, one)

        self.assert_whole(await self.scanned(client, move, count=50))

    async def test_a_slot_half_moved(self) -> None:
        """Keys that have left an open slot are given, however long it stays open."""
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

    async def test_a_primary_dies(self) -> None:
        """Its successor is scanned in its place."""
        client = await self.filled()
        await client.wait(1, 5000)
        victim = self.cluster.servers[1]

        async def kill() -> None:
            self.cluster.kill(victim)
            await self.cluster.wait_for_takeover(victim)

        self.assert_whole(await self.scanned(client, kill, count=20))

    async def test_a_primary_steps_down(self) -> None:
        client = await self.filled()

        async def fail_over() -> None:
            await self.cluster.failover(self.cluster.servers[3])
            await self.cluster.failover(self.cluster.servers[4])

        self.assert_whole(await self.scanned(client, fail_over, count=20))

    async def test_slots_of_nobody(self) -> None:
        """They have no keys, and are no reason to wait."""
        client = await self.filled(100)
        for server in self.cluster.servers:
            await self.cluster.ask(server, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        for server in self.cluster.servers[:3]:
            await self.cluster.ask(server, "CLUSTER", "DELSLOTS", 16383)
        self.assert_whole(await self.scanned(client), 100)


class OldScanTests(ScanTests):
    """Node by node, for servers and users without CLUSTERSCAN."""

    old = True


class MemberScanTests(ClusterTests):
    async def test_each_kind(self) -> None:
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
        """Cursors of one server mean nothing to another: it begins anew there, and gives every member."""
        client = await self.connect()
        await client.hset("b", {f"f{n}": n for n in range(3000)})
        found = set()
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

    async def test_scan_itself(self) -> None:
        """Of one node."""
        client = await self.connect()
        await self.assertFailure(client.scan(0), RoutingError)
        node = client.topology.primaries[0]
        self.assertEqual(await client.execute_on(node, "SCAN", 0), [b"0", []])
