"""The empty transaction that asks whether a node still refuses MULTI, and who waits for its answer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.memory import MemoryTests
from tests.scripted.base import transactional
from txvalkeycluster import ClientClosed, CommandTimeout, ConnectionLost, RoutingError, TransactionRefused
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE
from txvalkeycluster.testing.scripted import Connection, ScriptedNode

ANSWERS = {b"MULTI": b"-NOPERM no\r\n", b"EXEC": b"-ERR EXEC without MULTI\r\n"}


class RefusedTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.node = self.nodes[0]
        self.key = self.key_of(self.node)
        self.answers: dict[bytes, Any] = ANSWERS
        self.node.script = lambda node, words, _: self.answers.get(words[0], DEFAULT_REPLY)

    def refused(self, executing: Deferred[Any], *, maybe_executed: bool) -> None:
        self.assertEqual(self.error_of(executing, TransactionRefused).maybe_executed, maybe_executed)

    def refused_before(self, **options: Any) -> Any:
        """A client that was refused MULTI so long ago that it asks again; INCR was executed once."""
        client = self.client(**options)
        self.refused(client.transaction().incr(self.key).execute(), maybe_executed=True)
        self.advance(10.1, step=1.0)
        return client

    def silenced(self, **options: Any) -> tuple[Any, Deferred[Any]]:
        """The same, with a transaction that waits for the answer."""
        client = self.refused_before(**options)
        self.answers = dict.fromkeys((b"MULTI", b"EXEC"), SILENCE)
        executing = client.transaction().incr(self.key).execute()
        self.network.settle()
        self.assertNoResult(executing)
        return client, executing

    def ended(self, client: Any) -> None:
        """Nothing was sent but the question, and nothing is left of the client."""
        self.assertEqual(self.cluster.count(b"INCR"), 1)
        self.result_of(client.abort())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ProbeTests(RefusedTests):
    def test_the_question_is_lost(self) -> None:
        """It goes with its transaction, of which nothing was sent yet: that is tried where the map says now."""
        client, executing = self.silenced()
        self.node.script = transactional
        self.network.cut(self.node)
        self.assertEqual(self.result_of(executing), [2])
        self.result_of(client.abort())

    def test_the_question_is_not_answered_in_time(self) -> None:
        client, executing = self.silenced(timeout=0.5, unresponsive_after=60.0)
        self.advance(0.6)
        self.assertFalse(self.error_of(executing, CommandTimeout).maybe_executed)
        self.ended(client)

    def test_aborted_meanwhile(self) -> None:
        client, executing = self.silenced()
        self.result_of(client.abort())
        self.assertFalse(self.error_of(executing, ClientClosed).maybe_executed)
        self.ended(client)

    def test_cancelled_meanwhile(self) -> None:
        """Nothing is sent when the answer comes, and close() does not wait for it for ever."""
        client, executing = self.silenced()
        executing.cancel()
        self.failureResultOf(executing, CancelledError)
        self.node.connections[0].write(b"+OK\r\n*0\r\n")
        self.network.settle()
        self.assertIsNone(self.result_of(client.close()))
        self.ended(client)

    def test_close_waits_for_it(self) -> None:
        client, executing = self.silenced()
        closed = client.close()
        self.network.settle()
        self.assertNoResult(closed)
        self.node.script = transactional
        self.node.connections[0].write(b"+OK\r\n*0\r\n")
        self.assertEqual(self.result_of(executing), [2])
        self.assertIsNone(self.result_of(closed))
        self.result_of(client.abort())

    def test_its_node_leaves_the_map(self) -> None:
        """The transaction goes to the new owner of its slot."""
        client, executing = self.silenced()
        self.node.script = lambda *_: SILENCE
        self.nodes[1].script = transactional
        self.cluster.ranges = [(0, 16383, self.nodes[1])]
        self.cluster.nodes = self.nodes[1:]
        self.result_of(client.refresh_topology())
        self.network.cut(self.node)
        self.assertEqual(self.result_of(executing), [2])
        self.result_of(client.abort())


class SessionTests(RefusedTests):
    """A question on the connection of a session would end its watch: EXEC does, even an empty one."""

    def setUp(self) -> None:
        super().setUp()
        self.watches: dict[Connection, bool] = {}

    def watching(self, node: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
        """A node that executes a transaction only on a connection that watches."""
        if words[0] == b"WATCH":
            self.watches[connection] = True
        if words[0] == b"EXEC":
            reply = transactional(node, words, connection)
            return reply if self.watches.pop(connection, False) or reply == b"*0\r\n" else b"_\r\n"
        return transactional(node, words, connection)

    def entered(self, client: Any) -> Any:
        return self.result_of(Deferred.fromCoroutine(client.watch(self.key).__aenter__()))

    def left(self, session: Any) -> None:
        self.result_of(Deferred.fromCoroutine(session.__aexit__(None, None, None)))

    def test_its_watch_holds(self) -> None:
        client = self.refused_before()
        self.node.script = self.watching
        session = self.entered(client)
        self.assertEqual(self.result_of(session.transaction().incr(self.key).execute()), [2])
        self.left(session)
        self.result_of(client.abort())

    def test_left_meanwhile(self) -> None:
        """Its connection may be another's when the answer comes, so nothing is sent on it."""
        client = self.refused_before()
        session = self.entered(client)
        self.answers = dict.fromkeys((b"MULTI", b"EXEC"), SILENCE)
        executing = session.transaction().incr(self.key).execute()
        self.network.settle()
        self.left(session)
        number = next(number for number, words in reversed(self.node.received) if words == [b"EXEC"])
        asked = next(connection for connection in self.node.connections if connection.number == number)
        asked.write(b"+OK\r\n*0\r\n")
        self.assertIn("left", str(self.error_of(executing, RoutingError)))
        self.ended(client)

    def test_the_question_is_lost(self) -> None:
        """The session's own connection lives: nothing was sent, and the session may try again."""
        client = self.refused_before()
        session = self.entered(client)
        self.answers = dict.fromkeys((b"MULTI", b"EXEC"), SILENCE)
        executing = session.transaction().incr(self.key).execute()
        self.network.settle()
        self.network.cut(self.node)
        self.assertFalse(self.error_of(executing, ConnectionLost).maybe_executed)
        self.left(session)
        self.ended(client)


