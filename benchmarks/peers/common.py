"""The common parts of clients on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from . import Addresses


class RedisLike:
    """A cluster client of redis-py, or of valkey-py, which is a fork of redis-py."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.set, self.get, self.hgetall = client.set, client.get, client.hgetall

    async def mget(self, keys: list[str]) -> list[bytes]:
        """Return the values of many keys."""
        return list(await self.client.mget_nonatomic(keys))

    async def hset(self, key: str, fields: dict[str, str]) -> Any:
        """Store the fields of a hash."""
        return await self.client.hset(key, mapping=fields)

    async def pipeline(self, commands: list[tuple[str, ...]]) -> list[Any]:
        """Send all commands at once, and return their replies."""
        pipeline = self.client.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        return list(await pipeline.execute())


async def connect(cluster: Any, make: Any, addresses: Addresses, ca: str | None) -> Any:
    """Connect a client of redis-py or valkey-py.

    Args:
        cluster: The module of the package that has ``ClusterNode``.
        make: The class of the client.
        addresses: The addresses of all nodes.
        ca: The path of the CA certificate, or None without TLS.
    """
    nodes = [cluster.ClusterNode(host, port) for host, port in addresses]
    tls = {"ssl": True, "ssl_ca_certs": ca} if ca is not None else {}
    client: Any = make(startup_nodes=nodes, max_connections=2000, **tls)
    await client.initialize()
    return client


def run_until_ended(readers: list[Coroutine[Any, Any, None]]) -> Callable[[], Awaitable[None]]:
    """Run coroutines that receive messages; return a function that ends them."""
    tasks = [asyncio.create_task(reader) for reader in readers]

    async def end() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return end
