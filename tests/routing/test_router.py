"""The router and all layers below it, in memory."""

from __future__ import annotations

from typing import Any

from tests.memory import MemoryTests
from txvalkeycluster import ClientClosed, CommandTimeout, ConnectionLost, ReplyError, TooManyPending, key_slot
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode


class RedirectTests(MemoryTests):
    def redirecting(self, word: str, target: ScriptedNode, *, slot: int | None = None) -> Any:
        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            if words[0] != b"GET":
                return DEFAULT_REPLY
            return f"-{word} {key_slot(words[1]) if slot is None else slot} {target.address}\r\n".encode()

        return script

    def test_moved(self) -> None:
        """A redirect is followed at once, the slot gets its new owner, and a new slot map is requested."""
        client = self.client()
        one, other = self.nodes[:2]
        key = self.key_of(one)
        one.script = self.redirecting("MOVED", other)
        for _ in range(2):
            self.assertIsNone(self.result_of(client.get(key)))
        self.assertEqual((one.count(b"GET"), other.count(b"GET")), (1, 2))
        self.assertEqual(client.statistics.moved, 1)
        asked = client.statistics.refreshes
        self.advance(1.0)
        self.assertEqual(client.statistics.refreshes, asked + 1)

    def test_ask(self) -> None:
        """ASKING and the command go to the target, and the slot keeps its owner."""
        client = self.client()
        one, other = self.nodes[:2]
        key = self.key_of(one)
        one.script = self.redirecting("ASK", other)
        for _ in range(2):
            self.assertIsNone(self.result_of(client.get(key)))
        self.assertEqual((one.count(b"GET"), other.count(b"ASKING"), other.count(b"GET")), (2, 2, 2))

    def test_two_nodes_that_redirect_to_each_other(self) -> None:
        """A few redirects are followed at once, then with pauses, until the deadline."""
        client = self.client(timeout=2.0)
        one, other = self.nodes[:2]
        one.script, other.script = self.redirecting("MOVED", other), self.redirecting("MOVED", one)
        waiting = client.get(self.key_of(one))
        self.network.settle()
        at_once = self.cluster.count(b"GET")
        self.assertEqual(at_once, 6)
        self.assertNoResult(waiting)
        self.advance(2.1)
        error = self.error_of(waiting, CommandTimeout)
        self.assertIn("MOVED", str(error))
        self.assertLess(self.cluster.count(b"GET"), 600)

    def test_a_malformed_redirect(self) -> None:
        """The error reply goes to the caller."""
        client = self.client()
        self.nodes[0].script = self.redirecting("MOVED", self.nodes[1], slot=16384)
        self.error_of(client.get(self.key_of(self.nodes[0])), ReplyError)


