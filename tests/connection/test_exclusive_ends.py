"""How exclusive connections end with their session, client or node, and what happens to waiting commands."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.memory import MemoryTests
from txvalkeycluster import ClientClosed, ConnectionLost, RoutingError
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE

# A reply to HELLO with a client id.
NUMBERED = b"%3\r\n+proto\r\n:3\r\n+version\r\n+9.1.2\r\n+id\r\n:7\r\n"
VALUE = b"*2\r\n$1\r\nl\r\n$1\r\nv\r\n"


class EndTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.node = self.nodes[0]
        self.key = self.key_of(self.node)
        #: Replies of the node, by command, that replace the execution.
        self.answers: dict[bytes, Any] = {b"BLPOP": SILENCE, b"HELLO": NUMBERED}
        #: The connections that received BLPOP.
        self.held: list[Any] = []
        self.node.script = self.script

    def script(self, _: Any, words: list[bytes], connection: Any) -> Any:
        if words[0] == b"BLPOP":
            self.held.append(connection)
        answer = self.answers.get(words[0], DEFAULT_REPLY)
        return answer(words) if callable(answer) else answer

    def entered(self, client: Any) -> Any:
        return self.result_of(Deferred.fromCoroutine(client.watch(self.key).__aenter__()))

    def left(self, session: Any) -> None:
        self.result_of(Deferred.fromCoroutine(session.__aexit__(None, None, None)))

    def ended(self, client: Any) -> None:
        """Abort a client; check that no connection and no timer is left."""
        self.result_of(client.abort())
        self.assertEqual(self.node.connections, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SessionTests(EndTests):
    def test_left_with_pending_commands(self) -> None:
        """Pending commands fail, and each error says whether its command may have been executed."""
        client = self.client()
        session = self.entered(client)
        self.answers[b"INCR"] = SILENCE
        sent = session.incr(self.key)
        self.network.settle()
        unsent = session.incr(self.key)
        self.left(session)
        self.assertTrue(self.error_of(sent, ConnectionLost).maybe_executed)
        self.assertFalse(self.error_of(unsent, ConnectionLost).maybe_executed)
        self.ended(client)

    def test_left_with_a_pending_transaction(self) -> None:
        client = self.client()
        session = self.entered(client)
        self.answers |= dict.fromkeys((b"MULTI", b"INCR", b"EXEC"), SILENCE)
        executing = session.transaction().incr(self.key).execute()
        self.network.settle()
        self.left(session)
        self.assertTrue(self.error_of(executing, ConnectionLost).maybe_executed)
        self.ended(client)

    def test_unwatch_before_the_connection_is_lent_again(self) -> None:
        """The next session does not fail because of keys that another session watched."""
        client = self.client()
        self.left(self.entered(client))
        accepted = self.node.accepted
        self.left(self.entered(client))
        self.assertEqual((self.node.accepted, self.node.count(b"UNWATCH")), (accepted, 2))
        self.ended(client)

    def test_used_after_it_was_left(self) -> None:
        """Commands of the session fail, because its connection may be lent to another session."""
        client = self.client()
        session = self.entered(client)
        self.left(session)
        self.error_of(session.get(self.key), RoutingError)
        self.error_of(session.transaction().get(self.key).execute(), RoutingError)

    def test_close_with_an_open_session(self) -> None:
        """``close`` cuts the connection, because the session may stay open for ever."""
        client = self.client()
        session = self.entered(client)
        self.assertIsNone(self.result_of(client.close()))
        self.left(session)
        self.ended(client)


class WhileDiallingTests(EndTests):
    """The client ends while a command waits for a connection that is being made."""

    def setUp(self) -> None:
        super().setUp()
        self.dialled = self.client()
        self.result_of(self.dialled.get(self.key))
        self.network.instead[self.node.address] = Deferred
        self.waiting = self.dialled.blpop(self.key, 0)
        self.network.settle()
        self.before = len(self.network.dials)

    def test_abort(self) -> None:
        gone = self.dialled.abort()
        self.assertFalse(self.failureResultOf(self.waiting, ClientClosed).value.maybe_executed)
        self.result_of(gone)
        self.assertEqual(len(self.network.dials), self.before)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close(self) -> None:
        closed = self.dialled.close()
        self.assertFalse(self.failureResultOf(self.waiting, ClientClosed).value.maybe_executed)
        self.result_of(closed)
        self.assertEqual(len(self.network.dials), self.before)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class CloseTests(EndTests):
    """``close`` ends blocking commands as if their time were over."""

    def blocked(self) -> tuple[Any, Deferred[Any]]:
        client = self.client()
        waiting = client.blpop(self.key, 0)
        self.network.settle()
        return client, waiting

    def unblocking(self, words: list[bytes]) -> Any:
        if words[1] != b"UNBLOCK":
            return DEFAULT_REPLY
        if not self.held:
            return b":0\r\n"
        self.held.pop().write(b"_\r\n")
        return b":1\r\n"

    def test_client_unblock(self) -> None:
        """CLIENT UNBLOCK with the client id ends the command without an error."""
        self.answers[b"CLIENT"] = self.unblocking
        client, waiting = self.blocked()
        closed = client.close()
        self.assertIsNone(self.result_of(waiting))
        self.assertIsNone(self.result_of(closed))
        self.assertEqual(self.node.received[-1][1], [b"CLIENT", b"UNBLOCK", b"7"])
        self.ended(client)

    def test_a_user_who_may_not_unblock(self) -> None:
        """If CLIENT UNBLOCK is refused, the connection is cut."""
        self.answers[b"CLIENT"] = b"-NOPERM no\r\n"
        client, waiting = self.blocked()
        closed = client.close()
        self.assertTrue(self.error_of(waiting, ConnectionLost).maybe_executed)
        self.assertIsNone(self.result_of(closed))
        self.ended(client)

    def test_unblock_arrives_before_the_command(self) -> None:
        """CLIENT UNBLOCK is sent again, because the server can read the two connections in any order."""
        self.answers[b"CLIENT"] = self.unblocking
        client, waiting = self.blocked()
        blocking, self.held = self.held, []
        closed = client.close()
        self.network.settle()
        self.assertNoResult(waiting)
        self.held = blocking
        self.assertIsNone(self.result_of(waiting))
        self.assertIsNone(self.result_of(closed))
        self.ended(client)

    def test_abort_while_unblock_is_repeated(self) -> None:
        self.answers[b"CLIENT"] = lambda words: b":0\r\n" if words[1] == b"UNBLOCK" else DEFAULT_REPLY
        client, waiting = self.blocked()
        closed = client.close()
        self.network.settle()
        self.ended(client)
        self.assertTrue(self.failureResultOf(waiting, ClientClosed).value.maybe_executed)
        self.successResultOf(closed)

    def test_cancelled_while_unblock_is_repeated(self) -> None:
        self.answers[b"CLIENT"] = lambda words: b":0\r\n" if words[1] == b"UNBLOCK" else DEFAULT_REPLY
        client, waiting = self.blocked()
        closed = client.close()
        self.network.settle()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.result_of(closed)
        self.ended(client)

    def test_a_node_that_has_left_the_map(self) -> None:
        """There is no shared connection for CLIENT UNBLOCK, so the connection of the command is cut."""
        client, waiting = self.blocked()
        self.cluster.ranges = [(0, 16383, self.nodes[1])]
        self.cluster.nodes = self.nodes[1:]
        self.result_of(client.refresh_topology())
        self.assertNoResult(waiting)
        closed = client.close()
        self.assertTrue(self.error_of(waiting, ConnectionLost).maybe_executed)
        self.assertIsNone(self.result_of(closed))
        self.ended(client)


class LeavingTests(EndTests):
    """A node leaves the slot map."""

    def leave(self, client: Any) -> None:
        self.cluster.ranges = [(0, 16383, self.nodes[1])]
        self.cluster.nodes = self.nodes[1:]
        self.result_of(client.refresh_topology())

    def test_waiting_commands_go_to_the_new_owner(self) -> None:
        client = self.client(max_exclusive=1)
        first, second = client.blpop(self.key, 0), client.blpop(self.key, 0)
        self.network.settle()
        self.nodes[1].script = lambda node, words, _: VALUE if words[0] == b"BLPOP" else DEFAULT_REPLY
        self.leave(client)
        self.assertEqual(self.result_of(second), (b"l", b"v"))
        # The pending command at the old node still gets its reply, and then its connection is closed.
        self.held[0].write(VALUE)
        self.assertEqual(self.result_of(first), (b"l", b"v"))
        self.network.settle()
        self.assertEqual(self.node.connections, [])

    def test_waiting_commands_of_execute_on_fail(self) -> None:
        client = self.client(max_exclusive=1)
        first = client.blpop(self.key, 0)
        second = client.execute_on(self.node.address, "BLPOP", self.key, 0)
        self.network.settle()
        self.leave(client)
        self.assertFalse(self.error_of(second, ConnectionLost).maybe_executed)
        self.assertNoResult(first)
        first.addErrback(lambda _: None)
