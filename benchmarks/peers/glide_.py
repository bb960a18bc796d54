"""valkey-glide.  Its core is written in Rust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import glide

from . import Addresses


class Glide:
    """Its asyncio client."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.set, self.get, self.mget, self.hset, self.hgetall = (
            client.set, client.get, client.mget, client.hset, client.hgetall,
        )  # fmt: skip

    async def pipeline(self, commands: list[tuple[str, ...]]) -> list[Any]:
        """Send all commands at once, and return their replies."""
        batch = glide.ClusterBatch(is_atomic=False)
        for command in commands:
            batch.custom_command(list(command))
        return list(await self.client.exec(batch, raise_on_error=True) or [])


async def connect(addresses: Addresses, ca: str | None) -> Glide:
    """Connect to the cluster."""
    nodes = [glide.NodeAddress(host, port) for host, port in addresses]
    advanced = None
    if ca is not None:
        tls = glide.TlsAdvancedConfiguration(root_pem_cacerts=Path(ca).read_bytes())
        advanced = glide.AdvancedGlideClusterClientConfiguration(tls_config=tls)
    limit = 10_000
    config = glide.GlideClusterClientConfiguration(
        nodes, use_tls=ca is not None, request_timeout=limit, inflight_requests_limit=limit, advanced_config=advanced
    )
    return Glide(await glide.GlideClusterClient.create(config))
