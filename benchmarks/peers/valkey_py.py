"""valkey-py, asyncio, with libvalkey as its parser."""

from __future__ import annotations

import valkey.asyncio.cluster as cluster

from . import common


async def connect(addresses: list[tuple[str, int]], ca: str | None) -> common.RedisLike:
    return await common.connect(cluster, cluster.ValkeyCluster, addresses, ca)
