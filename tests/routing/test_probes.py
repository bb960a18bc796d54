"""Probes: empty transactions that show whether a node still refuses MULTI, and the transactions that wait for them."""

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
        """Return a client that was refused MULTI so long ago that it sends a probe; INCR was executed once."""
        client = self.client(**options)
        self.refused(client.transaction().incr(self.key).execute(), maybe_executed=True)
        self.advance(10.1, step=1.0)
        return client

    def silenced(self, **options: Any) -> tuple[Any, Deferred[Any]]:
        """Return a client that sends a probe, and a transaction that waits for the reply to that probe."""
        client = self.refused_before(**options)
        self.answers = dict.fromkeys((b"MULTI", b"EXEC"), SILENCE)
        executing = client.transaction().incr(self.key).execute()
        self.network.settle()
        self.assertNoResult(executing)
        return client, executing

    def ended(self, client: Any) -> None:
        """Check that the transaction was not sent, and that nothing is left after ``abort``."""
        self.assertEqual(self.cluster.count(b"INCR"), 1)
        self.result_of(client.abort())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ProbeTests(RefusedTests):
    def test_a_lost_probe(self) -> None:
        """The transaction was not sent yet, so it goes to the node that owns its slot now."""
        client, executing = self.silenced()
        self.node.script = transactional
        self.network.cut(self.node)
        self.assertEqual(self.result_of(executing), [2])
        self.result_of(client.abort())

    def test_a_probe_without_a_reply(self) -> None:
        client, executing = self.silenced(timeout=0.5, unresponsive_after=60.0)
        self.advance(0.6)
        self.assertFalse(self.error_of(executing, CommandTimeout).maybe_executed)
        self.ended(client)

    def test_abort_during_a_probe(self) -> None:
        client, executing = self.silenced()
        self.result_of(client.abort())
        self.assertFalse(self.error_of(executing, ClientClosed).maybe_executed)
        self.ended(client)

    def test_cancelled_during_a_probe(self) -> None:
        """A cancelled transaction is not sent when the reply to its probe comes, and ``close`` does not wait for it."""
        client, executing = self.silenced()
        executing.cancel()
        self.failureResultOf(executing, CancelledError)
        self.node.connections[0].write(b"+OK\r\n*0\r\n")
        self.network.settle()
        self.assertIsNone(self.result_of(client.close()))
        self.ended(client)

    def test_close_waits_for_the_transaction(self) -> None:
        client, executing = self.silenced()
        closed = client.close()
        self.network.settle()
        self.assertNoResult(closed)
        self.node.script = transactional
        self.node.connections[0].write(b"+OK\r\n*0\r\n")
        self.assertEqual(self.result_of(executing), [2])
        self.assertIsNone(self.result_of(closed))
        self.result_of(client.abort())

    def test_the_node_leaves_the_map(self) -> None:
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
    """A probe is not sent on the connection of a session, because even an empty EXEC would end the watch."""

    def setUp(self) -> None:
        super().setUp()
        self.watches: dict[Connection, bool] = {}

    def watching(self, node: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
        """Execute a transaction only on a connection that watches."""
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

    def test_the_watch_survives_a_probe(self) -> None:
        client = self.refused_before()
        self.node.script = self.watching
        session = self.entered(client)
        self.assertEqual(self.result_of(session.transaction().incr(self.key).execute()), [2])
        self.left(session)
        self.result_of(client.abort())

    def test_left_during_a_probe(self) -> None:
        """The transaction is not sent, because the connection of the session may be lent to another one."""
        client = self.refused_before()
        session = self.entered(client)
        self.answers = dict.fromkeys((b"MULTI", b"EXEC"), SILENCE)
        executing = session.transaction().incr(self.key).execute()
        self.network.settle()
        self.left(session)
        number = next(number for number, words in reversed(self.node.received) if words == [b"EXEC"])
        asked = next(connection for connection in self.node.connections if connection.number == number)
        asked.write(b"+OK\r\n*0\r\n")
        self.assertIn("not active", str(self.error_of(executing, RoutingError)))
        self.ended(client)

    def test_a_lost_probe(self) -> None:
        """The transaction was not sent, the connection of the session is open, and the session can try again."""
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
    def test_a_refusal_on_a_new_connection(self) -> None:
        """The client remembers the refusal, and does not send the next transaction."""
        for node in self.nodes:
            node.script = self.node.script
        client = self.client()
        for node in self.nodes:
            key = self.key_of(node)
            self.refused(client.transaction().incr(key).execute(), maybe_executed=True)
            self.refused(client.transaction().incr(key).execute(), maybe_executed=False)
        self.result_of(client.abort())


class DelayedTests(MemoryTests):
    """A server cannot execute transactions for a while."""

    def test_attempts_become_rarer(self) -> None:
        """An accepted MULTI does not show that the server has recovered, so it does not cause further attempts."""
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
