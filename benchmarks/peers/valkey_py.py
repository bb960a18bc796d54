"""valkey-py, asyncio, with libvalkey as its parser."""

from __future__ import annotations

from typing import Any

import valkey.asyncio.cluster as cluster

from .common import RedisLike


async def connect(addresses: list[tuple[str, int]], ca: str | None) -> RedisLike:
    nodes = [cluster.ClusterNode(host, port) for host, port in addresses]
    tls = {"ssl": True, "ssl_ca_certs": ca} if ca is not None else {}
    client: Any = cluster.ValkeyCluster(startup_nodes=nodes, max_connections=2000, **tls)
    await client.initialize()
    return RedisLike(client)
