"""Commands for which there is no room, in parts, in streams, and when a map has come at last."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from txvalkeycluster import PartialFailure, ProtocolError, ReplyError, TooManyPending, TransactionRefused, key_slot
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE

LARGE = b"x" * 100_000


class FullTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.silent = True
        for node in self.nodes:
            node.script = lambda _, words, __: SILENCE if words[0] == b"GET" and self.silent else DEFAULT_REPLY

    def fill(self, client: Any, count: int, node: int = 0) -> list[Deferred[Any]]:
        """Have so many commands under way to a node."""
        waiting = [client.get(self.key_of(self.nodes[node])) for _ in range(count)]
        self.network.settle()
        return waiting

    def release(self, count: int, node: int = 0) -> None:
        """Answer what is under way."""
        self.silent = False
        self.nodes[node].connections[0].write(b"_\r\n" * count)
        self.network.settle()


class PartsTests(FullTests):
    def test_large_values(self) -> None:
        """They are sent as they are, not put together first; the results are those of one command."""
        client = self.client()
        for node in self.nodes:
            node.script = lambda node, words, _: b"*1\r\n$1\r\nv\r\n" if words[0] == b"MGET" else DEFAULT_REPLY
        keys = [self.key_of(node) for node in self.nodes]
        self.result_of(client.mset(dict.fromkeys(keys, LARGE)))
        self.assertEqual([node.received[-1][1][2] for node in self.nodes], [LARGE] * 3)
        self.assertEqual(self.result_of(client.mget(*keys)), [b"v"] * 3)

    def test_no_room_for_a_large_value(self) -> None:
        """Its part fails, the others are done, and it is said which."""
        client = self.client(max_pending=3)
        keys = [self.key_of(node) for node in self.nodes]
        self.result_of(client.mset(dict.fromkeys(keys, b"small")))
        waiting = self.fill(client, 3)
        error = self.error_of(client.mset(dict.fromkeys(keys, LARGE)), PartialFailure)
        failed = [what for _, what in error.outcomes if isinstance(what, Exception)]
        self.assertEqual([type(what) for what in failed], [TooManyPending])
        self.assertIn("failed for 1 of 3 parts", str(error))
        self.release(3)
        self.assertEqual([self.result_of(each) for each in waiting], [None] * 3)

    def test_a_cluster_of_one(self) -> None:
        """What went to one node fails as it failed there."""
        self.cluster.ranges = [(0, 16383, self.nodes[0])]
        self.cluster.nodes = self.nodes[:1]
        self.nodes[0].script = lambda node, words, _: b"-ERR no\r\n" if words[0] == b"DBSIZE" else DEFAULT_REPLY
        self.assertEqual(str(self.error_of(self.client().dbsize(), ReplyError)), "ERR no")

    def test_a_reply_that_cannot_be_put_together(self) -> None:
        """It is the caller's error, not a hung command."""
        self.nodes[0].script = lambda node, words, _: b"+what\r\n" if words[0] == b"DBSIZE" else b":1\r\n"
        for node in self.nodes[1:]:
            node.script = lambda node, words, _: b":1\r\n" if words[0] == b"DBSIZE" else DEFAULT_REPLY
        self.nodes[0].script = lambda node, words, _: b"+what\r\n" if words[0] == b"DBSIZE" else DEFAULT_REPLY
        self.error_of(self.client().dbsize(), ProtocolError)


class WithoutMapTests(FullTests):
    def test_before_the_first_map(self) -> None:
        """A command for every node waits until it is known which there are."""
        for node in self.nodes:
            node.script = lambda node, words, _: b":2\r\n" if words[0] == b"DBSIZE" else DEFAULT_REPLY
        self.assertEqual(self.result_of(self.lazy_client().dbsize()), 6)

    def test_more_wait_for_a_map_than_their_owner_can_take(self) -> None:
        """What was taken once is served, also where there is no room for new commands."""
        self.silent = False
        node = self.nodes[0]
        ranges = self.cluster.ranges
        above = [k for k in self.cluster.keys_of(node, 50) if key_slot(k) > 2730]
        self.cluster.ranges = [(0, 2730, node), *ranges[1:]]
        below = self.cluster.keys_of(node, 1)
        client = self.client(max_pending=4, seeds=str(self.nodes[1].address))
        self.network.instead[node.address] = Deferred
        waiting = [client.get(key) for key in below * 2 + above[:1] * 4]
        self.network.settle()
        self.cluster.ranges = ranges
        self.result_of(client.refresh_topology())
        del self.network.instead[node.address]
        self.advance(6.0, step=0.1)
        self.assertEqual([self.result_of(each) for each in waiting], [None] * 6)

    def test_a_script_to_be_killed_on_one_node(self) -> None:
        """The command goes past all that stands before it."""
        client = self.client()
        waiting = self.fill(client, 1)
        self.assertEqual(self.result_of(client.execute_on(self.nodes[0].address, "SCRIPT", "KILL")), b"OK")
        self.assertFalse(waiting[0].called)
        self.release(1)


