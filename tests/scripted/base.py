"""A client and three scripted nodes."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from txvalkeycluster import ClusterClient
from txvalkeycluster.testing import ScriptedCluster, ScriptedNode


class ScriptedTests(TestCase):
    timeout = 30

    async def setUp(self) -> None:
        self.cluster = ScriptedCluster(reactor)
        self.addCleanup(self.cluster.stop)
        await self.cluster.start()

    @property
    def nodes(self) -> list[ScriptedNode]:
        return self.cluster.nodes

    async def client(self, **options: Any) -> ClusterClient:
        """A client that knows the slot map."""
        client = self.lazy_client(**options)
        await client.refresh_topology()
        return client

    def lazy_client(self, **options: Any) -> ClusterClient:
        client = ClusterClient(reactor, self.cluster.url if "seeds" not in options else None, **options)
        self.addCleanup(client.abort)
        return client

    def key_of(self, node: ScriptedNode, number: int = 0) -> str:
        """The number-th key that lives on a node."""
        return self.cluster.keys_of(node, number + 1)[number]

    def until(self, condition: Any) -> Deferred[None]:
        """Fires when the condition holds; the test's own timeout is what ends it otherwise."""
        return Deferred.fromCoroutine(_until(condition))


async def _until(condition: Any) -> None:
    while not condition():
        await deferLater(reactor, 0.001)  # type: ignore[arg-type]
