"""txvalkeycluster with default options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import install
from twisted.internet.interfaces import IReactorTime

from txvalkeycluster import ClusterClient
from txvalkeycluster import connect as connect_client

from . import Addresses

REACTOR = install


class Ours:
    """The typed methods of the client."""

    def __init__(self, client: ClusterClient) -> None:
        self.client = client
        self.set, self.get, self.hset, self.hgetall = client.set, client.get, client.hset, client.hgetall

    def mget(self, keys: list[str]) -> Deferred[Any]:
        """Return the values of many keys."""
        return self.client.mget(*keys)

    def pipeline(self, commands: list[tuple[str, ...]]) -> Deferred[list[Any]]:
        """Send all commands at once, and return their replies."""
        pipeline = self.client.pipeline()
        for command in commands:
            pipeline.add(*command)
        return pipeline.execute()


async def connect(reactor: IReactorTime, addresses: Addresses, ca: str | None) -> Ours:
    """Connect to the cluster."""
    seeds = ",".join(f"{host}:{port}" for host, port in addresses)
    if ca is None:
        return Ours(await connect_client(reactor, f"valkey://{seeds}"))
    return Ours(await connect_client(reactor, f"valkeys://{seeds}", trust_root=Path(ca).read_bytes()))