class StreamTests(FullTests):
    def test_what_is_no_iterable(self) -> None:
        """It fails as one that raises."""
        client = self.client()
        self.error_of(client.pipeline().stream(5, lambda *_: None), TypeError)  # type: ignore[arg-type]

    def test_others_fill_the_queue(self) -> None:
        """A command by itself that is turned away is tried again until there is room."""
        client = self.client(max_pending=2)
        waiting = self.fill(client, 2)
        key = self.key_of(self.nodes[0])
        executing = client.pipeline().eval("return 1", [key]).set(key, "v").execute()
        self.advance(0.1)
        self.assertNoResult(executing)
        self.release(2)
        self.assertEqual(self.result_of(executing), [b"OK", b"OK"])
        self.assertEqual([self.result_of(each) for each in waiting], [None] * 2)

    def test_a_command_that_had_to_be_asked_about(self) -> None:
        """It finds the queue full when it is known at last, and is tried again until there is room."""
        info = b"*1\r\n*6\r\n$11\r\nmodule.does\r\n:-2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n"
        key = self.key_of(self.nodes[0])
        asked: list[Any] = []

        def script(_: Any, words: list[bytes], connection: Any) -> Any:
            if words[0] == b"COMMAND":
                asked.append(connection)
                return SILENCE
            if words[0] == b"GET" and self.silent:
                return SILENCE
            return b"+done\r\n" if words[0] == b"MODULE.DOES" else DEFAULT_REPLY

        for node in self.nodes:
            node.script = script
        # The only one that is connected is asked.
        client = self.client(max_pending=3, seeds=str(self.nodes[1].address))
        executing = client.pipeline().add("MODULE.DOES", key).execute()
        self.network.settle()
        waiting = self.fill(client, 3)
        asked[0].write(info)
        self.advance(0.1)
        self.assertNoResult(executing)
        self.release(3)
        self.assertEqual(self.result_of(executing), [b"done"])
        self.assertEqual([self.result_of(each) for each in waiting], [None] * 3)


class ProbeTests(FullTests):
    """No room for a transaction whose node has refused MULTI before."""

    def refused_before(self, **options: Any) -> Any:
        answers = {b"MULTI": b"-NOPERM no\r\n", b"EXEC": b"-ERR EXEC without MULTI\r\n", b"GET": SILENCE}
        self.nodes[0].script = lambda node, words, _: answers.get(words[0], DEFAULT_REPLY)
        client = self.client(**options)
        self.error_of(client.transaction().incr(self.key_of(self.nodes[0])).execute(), TransactionRefused)
        self.advance(10.1, step=1.0)
        return client

    def test_for_the_question(self) -> None:
        client = self.refused_before(max_pending=3)
        waiting = self.fill(client, 2)
        self.error_of(client.transaction().incr(self.key_of(self.nodes[0])).execute(), TooManyPending)
        self.release(2)
        self.assertEqual([self.result_of(each) for each in waiting], [None] * 2)

    def test_when_the_question_is_answered(self) -> None:
        client = self.refused_before(max_pending=4)
        key = self.key_of(self.nodes[0])
        self.nodes[0].script = lambda node, words, _: (
            SILENCE if words[0] in (b"MULTI", b"EXEC", b"GET") else DEFAULT_REPLY
        )
        executing = client.transaction().incr(key).execute()
        self.network.settle()
        waiting = self.fill(client, 2)
        self.nodes[0].connections[0].write(b"+OK\r\n*0\r\n")
        self.error_of(executing, TooManyPending)
        self.assertEqual(self.cluster.count(b"INCR"), 1)
        self.release(2)
        self.assertEqual([self.result_of(each) for each in waiting], [None] * 2)
