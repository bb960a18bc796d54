"""txvalkeycluster with metrics for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from twisted.internet.interfaces import IReactorTime

from txvalkeycluster.prometheus import ClusterCollector

from . import Addresses, ours
from .ours import REACTOR, Ours

__all__ = ["REACTOR", "connect"]


async def connect(reactor: IReactorTime, addresses: Addresses, ca: str | None) -> Ours:
    """Connect to the cluster."""
    client = await ours.connect(reactor, addresses, ca)
    ClusterCollector(client.client, registry=CollectorRegistry())
    return client
