"""Slots that move under load, key by key and atomically."""

from __future__ import annotations

from tests.cluster.base import ClusterTests
from txvalkeycluster import Statistics
from txvalkeycluster.testing import Workload

SLOTS = 1000


class MigrationTests(ClusterTests):
    async def no_error_while(self, atomically: bool) -> Statistics:
        """Move slots to another node and back: no error, no wrong value, and at most one refresh a second."""
        one, other = self.cluster.servers[:2]
        client = await self.connect()
        clock = self.cluster.reactor
        started_at, before = clock.seconds(), client.statistics.refreshes

        async def migrate(_: Workload) -> None:
            for source, target in ((one, other), (other, one)):
                if atomically:
                    await self.cluster.migrate_atomically(0, SLOTS - 1, source, target)
                else:
                    await self.cluster.migrate_by_key(range(SLOTS), source, target)

        report = await self.under_load(migrate, client)
        self.assertEqual((dict(report.errors), report.older), ({}, 0))
        self.assertLessEqual(client.statistics.refreshes - before, 1 + clock.seconds() - started_at)
        self.assertGreater(client.statistics.moved, 0)
        return client.statistics

    async def test_key_by_key(self) -> None:
        """CLUSTER SETSLOT and MIGRATE: each slot answers ASK for a while."""
        self.assertGreater((await self.no_error_while(atomically=False)).asked, 0)

    async def test_atomically(self) -> None:
        """CLUSTER MIGRATESLOTS of Valkey 9."""
        await self.no_error_while(atomically=True)
