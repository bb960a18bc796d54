"""redis-py on asyncio, with the parser of hiredis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio.cluster as cluster

from ..workloads import Count
from . import Addresses, common


class RedisPy(common.RedisLike):
    """Its cluster client on asyncio."""

    async def subscribe(
        self, channels: list[str], subscribers: list[Count], *, sharded: bool
    ) -> Callable[[], Awaitable[None]]:
        """Subscribe with a ``ClusterPubSub``, which has connections of its own, for each subscriber."""
        readers = []
        for count in subscribers:
            pubsub = self.client.pubsub()
            if not sharded:
                await pubsub.subscribe(*channels)
                for _ in channels:
                    await pubsub.get_message(timeout=5)
                readers.append(_read(pubsub, count))
                continue
            await pubsub.ssubscribe(*channels)
            nodes = [self.client.get_node_from_key(channel) for channel in channels]
            for node in nodes:
                await pubsub.get_sharded_message(timeout=5, target_node=node)
            # A task for each node: without a node, get_sharded_message waits for one node after the other.
            readers += [_read_node(pubsub, node, count) for node in set(nodes)]
        return common.run_until_ended(readers)


async def _read(pubsub: Any, count: Count) -> None:
    async with pubsub:
        async for message in pubsub.listen():
            count(message["data"])


async def _read_node(pubsub: Any, node: Any, count: Count) -> None:
    async with pubsub:
        while True:
            message = await pubsub.get_sharded_message(timeout=5, target_node=node)
            if message is not None:
                count(message["data"])


async def connect(addresses: Addresses, ca: str | None) -> RedisPy:
    """Connect to the cluster."""
    return RedisPy(await common.connect(cluster, cluster.RedisCluster, addresses, ca))
