"""Many commands on few connections: cancelled commands, large values, close() and abort()."""

from __future__ import annotations

from random import Random
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.cluster.base import ClusterTests
from txvalkeycluster import ClientClosed, Closed, NodeDisconnected

CANCELS = 100_000


class PipeliningTests(ClusterTests):
    options: ClassVar[dict[str, Any]] = {"replicas": 0}

    async def test_100_000_cancels(self) -> None:
        """One of three commands is cancelled at a random moment, and every reply reaches its own caller."""
        client = await self.connect()
        random = Random(2026)
        await gatherResults([client.execute("SET", f"k{n}", n) for n in range(300)])
        before = client.statistics.connections.shared
        left = [CANCELS]

        async def work() -> int:
            cancelled = 0
            while left[0] > 0:
                left[0] -= 1
                numbers = random.sample(range(300), 3)
                replies = [client.execute("GET", f"k{n}") for n in numbers]
                victim = random.randrange(3)
                moment = random.randrange(3)
                if moment == 1:
                    # Usually the commands are written, and not answered.
                    await deferLater(reactor, 0)
                elif moment == 2:
                    # Usually all replies come in one read.
                    self.assertEqual(await replies.pop(victim - 1), b"%d" % numbers.pop(victim - 1))
                    victim = max(victim - 1, 0)
                replies[victim].cancel()
                for place, number in enumerate(numbers):
                    try:
                        value = await replies[place]
                    except CancelledError:
                        self.assertEqual(place, victim)
                        cancelled += 1
                    else:
                        self.assertEqual(value, b"%d" % number)
            return cancelled

        cancelled = sum(await gatherResults([Deferred.fromCoroutine(work()) for _ in range(20)]))
        self.assertGreater(cancelled, CANCELS // 2)
        self.assertEqual(client.statistics.connections.shared, before)

    async def test_100_mb(self) -> None:
        """A value of 100 MB is written and read."""
        client = await self.connect()
        value = bytes(range(256)) * 400_000
        self.assertEqual(await client.execute("SET", "large", value, timeout=60), b"OK")
        self.assertEqual(await client.execute("GET", "large", timeout=60), value)

    async def test_close_lets_commands_finish(self) -> None:
        """close() refuses new commands, waits for all replies, emits Closed, and every disconnect is clean."""
        client = await self.connect()
        events: list[Any] = []
        client.add_listener(events.append)
        waiting = [client.execute("SET", f"k{n}", n) for n in range(10_000)]
        closed = client.close()
        refused = client.execute("GET", "k1")
        await self.assertFailure(refused, ClientClosed)
        self.assertEqual(await gatherResults(waiting), [b"OK"] * 10_000)
        await closed
        self.assertIsInstance(events[-1], Closed)
        ends = [event for event in events if isinstance(event, NodeDisconnected)]
        self.assertEqual([event.clean for event in ends], [True] * 3)
        await client.close()

    async def test_abort(self) -> None:
        """abort() fails every command with ClientClosed at once."""
        client = await self.connect()
        await gatherResults([client.execute("SET", f"k{n}", n) for n in range(100)])
        waiting = [client.execute("SET", f"k{n}", n) for n in range(1000)]
        aborted = client.abort()
        for deferred in waiting:
            self.failureResultOf(deferred, ClientClosed)
        await aborted

    async def test_abort_while_closing(self) -> None:
        """abort() after close() ends both."""
        client = await self.connect()
        waiting = client.execute("SET", "k", 1)
        closed, aborted = client.close(), client.abort()
        self.failureResultOf(waiting, ClientClosed)
        await gatherResults([closed, aborted])


class IterationTests(ClusterTests):
    async def test_every_node_once_while_the_map_changes(self) -> None:
        """primaries() visits every node of the last slot map and no node twice, though the map changes meanwhile."""
        client = await self.connect()
        one, two = self.cluster.servers[0], self.cluster.servers[2]
        seen = []
        walk = client.primaries()
        seen.append(next(walk))
        await self.cluster.failover(self.cluster.servers[4])
        await self.cluster.migrate_atomically(0, 99, one, two)
        await self.cluster.wait_until_whole()
        version = client.topology.version
        await client.refresh_topology()
        self.assertGreater(client.topology.version, version)
        seen += walk
        self.assertEqual(len(seen), len({node.id for node in seen}))
        self.assertLessEqual({node.id for node in client.topology.primaries}, {node.id for node in seen})
        self.assertEqual(len({node.id for node in client.nodes()}), 6)