class RetryTests(MemoryTests):
    def test_a_temporary_state(self) -> None:
        """A few commands are tried every 10 to 60 ms. At the first success all are sent."""
        client = self.client()
        node = self.nodes[0]
        busy = [True]
        node.script = lambda _, words, __: b"-LOADING x\r\n" if words[0] == b"GET" and busy else DEFAULT_REPLY
        waiting = [client.get(key) for key in self.cluster.keys_of(node, 100)]
        self.network.settle()
        self.advance(1.0)
        tried = node.count(b"GET") - 100
        # Each attempt takes up to 32 commands.
        self.assertTrue(10 * 32 < tried < 60 * 32)
        busy.clear()
        self.advance(0.06)
        for deferred in waiting:
            self.assertIsNone(self.result_of(deferred))

    def test_a_lost_reply(self) -> None:
        """A read is sent again, a write is not."""
        client = self.client()
        node = self.nodes[0]
        key = self.key_of(node)
        closes = [b"GET", b"SET"]

        def script(_: ScriptedNode, words: list[bytes], __: Any) -> Any:
            if words[0] in closes:
                closes.remove(words[0])
                return CLOSE
            return DEFAULT_REPLY

        node.script = script
        reading = client.get(key)
        self.advance(0.1)
        self.assertIsNone(self.result_of(reading))
        self.assertTrue(self.error_of(client.set(key, "v"), ConnectionLost).maybe_executed)

    def test_a_slot_without_owner(self) -> None:
        """A command waits for a slot map with an owner, which is requested once a second."""
        self.cluster.ranges = self.cluster.ranges[1:]
        client = self.client(refresh_period=None)
        key = next(f"key:{n}" for n in range(100) if key_slot(f"key:{n}") < 5461)
        waiting = client.get(key)
        asked = client.statistics.refreshes
        self.advance(3.0, step=0.05)
        self.assertNoResult(waiting)
        self.assertIn(client.statistics.refreshes - asked, (2, 3))
        self.cluster.ranges.insert(0, (0, 5460, self.nodes[0]))
        self.advance(1.2, step=0.05)
        self.assertIsNone(self.result_of(waiting))

    def test_a_deadline(self) -> None:
        """The late reply is dropped, and the next reply goes to its command."""
        client = self.client(timeout=1.0)
        node = self.nodes[0]
        held: list[Any] = []

        def script(_: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            if words[0] != b"GET":
                return DEFAULT_REPLY
            held.append(connection)
            return SILENCE

        node.script = script
        late = client.get(self.key_of(node))
        self.advance(1.1)
        self.assertTrue(self.error_of(late, CommandTimeout).maybe_executed)
        later = client.get(self.key_of(node, 1))
        self.network.settle()
        held[0].write(b"$4\r\nlate\r\n$5\r\nlater\r\n")
        self.assertEqual(self.result_of(later), b"later")


class EndTests(MemoryTests):
    def test_close(self) -> None:
        """Pending commands get their replies, new commands are refused, and nothing is left."""
        client = self.client()
        waiting = [client.get(self.key_of(node)) for node in self.nodes]
        closed = client.close()
        self.error_of(client.get("x"), ClientClosed)
        self.assertIsNone(self.result_of(closed))
        for deferred in waiting:
            self.assertIsNone(self.successResultOf(deferred))
        self.assertEqual([node.connections for node in self.nodes], [[], [], []])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_with_a_silent_node(self) -> None:
        """``close`` waits until the deadline of the pending commands."""
        client = self.client(timeout=2.0)
        self.nodes[0].script = lambda _, words, __: SILENCE if words[0] == b"GET" else DEFAULT_REPLY
        waiting = client.get(self.key_of(self.nodes[0]))
        closed = client.close()
        self.advance(1.9)
        self.assertNoResult(closed)
        self.advance(1.3)
        self.error_of(waiting, CommandTimeout)
        self.assertIsNone(self.successResultOf(closed))

    def test_abort(self) -> None:
        """All commands fail at once, and each error says whether its command may have been executed."""
        client = self.client()
        self.nodes[0].script = lambda _, words, __: SILENCE if words[0] == b"SET" else DEFAULT_REPLY
        sent = client.set(self.key_of(self.nodes[0]), "v")
        self.network.settle()
        unsent = client.set(self.key_of(self.nodes[0]), "v")
        aborted = client.abort()
        self.assertTrue(self.error_of(sent, ClientClosed).maybe_executed)
        self.assertFalse(self.error_of(unsent, ClientClosed).maybe_executed)
        self.assertIsNone(self.result_of(aborted))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_max_pending(self) -> None:
        """Commands over the limit of one node are refused. Commands for other nodes are not."""
        client = self.client(max_pending=10)
        self.nodes[0].script = lambda _, words, __: SILENCE if words[0] == b"GET" else DEFAULT_REPLY
        keys = self.cluster.keys_of(self.nodes[0], 12)
        waiting = [client.get(key) for key in keys]
        for deferred in waiting[10:]:
            self.error_of(deferred, TooManyPending)
        self.assertIsNone(self.result_of(client.get(self.key_of(self.nodes[1]))))
        self.result_of(client.abort())
        for deferred in waiting[:10]:
            self.error_of(deferred, ClientClosed)
