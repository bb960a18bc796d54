"""What redis-py and its offspring have in common."""

from __future__ import annotations

from typing import Any


class RedisLike:
    """The methods of redis-py, which valkey-py has kept."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.set, self.get, self.hgetall = client.set, client.get, client.hgetall

    async def mget(self, keys: list[str]) -> list[bytes]:
        return list(await self.client.mget_nonatomic(keys))

    async def hset(self, key: str, fields: dict[str, str]) -> Any:
        return await self.client.hset(key, mapping=fields)

    async def pipeline(self, commands: list[tuple[str, ...]]) -> list[Any]:
        pipeline = self.client.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        return list(await pipeline.execute())


async def connect(cluster: Any, make: Any, addresses: list[tuple[str, int]], ca: str | None) -> RedisLike:
    """Make a client of one of them; ``cluster`` is its module, ``make`` its class."""
    nodes = [cluster.ClusterNode(host, port) for host, port in addresses]
    tls = {"ssl": True, "ssl_ca_certs": ca} if ca is not None else {}
    client: Any = make(startup_nodes=nodes, max_connections=2000, **tls)
    await client.initialize()
    return RedisLike(client)
