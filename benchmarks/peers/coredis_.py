"""coredis."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import coredis

from ..workloads import Count
from . import Addresses, common


class Coredis:
    """Its client works inside an asynchronous context, which the benchmark never leaves."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.set, self.get, self.hset, self.hgetall = client.set, client.get, client.hset, client.hgetall

    async def mget(self, keys: list[str]) -> list[bytes]:
        """Return the values of many keys."""
        return list(await self.client.mget(keys))

    async def pipeline(self, commands: list[tuple[str, ...]]) -> list[Any]:
        """Send all commands at once, and return their replies."""
        async with self.client.pipeline(transaction=False) as pipeline:
            sent = [pipeline.set(c[1], c[2]) if c[0] == "SET" else pipeline.get(c[1]) for c in commands]
        return [await reply for reply in sent]

    async def subscribe(
        self, channels: list[str], subscribers: list[Count], *, sharded: bool
    ) -> Callable[[], Awaitable[None]]:
        """Subscribe with a ``ClusterPubSub`` or ``ShardedPubSub`` for each subscriber."""
        make = self.client.sharded_pubsub if sharded else self.client.pubsub
        ready = [asyncio.Event() for _ in subscribers]
        readers = [
            _read(make(ignore_subscribe_messages=True, subscription_timeout=10), channels, event, count)
            for event, count in zip(ready, subscribers, strict=True)
        ]
        end = common.run_until_ended(readers)
        for event in ready:
            await event.wait()
        return end


async def _read(pubsub: Any, channels: list[str], ready: asyncio.Event, count: Count) -> None:
    async with pubsub:
        await pubsub.subscribe(*channels)
        ready.set()
        async for message in pubsub:
            count(message["data"])


async def connect(addresses: Addresses, ca: str | None) -> Coredis:
    """Connect to the cluster."""
    nodes: list[Any] = [{"host": host, "port": port} for host, port in addresses]
    tls: dict[str, Any] = {"ssl_context": ssl.create_default_context(cafile=ca)} if ca is not None else {}
    client: Any = coredis.RedisCluster(startup_nodes=nodes, max_connections=2000, **tls)
    await client.__aenter__()
    return Coredis(client)
