"""A real cluster and a client of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from txvalkeycluster import ClusterClient, connect
from txvalkeycluster.testing import LocalCluster, Report, Server, Workload


class ClusterTests(TestCase):
    timeout = 120
    #: What LocalCluster is made with.
    options: ClassVar[dict[str, Any]] = {}

    async def setUp(self) -> None:
        self.cluster = LocalCluster(reactor, **self.options)
        self.addCleanup(self.cluster.stop)
        await self.cluster.start()

    async def connect(self, **options: Any) -> ClusterClient:
        client: ClusterClient = await connect(reactor, self.cluster.url, **{**self.cluster.options, **options})
        self.addCleanup(client.abort)
        return client

    async def under_load(
        self, befall: Callable[[Workload], Awaitable[object]], client: ClusterClient | None = None
    ) -> Report:
        """Run 50 workers, let something befall the cluster meanwhile, and check that all values were right."""
        workload = Workload(reactor, client or await self.connect())
        workload.start()
        await self.progress(workload)
        await befall(workload)
        await self.progress(workload)
        report = await workload.stop()
        self.assertEqual((report.wrong, report.unfired), ([], 0))
        return report

    async def expect_losses(self, workload: Workload, server: Server) -> None:
        """Allow for what a primary that is about to go has acknowledged and not replicated."""
        workload.primary_killed({slot for owned in await self.cluster.ranges_of(server) for slot in owned})

    async def progress(self, workload: Workload) -> None:
        """Wait until the workers have done a good many commands more."""
        goal = workload.report.commands + 5000
        while workload.report.commands < goal:
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
