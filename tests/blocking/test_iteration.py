"""Scans and subscriptions as iterators for threads: timeouts, early ends, errors, and several threads."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import AsyncIterator
from time import monotonic, sleep
from typing import Any

from twisted.internet.defer import Deferred

from tests.blocking.base import PATIENCE, BlockingTests, in_threads
from txvalkeycluster import ClientClosed, Message, ReplyError
from txvalkeycluster.blocking import background
from txvalkeycluster.blocking.iteration import BlockingIteration


class Items:
    """An asynchronous iterator whose items the test gives."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.waiting: Deferred[Any] | None = None
        self.closed = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if not self.given:
            self.waiting = Deferred()
            await self.waiting
        item = self.given.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item

    def give(self, *items: Any) -> None:
        """Give items, in the reactor's thread."""
        self.given += items
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.callback(None)


class IterationTests(BlockingTests):
    """With items that the test gives, and a reactor of the module."""

    def setUp(self) -> None:
        used = background.acquire()
        self.addCleanup(background.release, used)
        self.bridge = used.bridge
        self.items = Items()
        self.iteration: BlockingIteration[Any] = BlockingIteration(self.bridge, self.items)

    def give(self, *items: Any) -> None:
        """Give items."""
        self.bridge.run(lambda: self.items.give(*items))

    def test_a_timeout_loses_nothing(self) -> None:
        """After a timeout the item belongs to the next call."""
        for timeout in (0, 0.02, -1):
            self.assertRaises(TimeoutError, self.iteration.take, timeout)
        self.give(1, 2)
        self.assertEqual((self.iteration.take(1), self.iteration.take(0)), (1, 2))
        self.assertRaises(TimeoutError, self.iteration.take, 0.02)
        self.give(3)
        self.assertEqual(next(self.iteration), 3)

    def test_an_error_in_the_middle(self) -> None:
        """The items before the error come first, and the iteration can go on if the iterator can."""
        self.items.given = [1, 2, ValueError("in the middle"), 3, StopAsyncIteration()]
        self.assertEqual([next(self.iteration), next(self.iteration)], [1, 2])
        self.assertEqual(str(self.assertRaises(ValueError, next, self.iteration)), "in the middle")
        self.assertEqual(list(self.iteration), [3])

    def test_more_items_than_one_visit_takes(self) -> None:
        """All items come in their order."""
        self.items.given = [*range(1234), StopAsyncIteration()]
        self.assertEqual(list(self.iteration), list(range(1234)))

    def test_close_while_a_thread_waits(self) -> None:
        """The thread gets StopIteration, and so does each later call."""
        got: list[Any] = []
        threads = in_threads(lambda _: got.append(list(self.iteration)))
        sleep(0.1)
        self.iteration.close()
        self.join(threads)
        self.assertEqual(got, [[]])
        self.assertRaises(StopIteration, next, self.iteration)

    def test_close_after_a_timeout(self) -> None:
        """A generator that waits for an item can be closed."""
        ended: list[str] = []

        async def generator() -> AsyncIterator[int]:
            try:
                yield 1
                await Deferred()
            finally:
                ended.append("closed")

        iteration = BlockingIteration(self.bridge, generator())
        self.assertEqual(iteration.take(1), 1)
        self.assertRaises(TimeoutError, iteration.take, 0.02)
        iteration.close()
        self.assertEqual(ended, ["closed"])
        self.assertEqual(list(iteration), [])

    def test_two_threads(self) -> None:
        """Each item goes to one thread."""
        got: list[int] = []
        threads = in_threads(lambda _: got.extend(self.iteration), 4)
        for number in range(0, 300, 3):
            self.give(*range(number, number + 3))
        self.give(*[StopAsyncIteration()] * 8)
        self.join(threads)
        self.assertEqual(sorted(got), list(range(300)))

    def test_a_timeout_while_another_thread_waits(self) -> None:
        """It counts the time for which the other thread has the iterator."""
        threads = in_threads(lambda _: next(self.iteration))
        sleep(0.05)
        begun = monotonic()
        self.assertRaises(TimeoutError, self.iteration.take, 0.05)
        self.assertLess(monotonic() - begun, 5)
        self.give(1)
        self.join(threads)

    def test_a_dropped_iterator(self) -> None:
        """What a dropped iterator waits for is cancelled."""
        self.assertRaises(TimeoutError, self.iteration.take, 0.02)
        waiting = self.items.waiting
        assert waiting is not None
        del self.iteration
        gc.collect()
        self.bridge.run(lambda: None)
        self.assertTrue(waiting.called)


