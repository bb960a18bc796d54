"""txredisapi.  It does not support clusters, so it uses one node and keys of one slot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import txredisapi
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IReactorTime

from ..workloads import Count
from . import Addresses, Unsupported


def REACTOR() -> None:
    """Do nothing: the import of txredisapi has installed a reactor."""


class TxRedisAPI:
    """A connection of txredisapi."""

    def __init__(self, client: Any, endpoint: Any) -> None:
        self.client = client
        self.endpoint = endpoint

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

    async def subscribe(
        self, channels: list[str], subscribers: list[Count], *, sharded: bool
    ) -> Callable[[], Awaitable[None]]:
        """Subscribe with a connection for each subscriber."""
        if sharded:
            raise Unsupported("it does not support sharded channels")
        connections = [await self.endpoint.connect(_factory(count)) for count in subscribers]
        for connection in connections:
            await connection.subscribe(channels)

        async def end() -> None:
            for connection in connections:
                connection.factory.reconnect = False
                connection.transport.abortConnection()

        return end


def _factory(count: Count) -> Any:
    class Subscriber(txredisapi.SubscriberProtocol):  # type: ignore[misc]
        def messageReceived(self, pattern: None, channel: bytes, message: bytes) -> None:
            count(message)

    factory = txredisapi.SubscriberFactory()
    factory.protocol, factory.charset, factory.convertNumbers = Subscriber, None, False
    return factory


def _local(key: str) -> str:
    # Slot 3300 belongs to the first of three primaries.
    return f"{{b}}{key}"


async def connect(reactor: IReactorTime, addresses: Addresses, ca: str | None) -> TxRedisAPI:
    """Connect to the first node."""
    if ca is not None:
        raise Unsupported("it does not support TLS")
    host, port = addresses[0]
    endpoint = HostnameEndpoint(reactor, host, port)
    return TxRedisAPI(await txredisapi.Connection(host, port, convertNumbers=False, charset=None), endpoint)
