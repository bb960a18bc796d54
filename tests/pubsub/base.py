"""Subscriptions to scripted nodes in memory."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from txvalkeycluster import ClusterClient, Subscription, key_slot
from txvalkeycluster.testing import ScriptedNode


class SubscriptionTests(MemoryTests):
    """A client, and the items that its listeners were given."""

    def setUp(self) -> None:
        super().setUp()
        self.items: list[Any] = []

    def subscribed(self, subscription: Subscription[Any]) -> Subscription[Any]:
        """Wait until the channels of a subscription are acknowledged."""
        ready: Subscription[Any] = self.result_of(subscription.ready())
        return ready

    def next_item(self, iterator: AsyncIterable[Any]) -> Any:
        """Return the next item of a subscription."""
        return self.result_of(self.coming(iterator))

    def coming(self, iterator: AsyncIterable[Any]) -> Deferred[Any]:
        """Return a Deferred of the next item."""
        return Deferred.fromCoroutine(_next(iterator))

    def channel_of(self, node: ScriptedNode, number: int = 0) -> str:
        """Return a channel whose slot a node owns."""
        return self.key_of(node, number)

    def at(self, node: ScriptedNode) -> set[tuple[bytes, bytes]]:
        """Return what is subscribed at a node, on all its connections: pairs of prefix and name."""
        return {pair for connection in node.connections for pair in connection.subscribed}

    def everywhere(self) -> list[tuple[bytes, bytes]]:
        """Return what is subscribed at all nodes."""
        return sorted(pair for node in self.nodes for connection in node.connections for pair in connection.subscribed)

    def home(self, channel: str) -> ScriptedNode:
        """Return the node that has a classic channel."""
        (node,) = (node for node in self.nodes if (b"", channel.encode()) in self.at(node))
        return node

    def publish(self, channel: str, data: str) -> int:
        """Publish to a classic channel and let the message arrive."""
        count = self.cluster.publish(channel.encode(), data.encode())
        self.network.settle()
        return count

    def spublish(self, channel: str, data: str) -> int:
        """Publish to a sharded channel and let the message arrive."""
        count = self.cluster.spublish(channel.encode(), data.encode())
        self.network.settle()
        return count

    def move(self, channel: str, node: ScriptedNode) -> None:
        """Give the slot of a channel to a node, and let the client hear of it."""
        self.cluster.move(key_slot(channel), node)
        self.network.settle()

    def connections(self) -> int:
        """Return the number of open connections to all nodes."""
        return sum(len(node.connections) for node in self.nodes)


class TwoProtocolsTests(SubscriptionTests):
    """Base class of tests that a subclass repeats with RESP2."""

    protocol = 3

    def client(self, **options: Any) -> ClusterClient[bytes]:
        """A client that knows the slot map, with the protocol of the class."""
        return super().client(protocol=self.protocol, **options)


async def _next(iterator: AsyncIterable[Any]) -> Any:
    return await anext(aiter(iterator))
