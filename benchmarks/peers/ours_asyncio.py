"""txvalkeycluster.aio on the event loop of asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from txvalkeycluster import aio

from ..workloads import Count
from . import Addresses


class OursAsyncio:
    """The typed methods of the client for asyncio."""

    def __init__(self, client: aio.AsyncClient[bytes]) -> None:
        self.client = client
        self.set, self.get, self.hset, self.hgetall = client.set, client.get, client.hset, client.hgetall

    def mget(self, keys: list[str]) -> Awaitable[Any]:
        """Return the values of many keys."""
        return self.client.mget(*keys)

    def pipeline(self, commands: list[tuple[str, ...]]) -> Awaitable[list[Any]]:
        """Send all commands at once, and return their replies."""
        pipeline = self.client.pipeline()
        for command in commands:
            pipeline.add(*command)
        return pipeline.execute()

    async def subscribe(
        self, channels: list[str], subscribers: list[Count], *, sharded: bool
    ) -> Callable[[], Awaitable[None]]:
        """Make a subscription for each subscriber, and iterate over its messages."""
        make = self.client.ssubscribe if sharded else self.client.subscribe
        subscriptions = [await make(*channels).ready() for _ in subscribers]
        tasks = [asyncio.create_task(_iterate(*each)) for each in zip(subscriptions, subscribers, strict=True)]

        async def end() -> None:
            for subscription in subscriptions:
                await subscription.close()
            await asyncio.gather(*tasks)

        return end


async def _iterate(subscription: aio.AsyncSubscription[bytes], count: Count) -> None:
    async for message in subscription.messages():
        count(message.data)


async def connect(addresses: Addresses, ca: str | None) -> OursAsyncio:
    """Connect to the cluster."""
    seeds = ",".join(f"{host}:{port}" for host, port in addresses)
    if ca is None:
        return OursAsyncio(await aio.connect(f"valkey://{seeds}"))
    return OursAsyncio(await aio.connect(f"valkeys://{seeds}", trust_root=Path(ca).read_bytes()))
