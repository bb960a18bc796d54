"""Commands, and the tasks and contexts that wait for them."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

from tests.aio.waiting import pause, raises, until_blocked
from txvalkeycluster import ClientClosed, CommandTimeout, FinishedCommand, ReplyError, aio

_request: ContextVar[str] = ContextVar("request", default="none")


async def commands(url: str) -> None:
    """Commands give the values of the Deferred interface, with every kind of reply and error."""
    async with await aio.connect(url) as client:
        assert await client.set("key", "value", ex=60) == b"OK"
        assert await client.get("key") == b"value"
        assert await client.mget("key", "none") == [b"value", None]
        assert await client.hset("hash", {"a": "1"}) == 1
        assert await client.hgetall("hash") == {b"a": b"1"}
        assert await client.execute("STRLEN", "key") == 5
        (node, *_) = client.primaries()
        assert await client.execute_on(node, "PING") == b"PONG"
        await raises(ReplyError, client.hget("key", "field"))
        await raises(TypeError, client.execute())
        await raises(TypeError, client.set("key", object()))  # type: ignore[arg-type]
        results = await asyncio.gather(*(client.incr(f"n{n}") for n in range(100)))
        assert results == [1] * 100
        assert client.statistics.commands > 100
        assert (await client.refresh_topology()) is client.topology
        assert "AsyncClient" in repr(client)


async def tasks_that_wait(url: str) -> None:
    """Tasks and callbacks that wait for the same command, and a task that ends another command, all continue."""
    async with await aio.connect(url) as client:
        called: list[asyncio.Future[Any]] = []
        for end in ("result", "error", "cancel"):
            reply = client.get("key") if end != "error" else client.execute("NOSUCH")
            reply.add_done_callback(called.append)

            async def wait(reply: aio.Reply[Any] = reply) -> Any:
                return await reply

            tasks = [asyncio.create_task(wait()) for _ in range(3)] + [asyncio.create_task(reply)]
            await asyncio.sleep(0)
            if end == "cancel":
                reply.cancel()
            async with asyncio.timeout(3):
                results = await asyncio.gather(*tasks, return_exceptions=True)
            kinds = {"result": type(None), "error": ReplyError, "cancel": asyncio.CancelledError}
            assert all(isinstance(result, kinds[end]) for result in results), results
        await asyncio.sleep(0)
        assert len(called) == 3
        # A read that brings many replies goes on after each task.
        events: list[int] = []

        async def follow(number: int) -> None:
            await client.incr("n")
            events.append(number)
            await client.incr("n")

        await asyncio.gather(*(follow(number) for number in range(200)))
        assert events == list(range(200))


async def encoding(url: str) -> None:
    """With an encoding, every interface gives str."""
    async with aio.AsyncClient(url, encoding="utf-8") as client:
        await client.set("key", "\u00e9")
        assert await client.get("key") == "\u00e9"
        assert await client.pipeline().get("key").execute() == ["\u00e9"]
        assert await client.transaction().get("key").execute() == ["\u00e9"]
        assert [key async for key in client.scan_iter()] == ["key"]
        assert await client.with_options(timeout=1.0).get("key") == "\u00e9"
        async with client.watch("key") as session:
            assert await session.get("key") == "\u00e9"
        async with client.subscribe("c") as subscription:
            await client.publish("c", "\u00e9")
            message = await anext(subscription.messages())
            assert (message.channel, message.data) == ("c", "\u00e9")


async def views(url: str) -> None:
    """A view has its own timeout, and closes the client."""
    client = await aio.connect(url)
    view = client.with_options(timeout=0.05)
    await pause(client, 300)
    await raises(CommandTimeout, view.get("key"))
    assert await client.get("key") is None
    await view.close()
    await raises(ClientClosed, client.get("key"))


async def groups(url: str) -> None:
    """Task groups run replies; a command that fails cancels the others."""
    async with await aio.connect(url) as client:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.incr("n")) for _ in range(50)]
        assert sorted(task.result() for task in tasks) == list(range(1, 51))
        other: Any = None
        try:
            async with asyncio.TaskGroup() as group:
                other = client.blpop("list", 0)
                group.create_task(other)
                group.create_task(client.hget("n", "field"))
        except* ReplyError:
            pass
        assert other.cancelled()
        await until_blocked(client, 0)


async def context(url: str) -> None:
    """Context variables are kept: after a command, in functions of streams and transactions, in reports."""
    seen: set[str] = set()
    reports: list[FinishedCommand] = []
    async with await aio.connect(url) as client:
        client.add_command_listener(reports.append)

        async def note(*_: object) -> None:
            seen.add(_request.get())

        async def function(session: aio.AsyncWatchSession[bytes]) -> None:
            await session.get("key")
            seen.add(_request.get())

        async def request(name: str) -> None:
            _request.set(name)
            await client.set("key", name)
            seen.add(_request.get())
            await client.stream([("GET", "key")] * 3, lambda index, result: seen.add(_request.get()))
            await client.stream([("GET", "key")] * 3, note)
            await client.optimistically(function, "key")

        for name in ("a", "b"):
            seen.clear()
            await asyncio.create_task(request(name))
            assert seen == {name}, seen
        sets = [report.context[_request] for report in reports if report.name == "SET"]
        assert sets == ["a", "b"], sets


async def observed(url: str) -> None:
    """With a listener of commands, results, errors, conversions and cancellations are as without."""
    names: list[tuple[str, bool]] = []
    async with await aio.connect(url) as client:

        def listener(finished: FinishedCommand) -> None:
            names.append((finished.name, finished.error is None))

        client.add_command_listener(listener)
        assert await client.hset("hash", {"a": "1"}) == 1
        assert await client.hgetall("hash") == {b"a": b"1"}
        await raises(ReplyError, client.get("hash"))
        reply = client.get("key")
        reply.cancel()
        await raises(asyncio.CancelledError, reply)
        await client.pipeline().get("a").get("b").execute()
        assert names == [
            ("HSET", True),
            ("HGETALL", True),
            ("GET", False),
            ("GET", False),
            ("PIPELINE GET", True),
        ], names
        client.remove_command_listener(listener)
        assert await client.hgetall("hash") == {b"a": b"1"}
        assert len(names) == 5
