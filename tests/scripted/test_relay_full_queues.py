"""Relayed requests for which the queue of a node has no room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.scripted.base import moved
from tests.scripted.relay_base import Relay, RelayTests, packed
from txvalkeycluster import ClientClosed, ClusterClient, CommandTimeout, key_slot
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode
from txvalkeycluster.testing.scripted import Connection


class FullQueueTests(RelayTests):
    """Requests that wait for room."""

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