class ScanTests(BlockingTests):
    def test_scans(self) -> None:
        """Each kind of scan gives all items; a dropped scan does no harm."""
        client = self.client()
        names = {f"scan:{number}" for number in range(300)}
        pipeline = client.pipeline()
        for name in names:
            pipeline.set(name, 1).sadd("scan-set", name).hset("scan-hash", {name: "x"}).zadd("scan-zset", {name: 1.5})
        pipeline.execute()
        self.assertEqual(set(client.scan_iter(match="scan:*", count=20)), names)
        self.assertEqual(set(client.sscan_iter("scan-set", count=20)), names)
        self.assertEqual(dict(client.hscan_iter("scan-hash")), dict.fromkeys(names, "x"))
        self.assertEqual(dict(client.zscan_iter("scan-zset")), dict.fromkeys(names, 1.5))
        for _ in range(5):
            next(client.scan_iter(count=1))
        self.assertRaises(ReplyError, next, client.sscan_iter("scan:1"))
        scan = client.scan_iter()
        next(scan)
        client.close()
        self.assertRaises(ClientClosed, list, scan)


class SubscriptionTests(BlockingTests):
    def test_messages(self) -> None:
        """get() waits for a time, and iteration goes on where it stopped."""
        client = self.client()
        with client.subscribe("one") as subscription:
            self.assertIn("BlockingSubscription", repr(subscription))
            self.assertEqual(subscription.channels, ("one",))
            self.assertIsNone(subscription.get(0.02))
            subscription.add("two")
            for number in range(3):
                client.publish("two", number)
            messages = subscription.messages()
            self.assertEqual([next(messages).data, next(messages).data], ["0", "1"])
            item = subscription.get(5)
            self.assertEqual(isinstance(item, Message) and item.data, "2")
            subscription.remove("two")
            subscription.ready()
        self.assertIsNone(subscription.get())
        self.assertEqual(list(subscription), [])
        kinds = [client.psubscribe("p*"), client.ssubscribe("s"), client.keyspace_events(), client.keyevent_events()]
        for each in kinds:
            each.ready().close()

    def test_a_listener(self) -> None:
        """A listener is called in the reactor's thread."""
        client = self.client()
        got: list[tuple[str, str]] = []
        came = threading.Event()

        def note(message: Any) -> None:
            got.append((message.data, threading.current_thread().name))
            came.set()

        with client.subscribe("listener", listener=note):
            client.publish("listener", "x")
            self.assertTrue(came.wait(PATIENCE))
        self.assertEqual(got, [("x", "txvalkeycluster")])

    def test_close_of_the_client(self) -> None:
        """A thread that waits for a message gets None, and later ones too; closing the subscription does nothing."""
        client = self.client()
        items: list[object] = []

        def wait(_: int) -> None:
            with client.subscribe("closing") as subscription:
                items.append(subscription.get())
                sleep(0.2)
                items.extend([subscription.get(), *subscription])

        threads = in_threads(wait)
        sleep(0.2)
        client.close()
        self.join(threads)
        self.assertEqual(items, [None, None])

    def test_a_dropped_subscription(self) -> None:
        """A subscription that is dropped while it waits for a message ends."""
        client = self.client()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            subscription = client.subscribe("dropped").ready()
            self.assertIsNone(subscription.get(0.02))
            del subscription
            gc.collect()
            end = monotonic() + PATIENCE
            while client.pubsub_numsub("dropped") != {"dropped": 0}:
                self.assertLess(monotonic(), end)
                sleep(0.02)
