"""Commands, pipelines and streams that are cancelled or time out."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.aio.waiting import pause, raises, until, until_blocked
from txvalkeycluster import ClientClosed, aio


async def cancelled_before_the_write(url: str) -> None:
    """A command that is cancelled before it is written is not sent."""
    async with await aio.connect(url) as client:
        await client.set("n", 0)
        reply = client.incr("n")
        assert reply.cancel("why")
        await raises(asyncio.CancelledError, reply)
        task = asyncio.create_task(client.incr("n"))
        task.cancel()
        # uvloop writes before the task takes its first step, which is the first time that it can be cancelled.
        await raises(asyncio.CancelledError, task)
        assert await client.get("n") in (b"0", b"1")


async def cancelled_after_the_write(url: str) -> None:
    """A command that is cancelled after it was written leaves the replies of the others in order."""
    async with await aio.connect(url) as client:
        await client.set("key", "value")
        for round in range(20):
            replies = [client.execute("GET", "key") if n % 2 else client.incr("{key}n") for n in range(20)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for reply in replies[1::2]:
                reply.cancel()
            results = await asyncio.gather(*replies, return_exceptions=True)
            assert results[::2] == list(range(round * 10 + 1, round * 10 + 11))
            assert all(isinstance(each, (asyncio.CancelledError, bytes)) for each in results[1::2])


async def timeouts(url: str) -> None:
    """asyncio.timeout() and wait_for() end a command in time, and the client stays usable."""
    async with await aio.connect(url) as client:
        await pause(client, 200)
        loop = asyncio.get_running_loop()
        before = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get("key")
                raise AssertionError("no timeout")
        await raises(TimeoutError, asyncio.wait_for(client.get("key"), 0.05))
        assert loop.time() - before < 0.19
        assert await client.get("key") is None


async def cancelled_while_blocked(url: str) -> None:
    """A task that is cancelled in BLPOP unblocks the client on the server, and takes nothing."""
    async with await aio.connect(url) as client:
        task = asyncio.create_task(client.blpop("list", 0))
        await until_blocked(client, 1)
        task.cancel()
        await raises(asyncio.CancelledError, task)
        await until_blocked(client, 0)
        await client.rpush("list", "item")
        assert await client.blpop("list", 1) == (b"list", b"item")


async def cancelled_pipeline(url: str) -> None:
    """A pipeline, a transaction and a script can be cancelled; the next ones work."""
    async with await aio.connect(url) as client:
        script = client.script("return 1")
        for start in (
            lambda: client.pipeline().incr("n").execute(),
            lambda: client.transaction().incr("n").execute(),
            lambda: script(["n"]),
        ):
            for steps in (0, 1, 2):
                task = asyncio.create_task(start())
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await raises(asyncio.CancelledError, task)
            await start()


async def cancelled_stream(url: str) -> None:
    """A stream that is cancelled ends only after its coroutine function has ended."""
    async with await aio.connect(url) as client:
        events: list[str] = []

        async def each(index: int, result: object) -> None:
            events.append("begin")
            try:
                await asyncio.sleep(10)
            finally:
                await asyncio.sleep(0.01)
                events.append("end")

        task = asyncio.create_task(client.stream([("GET", "key")] * 5, each))
        await until(lambda: events)
        task.cancel()
        await raises(asyncio.CancelledError, task)
        assert events == ["begin", "end"], events

        async def failing(index: int, result: object) -> None:
            raise KeyError("x")

        await raises(KeyError, client.stream([("GET", "key")] * 5, failing))
        empty: dict[int, str] = {}
        await raises(KeyError, client.stream([("GET", "key")] * 5, lambda index, result: empty[index]))


async def closed_in_a_stream(url: str) -> None:
    """The function of a stream may abort the client, which ends other commands of the stream."""
    client = await aio.connect(url)
    closing: list[asyncio.Task[None]] = []

    def each(index: int, result: object) -> None:
        if not closing:
            closing.append(asyncio.create_task(client.abort()))
            client._client.abort()

    with suppress(ClientClosed):
        await client.stream([("GET", f"key{n}") for n in range(50)], each)
    await closing[0]
