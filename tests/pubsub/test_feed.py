"""Buffers: what a slow iterator gets, how much memory is used, and when the client stops reading."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.cases import SynchronousTestCase
from tests.pubsub.base import SubscriptionTests
from txvalkeycluster import Lost, LostReason, Message, Resubscribed
from txvalkeycluster.pubsub.feed import BufferedFeed


class BufferTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.dropped = 0
        self.calls: list[str] = []

    def feed(self, messages: int = 3, size: int = 100, *, pauses: bool = False) -> BufferedFeed:
        """A buffer for a few messages."""
        hooks = (lambda: self.calls.append("pause"), lambda: self.calls.append("resume")) if pauses else (None, None)
        return BufferedFeed(messages, size, lambda feed: feed.wake(), self.count, *hooks)

    def count(self, messages: int) -> None:
        """Count dropped messages."""
        self.dropped += messages

    @staticmethod
    def fill(feed: BufferedFeed, first: int, last: int, size: int = 1) -> None:
        """Put numbered messages."""
        for number in range(first, last + 1):
            feed.put(Message("c", str(number).zfill(size - 1)))

    @staticmethod
    def all_of(feed: BufferedFeed) -> list[Any]:
        """Take everything; messages are shown by their numbers."""
        items = []
        while (item := feed.take()) is not None:
            items.append(int(item.data) if isinstance(item, Message) else item)
        return items

    def test_the_newest_are_kept(self) -> None:
        """The report of the dropped ones comes first, with their number."""
        feed = self.feed()
        self.fill(feed, 1, 10)
        self.assertEqual(self.all_of(feed), [Lost(("c",), LostReason.OVERFLOW, dropped=7), 8, 9, 10])
        self.assertEqual(self.dropped, 7)
        self.fill(feed, 11, 12)
        self.assertEqual(self.all_of(feed), [11, 12])

    def test_bytes(self) -> None:
        """They are limited too; one message is kept even if it is larger."""
        feed = self.feed(1000, 100)
        self.fill(feed, 1, 10, size=30)
        self.assertEqual(self.all_of(feed), [Lost(("c",), LostReason.OVERFLOW, dropped=7), 8, 9, 10])
        self.fill(feed, 11, 11, size=1000)
        self.assertEqual(self.all_of(feed), [11])
        self.fill(feed, 12, 12, size=10)
        self.fill(feed, 13, 13, size=1000)
        self.assertEqual(self.all_of(feed), [Lost(("c",), LostReason.OVERFLOW, dropped=1), 13])

    def test_a_pattern(self) -> None:
        """What was dropped of a pattern is reported by the pattern."""
        feed = self.feed(1)
        feed.put(Message("c1", "1", "c*"))
        feed.put(Message("c2", "2", "c*"))
        self.assertEqual(feed.take(), Lost(("c*",), LostReason.OVERFLOW, dropped=1))

    def test_reports_that_are_dropped(self) -> None:
        """They are given all the same, as few as possible: a gap that has ended, and one that has not."""
        feed = self.feed(2)
        one, other = Lost(("a",), LostReason.CONNECTION, "x"), Lost(("b",), LostReason.SLOT_MOVED)
        self.fill(feed, 1, 1)
        for _ in range(100):
            feed.report(one)
            feed.report(Resubscribed(("a",)))
        feed.report(other)
        self.fill(feed, 2, 3)
        self.assertEqual(len(feed), 5)
        self.assertEqual(
            self.all_of(feed),
            [Lost(("c",), LostReason.OVERFLOW, dropped=1), one, Resubscribed(("a",)), other, 2, 3],
        )

    def test_dropped_while_reports_are_taken(self) -> None:
        """Their order stays."""
        feed = self.feed(1)
        feed.report(Lost(("a",), LostReason.CONNECTION))
        self.fill(feed, 1, 2)
        self.assertEqual(feed.take(), Lost(("c",), LostReason.OVERFLOW, dropped=1))
        self.fill(feed, 3, 3)
        self.assertEqual(
            self.all_of(feed),
            [Lost(("a",), LostReason.CONNECTION), Lost(("c",), LostReason.OVERFLOW, dropped=1), 3],
        )

    def test_pausing(self) -> None:
        """The reading stops at the limit, what comes all the same is kept, and it goes on when half is taken."""
        feed = self.feed(4, pauses=True)
        self.fill(feed, 1, 6)
        self.assertEqual(self.calls, ["pause"])
        self.assertEqual([feed.take(), feed.take(), feed.take()], [Message("c", str(n)) for n in (1, 2, 3)])
        self.assertEqual(self.calls, ["pause"])
        feed.take()
        self.assertEqual(self.calls, ["pause", "resume"])
        self.assertEqual(self.all_of(feed), [5, 6])
        self.assertEqual(self.dropped, 0)

    def test_the_end(self) -> None:
        """Nothing is kept, and nothing is taken any more."""
        feed = self.feed(1)
        self.fill(feed, 1, 3)
        waiting: Deferred[None] = feed.wait()
        feed.end(ValueError("mine"))
        self.assertIsNone(self.successResultOf(waiting))
        self.fill(feed, 4, 4)
        feed.report(Resubscribed(("a",)))
        self.assertEqual((self.all_of(feed), len(feed)), ([], 0))
        self.assertEqual(str(feed.error), "mine")
        feed.end()
        self.assertEqual(str(feed.error), "mine")


class SlowTests(SubscriptionTests):
    """A subscription that is not read beside one that is."""

    def test_dropping(self) -> None:
        """The other gets everything; the slow one gets the newest, and the number of the others."""
        client = self.client()
        slow = self.subscribed(client.subscribe("a", max_messages=10))
        self.subscribed(client.subscribe("a", listener=self.items.append))
        for number in range(1000):
            self.cluster.publish(b"a", b"%d" % number)
        self.network.settle()
        self.assertEqual([int(item.data) for item in self.items], list(range(1000)))
        self.assertEqual(self.next_item(slow), Lost((b"a",), LostReason.OVERFLOW, dropped=990))
        self.assertEqual([int(self.next_item(slow).data) for _ in range(10)], list(range(990, 1000)))
        self.assertEqual((client.statistics.messages, client.statistics.messages_dropped), (1000, 990))

    def test_its_own_connection(self) -> None:
        """With ``overflow="pause"`` others are not stopped, and nothing is dropped."""
        client = self.client()
        slow = self.subscribed(client.subscribe("a", max_messages=10, overflow="pause"))
        self.subscribed(client.subscribe("a", listener=self.items.append))
        self.assertEqual(sum((b"", b"a") in c.subscribed for node in self.nodes for c in node.connections), 2)
        for number in range(100):
            self.publish("a", str(number))
        self.assertEqual(len(self.items), 100)
        self.assertEqual([int(self.next_item(slow).data) for _ in range(100)], list(range(100)))
        self.result_of(slow.close())

    def test_paused_for_long(self) -> None:
        """The client does not take the silence for a dead server; if the server cuts it, the reason says so."""
        client = self.client(unresponsive_after=1.0)
        slow = self.subscribed(client.subscribe("a", max_messages=2, overflow="pause"))
        node = self.home("a")
        for number in range(6):
            self.publish("a", str(number))
        self.advance(10.0, step=0.1)
        node.drop_subscribers()
        self.advance(0.5)
        items = [self.next_item(slow) for _ in range(4)]
        while not isinstance(items[-1], Resubscribed):
            items.append(self.next_item(slow))
        lost = next(item for item in items if isinstance(item, Lost))
        self.assertEqual(lost.reason, LostReason.OUTPUT_LIMIT)

    def test_closed_while_paused(self) -> None:
        """The connection is closed, and the channel ends on the server."""
        client = self.client()
        before = self.connections()
        slow = self.subscribed(client.subscribe("a", max_messages=2, overflow="pause"))
        for number in range(20):
            self.publish("a", str(number))
        self.result_of(slow.close())
        self.advance(1.5)
        self.assertEqual((self.everywhere(), self.connections()), ([], before))
