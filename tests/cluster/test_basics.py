"""The client against a real cluster: commands, commands for one node, events, and close()."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from tests.cases import TestCase
from tests.cluster.base import ClusterTests
from txvalkeycluster import ClientClosed, Closed, ClusterClient, ClusterUnavailable, ReplyError, RoutingError, connect


class BasicTests(ClusterTests):
    async def test_end_to_end(self) -> None:
        """Keys of many slots are written and read, errors go to their callers, and close() waits for replies."""
        events: list[Any] = []
        client: ClusterClient[bytes] = await connect(reactor, self.cluster.url)
        client.add_listener(events.append)
        numbers = range(1000)
        await gatherResults([client.execute("SET", f"k{n}", n) for n in numbers])
        values = await gatherResults([client.execute("GET", f"k{n}") for n in numbers])
        self.assertEqual(values, [b"%d" % n for n in numbers])
        sizes = [await client.execute_on(node, "DBSIZE") for node in client.primaries()]
        self.assertEqual((len(sizes), sum(sizes)), (3, 1000))
        self.assertEqual(len(list(client.nodes())), 6)
        await client.execute("SET", "text", "x")
        self.assertEqual((await self.assertFailure(client.execute("INCR", "text"), ReplyError)).code, "ERR")
        await self.assertFailure(client.execute("SUBSCRIBE", "x"), RoutingError)
        last = client.execute("GET", "k1")
        await client.close()
        self.assertEqual(self.successResultOf(last), b"1")
        await self.assertFailure(client.execute("GET", "k1"), ClientClosed)
        self.assertIsInstance(events[-1], Closed)

    async def test_graceful_failover_and_migrations_cause_no_error(self) -> None:
        """No command fails while slots move, in either way of moving, and while a primary hands over to its replica."""
        client: ClusterClient[bytes] = await connect(reactor, self.cluster.url)
        servers = self.cluster.servers
        stop: list[bool] = []

        async def work(number: int) -> int:
            done = 0
            while not stop:
                await client.execute("SET", f"w{number}:{done % 50}", done)
                value = await client.execute("GET", f"w{number}:{done % 50}")
                self.assertEqual(value, b"%d" % done)
                done += 1
            return done

        workers = [Deferred.fromCoroutine(work(number)) for number in range(10)]
        await self.cluster.migrate_atomically(0, 499, servers[0], servers[1])
        await self.cluster.migrate_by_key(range(500, 700), servers[0], servers[1])
        await self.cluster.failover(servers[3])
        stop.append(True)
        done = await gatherResults(workers)
        self.assertTrue(all(done))
        await client.close()


class UnreachableTests(TestCase):
    timeout = 30

    async def test_every_seed_is_named(self) -> None:
        """If no seed can be reached, one error names the reason of each."""
        error = await self.assertFailure(connect(reactor, "valkey://127.0.0.1:1,127.0.0.1:2"), ClusterUnavailable)
        self.assertEqual([address for address, _ in error.attempts], ["127.0.0.1:1", "127.0.0.1:2"])
