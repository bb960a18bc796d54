"""txvalkeycluster, which receives messages with asynchronous iterators instead of listeners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IReactorTime

from txvalkeycluster import Subscription

from ..workloads import Count
from . import Addresses, Unsupported, ours

REACTOR = ours.REACTOR


class Iterating(ours.Ours):
    """Receives messages, and does nothing else."""

    def __init__(self, client: ours.Ours) -> None:
        self.client = client.client

    def __getattr__(self, name: str) -> Any:
        raise Unsupported("it differs from txvalkeycluster only in how it receives messages")

    def start(self, make: Callable[..., Subscription[bytes]], channels: list[str], count: Count) -> Subscription[bytes]:
        """Make a subscription, and iterate over its messages."""
        subscription = make(*channels)
        ensureDeferred(_iterate(subscription, count))
        return subscription


async def _iterate(subscription: Subscription[bytes], count: Count) -> None:
    async for message in subscription.messages():
        count(message.data)


async def connect(reactor: IReactorTime, addresses: Addresses, ca: str | None) -> Iterating:
    """Connect to the cluster."""
    return Iterating(await ours.connect(reactor, addresses, ca))
