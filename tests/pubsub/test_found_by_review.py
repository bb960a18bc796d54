"""A test for each defect that a review has found."""

from __future__ import annotations

import gc
import weakref
from itertools import count
from random import Random
from typing import Any
from warnings import catch_warnings, simplefilter

from twisted.internet.defer import CancelledError, Deferred

from tests.pubsub.base import SubscriptionTests
from txvalkeycluster import Address, ClientClosed, LostReason, Message, ReplyError
from txvalkeycluster.connection.protocol import RESPProtocol
from txvalkeycluster.pubsub.acknowledgement import Acknowledgement
from txvalkeycluster.pubsub.upstream import Upstream
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode


class ReviewTests(SubscriptionTests):
    """A test for each defect that a review has found."""

    def slow_down(self, *commands: bytes) -> None:
        """Leave commands, and the PING after them, without a reply at all nodes."""
        for node in self.nodes:
            node.script = lambda _, words, __: (
                SILENCE if words[0] in commands or (words[0] == b"PING" and len(words) > 1) else DEFAULT_REPLY
            )

    def refuse(self, error: bytes, *commands: bytes) -> None:
        """Refuse commands at all nodes."""
        for node in self.nodes:
            node.script = lambda _, words, __: error + b"\r\n" if words[0] in commands else DEFAULT_REPLY

    def answer(self) -> None:
        """Let all nodes answer everything."""
        for node in self.nodes:
            node.script = None

    def shrink(self, out: ScriptedNode) -> None:
        """Remove a node from the cluster, and let the client hear of it."""
        first, second = rest = [node for node in self.nodes if node is not out]
        self.cluster.ranges = [(0, 8191, first), (8192, 16383, second)]
        self.cluster.nodes = rest

    def test_a_server_that_refuses_ping(self) -> None:
        """A server that cannot write to its disk (MISCONF) or loads its data accepts SUBSCRIBE and refuses PING."""
        client = self.client()
        for error in (b"-MISCONF Valkey is configured to save RDB snapshots", b"-LOADING Valkey is loading"):
            self.refuse(error, b"PING")
            first = self.subscribed(client.subscribe("a", listener=self.items.append))
            second = client.subscribe("b").ready()
            self.advance(1.0)
            self.assertTrue(second.called)
            self.result_of(first.close())
            self.assertEqual(self.items, [])
            self.answer()

    def test_a_server_that_refuses_both(self) -> None:
        """A server that runs a long script refuses SUBSCRIBE and PING: no other channel is lost."""
        client = self.client()
        self.subscribed(client.subscribe("a", listener=self.items.append))
        self.refuse(b"-BUSY Valkey is busy running a script.", b"SUBSCRIBE", b"PING")
        self.error_of(client.subscribe("b").ready(), ReplyError)
        self.answer()
        self.subscribed(client.subscribe("c"))
        self.assertEqual(self.items, [])

    def test_a_slot_map_after_a_wrong_name(self) -> None:
        """A name that cannot be decoded is refused, and leaves nothing that breaks the next slot map."""
        client = self.client(encoding="utf-8")
        self.addCleanup(self.flushLoggedErrors, KeyError)
        self.addCleanup(gc.collect)
        self.assertRaises(ValueError, client.ssubscribe, "a", b"\xff")
        self.cluster.move(1, self.nodes[2])
        self.result_of(client.refresh_topology())

    def test_a_node_that_is_removed_before_its_confirmation(self) -> None:
        """The channel is subscribed at another node."""
        client = self.client()
        held: list[tuple[ScriptedNode, list[bytes], Any]] = []

        def hold(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            if words[0] not in (b"SUBSCRIBE", b"PING"):
                return DEFAULT_REPLY
            held.append((node, words, connection))
            return SILENCE

        for node in self.nodes:
            node.script = hold
        ready = client.subscribe("a", listener=self.items.append).ready()
        self.network.settle()
        home, (_, token), connection = held[-1]
        self.answer()
        self.shrink(home)
        self.result_of(client.refresh_topology())
        connection.write(b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n$%d\r\n%b\r\n" % (len(token), token))
        self.advance(3.0)
        self.assertTrue(ready.called)
        self.assertEqual(self.everywhere(), [(b"", b"a")])

    def test_a_connection_that_ends_between_two_confirmations(self) -> None:
        """Each message arrives once, and no channel stays after close()."""
        for seed in range(6):
            client = self.client(random=Random(seed))
            for node in self.nodes:
                self.result_of(client.execute_on(node.address, "PING"))
                node.script = self.confirm_one_and_close
            self.confirming = None
            subscription = self.subscribed(client.subscribe("a", "b", listener=self.items.append))
            self.advance(0.5)
            self.items.clear()
            self.publish("a", "1")
            self.assertEqual(self.items, [Message(b"a", b"1")])
            self.result_of(subscription.close())
            self.network.settle()
            self.assertEqual(self.everywhere(), [])
            self.result_of(client.close())

    confirming: Any = None

    def confirm_one_and_close(self, _: ScriptedNode, words: list[bytes], connection: Any) -> Any:
        """Confirm one channel of the first SUBSCRIBE of all, then end the connection."""
        if words[0] == b"SUBSCRIBE" and self.confirming is None:
            self.confirming = connection
            connection.write(b">3\r\n$9\r\nsubscribe\r\n$1\r\n%b\r\n:1\r\n" % words[1])
            self.clock.callLater(0.01, connection.close)
        return SILENCE if connection is self.confirming else DEFAULT_REPLY

    def test_a_refusal_while_more_is_added(self) -> None:
        """If the first channels are refused, nothing of the subscription stays subscribed."""
        client = self.client()
        for node in self.nodes:
            node.script = lambda _, words, __: b"-NOPERM no\r\n" if words[:2] == [b"SUBSCRIBE", b"a"] else DEFAULT_REPLY
        subscription = client.subscribe("a", listener=self.items.append)
        subscription.add("b").addErrback(lambda _: None)
        self.error_of(subscription.ready(), ReplyError)
        self.advance(0.5)
        self.assertEqual(self.everywhere(), [])

    def test_a_refusal_after_a_channel_was_removed_and_added_again(self) -> None:
        """Only the channels that still belong to the refused addition are removed."""
        client = self.client()
        one, other = self.channel_of(self.nodes[0]), self.channel_of(self.nodes[1])
        subscription = self.subscribed(client.ssubscribe(listener=self.items.append))
        self.nodes[1].script = lambda _, words, __: b"-LOADING wait\r\n" if words[0] == b"SSUBSCRIBE" else DEFAULT_REPLY
        both = subscription.add(one, other)
        self.network.settle()
        self.result_of(subscription.remove(one))
        self.result_of(subscription.add(one))
        self.refuse(b"-NOPERM no", b"SSUBSCRIBE")
        self.error_of(both, ReplyError)
        self.assertEqual(subscription.channels, (one.encode(),))
        self.result_of(subscription.close())
        self.assertEqual(self.everywhere(), [])

    def test_work_to_close_many_patterns(self) -> None:
        """It is proportional to their number."""
        seen: list[int] = []
        everything = RESPProtocol.everything

        def counted(connection: RESPProtocol) -> Any:
            requests = everything(connection)
            seen.append(len(requests))
            return requests

        subscription = self.subscribed(self.client().psubscribe(*map(str, range(200))))
        self.patch(RESPProtocol, "everything", counted)
        self.result_of(subscription.close())
        self.assertLess(sum(seen), 2000)

    def test_work_to_confirm_many_subscriptions(self) -> None:
        """It is proportional to their number."""
        confirm, calls = Acknowledgement.confirm, count()

        def counted(acknowledgement: Acknowledgement, upstream: Upstream) -> None:
            next(calls)
            confirm(acknowledgement, upstream)

        self.patch(Acknowledgement, "confirm", counted)
        client = self.client()
        subscriptions = [client.subscribe(str(number)) for number in range(200)]
        for subscription in subscriptions:
            self.subscribed(subscription)
        self.assertLess(next(calls), 2000)

    def test_dials_while_the_cluster_is_down(self) -> None:
        """The connection stays open while its requests wait to be sent again."""
        client = self.client()
        node = self.nodes[0]
        self.subscribed(client.ssubscribe(self.channel_of(node), listener=self.items.append))
        self.refuse(b"-CLUSTERDOWN The cluster is down", b"SSUBSCRIBE")
        before = node.accepted
        node.drop_subscribers()
        self.advance(5.0)
        self.assertLess(node.accepted - before, 12)

    def test_reports_leave_the_messages_in_the_buffer(self) -> None:
        """After a lost connection, 20 unread messages are still in a buffer for 50."""
        channels = [self.channel_of(self.nodes[0], number) for number in range(60)]
        subscription = self.subscribed(self.client().ssubscribe(*channels, max_messages=50))
        for number in range(20):
            self.spublish(channels[0], str(number))
        self.nodes[0].drop_subscribers()
        self.advance(0.5)
        iterator = subscription.__aiter__()
        self.assertEqual([int(self.next_item(iterator).data) for _ in range(20)], list(range(20)))

    def test_close_during_an_iteration(self) -> None:
        """close() waits for the server, also if the iteration ends its own ``async with`` meanwhile."""
        subscription = self.subscribed(self.client().subscribe("a"))

        async def iterate() -> None:
            async with subscription:
                async for _ in subscription:
                    pass

        ended = Deferred.fromCoroutine(iterate())
        self.network.settle()
        closed = subscription.close()
        self.assertNoResult(closed)
        self.network.settle()
        self.successResultOf(closed)
        self.successResultOf(ended)

    def test_no_message_after_the_client_is_closed(self) -> None:
        """While close() waits for a command, listeners get nothing more."""
        client = self.client()
        self.subscribed(client.subscribe("a", listener=self.items.append))
        self.nodes[0].script = lambda _, words, __: SILENCE if words[0] == b"GET" else DEFAULT_REPLY
        client.get(self.channel_of(self.nodes[0])).addErrback(lambda _: None)
        self.network.settle()
        closed = client.close()
        self.publish("a", "late")
        self.assertFalse(closed.called)
        self.assertEqual(self.items, [])

    def test_a_client_that_is_dropped(self) -> None:
        """It can be collected, as a client that has never subscribed can."""
        client = self.made()
        self.result_of(client.refresh_topology())
        self.result_of(self.subscribed(client.subscribe("a")).close())
        reference = weakref.ref(client)
        with catch_warnings():
            # The client warns that it was not closed.
            simplefilter("ignore")
            del client
            gc.collect()
        left = reference()
        if left is not None:
            left.abort()
        self.assertIsNone(left)

    def test_a_subscription_that_is_dropped(self) -> None:
        """Its channels end at once, without a run of the garbage collector."""
        subscription: Any = self.subscribed(self.client().subscribe("a"))
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        del subscription
        self.network.settle()
        self.assertEqual(self.everywhere(), [])

    def test_an_iterator_that_is_cancelled_by_another(self) -> None:
        """A cancelled iterator ends with CancelledError, also while the iterators are being woken."""
        subscription = self.subscribed(self.client().subscribe("a"))
        first, second = self.coming(subscription), self.coming(subscription)
        first.addCallback(lambda _: second.cancel())
        self.publish("a", "1")
        self.failureResultOf(second, CancelledError)

    def test_a_forked_child(self) -> None:
        """Subscriptions fail as commands do."""
        client = self.client()
        self.result_of(client.get("key"))
        client._router.forked()
        self.error_of(client.subscribe("a", timeout=None).ready(), ClientClosed)

    def test_the_timeout_of_a_refused_subscription(self) -> None:
        """ready() fails in time if one node refuses and another hangs."""
        client = self.client()
        one, other = self.channel_of(self.nodes[0]), self.channel_of(self.nodes[1])
        self.slow_down(b"SSUBSCRIBE")
        self.nodes[0].script = lambda _, words, __: b"-NOPERM no\r\n" if words[0] == b"SSUBSCRIBE" else DEFAULT_REPLY
        ready = client.ssubscribe(one, other, timeout=0.5).ready()
        self.advance(1.0)
        self.failureResultOf(ready, ReplyError)

    def test_a_request_at_a_node_that_hangs(self) -> None:
        """When the slot map has another owner, the request goes there, as the confirmed channels do."""
        client = self.client()
        node = self.nodes[0]
        channel = self.channel_of(node)
        self.subscribed(client.ssubscribe(self.channel_of(node, 1)))
        node.script = lambda *_: SILENCE
        ready = client.ssubscribe(channel).ready()
        self.advance(0.1)
        self.shrink(node)
        self.result_of(client.refresh_topology())
        self.advance(2.0)
        self.successResultOf(ready)

    def test_a_refused_end(self) -> None:
        """No channel stays on the server, also if it refuses UNSUBSCRIBE (NOPERM, or BUSY during a script)."""
        subscription = self.subscribed(self.client().subscribe("a", "b", listener=self.items.append))
        self.refuse(b"-NOPERM no", b"UNSUBSCRIBE")
        self.result_of(subscription.remove("a"))
        self.answer()
        self.advance(3.0)
        self.assertEqual(self.everywhere(), [(b"", b"b")])

    def test_added_twice_before_the_acknowledgement(self) -> None:
        """The second add() waits for the server, too."""
        self.slow_down(b"SUBSCRIBE")
        subscription = self.client().subscribe("a")
        subscription.ready().addErrback(lambda _: None)
        again = subscription.add("a")
        self.assertNoResult(again)
        again.addErrback(lambda _: None)

    def test_added_again_by_a_callback_of_its_removal(self) -> None:
        """A channel that is added while remove() runs is subscribed afterwards."""
        self.slow_down(b"SUBSCRIBE")
        subscription = self.client().subscribe(listener=self.items.append)
        subscription.add("a").addCallback(lambda _: subscription.add("b"))
        subscription.add("b")
        subscription.remove("a", "b")
        self.answer()
        self.advance(15.0, step=0.1)
        self.assertEqual(subscription.channels, (b"b",))
        self.assertEqual(self.everywhere(), [(b"", b"b")])

    def test_a_new_shard_with_a_replica(self) -> None:
        """Its reason is NODE_ADDED."""
        ranges, replica = self.cluster.ranges, ScriptedNode(self.cluster, 3)
        replica.address = Address("node", 7003)
        self.network.add(replica)
        self.shrink(self.nodes[2])
        client = self.client()
        self.subscribed(client.keyspace_events(listener=self.items.append))
        self.cluster.ranges, self.cluster.nodes = ranges, self.nodes
        self.cluster.replicas = {self.nodes[2]: [replica]}
        self.result_of(client.refresh_topology())
        self.network.settle()
        self.assertEqual([getattr(item, "reason", None) for item in self.items], [LostReason.NODE_ADDED, None])
