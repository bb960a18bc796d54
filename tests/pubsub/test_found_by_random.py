"""A test for each defect that random subscriptions have found."""

from __future__ import annotations

from itertools import count
from typing import Any

from tests.pubsub.base import SubscriptionTests
from txvalkeycluster import Lost, LostReason, ReplyError, Resubscribed
from txvalkeycluster.pubsub.acknowledgement import Acknowledgement
from txvalkeycluster.pubsub.upstream import Upstream
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode


class RandomlyFoundTests(SubscriptionTests):
    """Defects that `test_random`, or a second review with it, has found."""

    def test_a_listener_that_closes_at_the_end_of_a_gap(self) -> None:
        """The connection stays, and the other subscription gets its report, too."""
        client = self.client()

        def close(item: Any) -> None:
            if isinstance(item, Resubscribed):
                first.close()

        first = self.subscribed(client.subscribe("a", listener=close))
        self.subscribed(client.subscribe("a", listener=self.items.append))
        node = self.home("a")
        node.drop_subscribers()
        self.advance(0.5)
        self.assertEqual([type(item) for item in self.items], [Lost, Resubscribed])

    def test_a_listener_that_closes_when_the_slot_map_changes(self) -> None:
        """It may close every subscription while primaries become replicas."""
        client = self.client()
        subscriptions: list[Any] = []

        def close(_: Any) -> None:
            for each in subscriptions:
                each.close()

        subscriptions.append(self.subscribed(client.keyspace_events(listener=close)))
        subscriptions.append(self.subscribed(client.keyspace_events("k*", listener=close)))
        subscriptions.append(self.subscribed(client.ssubscribe("a", listener=close)))
        first, *others = self.nodes
        self.cluster.ranges, self.cluster.replicas = [(0, 16383, first)], {first: others}
        self.result_of(client.refresh_topology())
        self.network.settle()
        self.assertEqual(self.everywhere(), [])

    def test_a_new_node_after_a_second_subscription(self) -> None:
        """A subscription to events that others have already gets the gaps of new nodes, too."""
        ranges, nodes = self.cluster.ranges, self.nodes
        self.cluster.ranges, self.cluster.nodes = [(0, 8191, nodes[0]), (8192, 16383, nodes[1])], nodes[:2]
        client = self.client()
        self.subscribed(client.keyspace_events())
        self.subscribed(client.keyspace_events(listener=self.items.append))
        self.cluster.ranges, self.cluster.nodes = ranges, nodes
        self.result_of(client.refresh_topology())
        self.network.settle()
        self.assertEqual([getattr(item, "reason", None) for item in self.items], [LostReason.NODE_ADDED, None])

    def test_many_short_subscriptions_to_one_channel(self) -> None:
        """Nothing of them is left."""
        client = self.client()
        kept = self.subscribed(client.subscribe("a"))
        for _ in range(5):
            self.result_of(self.subscribed(client.subscribe("a")).close())
        (upstream,) = kept._feed.upstreams.values()
        self.assertEqual(upstream.acknowledgements, {})
        self.assertEqual(len(upstream.feeds), 1)

    def test_a_refusal_after_a_connection_that_ended_between_two_confirmations(self) -> None:
        """What the first connection has confirmed does not count on the second one."""
        client = self.client()
        self.subscribed(client.subscribe("z", listener=self.items.append))
        node = self.home("z")

        def half(_: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            if words[0] != b"SUBSCRIBE":
                return DEFAULT_REPLY
            for each in self.nodes:
                each.script = lambda _, words, __: (
                    b"-NOPERM no\r\n" if words[:2] == [b"SUBSCRIBE", b"b"] else DEFAULT_REPLY
                )
            connection.write(b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n")
            return CLOSE

        node.script = half
        ready = client.subscribe("a", "b").ready()
        self.advance(1.0)
        self.failureResultOf(ready, ReplyError)
        self.advance(1.0)
        self.assertEqual([type(item) for item in self.items], [Lost, Resubscribed])

    def test_an_unused_connection_that_is_watched_often(self) -> None:
        """A PING every half second does not keep it open."""
        subscription = self.subscribed(self.client(unresponsive_after=1.0).subscribe("a"))
        before = self.connections()
        self.advance(3.0, step=0.1)
        self.result_of(subscription.close())
        self.advance(3.0, step=0.1)
        self.assertEqual(self.connections(), before - 1)

    def test_a_request_that_waits_for_the_cluster_is_withdrawn(self) -> None:
        """The server has nothing to end, so it gets no SUNSUBSCRIBE, and no other channel is lost."""
        client = self.client()
        one, other = self.channel_of(self.nodes[0], 0), self.channel_of(self.nodes[0], 1)
        self.subscribed(client.ssubscribe(one, listener=self.items.append))
        down = b"-CLUSTERDOWN The cluster is down\r\n"
        for node in self.nodes:
            node.script = lambda _, words, __: down if words[0].endswith(b"SUBSCRIBE") else DEFAULT_REPLY
        waiting = client.ssubscribe(other)
        waiting.ready().addErrback(lambda _: None)
        self.advance(0.1)
        self.result_of(waiting.close())
        self.advance(2.0)
        self.assertEqual(self.items, [])

    def test_a_client_that_is_closed_while_the_end_is_refused(self) -> None:
        """No timer is left, and what waits for the end is told."""
        client = self.client()
        subscription = self.subscribed(client.subscribe("a"))
        for node in self.nodes:
            node.script = lambda _, words, __: b"-NOPERM no\r\n" if words[0] == b"UNSUBSCRIBE" else DEFAULT_REPLY
        ended = subscription.close()
        self.network.settle()
        client.close()
        self.network.settle()
        self.assertTrue(ended.called)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_node_that_leaves_and_returns_before_ready(self) -> None:
        """A gap that was reported before ``ready()`` ends with Resubscribed."""
        client, (first, second, third) = self.client(), self.nodes
        second.script = lambda _, words, __: SILENCE if words[0] == b"PSUBSCRIBE" else DEFAULT_REPLY
        client.keyspace_events(listener=self.items.append, timeout=None).ready().addErrback(lambda _: None)
        self.network.settle()
        ranges = self.cluster.ranges
        for change in ([(0, 8191, first), (8192, 16383, second)], ranges):
            self.cluster.ranges = change
            self.cluster.nodes = [first, second, third][: len(change)]
            self.result_of(client.refresh_topology())
            self.network.settle()
        kinds = [(type(item), getattr(item, "reason", None)) for item in self.items]
        self.assertEqual(
            kinds,
            [(Lost, LostReason.NODE_REMOVED), (Lost, LostReason.NODE_ADDED), (Resubscribed, None)],
        )

    def test_work_to_remove_many_that_were_added_one_by_one(self) -> None:
        """It is proportional to their number."""
        remove, calls = Acknowledgement.remove, count()

        def counted(acknowledgement: Acknowledgement, upstream: Upstream) -> None:
            next(calls)
            remove(acknowledgement, upstream)

        self.patch(Acknowledgement, "remove", counted)
        subscription = self.client().subscribe()
        names = [str(number) for number in range(200)]
        for name in names:
            subscription.add(name)
        self.result_of(subscription.remove(*names))
        self.assertLess(next(calls), 2000)
