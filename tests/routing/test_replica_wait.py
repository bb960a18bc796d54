"""WAIT: which writes it confirms, and when it cannot confirm them."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from txvalkeycluster import Address, ClusterClient, ConnectFailed, ReplyError, WritesUnconfirmed
from txvalkeycluster.options import Options
from txvalkeycluster.routing.replica_wait import ReplicaWait
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode

REPLICA = b"-ERR WAIT cannot be used with replica instances. Please also note ...\r\n"


class ReplicaWaitTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.key = self.key_of(self.nodes[0])
        #: The reply of each node to WAIT.
        self.answers: dict[ScriptedNode, Any] = dict.fromkeys(self.nodes, b":1\r\n")
        for node in self.nodes:
            node.script = self.answer

    def answer(self, node: ScriptedNode, words: list[bytes], _: Any) -> Any:
        return self.answers[node] if words[0] == b"WAIT" else DEFAULT_REPLY

    def cut(self, client: ClusterClient, node: ScriptedNode) -> None:
        """Close the connections of a node, and let the client notice it."""
        lost: list[Any] = []
        client.add_listener(lambda event: lost.append(event) if type(event).__name__ == "NodeDisconnected" else None)
        for connection in list(node.connections):
            connection.close()
        self.advance(0.1)
        self.assertTrue(lost)

    def unconfirmed(self, waiting: Deferred[Any]) -> WritesUnconfirmed:
        error = self.error_of(waiting, WritesUnconfirmed)
        assert isinstance(error, WritesUnconfirmed)
        return error

    def test_a_connection_with_unconfirmed_writes_is_replaced(self) -> None:
        """No server can confirm the writes of the old connection, and the error names the node."""
        client = self.client()
        self.result_of(client.set(self.key, "v"))
        self.cut(client, self.nodes[0])
        self.result_of(client.set(self.key, "v"))
        error = self.unconfirmed(client.wait(1, 1000))
        self.assertIn(str(self.nodes[0].address), str(error))
        self.assertTrue(error.maybe_executed)
        self.assertEqual(self.cluster.count(b"WAIT"), 0)

    def test_arguments_that_are_not_numbers(self) -> None:
        """The error is that of the server."""
        client = self.client()
        self.answers = dict.fromkeys(self.nodes, b"-ERR value is not an integer or out of range\r\n")
        self.error_of(client.execute("WAIT", "all", 0), ReplyError)

    def test_losses_at_very_many_addresses(self) -> None:
        """The oldest losses are forgotten, so that they cannot fill the memory."""
        wait = ReplicaWait(self.clock, Options(random=Random(1)), list, list, lambda node, error: None)
        for number in range(1001):
            wait.writes_lost(Address("node", number), "gone")
        error = self.error_of(Deferred.fromCoroutine(wait.wait(("WAIT", 1, 0))), WritesUnconfirmed)
        self.assertNotIn("node:0:", str(error))
        self.assertIn("node:1:", str(error))
        self.assertIn("node:1000:", str(error))

    def test_every_caller_gets_the_error(self) -> None:
        """The lost write may be that of any caller. Later writes are confirmed again."""
        client = self.client()
        self.result_of(client.set(self.key, "v"))
        self.cut(client, self.nodes[0])
        for _ in range(3):
            self.unconfirmed(client.wait(1, 1000))
        self.result_of(client.set(self.key, "v"))
        self.advance(1.1)
        self.assertEqual(self.result_of(client.wait(1, 1000)), 1)

    def test_confirmed_before_the_connection_was_replaced(self) -> None:
        """Only writes since the last successful WAIT count. A WAIT does not cover writes that are sent after it."""
        client = self.client()
        self.result_of(client.set(self.key, "v"))
        self.assertEqual(self.result_of(client.wait(1, 1000)), 1)
        self.cut(client, self.nodes[0])
        self.assertEqual(self.result_of(client.wait(1, 1000)), 1)
        waiting = client.wait(1, 1000)
        client.set(self.key, "v")
        self.assertEqual(self.result_of(waiting), 1)
        self.cut(client, self.nodes[0])
        self.unconfirmed(client.wait(1, 1000))

    def test_too_few_replicas(self) -> None:
        """A WAIT that too few replicas answered has confirmed nothing."""
        client = self.client()
        self.result_of(client.set(self.key, "v"))
        self.assertEqual(self.result_of(client.wait(2, 20)), 1)
        self.cut(client, self.nodes[0])
        self.unconfirmed(client.wait(1, 1000))

    def test_wait_for_no_replica(self) -> None:
        """A WAIT for 0 replicas succeeds at once and has confirmed nothing."""
        client = self.client()
        self.result_of(client.set(self.key, "v"))
        self.assertEqual(self.result_of(client.wait(0, 1000)), 1)
        self.cut(client, self.nodes[0])
        self.unconfirmed(client.wait(1, 1000))

    def test_a_connection_without_commands_of_callers(self) -> None:
        """Requests of the client itself, such as that for the slot map, are not writes."""
        client = self.client()
        for node in self.nodes:
            self.result_of(client.refresh_topology())
            self.result_of(client.wait(1, 1000))
            self.cut(client, node)
        self.assertEqual(self.result_of(client.wait(1, 1000)), 1)

    def test_replaced_during_the_wait(self) -> None:
        client = self.client()
        self.result_of(client.set(self.key, "v"))
        self.answers[self.nodes[0]] = b":0\r\n"
        waiting = client.wait(1, 0)
        self.advance(0.1)
        self.assertTrue(self.nodes[0].count(b"WAIT") > 2)
        self.cut(client, self.nodes[0])
        self.unconfirmed(waiting)

    def test_a_write_while_the_connection_is_replaced(self) -> None:
        """A write that went to the old connection cannot be confirmed on the new one."""
        client = self.client()
        node = self.nodes[0]
        moved = b"-MOVED 1 %b\r\n" % str(node.address).encode()
        self.result_of(client.set(self.key, "v"))
        self.assertEqual(self.result_of(client.wait(1, 1000)), 1)
        node.script = lambda n, words, c: moved if words[0] == b"GET" and c.number == 1 else self.answer(n, words, c)
        reading = client.get(self.key)
        self.result_of(client.set(self.key, "v"))
        self.result_of(reading)
        self.assertEqual(node.accepted, 2)
        self.unconfirmed(client.wait(1, 1000))

    def test_a_former_primary(self) -> None:
        """The replicas of the new primary do not confirm writes to the old one. A new slot map is requested at once."""
        self.cluster.ranges = [(0, 10922, self.nodes[0]), (10923, 16383, self.nodes[1])]
        client = self.client(refresh_interval=60.0)
        self.result_of(client.set(self.key, "v"))
        self.answers[self.nodes[0]] = REPLICA
        self.cluster.ranges = [(0, 10922, self.nodes[2]), (10923, 16383, self.nodes[1])]
        self.unconfirmed(client.wait(1, 1000))
        self.advance(0.1)
        owner = client.topology.owner(0)
        assert owner is not None
        self.assertEqual(owner.id, self.nodes[2].id)

    def test_a_map_without_the_primary(self) -> None:
        """Writes are in doubt even if the node is a primary again, because it may have dropped them in between."""
        ranges = self.cluster.ranges
        client = self.client()
        self.result_of(client.set(self.key, "v"))
        self.cluster.ranges = [(0, 16383, self.nodes[1])]
        self.result_of(client.refresh_topology())
        self.cluster.ranges = ranges
        self.result_of(client.refresh_topology())
        self.unconfirmed(client.wait(1, 1000))

    def test_a_map_with_the_primary_as_a_replica(self) -> None:
        """Writes are in doubt although the connection stays open. Commands to a replica are not writes."""
        one, other = self.nodes[:2]
        self.cluster.ranges = [(0, 16383, one)]
        self.cluster.replicas = {one: [other]}
        client = self.client()
        for node in client.topology.nodes:
            self.result_of(client.execute_on(node, "PING"))
        self.result_of(client.set(self.key, "v"))
        self.assertEqual(self.result_of(client.wait(1, 1000)), 1)
        self.assertEqual(other.count(b"WAIT"), 0)
        self.result_of(client.set(self.key, "v"))
        self.cluster.ranges, self.cluster.replicas = [(0, 16383, other)], {other: [one]}
        self.result_of(client.refresh_topology())
        self.cluster.ranges, self.cluster.replicas = [(0, 16383, one)], {one: [other]}
        self.result_of(client.refresh_topology())
        self.unconfirmed(client.wait(1, 1000))

    def test_an_old_map_without_writes(self) -> None:
        """Nothing is in doubt, and the new primary is asked as soon as the slot map shows it."""
        self.cluster.ranges = [(0, 10922, self.nodes[0]), (10923, 16383, self.nodes[1])]
        client = self.client(refresh_interval=60.0)
        self.answers[self.nodes[0]] = REPLICA
        self.cluster.ranges = [(0, 10922, self.nodes[2]), (10923, 16383, self.nodes[1])]
        self.assertEqual(self.result_of(client.wait(1, 1000)), 1)
        self.assertEqual(self.nodes[2].count(b"WAIT"), 1)

    def test_a_failed_wait_stops_asking(self) -> None:
        """Repeated waits do not fill the queues of the other nodes."""
        client = self.client()
        self.answers[self.nodes[0]] = b"-NOPERM no\r\n"
        self.answers[self.nodes[1]] = SILENCE
        self.answers[self.nodes[2]] = b":0\r\n"
        for _ in range(20):
            self.error_of(client.wait(1, 0), ReplyError)
        asked = self.nodes[2].count(b"WAIT")
        self.result_of(client.get(self.key_of(self.nodes[2])))
        self.advance(0.1)
        self.assertEqual(self.nodes[2].count(b"WAIT"), asked)

    def test_wait_on_one_node(self) -> None:
        """``execute_on`` waits for the writes of its node only."""
        client = self.client()
        self.result_of(client.set(self.key, "v"))
        self.cut(client, self.nodes[0])
        one, other = (client.topology.node(node.id) for node in self.nodes[:2])
        assert one is not None and other is not None
        self.assertEqual(self.result_of(client.execute_on(other, "WAIT", 1, 1000)), 1)
        self.unconfirmed(client.execute_on(one, "WAIT", 1, 1000))

    def test_an_unreachable_node(self) -> None:
        """Without writes to the node, the wait ends after its own timeout."""
        client = self.client()
        self.network.refuse(self.nodes[0])
        self.error_of(client.wait(1, 50), ConnectFailed)
