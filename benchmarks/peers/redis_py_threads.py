"""redis-py for threads, with the parser of hiredis."""

from __future__ import annotations

from typing import Any

from redis.cluster import RedisCluster

from . import Addresses

# Enough for every thread at every node.
_CONNECTIONS = 200


def connect_blocking(addresses: Addresses) -> Any:
    """Connect to the cluster."""
    host, port = addresses[0]
    return RedisCluster(host=host, port=port, max_connections=_CONNECTIONS)
