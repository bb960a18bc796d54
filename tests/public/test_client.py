"""A client as an application sees it: its life, its slot map, member scans, reprs and pipelines."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from tests.scripted.base import transactional
from txvalkeycluster import (
    ClientClosed,
    Closed,
    ClusterClient,
    ClusterUnavailable,
    NodeConnected,
    Ready,
    TopologyUpdated,
    connect,
)
from txvalkeycluster.options import DEFAULT
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE


class LifeTests(MemoryTests):
    def test_without_seeds(self) -> None:
        """The constructor fails, not the first command."""
        with self.assertRaisesRegex(ValueError, "no seeds"):
            ClusterClient(self.clock)

    def test_connect(self) -> None:
        """``connect`` gives a client that has the slot map."""
        seeds = ",".join(str(node.address) for node in self.nodes)
        client = self.result_of(connect(self.clock, f"valkey://{seeds}", endpoint_for=self.network.endpoint_for))
        self.addCleanup(client.abort)
        self.assertEqual(len(client.topology.nodes), 3)

    def test_connect_fails(self) -> None:
        """Nothing is left of the client."""
        for node in self.nodes:
            self.network.refuse(node)
        seeds = ",".join(str(node.address) for node in self.nodes)
        self.error_of(connect(self.clock, seeds=seeds, endpoint_for=self.network.endpoint_for), ClusterUnavailable)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_async_with(self) -> None:
        """The client is closed at the end of the block, when every command has ended."""
        client = self.client()
        key = self.key_of(self.nodes[0])

        async def use() -> Deferred[Any]:
            async with client as entered:
                return entered.set(key, "v")

        waiting = Deferred.fromCoroutine(use())
        self.network.settle()
        self.assertTrue(self.successResultOf(waiting))
        self.error_of(client.get(key), ClientClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_listeners(self) -> None:
        """A listener gets every event until it is removed. Its errors are logged and do not concern other listeners."""
        events: list[Any] = []
        removed: list[Any] = []

        def broken(_: Any) -> None:
            raise RuntimeError("a listener of the application")

        client = self.lazy_client()
        for listener in (broken, events.append, removed.append):
            client.add_listener(listener)
        client.remove_listener(removed.append)
        self.assertRaises(ValueError, client.remove_listener, removed.append)
        self.result_of(client.refresh_topology())
        self.result_of(client.close())
        self.assertEqual(removed, [])
        kinds = [type(event) for event in events if not isinstance(event, NodeConnected)]
        self.assertEqual(kinds[:2] + kinds[-1:], [TopologyUpdated, Ready, Closed])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), len(events))


class MapTests(MemoryTests):
    def test_iteration_while_the_map_changes(self) -> None:
        """Every node of the new slot map is visited once."""
        client = self.client()
        last = self.nodes.pop()
        self.cluster.ranges = [(0, 8191, self.nodes[0]), (8192, 16383, self.nodes[1])]
        self.result_of(client.refresh_topology())
        visit = client.primaries()
        first = next(visit)
        self.nodes.append(last)
        self.cluster.ranges = [(0, 16383, last)]
        self.cluster.replicas = {last: self.nodes[:2]}
        self.result_of(client.refresh_topology())
        self.assertEqual([node.id for node in visit], [last.id])
        self.assertIn(first.id, [node.id for node in client.nodes()])
        self.assertEqual(len(list(client.nodes())), 3)

    def test_execute_on(self) -> None:
        """Commands go to the given node. Wrong calls, and calls after ``close``, fail."""
        client = self.client()
        node = client.topology.primaries[0]
        self.assertEqual(self.result_of(client.execute_on(node, "PING")), b"PONG")
        self.error_of(client.execute_on(node), TypeError)
        self.error_of(client.execute_on(node, "GET", object()), TypeError)  # type: ignore[arg-type]
        self.result_of(client.close())
        self.error_of(client.execute_on(node, "PING"), ClientClosed)
        self.error_of(client.refresh_topology(), ClientClosed)

    def test_calls_without_a_command(self) -> None:
        """The Deferred fails with TypeError."""
        client = self.client()
        self.error_of(client.execute(), TypeError)
        self.error_of(client.execute(["GET"], "k"), TypeError)  # type: ignore[arg-type]
        self.error_of(client.execute(7, "k"), TypeError)


class MembersTests(MemoryTests):
    def found(self, members: Any) -> list[Any]:
        async def scan() -> list[Any]:
            return [item async for item in members]

        return self.result_of(Deferred.fromCoroutine(scan()))

    def test_kinds_of_members(self) -> None:
        """Hashes give pairs, sets give names, sorted sets give scores. The options of the caller are sent."""
        step = b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n"
        for node in self.nodes:
            node.script = lambda node, words, _: step if b"SCAN" in words[0] else DEFAULT_REPLY
        client = self.client()
        key = self.key_of(self.nodes[0])
        self.assertEqual(self.found(client.hscan_iter(key)), [(b"1", b"2")])
        self.assertEqual(self.found(client.sscan_iter(key, "*", count=5)), [b"1", b"2"])
        self.assertEqual(self.found(client.zscan_iter(key)), [(b"1", 2.0)])
        words = next(words for _, words in self.nodes[0].received if words[0] == b"SSCAN")
        self.assertEqual(words[3:], [b"MATCH", b"*", b"COUNT", b"5"])


class ReprTests(MemoryTests):
    """What people see in a debugger and in logs."""

    def test_a_client(self) -> None:
        client = self.client(password="not-to-be-seen")
        self.assertIn("node:7000", repr(client))
        self.assertIn("nodes=3", repr(client))
        self.assertNotIn("not-to-be-seen", repr(client) + repr(client.options))
        self.assertEqual(repr(DEFAULT), "DEFAULT")
        self.assertIn("commands", repr(client.commands))

    def test_pipelines_transactions_and_scripts(self) -> None:
        client = self.client()
        pipeline, transaction = client.pipeline().get("k").add("GET", "k"), client.transaction().get("k")
        self.assertEqual((len(pipeline), len(transaction)), (2, 1))
        self.assertIn("2 commands", repr(pipeline))
        self.assertIn("1 commands", repr(transaction))
        script = client.script("return 1")
        self.assertIn(script.sha, repr(script))
        self.assertIn("does", repr(client.function("does")))

    def test_a_node_and_its_connections(self) -> None:
        """The counts show where commands are."""
        client = self.client()
        node = self.nodes[0]
        node.script = lambda node, words, _: SILENCE if words[0] in (b"BLPOP", b"GET") else DEFAULT_REPLY
        key = self.key_of(node)
        waiting: list[Deferred[Any]] = [client.get(key), client.blpop(key, 0)]
        self.network.settle()
        connection = client._router.factory.node_at(node.address)
        self.assertIn("node:7000 ready", repr(connection))
        self.assertIn("open sent=1 unsent=0", repr(connection))
        self.assertIn("leased=1 idle=0 waiting=0", repr(connection.pool))
        self.result_of(client.abort())
        for deferred in waiting:
            self.error_of(deferred, ClientClosed)
        self.assertIn("closed", repr(connection))


class PipelineTests(MemoryTests):
    def test_the_first_error(self) -> None:
        """``raise_first`` raises the first error when all commands have ended. Without it, the error is a result."""
        client = self.client()
        key = self.key_of(self.nodes[0])
        self.nodes[0].script = lambda node, words, _: b"-WRONGTYPE no\r\n" if words[0] == b"INCR" else DEFAULT_REPLY
        for raise_first in (False, True):
            executing = client.pipeline().set(key, "v").incr(key).get(key).execute(raise_first=raise_first)
            if raise_first:
                self.assertIn("WRONGTYPE", str(self.error_of(executing)))
            else:
                results = self.result_of(executing)
                self.assertEqual((results[0], results[2]), (b"OK", b"v"))
                self.assertIn("WRONGTYPE", str(results[1]))

    def test_a_reply_of_an_unexpected_kind(self) -> None:
        """The result of its command is an error. The other results are as usual."""
        client = self.client()
        key = self.key_of(self.nodes[0])
        self.nodes[0].script = lambda node, words, _: b"+what\r\n" if words[0] == b"ZSCORE" else DEFAULT_REPLY
        results = self.result_of(client.pipeline().zscore(key, "m").set(key, "v").execute())
        self.assertIsInstance(results[0], Exception)
        self.assertEqual(results[1], b"OK")

    def test_a_transaction_with_an_error(self) -> None:
        """The other commands are executed. ``raise_first`` raises the error."""

        def script(node: Any, words: list[bytes], connection: Any) -> Any:
            reply = transactional(node, words, connection)
            return reply.replace(b":1\r\n", b"-WRONGTYPE no\r\n") if words[0] == b"EXEC" else reply

        client = self.client()
        key = self.key_of(self.nodes[0])
        self.nodes[0].script = script
        results = self.result_of(client.transaction().incr(key).set(key, "v").execute())
        self.assertIn("WRONGTYPE", str(results[0]))
        self.assertEqual(results[1], b"OK")
        del self.cluster.values[key.encode()]
        executing = client.transaction().incr(key).set(key, "v").execute(raise_first=True)
        self.assertIn("WRONGTYPE", str(self.error_of(executing)))
