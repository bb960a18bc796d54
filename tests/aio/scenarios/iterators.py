"""Scans and subscriptions."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Any

from tests.aio.waiting import raises, until
from txvalkeycluster import ClientClosed, Message, ReplyError, aio
from txvalkeycluster.pubsub.feed import BufferedFeed


async def scans(url: str) -> None:
    """Scans give everything, can be left early, and can be closed."""
    async with await aio.connect(url) as client:
        keys = [f"key{n}".encode() for n in range(300)]
        pipeline = client.pipeline()
        for key in keys:
            pipeline.set(key, 1)
        await pipeline.execute()
        assert sorted({key async for key in client.scan_iter(count=10)}) == sorted(keys)
        async for _ in client.scan_iter(count=10):
            break
        async with aclosing(client.scan_iter(count=10)) as scan:  # type: ignore[type-var]
            async for _ in scan:
                break
        await client.hset("hash", {"a": "1"})
        await client.sadd("set", "a")
        await client.zadd("zset", {"a": 1.5})
        assert [item async for item in client.hscan_iter("hash")] == [(b"a", b"1")]
        assert [item async for item in client.sscan_iter("set")] == [b"a"]
        assert [item async for item in client.zscan_iter("zset")] == [(b"a", 1.5)]
        await raises(ReplyError, anext(client.sscan_iter("hash")))


async def cancelled_scan(url: str) -> None:
    """A scan that is cancelled leaves nothing."""
    async with await aio.connect(url) as client:
        await asyncio.gather(*(client.set(f"key{n}", 1) for n in range(100)))
        for steps in range(0, 30, 3):

            async def work() -> None:
                async for _ in client.scan_iter(count=10):
                    pass

            task = asyncio.create_task(work())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def subscriptions(url: str) -> None:
    """A subscription gives messages, waits with timeouts that lose nothing, and ends with its block."""
    async with await aio.connect(url) as client:
        async with client.subscribe("a", "b") as subscription:
            assert set(subscription.channels) == {b"a", b"b"}
            messages = subscription.messages()
            await client.publish("a", "1")
            assert (await anext(messages)).data == b"1"
            for number in range(20):
                await raises(TimeoutError, asyncio.wait_for(anext(messages), 0.001))
                await client.publish("b", str(number))
                async with asyncio.timeout(3):
                    assert (await anext(messages)).data == b"%d" % number
            await subscription.add("c")
            await subscription.remove("b")
            await client.publish("c", "2")
            async for item in subscription:
                assert isinstance(item, Message) and item.data == b"2"
                break
        assert [item async for item in subscription] == []
        async with client.ssubscribe("s") as sharded:
            await client.spublish("s", "3")
            assert (await anext(sharded.messages())).data == b"3"
        got: list[Any] = []
        listening = await client.psubscribe("x*", listener=got.append).ready()
        await client.publish("xy", "4")
        await until(lambda: got)
        await raises(TypeError, anext(aiter(listening)))
        await listening.close()
        assert "closed" in repr(listening)


async def cancelled_with_a_message(url: str) -> None:
    """A task that is cancelled when its message is there leaves the message to the next call."""
    async with await aio.connect(url) as client, client.subscribe("a") as subscription:
        messages = subscription.messages()
        feed = subscription._subscription._feed
        assert isinstance(feed, BufferedFeed)
        task = asyncio.ensure_future(anext(messages))
        await client.publish("a", "1")
        while not len(feed):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            assert (await task).data == b"1"
            return
        async with asyncio.timeout(3):
            assert (await anext(messages)).data == b"1"


async def cancelled_subscribers(url: str) -> None:
    """A task that is cancelled in a subscription, at its begin or in its loop, leaves no subscription."""
    async with await aio.connect(url) as client:

        async def work() -> None:
            async with client.subscribe("a", listener=lambda item: None) as subscription:
                await asyncio.sleep(10)
                await subscription.close()

        async def iterate() -> None:
            async with client.subscribe("a") as subscription:
                async for _ in subscription:
                    pass

        for function in (work, iterate):
            for steps in range(20):
                task = asyncio.create_task(function())
                for _ in range(steps):
                    await asyncio.sleep(0.0002 if steps % 2 else 0)
                task.cancel()
                await raises(asyncio.CancelledError, task)
        async with asyncio.timeout(3):
            while any([await client.execute_on(node, "PUBSUB", "NUMSUB", "a") != [b"a", 0] for node in client.nodes()]):
                await asyncio.sleep(0.01)


async def closed_client_ends_iterators(url: str) -> None:
    """close() ends the iterators of subscriptions."""
    client = await aio.connect(url)
    subscription = await client.subscribe("a").ready()
    task = asyncio.ensure_future(anext(aiter(subscription)))
    await asyncio.sleep(0)
    await client.close()
    await raises((ClientClosed, StopAsyncIteration), task)  # type: ignore[arg-type]
