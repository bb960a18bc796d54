"""Channels, patterns and sharded channels: messages, sharing, changing and ending subscriptions."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs

from tests.pubsub.base import SubscriptionTests, TwoProtocolsTests
from txvalkeycluster import (
    ClientClosed,
    CommandTimeout,
    Message,
    ReplyError,
    RoutingError,
    ValkeyError,
    WatchError,
    key_slot,
)
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE


class MessageTests(TwoProtocolsTests):
    """With RESP3; `RESP2MessageTests` repeats them with RESP2."""

    def test_classic_channels(self) -> None:
        """Each message has its channel; all channels of a client are at one node, on one connection beside commands."""
        client = self.client()
        self.result_of(client.get("k"))
        before = self.connections()
        subscription = self.subscribed(client.subscribe("a", "b", b"c"))
        self.assertEqual(subscription.channels, (b"a", b"b", b"c"))
        self.assertEqual(self.at(self.home("a")), {(b"", b"a"), (b"", b"b"), (b"", b"c")})
        self.assertEqual(self.connections(), before + 1)
        for channel, data in (("a", "1"), ("c", "2"), ("nobody", "3"), ("b", "4")):
            self.publish(channel, data)
        self.assertEqual(
            [self.next_item(subscription) for _ in range(3)],
            [Message(b"a", b"1"), Message(b"c", b"2"), Message(b"b", b"4")],
        )

    def test_patterns(self) -> None:
        """A message comes once for each pattern that matches, with the pattern."""
        subscription = self.subscribed(self.client().psubscribe("n.*", "*.x"))
        self.publish("n.x", "1")
        self.publish("n.y", "2")
        self.assertEqual(
            {self.next_item(subscription) for _ in range(3)},
            {Message(b"n.x", b"1", b"n.*"), Message(b"n.x", b"1", b"*.x"), Message(b"n.y", b"2", b"n.*")},
        )

    def test_sharded_channels(self) -> None:
        """Channels in any slots: each at the owner of its slot, with one SSUBSCRIBE for each slot."""
        channels = [self.channel_of(node, number) for node in self.nodes for number in range(2)]
        tagged = [f"{{{channels[0]}}}{number}" for number in range(3)]
        subscription = self.subscribed(self.client().ssubscribe(*channels, *tagged))
        for number, node in enumerate(self.nodes):
            own = {(b"S", channel.encode()) for channel in channels[2 * number : 2 * number + 2]}
            self.assertEqual(self.at(node) - {(b"S", tag.encode()) for tag in tagged}, own)
        self.assertEqual(self.cluster.count(b"SSUBSCRIBE"), 6)
        for channel in (*channels, *tagged):
            self.assertEqual(self.spublish(channel, channel), 1)
            self.assertEqual(self.next_item(subscription), Message(channel.encode(), channel.encode()))

    def test_one_write(self) -> None:
        """The channels of many slots leave in one write to each node."""
        client = self.client()
        first = self.subscribed(client.ssubscribe(*(self.channel_of(node) for node in self.nodes)))
        reads = {node: max(c.reads for c in node.connections if c.subscribed) for node in self.nodes}
        channels = [self.channel_of(node, number) for node in self.nodes for number in range(1, 50)]
        second = self.subscribed(client.ssubscribe(*channels))
        for node in self.nodes:
            self.assertEqual(max(c.reads for c in node.connections if c.subscribed), reads[node] + 1)
        self.assertEqual((len(first.channels), len(second.channels)), (3, 147))

    def test_a_listener(self) -> None:
        """It gets items in order; what it raises is logged, and does not disturb other subscriptions."""
        client = self.client()

        def refuse(_: Any) -> None:
            raise ValueError("mine")

        self.subscribed(client.subscribe("a", listener=refuse))
        self.subscribed(client.subscribe("a", listener=self.items.append))
        self.publish("a", "1")
        self.publish("a", "2")
        self.assertEqual(self.items, [Message(b"a", b"1"), Message(b"a", b"2")])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_one_upstream_subscription(self) -> None:
        """Two subscriptions to a channel share it on the server, and each gets every message."""
        client = self.client()
        one = self.subscribed(client.subscribe("a"))
        other = self.subscribed(client.subscribe("a", "b"))
        self.assertEqual(self.cluster.count(b"SUBSCRIBE", b"a"), 1)
        self.publish("a", "1")
        self.assertEqual(self.next_item(one), self.next_item(other))
        self.result_of(one.close())
        self.assertIn((b"", b"a"), self.at(self.home("a")))
        self.publish("a", "2")
        self.assertEqual(self.next_item(other), Message(b"a", b"2"))
        self.result_of(other.close())
        self.assertEqual(self.everywhere(), [])

    def test_an_encoding(self) -> None:
        """Channels, patterns and data are text; what is not text is reported, and the next message comes."""
        client = self.client(encoding="utf-8")
        one = self.subscribed(client.subscribe("a"))
        pattern = self.subscribed(client.psubscribe("a*"))
        sharded = self.subscribed(client.ssubscribe("s"))
        self.cluster.publish(b"a", b"\xff")
        self.publish("a", "ö")
        self.spublish("s", "ß")
        lost = self.next_item(one)
        self.assertEqual((lost.channels, lost.dropped), (("a",), 1))
        self.assertEqual(str(lost.reason), "a message is not text in the encoding of the client")
        self.assertEqual(self.next_item(one), Message("a", "ö"))
        self.assertEqual(self.next_item(pattern).channels, ("a*",))
        self.assertEqual(self.next_item(pattern), Message("a", "ö", "a*"))
        self.assertEqual(self.next_item(sharded), Message("s", "ß"))

    def test_only_messages(self) -> None:
        """``messages()`` gives no reports of gaps."""
        subscription = self.subscribed(self.client().subscribe("a"))
        messages = subscription.messages()
        self.home("a").drop_subscribers()
        self.advance(0.5)
        self.publish("a", "1")
        self.assertEqual(self.next_item(messages), Message(b"a", b"1"))


class RESP2MessageTests(MessageTests):
    """The same with RESP2, where pushes are lists."""

    protocol = 2


class ChangeTests(TwoProtocolsTests):
    """Adding, removing and closing."""

    def test_add_and_remove(self) -> None:
        """Channels come and go while others stay; each Deferred fires when the server has done it."""
        subscription = self.subscribed(self.client().subscribe("a"))
        self.assertIsNone(self.result_of(subscription.add("b", "c", "a")))
        self.assertEqual(subscription.channels, (b"a", b"b", b"c"))
        self.assertIsNone(self.result_of(subscription.remove("a", "c")))
        self.assertEqual(self.everywhere(), [(b"", b"b")])
        self.assertEqual(subscription.channels, (b"b",))
        self.publish("a", "1")
        self.publish("b", "2")
        self.assertEqual(self.next_item(subscription), Message(b"b", b"2"))
        self.assertIsNone(self.result_of(subscription.add()))
        self.error_of(subscription.remove("a"), ValueError)

    def test_removed_and_added_in_one_turn(self) -> None:
        """The last change counts, for every kind."""
        client = self.client()
        for make in (client.subscribe, client.psubscribe, client.ssubscribe):
            subscription = self.subscribed(make("a"))
            for _ in range(3):
                subscription.remove("a")
                added = subscription.add("a")
            self.result_of(added)
            self.assertEqual(len(self.everywhere()), 1)
            subscription.remove("a")
            subscription.add("a")
            self.result_of(subscription.remove("a"))
            self.assertEqual(self.everywhere(), [])
            self.result_of(subscription.close())

    def test_removed_before_the_acknowledgement(self) -> None:
        """Nothing stays on the server, wherever the request was: unsent, on the wire, or waiting for a connection."""
        client = self.client()
        for turns in range(6):
            subscription = client.ssubscribe("a", "b", "{a}c")
            for _ in range(turns):
                self.network.step()
            self.result_of(subscription.remove("a", "b"))
            self.subscribed(subscription)
            self.assertEqual(self.everywhere(), [(b"S", b"{a}c")])
            self.result_of(subscription.close())
            self.network.settle()
            self.assertEqual(self.everywhere(), [])

    def test_closed_before_the_acknowledgement(self) -> None:
        """``ready()`` fails, and nothing stays on the server."""
        client = self.client()
        for turns in range(6):
            subscription = client.subscribe("a", "b")
            ready = subscription.ready()
            for _ in range(turns):
                self.network.step()
            done = ready.called
            self.result_of(subscription.close())
            if not done:
                self.assertEqual(str(self.error_of(ready, ValkeyError)), "the subscription was closed")
            self.network.settle()
            self.assertEqual(self.everywhere(), [])

    def test_close(self) -> None:
        """Iterators stop, the buffer is gone, and the connection is closed, since nothing else uses it."""
        client = self.client()
        before = self.connections()
        subscription = self.subscribed(client.subscribe("a"))
        self.publish("a", "1")
        self.next_item(subscription)
        coming = self.coming(subscription)
        self.publish("a", "2")
        self.assertEqual(self.result_of(coming), Message(b"a", b"2"))
        coming = self.coming(subscription)
        self.assertIsNone(self.result_of(subscription.close()))
        self.error_of(coming, StopAsyncIteration)
        self.error_of(self.coming(subscription), StopAsyncIteration)
        self.assertIsNone(self.result_of(subscription.close()))
        self.error_of(subscription.add("b"), ValkeyError)
        self.assertEqual(self.everywhere(), [])
        self.advance(1.5)
        self.assertEqual(self.connections(), before)

    def test_dropped(self) -> None:
        """A subscription that the program does not hold any more leaves nothing behind; with a listener it stays."""
        client = self.client()
        self.subscribed(client.subscribe("kept", listener=self.items.append))
        subscription = self.subscribed(client.subscribe("a"))
        self.publish("a", "1")
        del subscription
        gc.collect()
        self.network.settle()
        self.assertEqual(self.everywhere(), [(b"", b"kept")])
        self.publish("kept", "1")
        self.assertEqual(self.items, [Message(b"kept", b"1")])

    def test_an_abandoned_iteration(self) -> None:
        """Leaving the loop leaves nothing behind, if the subscription was made for it."""
        client = self.client()

        async def first() -> Any:
            async for message in client.subscribe("a").messages():
                return message

        getting = Deferred.fromCoroutine(first())
        self.network.settle()
        self.publish("a", "1")
        self.assertEqual(self.result_of(getting), Message(b"a", b"1"))
        gc.collect()
        self.network.settle()
        self.assertEqual(self.everywhere(), [])

    def test_async_with(self) -> None:
        """The block begins when the channels are acknowledged, and closes at its end."""
        client = self.client()

        async def run() -> None:
            async with client.subscribe("a") as subscription:
                self.assertEqual(self.everywhere(), [(b"", b"a")])
                self.cluster.publish(b"a", b"1")
                self.items.append(await anext(aiter(subscription)))
                raise WatchError("mine")

        self.error_of(Deferred.fromCoroutine(run()), WatchError)
        self.assertEqual(self.items, [Message(b"a", b"1")])
        self.assertEqual(self.everywhere(), [])

    def test_cancelled_waiting(self) -> None:
        """Cancelling ``ready()``, ``add()`` or an iteration leaves the subscription as it is."""
        client = self.client()
        subscription = client.subscribe("a")
        ready = subscription.ready()
        ready.cancel()
        self.error_of(ready, CancelledError)
        self.subscribed(subscription)
        coming = self.coming(subscription)
        coming.cancel()
        self.error_of(coming, CancelledError)
        self.publish("a", "1")
        self.assertEqual(self.next_item(subscription), Message(b"a", b"1"))

    def test_two_iterators(self) -> None:
        """Each message goes to one of them."""
        subscription = self.subscribed(self.client().subscribe("a"))
        one, other = self.coming(subscription), self.coming(subscription)
        self.publish("a", "1")
        self.publish("a", "2")
        self.assertEqual({self.result_of(one).data, self.result_of(other).data}, {b"1", b"2"})


class RESP2ChangeTests(ChangeTests):
    """The same with RESP2."""

    protocol = 2


class RefusalTests(TwoProtocolsTests):
    """Subscriptions that do not come about."""

    def test_refused(self) -> None:
        """``ready()`` fails with the server's error, an iteration too, and no other channel stays subscribed."""
        client = self.client()
        for node in self.nodes:
            node.script = lambda _, words, __: (
                b"-NOPERM No permissions to access a channel\r\n" if b"secret" in words else DEFAULT_REPLY
            )
        for make in (client.subscribe, client.psubscribe, client.ssubscribe):
            subscription = make("a", "secret", "b")
            error = self.error_of(subscription.ready(), ReplyError)
            self.assertEqual(error.code, "NOPERM")
            self.error_of(self.coming(subscription), ReplyError)
            self.error_of(subscription.ready(), ReplyError)
            self.assertEqual(self.everywhere(), [])
            self.assertEqual(subscription.channels, ())

    def test_refused_addition(self) -> None:
        """What was there before stays."""
        client = self.client()
        subscription = self.subscribed(client.subscribe("a"))
        self.home("a").script = lambda _, words, __: b"-NOPERM no\r\n" if b"secret" in words else DEFAULT_REPLY
        self.error_of(subscription.add("b", "secret"), ReplyError)
        self.assertEqual(self.everywhere(), [(b"", b"a")])
        self.assertEqual(subscription.channels, (b"a",))
        self.publish("a", "1")
        self.assertEqual(self.next_item(subscription), Message(b"a", b"1"))

    def test_no_right_to_ping(self) -> None:
        """The error reply to the PING shows as well as its reply that a change was processed."""
        for node in self.nodes:
            node.script = lambda _, words, __: (
                b"-NOPERM User u has no permissions to run the 'ping' command\r\n"
                if words[0] == b"PING"
                else DEFAULT_REPLY
            )
        client = self.client()
        subscription = self.subscribed(client.subscribe("a"))
        self.publish("a", "1")
        self.assertEqual(self.next_item(subscription), Message(b"a", b"1"))
        self.result_of(subscription.close())
        self.assertEqual(self.everywhere(), [])

    def test_timeout(self) -> None:
        """A server that does not answer: ``ready()`` fails at the timeout and says what it waited for."""
        client = self.client(unresponsive_after=60.0)
        for node in self.nodes:
            node.script = lambda _, words, __: SILENCE if words[0] == b"SUBSCRIBE" else DEFAULT_REPLY
        subscription = client.subscribe("a", "b", "c", "d", timeout=0.5)
        ready = subscription.ready()
        self.advance(0.6)
        error = self.failureResultOf(ready, CommandTimeout).value
        self.assertEqual(
            str(error), "no acknowledgement of the subscription to b'a', b'b', b'c' and 1 more within 0.5 s"
        )
        self.assertFalse(error.maybe_executed)

    def test_timeout_without_a_node(self) -> None:
        """The error has the reason of the last attempt."""
        client = self.client()
        for node in self.nodes:
            self.network.refuse(node)
        self.network.settle()
        ready = client.subscribe("a", timeout=0.5).ready()
        self.advance(0.6)
        self.assertIn("refused", str(self.failureResultOf(ready, CommandTimeout).value))

    def test_a_listener_that_nobody_waits_for(self) -> None:
        """Its failure is logged, since nothing else would show it."""
        client = self.client()
        for node in self.nodes:
            node.script = lambda _, words, __: b"-NOPERM no\r\n" if words[0] == b"SUBSCRIBE" else DEFAULT_REPLY
        with capturedLogs() as events:
            client.subscribe("a", listener=self.items.append)
            self.network.settle()
        self.assertTrue(any("a subscription has failed" in event["log_format"] for event in events))

    def test_wrong_arguments(self) -> None:
        """They are refused at the call."""
        client = self.client()
        for wrong in (5, None, ["a"]):
            self.assertIn("must be str or bytes", str(self.assertRaises(TypeError, client.subscribe, wrong)))
        self.assertRaises(ValueError, client.subscribe, "a", overflow="block")
        self.assertRaises(ValueError, client.subscribe, "a", max_messages=0)
        self.assertRaises(ValueError, client.subscribe, "a", listener=print, overflow="pause")
        subscription = self.subscribed(client.subscribe("a", listener=self.items.append))
        self.error_of(self.coming(subscription), TypeError)

    def test_the_commands_themselves(self) -> None:
        """`execute` names the method to use."""
        client = self.client()
        error = self.error_of(client.execute("SSUBSCRIBE", "a"), RoutingError)
        self.assertEqual(str(error), "SSUBSCRIBE is not sent: use ssubscribe() of the client")
        error = self.error_of(client.execute("PUNSUBSCRIBE"), RoutingError)
        self.assertIn("psubscribe()", str(error))


