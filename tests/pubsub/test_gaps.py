"""Gaps: every loss is reported in the order of the messages, and ends with the report that nothing is missing."""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs, formatEvent

from tests.pubsub.base import SubscriptionTests, TwoProtocolsTests
from txvalkeycluster import ClusterClient, Lost, LostReason, Message, Resubscribed, Subscription, key_slot
from txvalkeycluster.pubsub import keyspace
from txvalkeycluster.requests.internal import ASKING
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode


class GapTests(TwoProtocolsTests):
    """With RESP3; `RESP2GapTests` repeats them with RESP2."""

    def setUp(self) -> None:
        super().setUp()
        #: The items of a subscription to a sharded channel of each node.
        self.channels = [self.channel_of(node) for node in self.nodes]
        #: The events of the client.
        self.events: list[Any] = []

    def sharded(self, **options: Any) -> Subscription[bytes]:
        """Subscribe one channel of each node."""
        client = self.client(**options)
        client.add_listener(self.events.append)
        return self.subscribed(client.ssubscribe(*self.channels, listener=self.items.append))

    def gaps(self) -> list[Any]:
        """The reports among the items: what they are, their channels, reason and node."""
        return [
            (type(item), item.channels, getattr(item, "reason", None), item.node)
            for item in self.items
            if not isinstance(item, Message)
        ]

    def test_a_lost_connection(self) -> None:
        """Only its own channels are lost; they are subscribed again at once, at the same node."""
        self.sharded()
        node, channel = self.nodes[0], self.channels[0].encode()
        self.spublish(self.channels[0], "1")
        node.drop_subscribers()
        self.advance(0.1)
        self.spublish(self.channels[0], "2")
        self.assertEqual(
            self.gaps(),
            [
                (Lost, (channel,), LostReason.CONNECTION, node.address),
                (Resubscribed, (channel,), None, node.address),
            ],
        )
        self.assertEqual([self.items[0], self.items[-1]], [Message(channel, b"1"), Message(channel, b"2")])

    def test_many_channels_of_a_connection(self) -> None:
        """They are lost in one report; events and counters say the same once for all subscriptions."""
        client = self.client()
        client.add_listener(self.events.append)
        channels = [self.channel_of(self.nodes[0], number) for number in range(5)]
        one = self.subscribed(client.ssubscribe(*channels, listener=self.items.append))
        other = self.subscribed(client.ssubscribe(channels[0], listener=lambda _: None))
        self.nodes[0].drop_subscribers()
        self.advance(0.1)
        lost = [item for item in self.items if isinstance(item, Lost)]
        self.assertEqual([set(item.channels) for item in lost], [{channel.encode() for channel in channels}])
        self.assertEqual([event for event in self.events if isinstance(event, Lost)], lost)
        self.assertEqual(sum(isinstance(event, Resubscribed) for event in self.events), 5)
        self.assertEqual((client.statistics.lost, client.statistics.resubscribed), (5, 5))
        self.assertEqual((len(one.channels), len(other.channels)), (5, 1))

    def test_a_new_subscription_during_a_gap(self) -> None:
        """It is not told of what it never had; it is ready when the channel is there again."""
        client = self.client()
        node, channel = self.nodes[0], self.channels[0]
        first = self.subscribed(client.ssubscribe(channel, listener=self.items.append))
        node.script = lambda _, words, __: b"-LOADING wait\r\n" if words[0] == b"SSUBSCRIBE" else DEFAULT_REPLY
        node.drop_subscribers()
        self.advance(0.3)
        late: list[Any] = []
        second = client.ssubscribe(channel, listener=late.append)
        ready = second.ready()
        self.advance(0.3)
        self.assertFalse(ready.called)
        node.script = None
        self.advance(0.3)
        self.assertTrue(ready.called)
        self.spublish(channel, "1")
        self.assertEqual(late, [Message(channel.encode(), b"1")])
        self.assertEqual([type(item) for item in self.items], [Lost, Resubscribed, Message])
        self.assertEqual((first.channels, second.channels), ((channel.encode(),), (channel.encode(),)))

    def test_a_moved_slot(self) -> None:
        """The server's own ``sunsubscribe`` moves the channel at once, along the MOVED of the old owner."""
        self.sharded(refresh_interval=60.0)
        old, new = self.nodes[:2]
        channel = self.channels[0].encode()
        self.move(self.channels[0], new)
        self.assertEqual(
            self.gaps(),
            [
                (Lost, (channel,), LostReason.SLOT_MOVED, old.address),
                (Resubscribed, (channel,), None, new.address),
            ],
        )
        self.assertIn((b"S", channel), self.at(new))
        self.spublish(self.channels[0], "1")
        self.assertEqual(self.items[-1], Message(channel, b"1"))

    def test_a_new_map_without_a_word_from_the_server(self) -> None:
        """A demoted primary goes on serving its channels: they move as soon as the map has another owner."""
        client = self.client()
        subscription = self.subscribed(client.ssubscribe(*self.channels, listener=self.items.append))
        old, new = self.nodes[:2]
        channel = self.channels[0].encode()
        self.cluster.ranges = [(start, end, new if node is old else node) for start, end, node in self.cluster.ranges]
        self.cluster.replicas = {new: [old]}
        self.result_of(client.refresh_topology())
        self.advance(0.2)
        self.assertEqual(
            self.gaps(),
            [
                (Lost, (channel,), LostReason.FAILOVER, old.address),
                (Resubscribed, (channel,), None, new.address),
            ],
        )
        self.assertEqual(self.at(old), set())
        self.spublish(self.channels[0], "1")
        self.assertEqual(self.items[-1], Message(channel, b"1"))
        self.assertEqual(len(subscription.channels), 3)

    def test_a_removed_node(self) -> None:
        """Its channels move to the owners of their slots, with the reason."""
        client = self.client()
        self.subscribed(client.ssubscribe(*self.channels, listener=self.items.append))
        classic: list[Any] = []
        self.subscribed(client.subscribe("a", listener=classic.append))
        gone = self.home("a")
        channel = self.channels[self.nodes.index(gone)].encode()
        heir = next(node for node in self.nodes if node is not gone)
        self.cluster.ranges = [(start, end, heir if node is gone else node) for start, end, node in self.cluster.ranges]
        self.cluster.nodes = [node for node in self.nodes if node is not gone]
        self.result_of(client.refresh_topology())
        self.advance(0.2)
        self.assertEqual(self.gaps()[0], (Lost, (channel,), LostReason.NODE_REMOVED, gone.address))
        self.assertEqual(self.gaps()[1], (Resubscribed, (channel,), None, heir.address))
        self.assertEqual([type(item) for item in classic], [Lost, Resubscribed])
        self.assertEqual(self.at(gone), set())

    def test_a_dead_node_with_classic_channels(self) -> None:
        """They go to another node; the old one is not waited for."""
        client = self.client()
        self.subscribed(client.subscribe("a", "b", listener=self.items.append))
        dead = self.home("a")
        self.network.refuse(dead)
        self.advance(0.5)
        self.assertIsNot(self.home("a"), dead)
        self.publish("a", "1")
        self.assertEqual([type(item) for item in self.items], [Lost, Resubscribed, Resubscribed, Message])

    def test_states_that_are_waited_for(self) -> None:
        """LOADING, CLUSTERDOWN and a slot without an owner: the channel comes back when the node serves it."""
        for reply in (b"-LOADING x\r\n", b"-CLUSTERDOWN x\r\n"):
            self.items.clear()
            subscription = self.sharded()
            node = self.nodes[0]
            node.script = lambda _, words, __, reply=reply: reply if words[0] == b"SSUBSCRIBE" else DEFAULT_REPLY
            node.drop_subscribers()
            self.advance(0.5)
            self.assertEqual([type(item) for item in self.items], [Lost])
            node.script = None
            self.advance(0.2)
            self.assertEqual([type(item) for item in self.items], [Lost, Resubscribed])
            self.result_of(subscription.close())

    def test_ask(self) -> None:
        """The target is told ASKING first."""
        source, target = self.nodes[:2]
        channel = self.channels[0]
        slot = key_slot(channel)
        asked: list[bytes] = []

        def importing(_: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            if words[0] == b"SSUBSCRIBE":
                asked.append(words[1])
                if connection.asking:
                    connection.subscribed[b"S", words[1]] = None
                    mark = b">" if connection.resp3 else b"*"
                    return mark + b"3\r\n$10\r\nssubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(words[1]), words[1])
            return DEFAULT_REPLY

        source.script = lambda _, words, __: (
            b"-ASK %d %b\r\n" % (slot, str(target.address).encode()) if words[0] == b"SSUBSCRIBE" else DEFAULT_REPLY
        )
        target.script = importing
        self.subscribed(self.client().ssubscribe(channel, listener=self.items.append))
        self.assertEqual(asked, [channel.encode()])
        self.assertIn((b"S", channel.encode()), self.at(target))
        # All connections share this request.
        self.assertIn(b"ASKING", ASKING.payload)

    def test_refused_again(self) -> None:
        """A right that was taken away: the channel stays lost, is tried now and then, and comes back."""
        subscription = self.sharded()
        node = self.nodes[0]
        node.script = lambda _, words, __: b"-NOPERM no\r\n" if words[0] == b"SSUBSCRIBE" else DEFAULT_REPLY
        node.drop_subscribers()
        self.advance(10.0, step=0.05)
        self.assertEqual([type(item) for item in self.items], [Lost])
        self.assertLess(node.count(b"SSUBSCRIBE"), 20)
        node.script = None
        self.advance(1.5)
        self.assertEqual([type(item) for item in self.items], [Lost, Resubscribed])
        self.assertEqual(len(subscription.channels), 3)

    def test_a_silent_server(self) -> None:
        """A connection without messages is asked by PING; without an answer it is replaced."""
        self.sharded(unresponsive_after=2.0)
        node = self.nodes[0]
        self.advance(10.0, step=0.1)
        self.assertEqual(self.items, [])
        pings = node.count(b"PING")
        self.assertGreater(pings, 3)
        silent = {connection.number for connection in node.connections if connection.subscribed}
        node.script = lambda _, words, connection: SILENCE if connection.number in silent else DEFAULT_REPLY
        self.advance(5.0, step=0.1)
        self.assertEqual([type(item) for item in self.items], [Lost, Resubscribed])

    def test_moved_to_an_address_that_is_the_nodes_own(self) -> None:
        """The address belongs to another machine now: the connection is made anew."""
        client = self.client()
        self.subscribed(client.ssubscribe(*self.channels, listener=self.items.append))
        node = self.nodes[0]
        other = self.channel_of(node, 1)
        old = {connection.number for connection in node.connections}
        node.script = lambda _, words, connection: (
            b"-MOVED %d %b\r\n" % (key_slot(other), str(node.address).encode())
            if words[0] == b"SSUBSCRIBE" and connection.number in old
            else DEFAULT_REPLY
        )
        second = self.subscribed(client.ssubscribe(other))
        self.assertEqual([type(item) for item in self.items], [Lost, Resubscribed])
        self.assertEqual(len(second.channels), 1)


class RESP2GapTests(GapTests):
    """The same with RESP2."""

    protocol = 2


class KeyspaceTests(TwoProtocolsTests):
    """Keyspace events, which each node sends of its own keys."""

    def setUp(self) -> None:
        super().setUp()
        for node in self.nodes:
            node.script = self.configured(b"KEA")

    @staticmethod
    def configured(flags: bytes) -> Any:
        """A script that answers CONFIG GET."""
        reply = b"*2\r\n$22\r\nnotify-keyspace-events\r\n$%d\r\n%b\r\n" % (len(flags), flags)
        return lambda _, words, __: reply if words[0] == b"CONFIG" else DEFAULT_REPLY

    def events_client(self, **options: Any) -> ClusterClient[bytes]:
        """A client and its subscription to the events of all keys."""
        client = self.client()
        self.subscription = self.subscribed(client.keyspace_events("k*", listener=self.items.append, **options))
        return client

    def event(self, node: ScriptedNode, key: bytes = b"k1") -> None:
        """Have a node send an event."""
        for connection in list(node.connections):
            if (b"P", b"__keyspace@0__:k*") in connection.subscribed:
                mark = b">" if connection.resp3 else b"*"
                connection.write(
                    mark
                    + b"4\r\n$8\r\npmessage\r\n$17\r\n__keyspace@0__:k*\r\n$17\r\n__keyspace@0__:%b\r\n$3\r\nset\r\n"
                    % key
                )
        self.network.settle()

    def test_every_primary(self) -> None:
        """The message has the node; the channel ends with the key."""
        self.events_client()
        for node in self.nodes:
            self.event(node)
        name = b"__keyspace@0__:k1"
        self.assertEqual(self.items, [Message(name, b"set", b"__keyspace@0__:k*", node.address) for node in self.nodes])
        self.result_of(self.subscription.close())
        self.assertEqual(self.everywhere(), [])

    def test_key_events_of_another_database(self) -> None:
        """The name of the channel has the number of the database and the event."""
        client = self.client()
        subscription = self.subscribed(client.keyevent_events("expired", db=3))
        self.assertEqual(self.everywhere(), [(b"P", b"__keyevent@3__:expired")] * 3)
        self.assertEqual(subscription.channels, (b"__keyevent@3__:expired",))
        self.result_of(subscription.add("del"))
        self.assertEqual(len(self.everywhere()), 6)

    def test_replicas(self) -> None:
        """With ``replicas`` every node is subscribed."""
        self.cluster.ranges = [(0, 8191, self.nodes[0]), (8192, 16383, self.nodes[1])]
        self.cluster.replicas = {self.nodes[0]: [self.nodes[2]]}
        client = self.client()
        primaries = self.subscribed(client.keyspace_events())
        self.assertEqual(len(self.everywhere()), 2)
        every = self.subscribed(client.keyspace_events(replicas=True))
        self.assertEqual(len(self.everywhere()), 3)
        self.result_of(every.close())
        self.assertEqual(len(self.everywhere()), 2)
        self.result_of(primaries.close())
        self.assertEqual(self.everywhere(), [])

    def test_a_failover(self) -> None:
        """The old primary's gap and the new primary's are reported with their nodes; only the latter ends."""
        self.cluster.ranges = [(0, 8191, self.nodes[0]), (8192, 16383, self.nodes[1])]
        self.cluster.replicas = {self.nodes[0]: [self.nodes[2]]}
        client = self.events_client()
        self.cluster.ranges = [(0, 8191, self.nodes[2]), (8192, 16383, self.nodes[1])]
        self.cluster.replicas = {self.nodes[2]: [self.nodes[0]]}
        self.result_of(client.refresh_topology())
        self.network.settle()
        self.assertEqual(
            [(type(item), item.node, getattr(item, "reason", None)) for item in self.items],
            [
                (Lost, self.nodes[0].address, LostReason.FAILOVER),
                (Lost, self.nodes[2].address, LostReason.FAILOVER),
                (Resubscribed, self.nodes[2].address, None),
            ],
        )
        self.assertEqual(self.at(self.nodes[0]), set())
        self.items.clear()
        self.event(self.nodes[2])
        self.assertEqual(len(self.items), 1)

    def test_a_failover_that_nothing_shows(self) -> None:
        """The client looks for new primaries every few seconds, since their events would be missed."""
        self.cluster.ranges = [(0, 8191, self.nodes[0]), (8192, 16383, self.nodes[1])]
        self.cluster.replicas = {self.nodes[0]: [self.nodes[2]]}
        self.events_client()
        self.cluster.ranges = [(0, 8191, self.nodes[2]), (8192, 16383, self.nodes[1])]
        self.cluster.replicas = {self.nodes[2]: [self.nodes[0]]}
        self.advance(6.0, step=0.1)
        self.assertEqual([item.node for item in self.items if isinstance(item, Resubscribed)], [self.nodes[2].address])
        self.result_of(self.subscription.close())
        asked = self.cluster.count(b"CLUSTER", b"SLOTS")
        self.advance(12.0, step=0.1)
        self.assertLessEqual(self.cluster.count(b"CLUSTER", b"SLOTS"), asked + 1)

    def test_a_node_is_added_and_removed(self) -> None:
        """A new primary's events were missed until it was subscribed."""
        everything = list(self.cluster.ranges)
        self.cluster.ranges = [(0, 8191, self.nodes[0]), (8192, 16383, self.nodes[1])]
        self.cluster.nodes = self.nodes[:2]
        client = self.events_client()
        self.cluster.ranges, self.cluster.nodes = everything, self.nodes
        self.result_of(client.refresh_topology())
        self.network.settle()
        self.cluster.ranges, self.cluster.nodes = (
            [(0, 8191, self.nodes[0]), (8192, 16383, self.nodes[1])],
            self.nodes[:2],
        )
        self.result_of(client.refresh_topology())
        self.network.settle()
        self.assertEqual(
            [(type(item), getattr(item, "reason", None), item.node) for item in self.items],
            [
                (Lost, LostReason.NODE_ADDED, self.nodes[2].address),
                (Resubscribed, None, self.nodes[2].address),
                (Lost, LostReason.NODE_REMOVED, self.nodes[2].address),
            ],
        )

    def test_a_lost_connection(self) -> None:
        """It is made again to the same node."""
        self.events_client()
        self.nodes[1].drop_subscribers()
        self.advance(0.3)
        self.assertEqual([(type(item), item.node) for item in self.items], [
            (Lost, self.nodes[1].address), (Resubscribed, self.nodes[1].address)
        ])  # fmt: skip

    def test_the_same_pattern_twice(self) -> None:
        """An ordinary subscription to the same pattern shares the connection, and each ends by itself."""
        client = self.events_client()
        for first in (True, False):
            ordinary = self.subscribed(client.psubscribe("__keyspace@0__:k*"))
            events = self.subscribed(client.keyspace_events("k*"))
            home = next(node for node in self.nodes if node.count(b"PSUBSCRIBE") > 1)
            for subscription in (ordinary, events) if first else (events, ordinary):
                self.result_of(subscription.close())
                self.items.clear()
                self.event(home)
                self.assertEqual(len(self.items), 1)
        self.result_of(self.subscription.close())
        self.network.settle()
        self.assertEqual(self.everywhere(), [])

    def test_before_the_first_map(self) -> None:
        """A lazy client subscribes when it knows the primaries."""
        client = self.lazy_client(protocol=self.protocol)
        subscription = self.subscribed(client.keyspace_events())
        self.assertEqual(len(self.everywhere()), 3)
        self.assertEqual(len(subscription.channels), 1)

    def test_events_that_are_switched_off(self) -> None:
        """A warning names the node and its configuration, once for each."""
        self.nodes[0].script = self.configured(b"")
        self.nodes[1].script = self.configured(b"E$")
        self.nodes[2].script = lambda _, words, __: b"-NOPERM no\r\n" if words[0] == b"CONFIG" else DEFAULT_REPLY
        with capturedLogs() as logs:
            self.events_client()
            self.network.settle()
        texts = [formatEvent(event) for event in logs if event["log_namespace"] == keyspace.__name__]
        self.assertEqual(
            texts,
            [
                f"{self.nodes[0].address} sends no keyspace events: its notify-keyspace-events is ''",
                f"{self.nodes[1].address} sends no keyspace events: its notify-keyspace-events is 'E$'",
            ],
        )

    def test_a_pattern_of_everything(self) -> None:
        """There is no warning for a pattern that is not only for events: nobody knows whether they are expected."""
        for node in self.nodes:
            node.script = self.configured(b"")
        client = self.events_client()
        with capturedLogs() as logs:
            self.subscribed(client.psubscribe("*", "__key*", at_every_primary=True))
            self.network.settle()
        self.assertEqual([event for event in logs if event["log_namespace"] == keyspace.__name__], [])


class RESP2KeyspaceTests(KeyspaceTests):
    """The same with RESP2."""

    protocol = 2


class OrderTests(SubscriptionTests):
    """What is in the buffer."""

    def test_reports_stand_where_messages_may_be_missing(self) -> None:
        """Before them the messages from before, after them those from after."""
        subscription = self.subscribed(self.client().subscribe("a"))
        self.publish("a", "1")
        self.home("a").drop_subscribers()
        self.advance(0.3)
        self.publish("a", "2")
        items = [self.next_item(subscription) for _ in range(4)]
        self.assertEqual([type(item) for item in items], [Message, Lost, Resubscribed, Message])
