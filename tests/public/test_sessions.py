"""Sessions that watch keys, and ``optimistically``, which repeats a function while other clients change the keys."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.memory import MemoryTests
from tests.scripted.base import moved, transactional
from txvalkeycluster import ReplyError, RoutingError, WatchError
from txvalkeycluster.testing import SILENCE, ScriptedNode


class SessionTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.node = self.nodes[0]
        self.key = self.key_of(self.node)
        #: The number of the next EXEC commands that find a watched key changed.
        self.changed = 0
        #: Replies of the first node, by command, that replace the execution.
        self.answers: dict[bytes, Any] = {}
        for node in self.nodes:
            node.script = self.script

    def script(self, node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
        if node is self.node and words[0] in self.answers:
            return self.answers[words[0]]
        reply = transactional(node, words, connection)
        if words[0] == b"EXEC" and self.changed:
            self.changed -= 1
            return b"_\r\n"
        return reply

    def entered(self, client: Any) -> Any:
        return self.result_of(Deferred.fromCoroutine(client.watch(self.key).__aenter__()))

    def left(self, session: Any) -> None:
        self.result_of(Deferred.fromCoroutine(session.__aexit__(None, None, None)))


class OptimisticTests(SessionTests):
    async def increment(self, session: Any) -> Any:
        value = int(await session.get(self.key) or 0)
        return await session.transaction().set(self.key, value + 1).get(self.key).execute()

    def test_repeated_while_others_change_the_key(self) -> None:
        client = self.client()
        self.changed = 3
        self.assertEqual(self.result_of(client.optimistically(self.increment, self.key)), [b"OK", b"4"])
        self.assertEqual(self.node.count(b"WATCH"), 4)

    def test_the_last_attempt(self) -> None:
        """The error of the last attempt goes to the caller."""
        client = self.client()
        self.changed = 3
        error = self.error_of(client.optimistically(self.increment, self.key, attempts=2), WatchError)
        self.assertFalse(error.lost)
        self.assertEqual(self.node.count(b"WATCH"), 2)
        self.error_of(client.optimistically(self.increment, self.key, attempts=0), ValueError)

    def test_the_slot_moves(self) -> None:
        """The watch is lost. After a short pause, the next attempt goes to the new owner of the slot."""
        client = self.client()
        self.answers[b"GET"] = self.answers[b"WATCH"] = moved(self.key, self.nodes[1].address)
        self.node.script, script = None, self.script
        session = self.entered(client)
        self.node.script = script
        error = self.error_of(session.get(self.key), WatchError)
        self.assertTrue(error.lost)
        self.left(session)
        del self.answers[b"WATCH"]
        running = client.optimistically(self.increment, self.key)
        self.network.settle()
        self.assertNoResult(running)
        self.answers[b"WATCH"] = moved(self.key, self.nodes[1].address)
        self.assertEqual(self.result_of(running)[0], b"OK")
        self.assertEqual(self.nodes[1].count(b"EXEC"), 1)

    def test_cancelled(self) -> None:
        """The connection has a pending reply, so it is cut."""
        client = self.client()
        self.answers[b"GET"] = SILENCE
        running = client.optimistically(self.increment, self.key)
        self.network.settle()
        connections = len(self.node.connections)
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.network.settle()
        self.assertEqual(len(self.node.connections), connections - 1)
        self.result_of(client.abort())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class UseTests(SessionTests):
    def test_wrong_calls(self) -> None:
        """Keys of other slots and wrong commands are refused before anything is sent."""
        client = self.client()
        other = self.key_of(self.nodes[1])
        self.assertRaises(RoutingError, client.watch, self.key, other)
        self.assertRaises(ValueError, client.watch)
        session = self.entered(client)
        self.assertRaises(RoutingError, session.get, other)
        self.assertRaises(RoutingError, session.transaction().get, other)
        self.assertRaises(RoutingError, session.execute, "DBSIZE")
        self.assertRaises(TypeError, session.execute)
        self.assertRaises(TypeError, session.transaction().add)
        self.left(session)

    def test_an_error_of_a_command(self) -> None:
        """The error goes to the caller, and the watch goes on."""
        client = self.client()
        session = self.entered(client)
        self.answers[b"GET"] = b"-WRONGTYPE no\r\n"
        self.error_of(session.get(self.key), ReplyError)
        self.assertEqual(self.result_of(session.transaction().incr(self.key).execute()), [1])
        self.left(session)

    def test_results_are_converted(self) -> None:
        client = self.client()
        session = self.entered(client)
        self.answers[b"HGETALL"] = b"*2\r\n$1\r\nf\r\n$1\r\nv\r\n"
        self.assertEqual(self.result_of(session.hgetall(self.key)), {b"f": b"v"})
        self.assertEqual(self.result_of(session.execute("PING")), b"PONG")
        self.left(session)

    def test_a_script_that_forges_a_redirect(self) -> None:
        """The script may have written, so the error is not a lost watch, and a function is not repeated."""
        client = self.client()
        session = self.entered(client)
        self.answers[b"EVAL"] = b"-MOVED what the script says\r\n"
        error = self.error_of(session.execute("EVAL", "return 1", 1, self.key), ReplyError)
        self.assertEqual(error.code, "MOVED")
        self.left(session)

    def test_unwatch_is_refused_or_not_answered(self) -> None:
        """The connection is closed with its watch, and the next session gets a new one."""
        client = self.client()
        for answer in (b"-ERR not today\r\n", SILENCE):
            self.answers[b"UNWATCH"] = answer
            session = self.entered(client)
            accepted = self.node.accepted
            leaving = Deferred.fromCoroutine(session.__aexit__(None, None, None))
            self.advance(1.1)
            self.assertIsNone(self.successResultOf(leaving))
            del self.answers[b"UNWATCH"]
            self.left(self.entered(client))
            self.assertEqual(self.node.accepted, accepted + 1)

    def test_left_without_having_been_entered(self) -> None:
        client = self.client()
        session = client.watch(self.key)
        self.left(session)
        self.error_of(session.get(self.key), RoutingError)
