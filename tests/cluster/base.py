"""The base of tests that run a client against a cluster of real servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.cases import TestCase
from txvalkeycluster import ClusterClient, connect
from txvalkeycluster.testing import LocalCluster, Report, Server, Workload


class ClusterTests(TestCase):
    """Each test has a cluster of its own: three primaries with a replica each, unless ``options`` say otherwise."""

    timeout = 120
    #: The arguments of LocalCluster.
    options: ClassVar[dict[str, Any]] = {}

    async def setUp(self) -> None:  # type: ignore[override]
        self.cluster = LocalCluster(reactor, **self.options)
        self.addCleanup(self.cluster.stop)
        await self.cluster.start()

    async def connect(self, **options: Any) -> ClusterClient[bytes]:
        """Return a connected client of the cluster."""
        options = {**self.cluster.options, **options}
        client: ClusterClient[bytes] = await connect(reactor, self.cluster.url, **options)
        self.addCleanup(client.abort)
        return client

    async def under_load(
        self, change: Callable[[Workload], Awaitable[object]], client: ClusterClient[bytes] | None = None
    ) -> Report:
        """Run 50 workers while the cluster changes, check that all values were right, and return the report."""
        workload = Workload(reactor, client or await self.connect())
        workload.start()
        await self.progress(workload)
        await change(workload)
        await self.progress(workload)
        report = await workload.stop()
        self.assertEqual((report.wrong, report.unfired), ([], 0))
        return report

    async def expect_losses(self, workload: Workload, server: Server) -> None:
        """Allow that a primary, which is killed next, loses writes that it has acknowledged and not replicated."""
        workload.primary_killed({slot for owned in await self.cluster.ranges_of(server) for slot in owned})

    async def progress(self, workload: Workload) -> None:
        """Wait until the workers have done 5000 more commands."""
        goal = workload.report.commands + 5000
        while workload.report.commands < goal:
            await deferLater(reactor, 0.01)
