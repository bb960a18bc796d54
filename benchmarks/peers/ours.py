"""txvalkeycluster, with every option at its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import install
from twisted.internet.interfaces import IReactorTime

from txvalkeycluster import ClusterClient
from txvalkeycluster import connect as connect_client

REACTOR = install


class Ours:
    """The typed methods."""

    def __init__(self, client: ClusterClient) -> None:
        self.client = client
        self.set, self.get, self.hset, self.hgetall = client.set, client.get, client.hset, client.hgetall

    def mget(self, keys: list[str]) -> Deferred[Any]:
        return self.client.mget(*keys)

    def pipeline(self, commands: list[tuple[str, ...]]) -> Deferred[list[Any]]:
        pipeline = self.client.pipeline()
        for command in commands:
            pipeline.add(*command)
        return pipeline.execute()


async def connect(reactor: IReactorTime, addresses: list[tuple[str, int]], ca: str | None) -> Ours:
    seeds = ",".join(f"{host}:{port}" for host, port in addresses)
    options = {"trust_root": Path(ca).read_bytes()} if ca is not None else {}
    return Ours(await connect_client(reactor, f"{'valkeys' if ca else 'valkey'}://{seeds}", **options))