class RememberedTests(RefusedTests):
    def test_refused_after_it_had_waited_for_its_connection(self) -> None:
        """The next is not sent."""
        for node in self.nodes:
            node.script = self.node.script
        client = self.client()
        for node in self.nodes:
            key = self.key_of(node)
            self.refused(client.transaction().incr(key).execute(), maybe_executed=True)
            self.refused(client.transaction().incr(key).execute(), maybe_executed=False)
        self.result_of(client.abort())


class PutOffTests(MemoryTests):
    """Transactions that a server cannot execute just now."""

    def test_tried_again_ever_more_seldom(self) -> None:
        """That MULTI is accepted is no sign of recovery, so the others are not sent for it."""
        self.nodes[0].script = lambda node, words, connection: (
            b"-CLUSTERDOWN The cluster is down\r\n"
            if words[0] == b"INCR"
            else b"-EXECABORT Transaction discarded because of previous errors.\r\n"
            if words[0] == b"EXEC"
            else DEFAULT_REPLY
        )
        client = self.client()
        executing = [client.transaction().incr(self.key_of(self.nodes[0])).execute() for _ in range(3)]
        self.advance(1.0)
        self.assertLess(self.nodes[0].count(b"EXEC"), 3 * 40)
        self.nodes[0].script = transactional
        self.advance(0.1)
        self.assertEqual([self.successResultOf(each) for each in executing], [[1], [2], [3]])
        self.result_of(client.abort())
        self.assertEqual(self.clock.getDelayedCalls(), [])
