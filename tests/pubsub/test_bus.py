"""Messages that reach two nodes of a shard over the cluster bus, at different times."""

from __future__ import annotations

from tests.pubsub.base import SubscriptionTests
from txvalkeycluster import Message, Resubscribed


class BusTests(SubscriptionTests):
    def test_a_message_before_and_after_a_failover(self) -> None:
        """A message that the demoted primary has delivered reaches the new primary a moment later: it comes once."""
        old, new = self.nodes[:2]
        channel = self.channel_of(old)
        client = self.client()
        self.subscribed(client.ssubscribe(channel, listener=self.items.append))
        self.advance(2.0)
        self.spublish(channel, "1")
        self.cluster.ranges = [(start, end, new if node is old else node) for start, end, node in self.cluster.ranges]
        self.cluster.replicas = {new: [old]}
        self.result_of(client.refresh_topology())
        self.advance(0.02)
        # The bus brings the message to the new primary.
        self.spublish(channel, "1")
        self.advance(1.0)
        self.assertIsInstance(self.items[-1], Resubscribed)
        self.spublish(channel, "2")
        name = channel.encode()
        self.assertEqual([m for m in self.items if isinstance(m, Message)], [Message(name, b"1"), Message(name, b"2")])
