"""Relayed requests that are redirected, wait or are refused, and whose slots get other owners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.scripted.base import ask, moved
from tests.scripted.relay_base import Relay, RelayTests, packed
from txvalkeycluster import CommandTimeout, key_slot
from txvalkeycluster.relay import RelayBatch
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode
from txvalkeycluster.testing.scripted import Connection


class RedirectTests(RelayTests):
    """Redirects and refusals of the server."""

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


class GiveUpTests(RelayTests):
    """Requests that the caller gives up."""

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


class NewOwnerTests(RelayTests):
    """Slots and addresses that get another server while requests are filled in or on the way."""

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


class WaitingTests(RelayTests):
    """Requests that wait for a server that takes them."""

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
