"""``ClusterClient.submit``: encoded requests of others, their replies and their callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import ref

from tests.scripted.relay_base import Relay, RelayTests, packed
from txvalkeycluster import CommandTimeout, ReplyError, key_slot
from txvalkeycluster.relay import RelayBatch
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE


class ReplyTests(RelayTests):
    """Batches, and what comes back."""

    def test_functions_are_released(self) -> None:
        """After the last reply nothing refers to the functions, which often refer to the batch."""
        relay = self.relay()

        class Functions:
            def __init__(self, batch: RelayBatch) -> None:
                self.batch = batch
                self.came: list[Any] = []

            def replied(self, tags: Sequence[Any], replies: Sequence[Any]) -> None:
                self.came += replies

            def delayed(self, tag: Any) -> None:
                self.came.append(tag)

        for refusals in (0, 1):
            replies = [b"-TRYAGAIN not now\r\n"] * refusals
            self.nodes[1].script = lambda node, words, _, replies=replies: replies.pop() if replies else DEFAULT_REPLY
            batch = relay.client.relay_batch()
            for key in (self.a, self.b, self.c):
                batch.add(key, key_slot(key), packed(("GET", key)))
            functions = Functions(batch)
            held = ref(functions)
            relay.client.submit(batch, functions.replied, on_delay=functions.delayed)
            self.network.settle()
            self.advance(1)
            self.assertEqual(len(functions.came), 3 + refusals)
            del batch, functions
            self.assertIsNone(held())

    def test_raw_replies(self) -> None:
        """Replies are the bytes of the server, whatever they are. They come in order for each node."""
        replies = [
            b"+OK\r\n",
            b"~1\r\n:1\r\n",
            b"_\r\n",
            b"$6\r\n\r\n-ERR\r\n",
            b"-ERR no\r\n",
            b"!6\r\nERR no\r\n",
            b"#t\r\n",
        ]
        relay = self.relay(encoding="utf-8")
        self.nodes[0].script = lambda node, words, _: replies[int(words[2])]
        relay.submit(*(f"ECHO {self.a} {number}" for number in range(len(replies))), f"GET {self.b}", f"INCR {self.c}")
        self.let(relay)
        self.assertEqual([relay.results[tag] for tag in range(9)], [*replies, b"$1\r\n0\r\n", b":1\r\n"])
        self.assertEqual([tag for tag, _ in relay.came if tag < 7], list(range(7)))

    def test_parsed_replies(self) -> None:
        """Without ``raw_replies`` they are values, decoded as those of other commands; error replies are errors."""
        replies = [b"+OK\r\n", b"*1\r\n:1\r\n", b"_\r\n", b"$2\r\n\xc3\xa9\r\n", b"-ERR no\r\n"]
        relay = self.relay(raw_replies=False, encoding="utf-8")
        self.nodes[0].script = lambda node, words, _: replies[int(words[2])]
        relay.submit(*(f"ECHO {self.a} {number}" for number in range(5)), f"INCR {self.b}")
        self.let(relay)
        error = relay.results[4]
        self.assertEqual((type(error), str(error)), (ReplyError, "ERR no"))
        self.assertEqual([relay.results[tag] for tag in (0, 1, 2, 3, 5)], ["OK", [1], None, "é", 1])

    def test_a_reply_that_cannot_be_decoded(self) -> None:
        """Only that request fails; with raw replies nothing is decoded."""
        for raw in (False, True):
            relay = self.relay(raw_replies=raw, encoding="ascii")
            self.nodes[0].script = lambda node, words, _: b"$1\r\n\xff\r\n" if words[0] == b"GET" else b"+OK\r\n"
            relay.submit(f"SET {self.a} 1", f"GET {self.a}", f"SET {self.a} 2")
            self.let(relay)
            if raw:
                self.assertEqual([relay.results[tag] for tag in range(3)], [b"+OK\r\n", b"$1\r\n\xff\r\n", b"+OK\r\n"])
            else:
                self.assertEqual((relay.results[0], relay.results[2]), ("OK", "OK"))
                self.assertIsInstance(relay.results[1], UnicodeDecodeError)
            self.nodes[0].script = None
            self.result_of(relay.client.close())

    def test_one_write_per_node(self) -> None:
        """The requests of a batch leave at once, in one write for each node, and leave no timer behind."""
        relay = self.relay()
        self.advance(1.0)
        timers = len(self.clock.getDelayedCalls())
        reads = [node.connections[-1].reads for node in self.nodes]
        batch = relay.client.relay_batch()
        for number in range(300):
            batch.add(number, key_slot(f"k{number}"), packed(("SET", f"k{number}", number)))
        self.assertEqual(len(batch), 300)
        self.assertIn("300 requests for 3 nodes", repr(batch))
        relay.sent = [("SET",)] * 300
        relay.client.submit(batch, relay._replied)
        # Only the deadlines of the three connections.
        self.assertLessEqual(len(self.clock.getDelayedCalls()), timers + 3)
        self.let(relay)
        self.assertEqual([node.connections[-1].reads for node in self.nodes], [number + 1 for number in reads])
        self.assertEqual(relay.delayed, [])

    def test_keyed(self) -> None:
        """``add_keyed`` sends each request to the owner of its key, also with hash tags."""
        relay = self.relay()
        keys = (
            [b"k%d" % number for number in range(50)]
            + [b"{k%d}x" % number for number in range(50)]
            + [b"", b"{}", b"{"]
        )
        batch = relay.client.relay_batch()
        batch.add_keyed(range(len(keys)), keys, [packed(("SET", key, key)) for key in keys])
        relay.client.submit(batch, relay._replied)
        relay.sent = [("SET",)] * len(keys)
        self.let(relay)
        for node in self.nodes:
            for key in self.writes(node, b"SET"):
                self.assertIs(self.cluster.owner(key_slot(key)), node)
        self.assertRaises(ValueError, relay.client.relay_batch().add_keyed, [1], [b"k"], [])

    def test_order_of_a_slot(self) -> None:
        """Requests for one slot are executed in the order of the batches and in them, beside other commands."""
        relay = self.relay()
        others = []
        for _ in range(20):
            relay.submit(f"INCR {self.a}", f"GET {self.b}", f"INCR {self.a}")
            others.append(relay.client.incr(self.a))
        self.let(relay)
        counted = [int(relay.results[tag][1:-2]) for tag in range(len(relay.sent)) if tag % 3 != 1]
        found = [self.result_of(other) for other in others]
        self.assertEqual(counted, [number for number in range(1, 61) if number % 3])
        self.assertEqual(found, [number for number in range(1, 61) if number % 3 == 0])

    def test_nothing(self) -> None:
        """An empty batch does nothing. A batch is submitted only once."""
        relay = self.relay()
        batch = relay.client.relay_batch()
        self.assertIsNone(relay.client.submit(batch, relay._replied))
        self.assertRaises(RuntimeError, relay.client.submit, batch, relay._replied)
        self.assertEqual(relay.came, [])

    def test_views(self) -> None:
        """A view submits with its own timeout, and an argument goes before it."""
        relay = self.relay()
        self.nodes[0].script = lambda *_: SILENCE
        view = Relay(relay.client.with_options(timeout=0.2))
        given = Relay(relay.client.with_options(timeout=0.2), timeout=0.6)
        view.submit(f"GET {self.a}")
        given.submit(f"GET {self.a}")
        self.advance(0.3)
        self.assertEqual((view.kinds, given.kinds), ({0: (CommandTimeout, True)}, {}))
        self.advance(0.4)
        self.assertEqual(given.kinds, {0: (CommandTimeout, True)})

    def test_statistics(self) -> None:
        """Relayed requests are counted as other commands."""
        relay = self.relay()
        before = relay.client.statistics
        self.nodes[0].script = lambda node, words, _: b"-ERR no\r\n" if words[0] == b"ECHO" else DEFAULT_REPLY
        relay.submit(f"GET {self.a}", f"ECHO {self.a}", f"GET {self.b}")
        self.assertEqual(relay.client.statistics.pending - before.pending, 3)
        self.let(relay)
        after = relay.client.statistics
        self.assertEqual((after.commands - before.commands, after.pending), (3, 0))
        self.assertEqual(after.errors.get("ERR", 0), 1)


class CallbackTests(RelayTests):
    """Functions of the caller that raise."""

    def test_callbacks_that_raise(self) -> None:
        """An exception of a callback is logged. The connection, and the replies to others on it, do not suffer."""
        for raw in (True, False):
            for error in (ValueError, SystemExit):
                relay = self.relay(raw_replies=raw)
                accepted = self.nodes[0].accepted
                self.nodes[0].script = lambda node, words, _: b"-TRYAGAIN\r\n" if words[0] == b"TTL" else DEFAULT_REPLY

                def raising(*_: object, error: type[BaseException] = error) -> None:
                    raise error

                relay.on_replies = relay.on_delay = raising
                other = Relay(relay.client)
                relay.submit(f"GET {self.a}", f"TTL {self.a}", f"ECHO {self.a}")
                reading = relay.client.get(self.a)
                other.submit(f"GET {self.a}")
                relay.submit(f"GET {self.a}")
                self.network.settle()
                self.nodes[0].script = None
                self.let(relay)
                self.let(other)
                self.assertEqual(self.result_of(reading), b"0")
                self.assertEqual(self.nodes[0].accepted, accepted)
                self.assertEqual(relay.delayed, [1])
                self.assertGreaterEqual(len(self.flushLoggedErrors(error)), 3)
                self.result_of(relay.client.close())

    def test_a_callback_of_close_that_raises(self) -> None:
        """A callback that raises does not keep close() waiting."""
        relay = self.relay()

        def raising(*_: object) -> None:
            raise ValueError

        relay.on_replies = raising
        relay.submit(f"GET {self.a}", f"GET {self.b}")
        self.result_of(relay.client.close())
        self.assertTrue(relay.done)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