class RESP2RefusalTests(RefusalTests):
    """The same with RESP2."""

    protocol = 2


class EndTests(SubscriptionTests):
    """Subscriptions when the client is closed."""

    def test_close_and_abort(self) -> None:
        """Iterators stop, what waits for an acknowledgement fails, and every socket is closed."""
        for end in ("close", "abort"):
            client = self.made()
            self.result_of(client.refresh_topology())
            subscription = self.subscribed(client.subscribe("a"))
            coming = self.coming(subscription)
            waiting = client.ssubscribe("b").ready()
            self.assertIsNone(self.result_of(getattr(client, end)()))
            self.error_of(coming, StopAsyncIteration)
            self.error_of(waiting, ClientClosed)
            self.assertEqual(self.connections(), 0)
            self.result_of(subscription.close())
            late = client.subscribe("a")
            self.error_of(late.ready(), ClientClosed)
            self.error_of(self.coming(late), ClientClosed)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_lazy_client(self) -> None:
        """The first subscription fetches the slot map."""
        subscription = self.subscribed(self.lazy_client().ssubscribe("a"))
        self.spublish("a", "1")
        self.assertEqual(self.next_item(subscription), Message(b"a", b"1"))

    def test_views(self) -> None:
        """A view shares the connections, and its timeout is the default."""
        client = self.client(unresponsive_after=60.0)
        self.subscribed(client.subscribe("a"))
        view = client.with_options(timeout=0.3)
        self.subscribed(view.subscribe("a"))
        self.assertEqual(self.cluster.count(b"SUBSCRIBE"), 1)
        for node in self.nodes:
            node.script = lambda _, words, __: SILENCE if words[0] == b"SUBSCRIBE" else DEFAULT_REPLY
        late = view.subscribe("b").ready()
        self.advance(0.4)
        self.failureResultOf(late, CommandTimeout)

    def test_publishing_keeps_the_order(self) -> None:
        """PUBLISH goes to the owner of the channel's slot; so does a channel in a pipeline."""
        client = self.client()
        for node in self.nodes:
            channel = self.channel_of(node)
            self.result_of(client.publish(channel, "1"))
            self.result_of(client.pipeline().publish(channel, "2").spublish(channel, "3").execute())
            self.assertEqual(node.count(b"PUBLISH", channel.encode()), 2)
            self.assertEqual(node.count(b"SPUBLISH", channel.encode()), 1)
        self.cluster.ranges = [(0, 16382, self.nodes[0])]
        self.result_of(client.refresh_topology())
        self.result_of(client.publish(next(f"c{n}" for n in range(10**6) if key_slot(f"c{n}") == 16383), "1"))
