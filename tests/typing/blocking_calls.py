"""Calls of the client for threads that mypy must accept, and calls that mypy must refuse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_type

from txvalkeycluster import Lost, Message, Resubscribed, Statistics, Topology, blocking
from txvalkeycluster.blocking import (
    BlockingClient,
    BlockingPipeline,
    BlockingSubscription,
    BlockingTransaction,
    BlockingWatchSession,
)


def accepted() -> None:
    client = blocking.connect("valkey://h")
    assert_type(client, BlockingClient[bytes])
    assert_type(client.get("k"), bytes | None)
    assert_type(client.set("k", "v", ex=10, nx=True, get=True), bytes | None)
    assert_type(client.hgetall(b"k"), dict[bytes, bytes])
    assert_type(client.smembers("k"), set[bytes])
    assert_type(client.zscore("k", "m"), float | None)
    assert_type(client.incr("k"), int)
    assert_type(client.with_options(timeout=1.0, repeatable=True).get("k"), bytes | None)
    assert_type(client.blpop(["a", "b"], timeout=1.5), tuple[bytes, bytes] | None)
    assert_type(client.statistics, Statistics)
    assert_type(client.refresh_topology(), Topology)
    client.mset({"a": 1, "b": 2.5})
    client.zadd("k", [(1.5, "m")])
    client.del_("a", b"b", memoryview(b"c"))

    pipeline = client.pipeline().set("k", "v", ex=10).hgetall("h").add("GET", "k")
    assert_type(pipeline, BlockingPipeline[bytes])
    assert_type(pipeline.execute(), list[Any])
    transaction = client.transaction().incr("k").mget("k", "{k}l")
    assert_type(transaction, BlockingTransaction[bytes])
    with client.watch("k") as session:
        assert_type(session, BlockingWatchSession[bytes])
        assert_type(session.get("k"), bytes | None)
        assert_type(session.transaction().set("k", 1), BlockingTransaction[bytes])
    assert_type(client.optimistically(lambda session: session.incr("k"), "k"), int)
    assert_type(client.script("return 1")(["k"], [1]), Any)
    assert_type(client.scan_iter("a*"), Iterator[bytes])
    for key in client.scan_iter("a*"):
        assert_type(key, bytes)
    for field, value in client.hscan_iter("h"):
        assert_type((field, value), tuple[bytes, bytes])
    for member, score in client.zscan_iter("z"):
        assert_type((member, score), tuple[bytes, float])

    with client.subscribe("a", b"b", max_messages=10) as subscription:
        assert_type(subscription, BlockingSubscription[bytes])
        assert_type(subscription.get(timeout=1), Message[bytes] | Lost | Resubscribed | None)
        for item in subscription:
            assert_type(item, Message[bytes] | Lost | Resubscribed)
        for message in subscription.messages():
            assert_type(message.data, bytes)
        subscription.add("c")

    with blocking.connect("valkey://h", encoding="utf-8", timeout=None, seeds=["h:1"]) as text:
        assert_type(text, BlockingClient[str])
        assert_type(text.get("k"), str | None)
        assert_type(text.hgetall("k"), dict[str, str])
        assert_type(text.psubscribe("k*", overflow="pause"), BlockingSubscription[str])
    lazy = BlockingClient("valkey://h", encoding="utf-8")
    assert_type(lazy.get("k"), str | None)


def refused(client: BlockingClient[bytes]) -> None:
    client.set("k", None)  # type: ignore[arg-type]
    client.set("k", "v", ex="10")  # type: ignore[arg-type]
    client.set("k", "v", no_such=1)  # type: ignore[call-arg]
    client.no_such_command("k")  # type: ignore[attr-defined]
    client.get()  # type: ignore[call-arg]
    client.pipeline().get("k", 2)  # type: ignore[call-arg]
    client.blpop("k")  # type: ignore[call-arg]
    blocking.connect("valkey://h", timeout="1")  # type: ignore[call-overload]
    blocking.connect("valkey://h", no_such_option=1)  # type: ignore[call-overload]
    client.subscribe("a", overflow="never")  # type: ignore[arg-type]
    number: int = client.get("k")  # type: ignore[assignment]
    del number


async def not_awaitable(client: BlockingClient[bytes]) -> None:
    await client.incr("k")  # type: ignore[misc]
