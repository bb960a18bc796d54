"""Defects that tests with real clusters have found, and those of full and paused buffers."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor

from tests.cases import SynchronousTestCase
from tests.pubsub.base import SubscriptionTests
from tests.scripted.base import ScriptedTests
from txvalkeycluster import Address, Lost, LostReason, Message, Resubscribed, key_slot
from txvalkeycluster.pubsub.feed import BufferedFeed
from txvalkeycluster.testing.scripted_pubsub import end_sharded


class FoundTests(SubscriptionTests):
    def test_a_connection_that_ends_before_the_client_has_caught_up(self) -> None:
        """A client that stopped reading sees the end of the connection only when it reads again."""
        slow = self.subscribed(self.client().subscribe("a", max_messages=2, overflow="pause"))
        node = self.home("a")
        for number in range(3):
            self.publish("a", str(number))
        # Without a reply to the PING that is sent when the client reads again.
        self.assertEqual([int(self.successResultOf(self.coming(slow)).data) for _ in range(3)], [0, 1, 2])
        node.drop_subscribers()
        self.advance(0.5)
        lost = self.next_item(slow.__aiter__())
        self.assertIsInstance(lost, Lost)
        self.assertEqual(lost.reason, LostReason.OUTPUT_LIMIT)

    def test_a_connection_that_ends_after_the_client_has_caught_up(self) -> None:
        """Then its output limit is not the cause."""
        slow = self.subscribed(self.client().subscribe("a", max_messages=2, overflow="pause"))
        node = self.home("a")
        for number in range(3):
            self.publish("a", str(number))
        self.assertEqual([int(self.next_item(slow.__aiter__()).data) for _ in range(3)], [0, 1, 2])
        self.advance(0.5)
        node.drop_subscribers()
        self.advance(0.5)
        self.assertEqual(self.next_item(slow.__aiter__()).reason, LostReason.CONNECTION)

    def test_a_demoted_primary_that_takes_the_channel_again(self) -> None:
        """After a failover, the map that the client gets at once may be old, and the replica accepts SSUBSCRIBE.

        The client asks for the map again, and moves the channel to the new primary.
        """
        old, new = self.nodes[:2]
        channel = self.channel_of(old)
        self.subscribed(self.client().ssubscribe(channel, listener=self.items.append))
        self.advance(5.0)
        for connection in old.connections:
            end_sharded(connection, key_slot(channel))
        self.advance(0.5)
        self.assertEqual([type(item) for item in self.items], [Lost, Resubscribed])
        self.cluster.ranges = [(start, end, new if node is old else node) for start, end, node in self.cluster.ranges]
        self.cluster.replicas = {new: [old]}
        self.advance(2.5)
        self.assertIn((b"S", channel.encode()), self.at(new))
        self.assertEqual(self.at(old), set())


class DroppedReportTests(SynchronousTestCase):
    """Reports that a full buffer drops."""

    def setUp(self) -> None:
        self.feed = BufferedFeed(2, 1000, lambda feed: feed.wake(), lambda _: None)
        self.node = Address("node", 7000)

    def items(self) -> list[Any]:
        """Fill the buffer with messages, and take everything."""
        for _ in range(5):
            self.feed.put(Message("a", "1"))
        return [*iter(self.feed.take, None)]

    def test_the_end_of_a_gap(self) -> None:
        """A message that is not text does not hide the Resubscribed before it."""
        self.feed.report(Lost(("a",), LostReason.CONNECTION, "", 0, self.node))
        self.feed.take()
        self.feed.report(Resubscribed(("a",), self.node))
        self.feed.report(Lost(("a",), LostReason.NOT_TEXT, "", 1, self.node))
        self.assertIn(Resubscribed(("a",), self.node), self.items())

    def test_the_number_of_messages_that_are_not_text(self) -> None:
        """The reports say how many there were."""
        for channel in ("a", "a", "b"):
            self.feed.report(Lost((channel,), LostReason.NOT_TEXT, "", 1))
        lost = [item for item in self.items() if isinstance(item, Lost) and item.reason is LostReason.NOT_TEXT]
        self.assertEqual(sum(item.dropped for item in lost), 3)


class PausedTests(ScriptedTests):
    """With real sockets, because those in memory do not stop when they are paused."""

    async def test_closed_while_paused(self) -> None:
        """close() ends, and its connection is closed."""
        client = await self.client()
        slow = await client.subscribe("a", max_messages=2, overflow="pause").ready()
        for number in range(20):
            self.cluster.publish(b"a", b"%d" % number)
        while not slow._group.paused:
            await client.get("key")
        await slow.close().addTimeout(1.0, reactor)
