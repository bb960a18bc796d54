"""txvalkeycluster with default options."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import install
from twisted.internet.interfaces import IReactorTime

from txvalkeycluster import ClusterClient, Subscription
from txvalkeycluster import connect as connect_client

from ..workloads import Count
from . import Addresses

REACTOR = install


class Ours:
    """The typed methods of the client."""

    def __init__(self, client: ClusterClient) -> None:
        self.client = client
        self.set, self.get, self.hset, self.hgetall = client.set, client.get, client.hset, client.hgetall

    def mget(self, keys: list[str]) -> Deferred[Any]:
        """Return the values of many keys."""
        return self.client.mget(*keys)

    def pipeline(self, commands: list[tuple[str, ...]]) -> Deferred[list[Any]]:
        """Send all commands at once, and return their replies."""
        pipeline = self.client.pipeline()
        for command in commands:
            pipeline.add(*command)
        return pipeline.execute()

    async def subscribe(
        self, channels: list[str], subscribers: list[Count], *, sharded: bool
    ) -> Callable[[], Awaitable[None]]:
        """Make a subscription for each subscriber."""
        make = self.client.ssubscribe if sharded else self.client.subscribe
        subscriptions = [self.start(make, channels, count) for count in subscribers]
        for subscription in subscriptions:
            await subscription.ready()

        async def end() -> None:
            for subscription in subscriptions:
                await subscription.close()

        return end

    def start(self, make: Callable[..., Subscription[bytes]], channels: list[str], count: Count) -> Subscription[bytes]:
        """Make a subscription with a listener."""

        def listener(item: Any) -> None:
            count(item.data)

        return make(*channels, listener=listener)


async def connect(reactor: IReactorTime, addresses: Addresses, ca: str | None) -> Ours:
    """Connect to the cluster."""
    seeds = ",".join(f"{host}:{port}" for host, port in addresses)
    if ca is None:
        return Ours(await connect_client(reactor, f"valkey://{seeds}"))
    return Ours(await connect_client(reactor, f"valkeys://{seeds}", trust_root=Path(ca).read_bytes()))
