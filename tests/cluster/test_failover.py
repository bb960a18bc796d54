"""Primaries that die and step down under load."""

from __future__ import annotations

from typing import Any

from tests.cluster.base import ClusterTests
from txvalkeycluster.testing import Workload


class FailoverTests(ClusterTests):
    async def test_sigkill_of_a_primary(self) -> None:
        """Only writes in flight at that instant fail, and say that they may have been executed; all else waits."""
        victim = self.cluster.servers[0]

        async def kill(workload: Workload) -> None:
            await self.expect_losses(workload, victim)
            self.cluster.kill(victim)
            await self.cluster.wait_for_takeover(victim)

        report = await self.under_load(kill)
        self.assertLessEqual(set(report.errors), {"SET: ConnectionLost, maybe executed"})
        self.assertLessEqual(sum(report.errors.values()), 50)

    async def test_graceful_failover(self) -> None:
        """A primary that hands over shows no error at all."""

        async def hand_over(_: Workload) -> None:
            for _ in range(2):
                for replica in (self.cluster.servers[3], self.cluster.servers[0]):
                    await self.cluster.failover(replica)
                    await self.cluster.wait_until_whole()

        report = await self.under_load(hand_over)
        self.assertEqual((dict(report.errors), report.older), ({}, 0))

    async def test_a_paused_primary(self) -> None:
        """One that hangs is replaced; writes to it fail at its silence, and nothing hangs."""
        client = await self.connect(unresponsive_after=1.0)
        victim = self.cluster.servers[1]

        async def pause(workload: Workload) -> None:
            await self.expect_losses(workload, victim)
            self.cluster.pause(victim)
            await self.cluster.wait_for_takeover(victim)

        report = await self.under_load(pause, client)
        self.assertLessEqual(set(report.errors), {"SET: ConnectionLost, maybe executed"})
        self.cluster.resume(victim)

    async def test_every_address_changed(self) -> None:
        """A cluster that came back on other ports is found through the seed, which leads to it by name."""
        moved: dict[Any, Any] = {}
        seed = ("cluster.invalid", 1)
        moved[seed] = self.cluster.addresses[0]
        client = await self.connect(seeds=(seed,), address_map=moved)
        await client.execute("SET", "k", "v")
        before = {node.address for node in client.topology.nodes}

        async def restart(workload: Workload) -> None:
            await self.cluster.restart_elsewhere()
            moved[seed] = self.cluster.addresses[0]
            await client.execute("SET", "k", "v", timeout=60)

        workload = Workload(self.cluster.reactor, client)
        workload.start()
        await self.progress(workload)
        await restart(workload)
        await self.progress(workload)
        report = await workload.stop()
        self.assertEqual(report.unfired, 0)
        after = {node.address for node in client.topology.nodes}
        self.assertFalse(before & after)
