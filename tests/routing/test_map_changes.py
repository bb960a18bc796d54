"""What a new slot map means for pending and waiting commands."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from tests.memory import MemoryTests
from tests.scripted.base import ask, moved, transactional
from txvalkeycluster import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    RoutingError,
    TopologyUpdated,
    TransactionRefused,
)
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode
from txvalkeycluster.testing.scripted import Connection


class HeldTests(MemoryTests):
    """The first node leaves the replies to some commands to the test."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.nodes[0]
        self.key = self.key_of(self.node)
        self.wires: list[Connection] = []
        #: The commands that the first node does not answer.
        self.held: tuple[bytes, ...] = (b"GET", b"DBSIZE")
        self.node.script = self.hold

    def hold(self, _: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
        if words[0] not in self.held:
            return DEFAULT_REPLY
        self.wires.append(connection)
        return SILENCE

    def given_to(self, node: ScriptedNode, *, replicas: bool = False) -> None:
        """Give the slots of the first node to another node, and make the first one its replica or remove it."""
        self.cluster.ranges = [
            (start, end, node if owner is self.node else owner) for start, end, owner in self.cluster.ranges
        ]
        self.cluster.replicas = {node: [self.node]} if replicas else {}
        if not replicas:
            self.cluster.nodes = [other for other in self.nodes if other is not self.node]


class LoadingTests(HeldTests):
    def test_a_primary_that_has_become_a_replica(self) -> None:
        """A command that a former primary refuses with LOADING goes to the new primary at once."""
        client = self.client(seeds=str(self.nodes[1].address))
        waiting = client.get(self.key)
        self.network.settle()
        self.given_to(self.nodes[1], replicas=True)
        self.node.script = lambda node, words, _: SILENCE
        refreshing = client.refresh_topology()
        self.advance(0.5)
        self.successResultOf(refreshing)
        self.wires[0].write(b"-LOADING Valkey is loading the dataset in memory\r\n")
        self.network.settle()
        self.assertIsNone(self.successResultOf(waiting))
        self.assertEqual(self.nodes[1].count(b"GET"), 1)


class ShardTests(HeldTests):
    def test_a_missing_shard(self) -> None:
        """The part for the missing shard waits for a map that has the shard. The whole command can be cancelled."""
        client = self.client()
        self.held = (b"DBSIZE",)
        for node in self.nodes[1:]:
            node.script = lambda node, words, _: b":1\r\n" if words[0] == b"DBSIZE" else DEFAULT_REPLY
        counting = client.dbsize()
        self.network.settle()
        self.given_to(self.nodes[1])
        self.node.script = lambda *_: SILENCE
        refreshing = client.refresh_topology()
        self.advance(0.5)
        self.successResultOf(refreshing)
        self.wires[0].close()
        self.advance(0.1)
        self.assertNoResult(counting)
        counting.cancel()
        self.failureResultOf(counting, CancelledError)
        self.assertIsNone(self.result_of(client.close()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_node_without_an_address(self) -> None:
        """A listed node without an address cannot be sent commands."""
        client = self.client()
        node = client.topology.primaries[0]
        reply = b"*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$1\r\n?\r\n:7000\r\n$40\r\n%b\r\n*0\r\n" % node.id.encode()
        for each in self.nodes:
            each.script = lambda node, words, _: reply if words[:2] == [b"CLUSTER", b"SLOTS"] else DEFAULT_REPLY
        self.result_of(client.refresh_topology())
        self.error_of(client.execute_on(node, "PING"), RoutingError)


class EndTests(HeldTests):
    def test_a_listener_that_aborts_at_a_new_map(self) -> None:
        """The waiting command fails, and nothing is started after ``abort``."""
        client = self.lazy_client()
        client.add_listener(lambda event: client.abort() if isinstance(event, TopologyUpdated) else None)
        waiting = client.get(self.key_of(self.nodes[1]))
        self.advance(0.1)
        self.failureResultOf(waiting, ClientClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_callback_that_cancels_a_command_at_the_first_map(self) -> None:
        """The cancelled command is not sent."""
        reply = b"*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$1\r\n?\r\n:7000\r\n$40\r\n%b\r\n*0\r\n" % (b"a" * 40)
        for node in self.nodes:
            node.script = lambda node, words, _: (
                reply if words[1:] == [b"SLOTS"] else b"-ERR no\r\n" if words[0] == b"CLUSTER" else DEFAULT_REPLY
            )
        client = self.lazy_client()
        counting = client.dbsize()
        others = [client.get(self.key), client.get(self.key)]

        def cancel_another(failure: Failure) -> None:
            assert isinstance(failure.value, RoutingError)
            others[0].cancel()

        counting.addErrback(cancel_another)
        self.advance(0.1)
        self.successResultOf(counting)
        self.failureResultOf(others[0], CancelledError)
        self.assertNoResult(others[1])
        self.result_of(client.abort())
        self.failureResultOf(others[1], ClientClosed)

    def test_close_with_a_blocking_command_in_a_retry_queue(self) -> None:
        """A client that is closing does not start the blocking command."""
        client = self.client()
        self.node.script = lambda node, words, _: (
            b"-CLUSTERDOWN The cluster is down\r\n" if words[0] == b"BLPOP" else DEFAULT_REPLY
        )
        waiting = client.blpop(self.key, 0)
        self.network.settle()
        self.assertNoResult(waiting)
        closed = client.close()
        self.node.script = lambda node, words, _: SILENCE if words[0] == b"BLPOP" else DEFAULT_REPLY
        self.assertFalse(self.error_of(waiting, ClientClosed).maybe_executed)
        self.assertIsNone(self.result_of(closed))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TransactionTests(HeldTests):
    def test_a_transaction_follows_ask(self) -> None:
        """The whole transaction goes to the target of ASK, after ASKING."""
        client = self.client()
        target = self.nodes[1]
        target.script = transactional
        self.node.script = lambda node, words, _: (
            b"+OK\r\n"
            if words[0] == b"MULTI"
            else ask(self.key, target.address)
            if words[0] == b"INCR"
            else b"-EXECABORT Transaction discarded because of previous errors.\r\n"
            if words[0] == b"EXEC"
            else DEFAULT_REPLY
        )
        self.assertEqual(self.result_of(client.transaction().incr(self.key).execute()), [1])
        self.assertEqual([words[0] for _, words in target.received[-4:]], [b"ASKING", b"MULTI", b"INCR", b"EXEC"])

    def test_no_connection_for_the_probe_of_a_session(self) -> None:
        """If the shared connection cannot be made, the probe fails and the transaction is not sent."""
        answers = {b"MULTI": b"-NOPERM no\r\n", b"EXEC": b"-ERR EXEC without MULTI\r\n"}
        self.node.script = lambda node, words, _: answers.get(words[0], DEFAULT_REPLY)
        client = self.client(refresh_period=None)
        self.error_of(client.transaction().incr(self.key).execute(), TransactionRefused)
        self.advance(10.1, step=1.0)
        session = self.result_of(Deferred.fromCoroutine(client.watch(self.key).__aenter__()))
        self.network.instead[self.node.address] = lambda: Deferred()
        shared = min(self.node.connections, key=lambda connection: connection.number)
        shared.close()
        self.network.settle()
        executing = session.transaction().incr(self.key).execute()
        self.advance(6.0, step=0.1)
        self.failureResultOf(executing, ConnectFailed)
        self.assertEqual(self.cluster.count(b"INCR"), 1)
        self.result_of(client.abort())


class LeftNodeTests(HeldTests):
    """A node has left the slot map, and commands or sessions still use it."""

    def left(self, client: Any) -> None:
        self.given_to(self.nodes[1])
        self.node.script = lambda *_: SILENCE
        refreshing = client.refresh_topology()
        self.advance(0.5)
        self.successResultOf(refreshing)

    def test_a_waiting_command_of_execute_on(self) -> None:
        client = self.client(seeds=str(self.nodes[1].address))
        self.network.instead[self.node.address] = lambda: Deferred()
        waiting = client.execute_on(self.node.address, "PING")
        self.network.settle()
        self.left(client)
        self.assertFalse(self.failureResultOf(waiting, ConnectionLost).value.maybe_executed)

    def test_wait_on_the_node(self) -> None:
        client = self.client(seeds=str(self.nodes[1].address))
        self.node.script = lambda node, words, _: b":0\r\n" if words[0] == b"WAIT" else DEFAULT_REPLY
        waiting = client.execute_on(self.node.address, "WAIT", 1, 0)
        self.advance(0.1)
        self.given_to(self.nodes[1])
        self.result_of(client.refresh_topology())
        self.error_of(waiting, ConnectionLost)
        self.assertIsNone(self.result_of(client.close()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_session_whose_node_has_refused_multi(self) -> None:
        """A probe cannot be sent to the node, so the transaction is not sent either."""
        answers = {b"MULTI": b"-NOPERM no\r\n", b"EXEC": b"-ERR EXEC without MULTI\r\n"}
        self.node.script = lambda node, words, _: answers.get(words[0], DEFAULT_REPLY)
        client = self.client(seeds=str(self.nodes[1].address))
        self.error_of(client.transaction().incr(self.key).execute(), TransactionRefused)
        session = self.result_of(Deferred.fromCoroutine(client.watch(self.key).__aenter__()))
        self.advance(10.1, step=1.0)
        # The pending command keeps the connection of the session open.
        self.held = (b"GET",)
        self.node.script = self.hold
        waiting = session.get(self.key)
        self.network.settle()
        self.given_to(self.nodes[1])
        self.result_of(client.refresh_topology())
        error = self.error_of(session.transaction().incr(self.key).execute(), ConnectionLost)
        self.assertFalse(error.maybe_executed)
        self.wires[-1].write(b"_\r\n")
        self.assertIsNone(self.result_of(waiting))
        self.result_of(client.abort())

    def test_an_address_that_names_another_machine(self) -> None:
        """Exclusive connections to the former machine are not lent again."""
        client = self.client()
        value = b"*2\r\n$1\r\nl\r\n$1\r\nv\r\n"
        self.node.script = lambda node, words, _: value if words[0] == b"BLPOP" else DEFAULT_REPLY
        self.assertEqual(self.result_of(client.blpop(self.key, 0)), (b"l", b"v"))
        there = moved(self.key, self.node.address)
        before = self.node.accepted
        self.node.script = lambda node, words, connection: (
            there
            if connection.number <= before and words[0] in (b"GET", b"BLPOP")
            else value
            if words[0] == b"BLPOP"
            else DEFAULT_REPLY
        )
        self.assertIsNone(self.result_of(client.get(self.key)))
        self.assertEqual(self.result_of(client.blpop(self.key, 0)), (b"l", b"v"))
        self.assertEqual(len(self.node.connections), 2)
        self.assertEqual(self.node.accepted, before + 2)
