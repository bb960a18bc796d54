"""txredisapi.  It does not support clusters, so it uses one node and keys of one slot."""

from __future__ import annotations

from typing import Any

import txredisapi
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from . import Addresses, Unsupported


def REACTOR() -> None:
    """Do nothing: the import of txredisapi has installed a reactor."""


class TxRedisAPI:
    """A connection of txredisapi."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def _send(self, method: str, *args: Any) -> Deferred[Any]:
        deferred: Deferred[Any] = getattr(self.client, method)(*args)
        return deferred

    def set(self, key: str, value: bytes) -> Deferred[Any]:
        """Store a value."""
        return self._send("set", _local(key), value)

    def get(self, key: str) -> Deferred[Any]:
        """Return a value."""
        return self._send("get", _local(key))

    def mget(self, keys: list[str]) -> Deferred[Any]:
        """Return the values of many keys."""
        return self._send("mget", [_local(key) for key in keys])

    def hset(self, key: str, fields: dict[str, str]) -> Deferred[Any]:
        """Store the fields of a hash."""
        return self._send("hmset", _local(key), fields)

    def hgetall(self, key: str) -> Deferred[Any]:
        """Return all fields of a hash."""
        return self._send("hgetall", _local(key))

    async def pipeline(self, commands: list[tuple[str, ...]]) -> list[Any]:
        """Send all commands at once, and return their replies."""
        pipeline = await self.client.pipeline()
        for command in commands:
            words = (command[0], _local(command[1]), *command[2:])
            pipeline.execute_command(*words)
        return list(await pipeline.execute_pipeline())


def _local(key: str) -> str:
    # Slot 3300 belongs to the first of three primaries.
    return f"{{b}}{key}"


async def connect(reactor: IReactorTime, addresses: Addresses, ca: str | None) -> TxRedisAPI:
    """Connect to the first node."""
    if ca is not None:
        raise Unsupported("it does not support TLS")
    host, port = addresses[0]
    return TxRedisAPI(await txredisapi.Connection(host, port, convertNumbers=False, charset=None))
