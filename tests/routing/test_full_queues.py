"""Full queues: commands in parts, streams, transactions, and commands that waited for a slot map."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from txvalkeycluster import PartialFailure, ProtocolError, ReplyError, TooManyPending, TransactionRefused, key_slot
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, Sentinel

LARGE = b"x" * 100_000


class FullTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.silent = True
        for node in self.nodes:
            node.script = lambda _, words, __: SILENCE if words[0] == b"GET" and self.silent else DEFAULT_REPLY

    def fill(self, client: Any, count: int, node: int = 0) -> list[Deferred[Any]]:
        """Send commands to a node that does not answer."""
        waiting = [client.get(self.key_of(self.nodes[node])) for _ in range(count)]
        self.network.settle()
        return waiting

    def release(self, count: int, node: int = 0) -> None:
        """Let the nodes answer again, and answer the pending commands."""
        self.silent = False
        self.nodes[node].connections[0].write(b"_\r\n" * count)
        self.network.settle()


class SplitCommandTests(FullTests):
    def test_large_values(self) -> None:
        """Large values are sent without a copy in a batch, and the results are those of one command."""
        client = self.client()
        for node in self.nodes:
            node.script = lambda node, words, _: b"*1\r\n$1\r\nv\r\n" if words[0] == b"MGET" else DEFAULT_REPLY
        keys = [self.key_of(node) for node in self.nodes]
        self.result_of(client.mset(dict.fromkeys(keys, LARGE)))
        self.assertEqual([node.received[-1][1][2] for node in self.nodes], [LARGE] * 3)
        self.assertEqual(self.result_of(client.mget(*keys)), [b"v"] * 3)

    def test_no_room_for_a_large_value(self) -> None:
        """The part without room fails and the other parts are executed, and the error says which."""
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

    def test_a_cluster_of_one_node(self) -> None:
        """A command for one node fails with the error of that node."""
        self.cluster.ranges = [(0, 16383, self.nodes[0])]
        self.cluster.nodes = self.nodes[:1]
        self.nodes[0].script = lambda node, words, _: b"-ERR no\r\n" if words[0] == b"DBSIZE" else DEFAULT_REPLY
        self.assertEqual(str(self.error_of(self.client().dbsize(), ReplyError)), "ERR no")

    def test_replies_that_cannot_be_combined(self) -> None:
        """The command fails with ProtocolError and does not hang."""
        self.nodes[0].script = lambda node, words, _: b"+what\r\n" if words[0] == b"DBSIZE" else b":1\r\n"
        for node in self.nodes[1:]:
            node.script = lambda node, words, _: b":1\r\n" if words[0] == b"DBSIZE" else DEFAULT_REPLY
        self.nodes[0].script = lambda node, words, _: b"+what\r\n" if words[0] == b"DBSIZE" else DEFAULT_REPLY
        self.error_of(self.client().dbsize(), ProtocolError)


class WithoutMapTests(FullTests):
    def test_before_the_first_map(self) -> None:
        """A command for every node waits until the nodes are known."""
        for node in self.nodes:
            node.script = lambda node, words, _: b":2\r\n" if words[0] == b"DBSIZE" else DEFAULT_REPLY
        self.assertEqual(self.result_of(self.lazy_client().dbsize()), 6)

    def test_more_commands_wait_for_a_map_than_a_node_accepts(self) -> None:
        """Commands that were accepted before are served even where new commands are refused."""
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

    def test_script_kill_on_one_node(self) -> None:
        """SCRIPT KILL does not wait for the pending commands."""
        client = self.client()
        waiting = self.fill(client, 1)
        self.assertEqual(self.result_of(client.execute_on(self.nodes[0].address, "SCRIPT", "KILL")), b"OK")
        self.assertFalse(waiting[0].called)
        self.release(1)


class StreamTests(FullTests):
    def test_a_stream_that_is_not_iterable(self) -> None:
        """The stream fails like a stream whose iterator raises."""
        client = self.client()
        self.error_of(client.pipeline().stream(5, lambda *_: None), TypeError)  # type: ignore[arg-type]

    def test_a_full_queue(self) -> None:
        """A refused command of a pipeline is tried again until there is room."""
        client = self.client(max_pending=2)
        waiting = self.fill(client, 2)
        key = self.key_of(self.nodes[0])
        executing = client.pipeline().eval("return 1", [key]).set(key, "v").execute()
        self.advance(0.1)
        self.assertNoResult(executing)
        self.release(2)
        self.assertEqual(self.result_of(executing), [b"OK", b"OK"])
        self.assertEqual([self.result_of(each) for each in waiting], [None] * 2)

    def test_an_unknown_command(self) -> None:
        """When the command is known the queue is full, and the command is tried again until there is room."""
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
        # The only connected node is asked.
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
    """There is no room for a transaction at a node that has refused MULTI before."""

    def refused_before(self, **options: Any) -> Any:
        answers: dict[bytes, bytes | Sentinel] = {
            b"MULTI": b"-NOPERM no\r\n",
            b"EXEC": b"-ERR EXEC without MULTI\r\n",
            b"GET": SILENCE,
        }
        self.nodes[0].script = lambda node, words, _: answers.get(words[0], DEFAULT_REPLY)
        client = self.client(**options)
        self.error_of(client.transaction().incr(self.key_of(self.nodes[0])).execute(), TransactionRefused)
        self.advance(10.1, step=1.0)
        return client

    def test_no_room_for_the_probe(self) -> None:
        client = self.refused_before(max_pending=3)
        waiting = self.fill(client, 2)
        self.error_of(client.transaction().incr(self.key_of(self.nodes[0])).execute(), TooManyPending)
        self.release(2)
        self.assertEqual([self.result_of(each) for each in waiting], [None] * 2)

    def test_no_room_after_the_probe(self) -> None:
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
