"""valkey-glide.  Its core is written in Rust."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import glide

from ..workloads import Count
from . import Addresses


class Glide:
    """Its asyncio client."""

    def __init__(self, client: Any, addresses: Addresses) -> None:
        self.client = client
        self.addresses = addresses
        self.set, self.get, self.mget, self.hset, self.hgetall = (
            client.set, client.get, client.mget, client.hset, client.hgetall,
        )  # fmt: skip

    async def pipeline(self, commands: list[tuple[str, ...]]) -> list[Any]:
        """Send all commands at once, and return their replies."""
        batch = glide.ClusterBatch(is_atomic=False)
        for command in commands:
            batch.custom_command(list(command))
        return list(await self.client.exec(batch, raise_on_error=True) or [])

    async def subscribe(
        self, channels: list[str], subscribers: list[Count], *, sharded: bool
    ) -> Callable[[], Awaitable[None]]:
        """Subscribe with a client for each subscriber: a client has one function that it calls with messages."""
        modes = glide.GlideClusterClientConfiguration.PubSubChannelModes
        mode = modes.Sharded if sharded else modes.Exact
        clients = []
        for count in subscribers:
            subscriptions = glide.GlideClusterClientConfiguration.PubSubSubscriptions(
                {mode: set(channels)}, _callback(count), None
            )
            config = _configuration(self.addresses, pubsub_subscriptions=subscriptions)
            clients.append(await glide.GlideClusterClient.create(config))
        for client in clients:
            while len((await client.get_subscriptions()).actual_subscriptions.get(mode, ())) < len(channels):
                await asyncio.sleep(0.05)

        async def end() -> None:
            for client in clients:
                await client.close()

        return end


def _callback(count: Count) -> Callable[[Any, Any], None]:
    def callback(message: Any, _: Any) -> None:
        count(message.message)

    return callback


def _configuration(addresses: Addresses, **options: Any) -> glide.GlideClusterClientConfiguration:
    nodes = [glide.NodeAddress(host, port) for host, port in addresses]
    limit = 10_000
    return glide.GlideClusterClientConfiguration(nodes, request_timeout=limit, inflight_requests_limit=limit, **options)


async def connect(addresses: Addresses, ca: str | None) -> Glide:
    """Connect to the cluster."""
    options: dict[str, Any] = {}
    if ca is not None:
        tls = glide.TlsAdvancedConfiguration(root_pem_cacerts=Path(ca).read_bytes())
        options = {"use_tls": True, "advanced_config": glide.AdvancedGlideClusterClientConfiguration(tls_config=tls)}
    return Glide(await glide.GlideClusterClient.create(_configuration(addresses, **options)), addresses)
