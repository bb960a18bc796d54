"""How exclusive connections end: with their session, their client or their node, and what becomes of who waits."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.memory import MemoryTests
from txvalkeycluster import ClientClosed, ConnectionLost, RoutingError
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE

# A HELLO that tells the connection's number.
NUMBERED = b"%3\r\n+proto\r\n:3\r\n+version\r\n+9.1.2\r\n+id\r\n:7\r\n"
VALUE = b"*2\r\n$1\r\nl\r\n$1\r\nv\r\n"


class EndTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.node = self.nodes[0]
        self.key = self.key_of(self.node)
        #: What the node answers to a command in place of executing it.
        self.answers: dict[bytes, Any] = {b"BLPOP": SILENCE, b"HELLO": NUMBERED}
        #: The connections that BLPOP came on.
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
        """Nothing is left of a client."""
        self.result_of(client.abort())
        self.assertEqual(self.node.connections, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SessionTests(EndTests):
    def test_left_with_commands_under_way(self) -> None:
        """They end with its connection, and it is said of each whether it may have been executed."""
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

    def test_left_with_a_transaction_under_way(self) -> None:
        client = self.client()
        session = self.entered(client)
        self.answers |= dict.fromkeys((b"MULTI", b"INCR", b"EXEC"), SILENCE)
        executing = session.transaction().incr(self.key).execute()
        self.network.settle()
        self.left(session)
        self.assertTrue(self.error_of(executing, ConnectionLost).maybe_executed)
        self.ended(client)

    def test_what_it_watched_is_forgotten(self) -> None:
        """The next who gets its connection is not told of changes to keys of others."""
        client = self.client()
        self.left(self.entered(client))
        accepted = self.node.accepted
        self.left(self.entered(client))
        self.assertEqual((self.node.accepted, self.node.count(b"UNWATCH")), (accepted, 2))
        self.ended(client)

    def test_used_after_it_was_left(self) -> None:
        """Its connection may be another's by then."""
        client = self.client()
        session = self.entered(client)
        self.left(session)
        self.error_of(session.get(self.key), RoutingError)
        self.error_of(session.transaction().get(self.key).execute(), RoutingError)

    def test_still_open_at_close(self) -> None:
        """Nobody knows when it will be left: its connection is cut."""
        client = self.client()
        session = self.entered(client)
        self.assertIsNone(self.result_of(client.close()))
        self.left(session)
        self.ended(client)


class WhileDiallingTests(EndTests):
    """The end of a client whose command waits for a connection that is being made."""

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
    """close() has what servers hold back end as if its time were up."""

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

    def test_unblocked(self) -> None:
        self.answers[b"CLIENT"] = self.unblocking
        client, waiting = self.blocked()
        closed = client.close()
        self.assertIsNone(self.result_of(waiting))
        self.assertIsNone(self.result_of(closed))
        self.assertEqual(self.node.received[-1][1], [b"CLIENT", b"UNBLOCK", b"7"])
        self.ended(client)

    def test_a_user_who_may_not_unblock(self) -> None:
        """Nothing else would ever end it: its connection is cut."""
        self.answers[b"CLIENT"] = b"-NOPERM no\r\n"
        client, waiting = self.blocked()
        closed = client.close()
        self.assertTrue(self.error_of(waiting, ConnectionLost).maybe_executed)
        self.assertIsNone(self.result_of(closed))
        self.ended(client)

    def test_unblocked_before_it_has_blocked(self) -> None:
        """The two are on different connections, so the server may read them in any order."""
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

    def test_aborted_while_it_is_asked_again(self) -> None:
        self.answers[b"CLIENT"] = lambda words: b":0\r\n" if words[1] == b"UNBLOCK" else DEFAULT_REPLY
        client, waiting = self.blocked()
        closed = client.close()
        self.network.settle()
        self.ended(client)
        self.assertTrue(self.failureResultOf(waiting, ClientClosed).value.maybe_executed)
        self.successResultOf(closed)

    def test_cancelled_while_it_is_asked_again(self) -> None:
        self.answers[b"CLIENT"] = lambda words: b":0\r\n" if words[1] == b"UNBLOCK" else DEFAULT_REPLY
        client, waiting = self.blocked()
        closed = client.close()
        self.network.settle()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.result_of(closed)
        self.ended(client)

    def test_a_node_that_has_left_the_map(self) -> None:
        """What blocks there has nobody who could be asked to end it."""
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
    """A node that leaves the map."""

    def leave(self, client: Any) -> None:
        self.cluster.ranges = [(0, 16383, self.nodes[1])]
        self.cluster.nodes = self.nodes[1:]
        self.result_of(client.refresh_topology())

    def test_what_waits_for_a_connection_goes_to_the_new_owner(self) -> None:
        client = self.client(max_exclusive=1)
        first, second = client.blpop(self.key, 0), client.blpop(self.key, 0)
        self.network.settle()
        self.nodes[1].script = lambda node, words, _: VALUE if words[0] == b"BLPOP" else DEFAULT_REPLY
        self.leave(client)
        self.assertEqual(self.result_of(second), (b"l", b"v"))
        # What is under way there is still waited for, and its connection closed then.
        self.held[0].write(VALUE)
        self.assertEqual(self.result_of(first), (b"l", b"v"))
        self.network.settle()
        self.assertEqual(self.node.connections, [])

    def test_what_was_asked_of_it_alone_fails(self) -> None:
        client = self.client(max_exclusive=1)
        first = client.blpop(self.key, 0)
        second = client.execute_on(self.node.address, "BLPOP", self.key, 0)
        self.network.settle()
        self.leave(client)
        self.assertFalse(self.error_of(second, ConnectionLost).maybe_executed)
        self.assertNoResult(first)
        first.addErrback(lambda _: None)
