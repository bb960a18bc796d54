"""Watch sessions, transactions and scripts."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.aio.waiting import raises, until
from txvalkeycluster import ReplyError, WatchError, aio


async def watches(url: str) -> None:
    """An error in a watch session leaves the session, and the next one works."""
    async with await aio.connect(url, max_exclusive=1) as client:
        with suppress(KeyError):
            async with client.watch("key"):
                raise KeyError("x")
        async with client.watch("key") as session:
            await client.set("key", "1")
            await raises(WatchError, session.transaction().set("key", "2").execute())
        async with client.watch("key") as session:
            assert await session.get("key") == b"1"
            assert await session.transaction().set("key", "3").get("key").execute() == [b"OK", b"3"]


async def cancelled_watches(url: str) -> None:
    """A task that is cancelled anywhere in a watch session gives the connection of the session back."""
    async with await aio.connect(url, max_exclusive=1) as client:

        async def work() -> None:
            async with client.watch("key") as session:
                await session.get("key")
                await session.transaction().set("key", "1").execute()

        for steps in range(25):
            task = asyncio.create_task(work())
            for _ in range(steps):
                await asyncio.sleep(0.0002 if steps % 2 else 0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        # One more session needs the only connection.
        async with asyncio.timeout(3):
            await work()


async def cancelled_when_watched(url: str) -> None:
    """A task that is cancelled when the keys are watched, and before it continues, gives the connection back."""
    async with await aio.connect(url, max_exclusive=1) as client:
        session = client.watch("key")

        async def work() -> None:
            async with session:
                raise AssertionError("it was cancelled")

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        while session._session._lease is None:
            # This task runs before the other one, which is woken by the same step of the loop.
            await asyncio.sleep(0)
        task.cancel()
        await raises(asyncio.CancelledError, task)
        async with asyncio.timeout(3), client.watch("key"):
            pass


async def optimistic(url: str) -> None:
    """optimistically() repeats the function until nobody interferes; errors of the function end it."""
    async with await aio.connect(url) as client:
        await client.set("n", 0)

        async def add(session: aio.AsyncWatchSession[bytes]) -> int:
            value = int(await session.get("n") or 0) + 1
            await session.transaction().set("n", value).execute()
            return value

        results = await asyncio.gather(*(client.optimistically(add, "n") for _ in range(10)))
        assert sorted(results) == list(range(1, 11)), results

        async def fail(session: aio.AsyncWatchSession[bytes]) -> None:
            raise KeyError("x")

        await raises(KeyError, client.optimistically(fail, "n"))
        await raises(ValueError, client.optimistically(add, "n", attempts=0))

        async def interfered(session: aio.AsyncWatchSession[bytes]) -> None:
            await client.incr("n")
            await session.transaction().get("n").execute()

        await raises(WatchError, client.optimistically(interfered, "n", attempts=2))
        await raises(WatchError, client.optimistically(interfered, "n", timeout=0.01))


async def cancelled_optimistic(url: str) -> None:
    """optimistically() that is cancelled ends only after its function has ended."""
    async with await aio.connect(url, max_exclusive=1) as client:
        events: list[str] = []

        async def function(session: aio.AsyncWatchSession[bytes]) -> None:
            try:
                events.append("begin")
                await asyncio.sleep(10)
            finally:
                await asyncio.sleep(0.01)
                events.append("end")

        task = asyncio.create_task(client.optimistically(function, "n"))
        await until(lambda: events)
        task.cancel()
        await raises(asyncio.CancelledError, task)
        assert events == ["begin", "end"], events
        async with asyncio.timeout(3), client.watch("n"):
            pass


async def scripts(url: str) -> None:
    """Scripts and functions return replies."""
    library = "#!lua name=lib\nserver.register_function('double', function(keys, args) return 2 * args[1] end)"
    async with await aio.connect(url) as client:
        assert await client.script("return ARGV[1] .. KEYS[1]")(["world"], ["hello "]) == b"hello world"
        assert await client.function("double", library)(["key"], [4]) == 8
        await raises(ReplyError, client.script("return redis.error_reply('MY error')")(["key"]))
