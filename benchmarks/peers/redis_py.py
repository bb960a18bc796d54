"""redis-py on asyncio, with the parser of hiredis."""

from __future__ import annotations

import redis.asyncio.cluster as cluster

from . import Addresses, common


async def connect(addresses: Addresses, ca: str | None) -> common.RedisLike:
    """Connect to the cluster."""
    return await common.connect(cluster, cluster.RedisCluster, addresses, ca)
