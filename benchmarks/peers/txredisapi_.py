"""txredisapi, which knows no clusters: on one node, for keys of that node's slots."""

from __future__ import annotations

from typing import Any

import txredisapi
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


def REACTOR() -> None:
    """It has installed one itself, by importing it."""


class TxRedisAPI:
    """Its lazy connection."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def set(self, key: str, value: bytes) -> Deferred[Any]:
        return self.client.set(_local(key), value)

    def get(self, key: str) -> Deferred[bytes]:
        return self.client.get(_local(key))

    def mget(self, keys: list[str]) -> Deferred[list[bytes]]:
        return self.client.mget([_local(key) for key in keys])

    def hset(self, key: str, fields: dict[str, str]) -> Deferred[Any]:
        return self.client.hmset(_local(key), fields)

    def hgetall(self, key: str) -> Deferred[Any]:
        return self.client.hgetall(_local(key))

    async def pipeline(self, commands: list[tuple[str, ...]]) -> list[Any]:
        pipeline = await self.client.pipeline()
        for command in commands:
            words = (command[0], _local(command[1]), *command[2:])
            pipeline.execute_command(*words)
        return list(await pipeline.execute_pipeline())


def _local(key: str) -> str:
    # Slot 3300, of the first of three primaries.
    return f"{{b}}{key}"


async def connect(reactor: IReactorTime, addresses: list[tuple[str, int]], ca: str | None) -> TxRedisAPI:
    if ca is not None:
        raise NotImplementedError("it has no TLS")
    host, port = addresses[0]
    return TxRedisAPI(await txredisapi.Connection(host, port, convertNumbers=False, charset=None))
