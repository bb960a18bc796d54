"""``ClusterClient.submit``: encoded requests of others on scripted nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Thread
from typing import Any
from weakref import ref

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from tests.scripted.base import ScriptedTests, ask, moved
from txvalkeycluster import (
    ClientClosed,
    ClusterClient,
    CommandTimeout,
    ConnectionLost,
    ProtocolError,
    ReplyError,
    WrongThread,
    key_slot,
)
from txvalkeycluster.relay import RelayBatch
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode
from txvalkeycluster.testing.scripted import Connection


def packed(words: Sequence[str | bytes | int]) -> bytes:
    """Return a request in RESP."""
    found = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(found) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in found)


class Relay:
    """Submits requests, and records what becomes of each of them."""

    def __init__(self, client: ClusterClient[bytes], **options: Any) -> None:
        self.client = client
        self.options = options
        self.sent: list[tuple[str, ...]] = []
        #: The tags and the results, as they came.
        self.came: list[tuple[int, Any]] = []
        #: The tags of delayed requests.
        self.delayed: list[int] = []
        self.on_replies: Callable[[Sequence[Any], Sequence[Any]], object] = lambda tags, replies: None
        self.on_delay: Callable[[int], object] = lambda tag: None

    def submit(self, *requests: str) -> Deferred[None] | None:
        """Submit requests, each a line of words of which the second is the key.  Their tags are consecutive numbers."""
        batch = self.client.relay_batch()
        for line in requests:
            words = tuple(line.split())
            batch.add(len(self.sent), key_slot(words[1] if len(words) > 1 else ""), packed(words))
            self.sent.append(words)
        return self.client.submit(batch, self._replied, on_delay=self._delayed, **self.options)

    def _replied(self, tags: Sequence[Any], replies: Sequence[Any]) -> None:
        self.came += zip(tags, replies, strict=True)
        self.on_replies(tags, replies)

    def _delayed(self, tag: int) -> None:
        self.delayed.append(tag)
        self.on_delay(tag)

    @property
    def results(self) -> dict[int, Any]:
        """The results by tag."""
        return dict(self.came)

    @property
    def kinds(self) -> dict[int, Any]:
        """The replies, and the classes of errors with what they say about the execution."""
        return {
            tag: (type(value), getattr(value, "maybe_executed", None)) if isinstance(value, Exception) else value
            for tag, value in self.came
        }

    @property
    def done(self) -> bool:
        """Whether every request has its result."""
        return len(self.came) == len(self.sent)


class RelayTests(MemoryTests):
    """On a clock that only the test moves."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b, self.c = map(self.key_of, self.nodes)

    def relay(self, **options: Any) -> Relay:
        """Return a relay of a client that is connected to all nodes."""
        submit = {name: options.pop(name) for name in ("timeout",) if name in options}
        client = self.client(**{"raw_replies": True, **options})
        for key in (self.a, self.b, self.c):
            self.result_of(client.set(key, 0))
        return Relay(client, **submit)

    def let(self, relay: Relay) -> None:
        """Let requests get their results, within a second."""
        self.network.settle()
        for _ in range(100):
            if relay.done:
                break
            self.advance(0.01)
        self.assertEqual(len(relay.came), len(relay.sent))
        self.assertEqual(sorted(relay.results), list(range(len(relay.sent))))
        # No delay is told twice.
        self.assertEqual(len(relay.delayed), len(set(relay.delayed)))

    def writes(self, node: ScriptedNode, name: bytes) -> list[bytes]:
        """Return the keys of the commands with this name that a node has received."""
        return [words[1] for _, words in node.received if words[0] == name]

    # ---- replies

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

    # ---- redirects and errors

    def test_moved(self) -> None:
        """A redirected request is executed by the new owner, and its slot has that owner from now on."""
        relay = self.relay()
        self.nodes[0].script = lambda node, words, _: (
            moved(words[1], self.nodes[1].address) if words[1] == self.a.encode() else DEFAULT_REPLY
        )
        other = self.key_of(self.nodes[0], 1)
        relay.submit(f"INCR {other}", f"INCR {self.a}", f"INCR {other}")
        self.let(relay)
        self.assertEqual(relay.results, {0: b":1\r\n", 1: b":1\r\n", 2: b":2\r\n"})
        # The third was on the way to the old owner; it could also have been for the slot that has moved.
        self.assertEqual(relay.delayed, [1, 2])
        relay.submit(f"INCR {self.a}")
        self.let(relay)
        self.assertEqual((relay.results[3], relay.delayed), (b":2\r\n", [1, 2]))
        self.assertEqual(self.writes(self.nodes[0], b"INCR").count(self.a.encode()), 1)

    def test_ask(self) -> None:
        """ASKING and the request go to the target together; the slot keeps its owner."""
        relay = self.relay()
        self.nodes[0].script = lambda node, words, _: ask(words[1], self.nodes[1].address)
        relay.submit(f"SET {self.a} 1", f"SET {self.b} 1", f"SET {self.a} 2")
        self.let(relay)
        self.assertEqual(set(relay.results.values()), {b"+OK\r\n"})
        self.assertEqual(relay.delayed, [0, 2])
        words = [words for _, words in self.nodes[1].received]
        for place, asked in enumerate(words):
            if asked[0] == b"SET" and asked[1] == self.a.encode():
                self.assertEqual(words[place - 1], [b"ASKING"])
        self.assertEqual(self.cluster.values[self.a.encode()], b"2")
        relay.submit(f"SET {self.a} 3")
        self.let(relay)
        self.assertEqual(self.writes(self.nodes[0], b"SET").count(self.a.encode()), 4)

    def test_told_before_others_can_overtake(self) -> None:
        """A request that has to wait is reported before replies, after which the caller can send more."""
        for error in (b"-TRYAGAIN x\r\n", b"-LOADING x\r\n", b"-CLUSTERDOWN x\r\n"):
            relay = self.relay()

            def script(node: ScriptedNode, words: list[bytes], _: Connection, error: bytes = error) -> Any:
                if words[0] != b"INCR":
                    return DEFAULT_REPLY
                node.script = None
                return error

            self.nodes[0].script = script
            known: list[list[int]] = []

            def more(tags: Sequence[Any], _: object, relay: Relay = relay, known: list[list[int]] = known) -> None:
                if tags[0] == 0:
                    known.append(list(relay.delayed))
                    relay.submit(f"GET {self.a}")

            relay.on_replies = more
            self.cluster.values[self.a.encode()] = b"0"
            relay.submit(f"GET {self.a}", f"INCR {self.a}")
            self.let(relay)
            self.assertEqual((known, relay.delayed), ([[1]], [1]))
            # The later request was executed first.
            self.assertEqual(relay.results, {0: b"$1\r\n0\r\n", 1: b":1\r\n", 2: b"$1\r\n0\r\n"})
            self.nodes[0].script = None
            self.result_of(relay.client.close())

    def test_give_up(self) -> None:
        """A request that was refused and waits can be ended with the refusal.  One that is on the way goes on."""
        relay = self.relay()
        refusals = [b"-TRYAGAIN x\r\n"]

        def script(node: ScriptedNode, words: list[bytes], _: Connection) -> Any:
            return refusals.pop() if words[0] == b"INCR" and refusals else DEFAULT_REPLY

        self.nodes[0].script = script
        batch = self.relay_batch_of(relay, f"INCR {self.a}", f"GET {self.a}")
        tags = [0, 1]
        self.assertEqual([batch.give_up(tag) for tag in tags], [False, False])
        self.network.settle()
        self.assertEqual((relay.delayed, relay.results), ([0], {1: b"$1\r\n0\r\n"}))
        self.assertEqual([batch.give_up(tag) for tag in tags], [True, False])
        self.assertFalse(batch.give_up(tags[0]))
        self.assertEqual(relay.results[0], b"-TRYAGAIN x\r\n")
        self.advance(1)
        self.assertEqual(len(self.writes(self.nodes[0], b"INCR")), 1)

    def test_give_up_what_waits_for_something_else(self) -> None:
        """A request that follows a redirect, or waits for a node, cannot be ended."""
        relay = self.relay()
        self.nodes[0].script = lambda node, words, _: moved(words[1], self.nodes[1].address)
        self.nodes[1].script = lambda node, words, _: SILENCE if words[0] == b"INCR" else DEFAULT_REPLY
        batch = self.relay_batch_of(relay, f"INCR {self.a}")
        self.network.settle()
        self.assertEqual(relay.delayed, [0])
        self.assertFalse(batch.give_up(0))

    def relay_batch_of(self, relay: Relay, *requests: str) -> RelayBatch:
        """Submit requests, and return their batch."""
        made: list[RelayBatch] = []
        make = relay.client.relay_batch

        def remember() -> RelayBatch:
            made.append(make())
            return made[-1]

        self.patch(relay.client, "relay_batch", remember)
        relay.submit(*requests)
        return made[-1]

    def in_flight(self) -> tuple[Relay, list[tuple[list[bytes], Connection]]]:
        """Return a relay with a request that is on the way to the first node, which keeps all that comes."""
        relay = self.relay(unresponsive_after=60, timeout=60, refresh_period=None)
        held: list[tuple[list[bytes], Connection]] = []

        def script(_: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
            held.append((words, connection))
            return SILENCE

        self.nodes[0].script = script
        relay.submit(f"SET {self.a} 1", f"GET {self.b}")
        self.network.settle()
        self.assertEqual((relay.delayed, len(held)), ([], 1))
        return relay, held

    def redirect(self, held: list[tuple[list[bytes], Connection]]) -> None:
        """Let the first node answer all with MOVED."""
        for words, connection in held:
            connection.write(moved(words[1], self.nodes[1].address))

    def test_told_when_the_slot_moves(self) -> None:
        """Requests on the way to a node are reported when it loses a slot, because later ones go to the new owner."""
        relay, held = self.in_flight()
        self.cluster.move(key_slot(self.a), self.nodes[1])
        # Another node tells the client.
        self.nodes[2].script = lambda node, words, _: (
            moved(self.a, self.nodes[1].address) if words[0] == b"GET" else DEFAULT_REPLY
        )
        other = Relay(relay.client)
        other.submit(f"GET {self.c}")
        self.network.settle()
        self.assertEqual(relay.delayed, [0])
        self.assertEqual(other.delayed, [0])
        # A caller that did not wait could overtake now.
        relay.submit(f"GET {self.a}")
        self.network.settle()
        self.assertEqual(relay.results[2], b"$1\r\n0\r\n")
        self.redirect(held)
        self.let(relay)
        self.assertEqual((relay.results[0], relay.delayed), (b"+OK\r\n", [0]))

    def test_told_by_a_new_slot_map(self) -> None:
        """So they are if a new slot map has other owners, but not those on the way to nodes that have lost nothing."""
        relay, _ = self.in_flight()
        self.nodes[1].script = self.nodes[0].script
        relay.submit(f"INCR {self.b}")
        for slot, delayed in ((None, []), (key_slot(self.a), [0])):
            if slot is not None:
                self.cluster.move(slot, self.nodes[1])
            refreshed = relay.client.refresh_topology()
            # Only the third node answers.
            while not refreshed.called:
                self.advance(0.5)
            self.assertEqual((relay.delayed, relay.came[1:]), (delayed, []))

    def test_a_slot_moves_while_a_batch_is_filled(self) -> None:
        """Requests for one slot do not part: all go to the node that was the owner at first, and are reported."""
        relay = self.relay()
        self.nodes[0].script = lambda node, words, _: (
            moved(words[1], self.nodes[1].address) if words[0] == b"INCR" else DEFAULT_REPLY
        )
        slot = key_slot(self.a)
        batch = relay.client.relay_batch()
        batch.add(0, slot, packed(("INCR", self.a)))
        node = relay.client._router.factory.node_at(self.nodes[1].address)
        relay.client._router.recovery.slot_map.repoint(slot, node)
        batch.add(1, slot, packed(("INCR", self.a)))
        batch.add_keyed([2], [self.a.encode()], [packed(("INCR", self.a))])
        batch.add(3, key_slot(self.c), packed(("INCR", self.c)))
        relay.sent = [("INCR",)] * 4
        relay.client.submit(batch, relay._replied, on_delay=relay._delayed)
        self.assertEqual(sorted(relay.delayed), [0, 1, 2, 3])
        self.let(relay)
        self.assertEqual([reply for _, reply in sorted(relay.came)], [b":1\r\n", b":2\r\n", b":3\r\n", b":1\r\n"])
        self.assertEqual(self.writes(self.nodes[0], b"INCR"), [self.a.encode()] * 3)
        # The next batch knows the new owner.
        relay.submit(f"INCR {self.a}")
        self.let(relay)
        self.assertEqual((relay.results[4], len(relay.delayed)), (b":4\r\n", 4))

    def test_a_node_leaves_while_a_batch_is_filled(self) -> None:
        """Requests for a node that is closed meanwhile go to the new owners."""
        relay = self.relay()
        batch = relay.client.relay_batch()
        batch.add(0, key_slot(self.a), packed(("INCR", self.a)))
        self.cluster.ranges = [(0, 8000, self.nodes[1]), (8001, 16383, self.nodes[2])]
        self.result_of(relay.client.refresh_topology())
        self.advance(1.0)
        batch.add(1, key_slot(self.a), packed(("INCR", self.a)))
        relay.sent = [("INCR",)] * 2
        relay.client.submit(batch, relay._replied, on_delay=relay._delayed)
        self.let(relay)
        self.assertEqual((relay.results, relay.delayed), ({0: b":1\r\n", 1: b":2\r\n"}, [0, 1]))

    def test_the_server_behind_an_address_is_replaced(self) -> None:
        """Requests on the old connection are reported, because later ones go to a new connection."""
        relay, held = self.in_flight()
        other = Relay(relay.client)
        other.submit(f"INCR {self.a}")
        self.network.settle()
        # The second request is answered first: the server redirects to its own address.
        held[0][1].write(moved(self.a, self.nodes[0].address))
        self.network.settle()
        self.assertEqual((relay.delayed, other.delayed), ([0], [0]))

    def test_a_request_that_waits_times_out(self) -> None:
        """A request that servers refuse until its deadline ends with CommandTimeout, and was not executed."""
        relay = self.relay(timeout=0.5)
        self.nodes[0].script = lambda node, words, _: b"-TRYAGAIN x\r\n" if words[0] == b"INCR" else DEFAULT_REPLY
        relay.submit(f"INCR {self.a}", f"GET {self.a}")
        self.advance(0.7)
        self.assertEqual(relay.kinds, {0: (CommandTimeout, False), 1: b"$1\r\n0\r\n"})

    def test_before_the_first_slot_map(self) -> None:
        """Requests wait for the slot map and are sent in their order. The caller is told that they wait."""
        client = self.lazy_client(raw_replies=True)
        relay = Relay(client)
        relay.submit(*[f"INCR {self.a}"] * 5)
        relay.submit(*[f"INCR {self.a}"] * 5)
        self.assertEqual(relay.delayed, list(range(10)))
        self.let(relay)
        self.assertEqual([relay.results[tag] for tag in range(10)], [b":%d\r\n" % number for number in range(1, 11)])

    def test_a_slot_without_an_owner(self) -> None:
        """Requests for a slot without an owner wait for one."""
        relay = self.relay()
        whole = self.cluster.ranges
        self.cluster.ranges = whole[1:]
        self.result_of(relay.client.refresh_topology())
        relay.submit(f"INCR {self.a}", f"INCR {self.b}")
        self.network.settle()
        self.assertEqual((relay.kinds, relay.delayed), ({1: b":1\r\n"}, [0]))
        self.cluster.ranges = whole
        self.result_of(relay.client.refresh_topology())
        self.let(relay)
        self.assertEqual(relay.results[0], b":1\r\n")

    def test_requests_that_are_no_requests(self) -> None:
        """A request that cannot be read and leaves its batch ends as all others, and costs the others nothing."""
        relay = self.relay()
        batch = relay.client.relay_batch()
        payloads = (packed(("GET", self.a)), packed(("EVAL", "x", "y")), packed(("GET",)), packed(("NO.SUCH", self.a)))
        for tag, payload in enumerate(payloads):
            batch.add(tag, key_slot(self.a), payload)
        self.nodes[0].script = lambda *_: b"-MOVED 1 node:7001\r\n"
        self.nodes[1].script = lambda *_: b"-ERR no\r\n"
        self.nodes[2].script = lambda *_: b"-ERR no\r\n"
        relay.client.submit(batch, relay._replied)
        relay.sent = [()] * 4
        self.let(relay)
        self.assertLessEqual(set(relay.results.values()), {b"-ERR no\r\n", b"-MOVED 1 node:7001\r\n"})

    def test_a_script_that_forges_a_redirect(self) -> None:
        """A script without keys cannot make the client follow its redirect: it may have written before."""
        relay = self.relay()
        forged = b"-MOVED %d node:7001\r\n" % key_slot("return")
        for node in self.nodes:
            node.script = lambda node, words, _: forged if words[0] == b"EVAL" else DEFAULT_REPLY
        relay.submit("EVAL return 0")
        self.let(relay)
        self.assertEqual(relay.results, {0: forged})
        self.assertEqual(self.cluster.count(b"EVAL"), 1)

    # ---- lost connections

    def test_a_lost_connection(self) -> None:
        """Reads are repeated. Writes fail, may have been executed, and are never sent again."""
        relay = self.relay()

        def script(node: ScriptedNode, words: list[bytes], _: Connection) -> Any:
            return CLOSE if words[0] == b"INCR" else DEFAULT_REPLY

        self.nodes[0].script = script
        other = self.key_of(self.nodes[0], 1)
        relay.submit(f"SET {other} 1", f"GET {self.a}", f"INCR {self.a}", f"GET {self.a}", f"SET {self.a} 5")
        self.let(relay)
        lost = (ConnectionLost, True)
        # The replies to the first two did not leave the node any more.
        self.assertEqual({tag: relay.kinds[tag] for tag in (2, 4)}, {2: lost, 4: lost})
        self.assertEqual((relay.kinds[1], relay.kinds[3]), (b"$1\r\n0\r\n", b"$1\r\n0\r\n"))
        self.assertIn(relay.kinds[0], (lost, b"+OK\r\n"))
        self.assertLessEqual(set(relay.delayed), set(range(5)))
        self.assertEqual(self.nodes[0].count(b"INCR"), 1)
        self.assertEqual(self.writes(self.nodes[0], b"SET").count(other.encode()), 1)

    def test_a_node_that_cannot_be_reached(self) -> None:
        """Requests wait for the node until their deadline, and were certainly not executed."""
        relay = self.relay(timeout=1.0)
        self.network.refuse(self.nodes[0])
        self.network.settle()
        relay.submit(f"INCR {self.a}", f"INCR {self.b}")
        self.assertEqual(relay.delayed, [0])
        self.advance(1.2)
        self.assertEqual(relay.kinds, {0: (CommandTimeout, False), 1: b":1\r\n"})

    def test_a_silent_node(self) -> None:
        """Requests without a reply time out, and may have been executed. Late replies reach nobody."""
        relay = self.relay(timeout=0.5, unresponsive_after=60)
        held: list[tuple[list[bytes], Connection]] = []

        def script(_: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
            held.append((words, connection))
            return SILENCE

        self.nodes[0].script = script
        relay.submit(f"INCR {self.a}", f"GET {self.a}", f"INCR {self.b}")
        self.advance(0.6)
        self.assertEqual(relay.kinds, {0: (CommandTimeout, True), 1: (CommandTimeout, True), 2: b":1\r\n"})
        self.nodes[0].script = None
        relay.submit(f"GET {self.a}")
        for words, connection in held:
            connection.write(self.nodes[0].usual(words, asking=False))
        # The replies to all three, in the order of the requests.
        self.network.settle()
        self.assertEqual((len(relay.came), relay.results[3]), (4, b"$1\r\n1\r\n"))

    def test_bytes_that_are_no_reply(self) -> None:
        """They cost one connection. The replies before them are delivered; one request fails with ProtocolError."""
        relay = self.relay()

        def script(_: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
            return b"HTTP/1.1 400 Bad Request\r\n" if words[0] == b"APPEND" else DEFAULT_REPLY

        self.nodes[0].script = script
        relay.submit(f"INCR {self.a}", f"APPEND {self.a} x", f"INCR {self.a}", f"GET {self.a}", f"INCR {self.b}")
        self.let(relay)
        self.assertEqual((relay.results[0], relay.results[3], relay.results[4]), (b":1\r\n", b"$1\r\n2\r\n", b":1\r\n"))
        self.assertEqual((relay.kinds[1][0], relay.kinds[2]), (ProtocolError, (ConnectionLost, True)))
        self.assertEqual(self.nodes[0].accepted, 2)

    # ---- full queues

    def full(self, room: int, **options: Any) -> tuple[Relay, list[tuple[list[bytes], Connection]]]:
        """Return a relay, and fill the queue of the first node, which owes ``room`` replies."""
        relay = self.relay(max_pending=room, unresponsive_after=60, **options)
        held: list[tuple[list[bytes], Connection]] = []

        def script(node: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
            # A server answers in the order of the requests.
            if words != [b"ECHO", b"held"] and not held:
                return DEFAULT_REPLY
            held.append((words, connection))
            return SILENCE

        self.nodes[0].script = script
        payload = packed(("ECHO", "held"))
        batch = relay.client.relay_batch()
        for _ in range(room):
            batch.add(None, key_slot(self.a), payload)
        self.assertIsNone(relay.client.submit(batch, lambda tags, replies: None, timeout=None))
        self.network.settle()
        self.assertEqual(len(held), room)
        return relay, held

    def free(self, held: list[tuple[list[bytes], Connection]], count: int) -> None:
        """Send some of the replies that are owed."""
        for _ in range(count):
            words, connection = held.pop(0)
            connection.write(self.nodes[0].usual(words, asking=False))
        self.network.settle()

    def test_a_full_queue(self) -> None:
        """The caller gets a Deferred. What waited is sent in its order as soon as there is room."""
        relay, held = self.full(4)
        room = relay.submit(*[f"INCR {self.a}"] * 3, f"INCR {self.b}")
        assert room is not None
        self.assertEqual(relay.delayed, [0, 1, 2])
        self.network.settle()
        self.assertEqual(relay.results, {3: b":1\r\n"})
        self.advance(0.1)
        self.assertNoResult(room)
        self.free(held, 4)
        self.let(relay)
        self.assertIsNone(self.successResultOf(room))
        self.assertEqual([relay.results[tag] for tag in range(3)], [b":1\r\n", b":2\r\n", b":3\r\n"])
        self.assertIsNone(relay.submit(f"INCR {self.a}"))
        self.let(relay)

    def test_more_than_a_queue_holds(self) -> None:
        """A batch that is larger than the queue of a node is sent in pieces."""
        for limit, count in ((1, 5), (3, 10), (10, 1000), (2000, 5000)):
            relay = self.relay(max_pending=limit)
            self.cluster.values[self.a.encode()] = b"0"
            room = relay.submit(*[f"INCR {self.a}"] * count)
            assert room is not None
            while not relay.done:
                self.advance(0.01)
            self.assertEqual(
                [relay.results[tag] for tag in range(count)], [b":%d\r\n" % n for n in range(1, count + 1)]
            )
            self.assertIsNone(self.successResultOf(room))
            self.result_of(relay.client.close())

    def test_later_batches_wait_behind_earlier_ones(self) -> None:
        """Requests that come later, and for which there would be room, do not keep earlier ones waiting."""
        relay, held = self.full(8)
        first = relay.submit(*[f"INCR {self.a}"] * 6)
        self.free(held, 1)
        second = relay.submit(f"INCR {self.a}")
        assert first is not None and second is not None
        self.assertEqual(relay.delayed, list(range(7)))
        fired: list[int] = []
        first.addCallback(lambda _: fired.append(1))
        second.addCallback(lambda _: fired.append(2))
        while held:
            self.free(held, 1)
            self.advance(0.02)
        self.let(relay)
        self.assertEqual([relay.results[tag] for tag in range(7)], [b":%d\r\n" % number for number in range(1, 8)])
        self.assertEqual(fired, [1, 2])

    def test_a_full_queue_and_other_nodes(self) -> None:
        """Requests for other nodes are not delayed by a full queue."""
        relay, held = self.full(2)
        relay.submit(f"INCR {self.a}")
        for _ in range(5):
            relay.submit(f"INCR {self.b}", f"INCR {self.c}")
            self.network.settle()
        self.assertEqual(len(relay.came), 10)
        self.free(held, 2)
        self.let(relay)

    def test_deadlines_while_waiting(self) -> None:
        """Requests that wait for room time out, each at its own deadline, and were not executed."""
        relay, held = self.full(2, timeout=1.0)
        room = relay.submit(*[f"INCR {self.a}"] * 3)
        relay.options = {"timeout": 0.5}
        early = relay.submit(f"INCR {self.a}")
        assert room is not None and early is not None
        self.advance(0.6)
        self.assertEqual(relay.kinds, {3: (CommandTimeout, False)})
        self.assertIsNone(self.successResultOf(early))
        self.assertNoResult(room)
        self.advance(0.6)
        self.assertEqual(relay.kinds, dict.fromkeys((3, 0, 1, 2), (CommandTimeout, False)))
        self.assertIn("its node is full", str(relay.results[0]))
        self.assertIsNone(self.successResultOf(room))
        self.free(held, 2)
        self.assertEqual(self.nodes[0].count(b"INCR"), 0)

    def test_a_client_that_is_closed_while_requests_wait(self) -> None:
        """Requests that wait for room fail at once with ClientClosed, and were not executed. The Deferred fires."""
        for end in (ClusterClient.close, ClusterClient.abort):
            relay, held = self.full(2, timeout=None)
            room = relay.submit(*[f"INCR {self.a}"] * 3)
            assert room is not None
            ended = end(relay.client)
            self.assertEqual(relay.kinds, dict.fromkeys(range(3), (ClientClosed, False)))
            self.assertIsNone(self.successResultOf(room))
            self.free(held, len(held) if end is ClusterClient.close else 0)
            self.result_of(ended)
            self.nodes[0].script = None

    def test_a_callback_closes_the_client_while_requests_wait(self) -> None:
        """Each request gets one result, although the callback of the first ends the client."""
        for end in (ClusterClient.close, ClusterClient.abort):
            relay, held = self.full(2, timeout=0.3)
            relay.on_replies = lambda tags, _, relay=relay, end=end: end(relay.client)  # type: ignore[misc]
            rooms = [relay.submit(f"INCR {self.a}", f"INCR {self.a}") for _ in range(3)]
            self.advance(0.4)
            self.assertEqual(sorted(tag for tag, _ in relay.came), list(range(6)))
            self.assertLessEqual(set(relay.kinds.values()), {(CommandTimeout, False), (ClientClosed, False)})
            for room in rooms:
                assert room is not None
                self.assertIsNone(self.successResultOf(room))
            self.free(held, len(held) if end is ClusterClient.close else 0)
            self.nodes[0].script = None

    def test_a_callback_submits_more_while_requests_wait(self) -> None:
        """Requests from a callback go behind those that wait."""
        relay, held = self.full(2, timeout=0.3)

        def more(tags: Sequence[Any], _: object) -> None:
            if len(relay.sent) < 6:
                relay.submit(f"INCR {self.a}")

        relay.on_replies = more
        relay.submit(f"INCR {self.a}", f"INCR {self.a}")
        while not relay.done:
            self.advance(0.1)
        self.assertEqual(sorted(tag for tag, _ in relay.came), list(range(6)))
        self.assertEqual(set(relay.kinds.values()), {(CommandTimeout, False)})
        self.free(held, 2)

    def test_the_owner_changes_while_requests_wait(self) -> None:
        """Requests that wait for room go to the new owner of their slot, and those of other slots are redirected."""
        relay, held = self.full(4)
        others = [self.key_of(self.nodes[0], number) for number in range(1, 7)]
        room = relay.submit(*(f"INCR {key}" for key in others))
        for key in others[:3]:
            self.cluster.move(key_slot(key), self.nodes[1])

        def script(node: ScriptedNode, words: list[bytes], _: Connection) -> Any:
            if words == [b"GET", self.c.encode()] and node is self.nodes[2]:
                return moved(others[0], self.nodes[1].address)
            owner = self.cluster.owner(key_slot(words[1])) if words[0] == b"INCR" else None
            return DEFAULT_REPLY if owner in (None, node) else moved(words[1], owner.address)

        self.nodes[1].script = self.nodes[2].script = script
        # With this redirect the client learns that the slot of the first has moved.
        relay.submit(f"GET {self.c}")
        self.advance(0.1)
        self.assertEqual(relay.results, {**dict.fromkeys(range(3), b":1\r\n"), 6: b"$1\r\n0\r\n"})
        while held:
            self.free(held, 1)
        self.let(relay)
        self.assertEqual(set(relay.results.values()), {b":1\r\n", b"$1\r\n0\r\n"})
        assert room is not None
        self.assertIsNone(self.successResultOf(room))

    # ---- the end

    def test_a_closed_client(self) -> None:
        """Requests fail with ClientClosed in a later turn, and were not executed."""
        for end in (ClusterClient.close, ClusterClient.abort):
            relay = self.relay()
            self.result_of(end(relay.client))
            self.assertIsNone(relay.submit(f"INCR {self.a}", f"INCR {self.b}"))
            self.assertEqual(relay.came, [])
            self.clock.advance(0)
            self.assertEqual(relay.kinds, dict.fromkeys(range(2), (ClientClosed, False)))

    def test_close_waits(self) -> None:
        """close() waits until every request has a reply, its deadline, or is redirected and answered."""
        for reply in (b"+ok\r\n", b"-ERR no\r\n", moved(self.a, "node:7001"), b"-TRYAGAIN x\r\n"):
            relay = self.relay(timeout=0.5)

            def script(node: ScriptedNode, words: list[bytes], connection: Connection, reply: bytes = reply) -> Any:
                if words[0] == b"INCR":
                    node.script = None
                    self.clock.callLater(0.1, connection.write, reply)
                    return SILENCE
                return DEFAULT_REPLY

            self.nodes[0].script = script
            relay.submit(f"INCR {self.a}", f"INCR {self.b}")
            self.network.settle()
            closing = relay.client.close()
            self.network.settle()
            self.assertNoResult(closing)
            self.result_of(closing)
            self.assertTrue(relay.done)
            self.assertNotIsInstance(relay.results[0], Exception)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_waits_for_a_deadline(self) -> None:
        """close() ends when the deadline of the last request has passed."""
        relay = self.relay(timeout=0.5)
        self.nodes[0].script = lambda *_: SILENCE
        relay.submit(f"INCR {self.a}")
        self.network.settle()
        closing = relay.client.close()
        self.advance(0.4)
        self.assertNoResult(closing)
        self.advance(0.2)
        self.assertEqual(relay.kinds, {0: (CommandTimeout, True)})
        self.result_of(closing)

    def test_abort(self) -> None:
        """abort() fails every request at once; those that were sent may have been executed."""
        relay = self.relay()
        self.nodes[0].script = lambda *_: SILENCE
        self.network.refuse(self.nodes[1])
        self.network.settle()
        relay.submit(f"INCR {self.a}", f"INCR {self.a}", f"INCR {self.b}")
        self.network.settle()
        ended = relay.client.abort()
        written, unwritten = (ClientClosed, True), (ClientClosed, False)
        self.assertEqual(relay.kinds, {0: written, 1: written, 2: unwritten})
        self.result_of(ended)

    def test_callbacks_that_end_the_client(self) -> None:
        """A callback may close or abort the client in the middle of the replies. Each request has one result."""
        for end in (ClusterClient.close, ClusterClient.abort):
            for at in range(6):
                relay = self.relay()
                self.nodes[0].script = lambda node, words, _: b"-ERR no\r\n" if words[0] == b"ECHO" else DEFAULT_REPLY
                endings: list[Deferred[None]] = []

                relay.on_replies = lambda tags, _, relay=relay, at=at, end=end, endings=endings: (  # type: ignore[misc]
                    endings.append(end(relay.client)) if at in tags else None
                )
                key = self.a
                relay.submit(f"GET {key}", f"ECHO {key}", f"GET {key}", f"GET {key}", f"ECHO {key}", f"GET {key}")
                self.let(relay)
                self.result_of(endings[0])
                self.nodes[0].script = None

    # ---- the caller's mistakes

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

    # ---- in numbers

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


class SocketTests(ScriptedTests):
    """On sockets, under each reactor."""

    async def relay(self, **options: Any) -> Relay:
        self.a, self.b, self.c = map(self.key_of, self.nodes)
        client = await self.client(**{"raw_replies": True, **options})
        for key in (self.a, self.b, self.c):
            await client.get(key)
        return Relay(client)

    async def test_replies(self) -> None:
        """Raw and parsed replies come from three nodes, in order."""
        for raw in (True, False):
            relay = await self.relay(raw_replies=raw)
            for _ in range(50):
                relay.submit(*[f"INCR {key}" for key in (self.a, self.b, self.c)] * 20)
            await self.until(partial(getattr, relay, "done"))
            counts = [b":%d\r\n" % number if raw else number for number in range(1, 1001)]
            for first in range(3):
                self.assertEqual([relay.results[tag] for tag in range(first, 3000, 3)], counts)
            await relay.client.execute("DEL", self.a)
            self.cluster.values.clear()
            await relay.client.close()

    async def test_large_requests_and_replies(self) -> None:
        """Values of megabytes go both ways between small ones."""
        relay = await self.relay()
        value = "v" * 3_000_000
        for _ in range(3):
            relay.submit(f"SET {self.a} {value}", f"GET {self.a}", f"SET {self.b} 1", f"GET {self.b}")
        await self.until(lambda: relay.done)
        large = b"$%d\r\n%b\r\n" % (len(value), value.encode())
        self.assertEqual([relay.results[tag] for tag in range(12)], [b"+OK\r\n", large, b"+OK\r\n", b"$1\r\n1\r\n"] * 3)

    async def test_redirects(self) -> None:
        """MOVED and ASK are followed."""
        relay = await self.relay()
        self.nodes[0].script = lambda node, words, _: (
            moved(words[1], self.nodes[1].address) if words[0] == b"SET" else DEFAULT_REPLY
        )
        self.nodes[2].script = lambda node, words, _: (
            ask(words[1], self.nodes[1].address) if words[0] == b"SET" else DEFAULT_REPLY
        )
        relay.submit(f"SET {self.a} 1", f"SET {self.b} 1", f"SET {self.c} 1")
        await self.until(lambda: relay.done)
        self.assertEqual(relay.results, dict.fromkeys(range(3), b"+OK\r\n"))
        self.assertEqual(sorted(relay.delayed), [0, 2])
        self.assertEqual(self.nodes[1].count(b"ASKING"), 1)

    async def test_a_lost_connection(self) -> None:
        """Reads are repeated on a new connection. A write fails, may have been executed, and is not repeated."""
        relay = await self.relay()
        self.nodes[0].script = lambda node, words, _: CLOSE if words[0] == b"INCR" else DEFAULT_REPLY
        relay.submit(f"GET {self.a}", f"INCR {self.a}", f"GET {self.a}")
        await self.until(lambda: relay.done)
        self.assertEqual(relay.kinds, {0: b"_\r\n", 1: (ConnectionLost, True), 2: b"_\r\n"})
        self.assertEqual(self.nodes[0].count(b"INCR"), 1)

    async def test_close_and_abort(self) -> None:
        """close() waits for relayed requests, and abort() ends them."""
        relay = await self.relay()
        relay.submit(*[f"INCR {self.a}"] * 100)
        await relay.client.close()
        self.assertTrue(relay.done)
        self.assertEqual(relay.results[99], b":100\r\n")
        relay = await self.relay()
        self.nodes[0].script = lambda *_: SILENCE
        relay.submit(*[f"INCR {self.a}"] * 100)
        await self.until(lambda: self.nodes[0].count(b"INCR") == 200)
        await relay.client.abort()
        self.assertEqual(relay.kinds, dict.fromkeys(range(100), (ClientClosed, True)))

    async def test_a_full_queue(self) -> None:
        """All requests are answered in their order, though the queue holds few of them."""
        relay = await self.relay(max_pending=10)
        rooms = [relay.submit(*[f"INCR {self.a}"] * 50) for _ in range(10)]
        await self.until(lambda: relay.done)
        self.assertEqual([relay.results[tag] for tag in range(500)], [b":%d\r\n" % number for number in range(1, 501)])
        for room in rooms:
            assert room is not None
            await room

    async def test_another_thread(self) -> None:
        """A batch that is submitted in a wrong thread raises WrongThread, and nothing of it is sent."""
        relay = await self.relay()
        relay.submit(f"SET {self.a} 1")
        await self.until(lambda: relay.done)

        raised: list[type[BaseException]] = []

        def use() -> None:
            try:
                relay.submit(f"SET {self.a} 2", f"SET {self.b} 2")
            except WrongThread as error:
                raised.append(type(error))

        # While a write is scheduled, which hides the thread from other checks.
        reading = relay.client.get(self.a)
        thread = Thread(target=use)
        thread.start()
        thread.join()
        self.assertEqual(raised, [WrongThread])
        self.assertEqual(await reading, b"1")
        self.assertEqual(await relay.client.get(self.b), None)
        self.assertEqual((len(relay.came), self.cluster.count(b"SET")), (1, 1))

    async def test_requests_from_replies(self) -> None:
        """A caller that sends the next request when a reply comes keeps its order."""
        relay = await self.relay()

        def more(tags: Sequence[Any], _: object) -> None:
            if len(relay.sent) < 500:
                relay.submit(*[f"INCR {self.a}"] * len(tags))

        relay.on_replies = more
        relay.submit(*[f"INCR {self.a}"] * 10)
        await self.until(lambda: relay.done)
        self.assertEqual([reply for _, reply in relay.came], [b":%d\r\n" % number for number in range(1, 501)])
