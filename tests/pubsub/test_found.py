"""A test for each defect that tests with real clusters have found."""

from __future__ import annotations

from tests.pubsub.base import SubscriptionTests
from txvalkeycluster import Lost, LostReason, Resubscribed, key_slot
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
