"""valkey-py on asyncio, with the parser of libvalkey.  Only its client for threads subscribes in a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from threading import Thread
from typing import Any

import valkey
import valkey.asyncio.cluster as cluster

from ..workloads import Count
from . import Addresses, common


class ValkeyPy(common.RedisLike):
    """Its cluster client on asyncio, and one for threads that receives messages."""

    async def subscribe(
        self, channels: list[str], subscribers: list[Count], *, sharded: bool
    ) -> Callable[[], Awaitable[None]]:
        """Subscribe with a thread and a ``ClusterPubSub``, which has connections of its own, for each subscriber."""
        node = self.client.get_default_node()
        client: Any = valkey.ValkeyCluster(host=node.host, port=node.port)
        readers = [(_Sharded if sharded else _Classic)(client, channels, count) for count in subscribers]
        for reader in readers:
            reader.start()

        async def end() -> None:
            for reader in readers:
                reader.end()
            for reader in readers:
                await asyncio.to_thread(reader.join)
            client.close()

        return end


class _Classic(Thread):
    def __init__(self, client: Any, channels: list[str], count: Count) -> None:
        super().__init__(daemon=True)
        self.pubsub = client.pubsub()
        self.count = count
        self.pubsub.subscribe(*channels)
        for _ in channels:
            self.pubsub.get_message(timeout=5)

    def run(self) -> None:
        for message in self.pubsub.listen():
            if message["type"] == "message":
                self.count(message["data"])

    def end(self) -> None:
        self.pubsub.unsubscribe()


class _Sharded(Thread):
    def __init__(self, client: Any, channels: list[str], count: Count) -> None:
        super().__init__(daemon=True)
        self.pubsub = client.pubsub()
        self.count = count
        self.ended = False
        self.pubsub.ssubscribe(*channels)
        missing = len(channels)
        while missing:
            missing -= self.pubsub.get_sharded_message() is not None

    def run(self) -> None:
        while not self.ended:
            message = self.pubsub.get_sharded_message()
            if message is not None:
                self.count(message["data"])

    def end(self) -> None:
        self.ended = True


async def connect(addresses: Addresses, ca: str | None) -> ValkeyPy:
    """Connect to the cluster."""
    return ValkeyPy(await common.connect(cluster, cluster.ValkeyCluster, addresses, ca))
