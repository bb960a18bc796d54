"""Calls of the interface to asyncio that mypy must accept, and calls that mypy must refuse.

Each refused call has a ``type: ignore``. If mypy accepts the call, it reports the unused ignore.
"""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

from txvalkeycluster import FinishedCommand, Lost, Message, Resubscribed, Topology, aio


async def accepted() -> None:
    client = await aio.connect("valkey://h")
    assert_type(client, aio.AsyncClient[bytes])
    assert_type(await aio.connect("valkey://h", encoding="utf-8", timeout=1.0), aio.AsyncClient[str])
    assert_type(aio.AsyncClient("valkey://h", encoding="utf-8"), aio.AsyncClient[str])
    assert_type(client.get("key"), aio.Reply[bytes | None])
    assert_type(await client.get("key"), bytes | None)
    assert_type(await client.incr("key"), int)
    assert_type(await client.hgetall("key"), dict[bytes, bytes])
    assert_type(await client.blpop("key", 1), tuple[bytes, bytes] | None)
    assert_type(await client.execute("PING"), Any)
    assert_type(await client.execute_on("h:1", "PING", timeout=1), Any)
    assert_type(client.with_options(timeout=1), aio.AsyncClient[bytes])
    assert_type(await client.refresh_topology(), Topology)
    async with client as same:
        assert_type(same, aio.AsyncClient[bytes])
    assert_type(await client.close(), None)
    first, second = await asyncio.gather(client.get("a"), client.incr("b"))
    assert_type(first, bytes | None)
    assert_type(second, int)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(client.incr("key"))
    assert_type(task.result(), int)
    assert_type(await asyncio.wait_for(client.incr("key"), 1), int)
    assert_type(await asyncio.shield(client.incr("key")), int)


async def queues(client: aio.AsyncClient[str]) -> None:
    assert_type(client.pipeline().get("a").incr("b"), aio.AsyncPipeline[str])
    assert_type(await client.pipeline().get("a").execute(raise_first=True), list[Any])
    assert_type(await client.transaction().get("a").add("PING").execute(), list[Any])
    assert_type(await client.stream([("GET", "a")], print), int)

    async def function(session: aio.AsyncWatchSession[str]) -> int:
        assert_type(await session.get("a"), str | None)
        assert_type(session.transaction(), aio.AsyncTransaction[str])
        return 1

    assert_type(await client.optimistically(function, "a", attempts=3), int)
    async with client.watch("a") as session:
        assert_type(session, aio.AsyncWatchSession[str])
    assert_type(await client.script("return 1")(["a"], [1]), Any)
    client.add_command_listener(listener)


def listener(finished: FinishedCommand) -> None:
    """Take a report."""


async def iterators(client: aio.AsyncClient[str]) -> None:
    async for key in client.scan_iter("a*", count=10):
        assert_type(key, str)
    async for field, value in client.hscan_iter("a"):
        assert_type((field, value), tuple[str, str])
    async for member, score in client.zscan_iter("a"):
        assert_type((member, score), tuple[str, float])
    async with client.subscribe("a", max_messages=10) as subscription:
        assert_type(subscription, aio.AsyncSubscription[str])
        assert_type(subscription.channels, tuple[str, ...])
        async for item in subscription:
            assert_type(item, Message[str] | Lost | Resubscribed)
        async for message in subscription.messages():
            assert_type(message, Message[str])


async def refused(client: aio.AsyncClient[bytes]) -> None:
    await client.get()  # type: ignore[call-arg]
    await client.get(["key"])  # type: ignore[arg-type]
    await client.set("key", None)  # type: ignore[arg-type]
    await client.no_such_command("key")  # type: ignore[attr-defined]
    await client.pipeline()  # type: ignore[misc]
    await aio.connect("valkey://h", no_such_option=1)  # type: ignore[call-overload]
    await aio.connect("valkey://h", timeout="1")  # type: ignore[call-overload]
    number: str = await client.incr("key")  # type: ignore[assignment]
    print(number)
    text: str | None = await client.get("key")  # type: ignore[assignment]
    print(text)
    await client.optimistically(print, "key")  # type: ignore[arg-type]
    for _ in client.scan_iter():  # type: ignore[attr-defined]
        pass
    client.get("key").addCallback(print)  # type: ignore[attr-defined]
