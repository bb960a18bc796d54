"""redis-py, asyncio, with hiredis as its parser."""

from __future__ import annotations

import redis.asyncio.cluster as cluster

from . import common


async def connect(addresses: list[tuple[str, int]], ca: str | None) -> common.RedisLike:
    return await common.connect(cluster, cluster.RedisCluster, addresses, ca)
