"""Blocking commands and WAIT: they use exclusive connections, and leave no blocked client on a server."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.task import deferLater

from tests.cluster.base import ClusterTests
from txvalkeycluster import ConnectionLost, ReplyError
from txvalkeycluster.slots import key_slot


class BlockingTests(ClusterTests):
    async def blocked(self) -> int:
        """Return how many clients are blocked on all servers."""
        found = 0
        for server in self.cluster.servers:
            if server.alive:
                lines = (await self.cluster.ask(server, "INFO", "clients")).decode().splitlines()
                found += sum(int(line.partition(":")[2]) for line in lines if line.startswith("blocked_clients:"))
        return found

    async def until_blocked(self, count: int) -> None:
        while await self.blocked() != count:
            await deferLater(reactor, 0.01)

    async def test_every_blocking_command(self) -> None:
        """Every blocking command waits for its data while the client executes other commands."""
        client = await self.connect()
        await client.xgroup_create("{s}x", "g", "$", mkstream=True)
        waiting: list[Any] = [
            client.blpop(["{a}none", "{a}l"], 0),
            client.brpop("{b}l", 10),
            client.blmove("{c}l", "{c}m", "LEFT", "RIGHT", 10),
            client.brpoplpush("{d}l", "{d}m", 10),
            client.blmpop(10, ["{e}none", "{e}l"], "LEFT", count=2),
            client.bzpopmin("{f}z", 10),
            client.bzpopmax(["{g}none", "{g}z"], 10),
            client.bzmpop(10, "{h}z", "MIN"),
            client.xread({"{r}x": "$"}, block=10000),
            client.xreadgroup("g", "c", {"{s}x": ">"}, block=10000),
        ]
        await self.until_blocked(len(waiting))
        self.assertEqual(await gatherResults([client.get(f"k{n}") for n in range(1000)]), [None] * 1000)
        self.assertFalse(any(deferred.called for deferred in waiting))
        for tag in "abcde":
            await client.rpush(f"{{{tag}}}l", "1", "2")
        for tag in "fgh":
            await client.zadd(f"{{{tag}}}z", {"m": 1.5})
        for tag in "rs":
            await client.xadd(f"{{{tag}}}x", "1-1", {"f": "v"})
        self.assertEqual(
            await gatherResults(waiting),
            [
                (b"{a}l", b"1"),
                (b"{b}l", b"2"),
                b"1",
                b"2",
                (b"{e}l", [b"1", b"2"]),
                (b"{f}z", b"m", 1.5),
                (b"{g}z", b"m", 1.5),
                (b"{h}z", [(b"m", 1.5)]),
                {b"{r}x": [(b"1-1", {b"f": b"v"})]},
                {b"{s}x": [(b"1-1", {b"f": b"v"})]},
            ],
        )
        self.assertEqual(await self.blocked(), 0)

    async def test_no_data_in_time(self) -> None:
        """A blocking command returns the empty reply of the server, even if it blocks longer than ``timeout``."""
        client = await self.connect(timeout=1.0)
        self.assertIsNone(await client.blpop("l", 1.5))
        self.assertEqual(await client.xread({"x": "$"}, block=1500), {})
        error = await self.assertFailure(client.execute("BLPOP", "l", "soon"), ReplyError)
        self.assertIn("timeout is not a float", str(error))

    async def test_cancelled(self) -> None:
        """A cancelled command is unblocked on the server, pops nothing, and frees its exclusive connection."""
        client = await self.connect(max_exclusive=2)
        waiting = [client.blpop("l", 0) for _ in range(3)]
        await self.until_blocked(2)
        for deferred in waiting:
            deferred.cancel()
            await self.assertFailure(deferred, CancelledError)
        await self.until_blocked(0)
        await client.rpush("l", "1")
        self.assertEqual(await client.blpop("l", 1), (b"l", b"1"))

    async def test_max_exclusive(self) -> None:
        """No more than max_exclusive commands block at a time, and the next one starts when one ends."""
        client = await self.connect(max_exclusive=2)
        waiting = [client.blpop("l", 0) for _ in range(5)]
        await self.until_blocked(2)
        await client.rpush("l", *range(5))
        self.assertEqual(await gatherResults(waiting), [(b"l", b"%d" % number) for number in range(5)])

    async def test_the_slot_moves(self) -> None:
        """A blocking command follows MOVED when its slot moves, in either way of moving."""
        client = await self.connect()
        source, target = self.cluster.servers[:2]
        waiting = client.blpop("b", 0)
        self.assertIs(await self.cluster.owner_of(key_slot("b")), source)
        await self.until_blocked(1)
        await self.cluster.migrate_atomically(key_slot("b"), key_slot("b"), source, target)
        await client.rpush("b", "1")
        self.assertEqual(await waiting, (b"b", b"1"))
        waiting = client.blpop("b", 0)
        await self.until_blocked(1)
        await self.cluster.migrate_by_key([key_slot("b")], target, source)
        await client.rpush("b", "2")
        self.assertEqual(await waiting, (b"b", b"2"))

    async def test_failovers(self) -> None:
        """Blocking commands follow a graceful failover.  If the primary dies, reads are repeated, and pops fail."""
        client = await self.connect()
        waiting = client.blpop("b", 0)
        await self.until_blocked(1)
        await self.cluster.failover(self.cluster.servers[3])
        await client.rpush("b", "1")
        self.assertEqual(await waiting, (b"b", b"1"))
        lost, repeated = client.blpop("b", 0), client.xread({"x{b}": "0"}, block=0)
        await self.until_blocked(2)
        await self.cluster.kill(self.cluster.servers[3])
        error = await self.assertFailure(lost, ConnectionLost)
        self.assertTrue(error.maybe_executed)
        await self.cluster.wait_for_takeover(self.cluster.servers[3])
        await client.xadd("x{b}", "1-1", {"f": "v"})
        self.assertEqual(await repeated, {b"x{b}": [(b"1-1", {b"f": b"v"})]})

    async def test_close(self) -> None:
        """close() ends blocking commands with the reply for no data, or with ConnectionLost over RESP2."""
        for protocol, result in ((3, None), (2, ConnectionLost)):
            client = await self.connect(protocol=protocol)
            waiting = client.blpop("l", 0)
            await self.until_blocked(1)
            closed = client.close()
            if result is None:
                self.assertIsNone(await waiting)
            else:
                await self.assertFailure(waiting, result)
            await closed
            await self.until_blocked(0)

    async def test_execute_on(self) -> None:
        """execute_on() runs a blocking command on that node."""
        client = await self.connect()
        node = client.topology.owner(key_slot("l"))
        assert node is not None
        waiting = client.execute_on(node, "BLPOP", "l", 0)
        await self.until_blocked(1)
        await client.rpush("l", "1")
        self.assertEqual(await waiting, [b"l", b"1"])
        self.assertIsNone(await client.execute_on(node, "BLPOP", "l", 0.1))

    async def test_wait(self) -> None:
        """WAIT returns the number of replicas that have the writes of this client, and never more than there are."""
        client = await self.connect()
        await gatherResults([client.set(f"k{number}", "v") for number in range(100)])
        self.assertEqual(await client.wait(1, 5000), 1)
        self.assertEqual(await client.wait(2, 50), 1)
        self.assertEqual(await client.wait(0, 0), 1)
        self.assertEqual(await client.waitaof(0, 0, 100), (0, 0))
        for words in (("WAIT",), ("WAIT", 1, -1), ("WAIT", 9, "soon"), ("WAIT", "x", 5)):
            await self.assertFailure(client.execute(*words), ReplyError)
        self.assertEqual(await client.execute_on(client.topology.primaries[0], "WAIT", 1, 5000), 1)
