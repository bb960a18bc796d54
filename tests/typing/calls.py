"""Calls that mypy must accept, and calls that mypy must refuse.

Each refused call has a ``type: ignore``. If mypy accepts the call, it reports the unused ignore.
"""

from __future__ import annotations

from typing import Any, assert_type

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock

from txvalkeycluster import (
    Address,
    ClusterClient,
    Lost,
    Message,
    Pipeline,
    Resubscribed,
    Subscription,
    Transaction,
    connect,
)


async def accepted(reactor: IReactorTime) -> None:
    client = await connect(reactor, "valkey://h")
    assert_type(client, ClusterClient[bytes])
    assert_type(await client.get("k"), bytes | None)
    assert_type(client.set("k", "v", ex=10, nx=True, get=True), Deferred[bytes | None])
    assert_type(await client.hgetall(b"k"), dict[bytes, bytes])
    assert_type(await client.smembers("k"), set[bytes])
    assert_type(await client.zscore("k", "m"), float | None)
    assert_type(await client.incr("k"), int)
    assert_type(await client.with_options(timeout=1.0, repeatable=True).get("k"), bytes | None)
    assert_type(await client.blpop(["a", "b"], timeout=1.5), tuple[bytes, bytes] | None)
    await client.mset({"a": 1, "b": 2.5})
    await client.mset([("a", b"1")])
    await client.zadd("k", {"m": 1}, gt=True)
    await client.zadd("k", [(1.5, "m")])
    await client.linsert("k", "BEFORE", "p", "e")
    await client.geosearch("k", fromlonlat=(1, 2.5), byradius=(3, "km"))
    await client.del_("a", b"b", memoryview(b"c"))
    for entry, fields in await client.xrange("s", "-", "+"):
        assert_type(entry, bytes)
        assert_type(fields, dict[bytes, bytes])

    pipeline = client.pipeline().set("k", "v", ex=10).hgetall("h").add("GET", "k")
    assert_type(pipeline, Pipeline[bytes])
    assert_type(await pipeline.execute(), list[Any])
    transaction = client.transaction().incr("k").mget("k", "{k}l")
    assert_type(transaction, Transaction[bytes])
    async with client.watch("k") as session:
        assert_type(await session.get("k"), bytes | None)
        assert_type(session.transaction().set("k", 1), Transaction[bytes])
    async for key in client.scan_iter("a*"):
        assert_type(key, bytes)
    async for field, value in client.hscan_iter("h"):
        assert_type((field, value), tuple[bytes, bytes])

    async with client.subscribe("a", b"b", max_messages=10) as subscription:
        assert_type(subscription, Subscription[bytes])
        async for item in subscription:
            assert_type(item, Message[bytes] | Lost | Resubscribed)
        async for message in subscription.messages():
            assert_type(message.data, bytes)
        await subscription.add("c")

    text = await connect(reactor, "valkey://h", encoding="utf-8")
    assert_type(text, ClusterClient[str])
    assert_type(await text.get("k"), str | None)
    assert_type(text.keyspace_events("k*", overflow="pause"), Subscription[str])
    assert_type(await text.hgetall("k"), dict[str, str])

    await connect(installed, seeds=["h:1", ("h", 2), Address("h", 3)], timeout=None, topology_source="shards")
    ClusterClient(Clock(), "valkey://h", address_map={("h", 1): ("i", 1)}, trust_root=b"")
    plain: ClusterClient = ClusterClient(reactor, "valkey://h")
    assert_type(await plain.get("k"), bytes | None)


async def refused(client: ClusterClient, reactor: IReactorTime) -> None:
    ClusterClient(reactor, "valkey://h", timout=1)  # type: ignore[call-overload]
    ClusterClient(reactor, "valkey://h", timeout="1")  # type: ignore[call-overload]
    ClusterClient(reactor, "valkey://h", topology_source="gossip")  # type: ignore[call-overload]
    ClusterClient("valkey://h")  # type: ignore[call-overload]
    await connect(reactor, "valkey://h", max_pending=None)  # type: ignore[call-overload]
    await client.get(None)  # type: ignore[arg-type]
    await client.get(["k"])  # type: ignore[arg-type]
    await client.get()  # type: ignore[call-arg]
    await client.get("k", "l")  # type: ignore[call-arg]
    await client.set("k", None)  # type: ignore[arg-type]
    await client.set("k", "v", ex="soon")  # type: ignore[arg-type]
    await client.set("k", "v", exx=1)  # type: ignore[call-arg]
    await client.expire("k", "10")  # type: ignore[arg-type]
    await client.linsert("k", "BESIDE", "p", "e")  # type: ignore[arg-type]
    await client.geosearch("k", byradius=(3, "miles"))  # type: ignore[arg-type]
    await client.mset(["a", "b"])  # type: ignore[list-item]
    await client.zadd("k", {"m": "high"})  # type: ignore[dict-item]
    await client.blpop("k")  # type: ignore[call-arg]
    client.subscribe(5)  # type: ignore[arg-type]
    client.subscribe("a", overflow="block")  # type: ignore[arg-type]
    client.pipeline().get(None)  # type: ignore[arg-type]
    client.pipeline().set("k")  # type: ignore[call-arg]
    client.transaction().expire("k", "10")  # type: ignore[arg-type]
    number: int = await client.get("k")  # type: ignore[assignment]
    assert number
