"""txvalkeycluster with a recorded span for each command, by OpenTelemetry; the spans are not exported."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from twisted.internet.interfaces import IReactorTime

from txvalkeycluster.opentelemetry import ClusterInstrumentation

from . import Addresses, ours
from .ours import REACTOR, Ours

__all__ = ["REACTOR", "connect"]


async def connect(reactor: IReactorTime, addresses: Addresses, ca: str | None) -> Ours:
    """Connect to the cluster."""
    client = await ours.connect(reactor, addresses, ca)
    ClusterInstrumentation(client.client, tracer_provider=TracerProvider())
    return client
