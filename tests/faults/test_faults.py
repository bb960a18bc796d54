"""A seeded run of faults, one after the other, under a load that verifies every value.

``TXVALKEYCLUSTER_FAULTS`` is how many faults there are, 12 if not given; ``TXVALKEYCLUSTER_SEED`` repeats a run.
"""

from __future__ import annotations

import os
from random import Random

from tests.cluster.base import ClusterTests
from txvalkeycluster import key_slot
from txvalkeycluster.testing import Server, Workload

COUNT = int(os.environ.get("TXVALKEYCLUSTER_FAULTS", "12"))
SEED = int(os.environ.get("TXVALKEYCLUSTER_SEED", "2026"))


class FaultTests(ClusterTests):
    timeout = 60 + 30 * COUNT

    async def test_faults(self) -> None:
        """Whatever happens, every Deferred fires, every value is right, and only writes in flight are in doubt."""
        self.random = Random(SEED)
        faults = [self.kill, self.pause, self.hand_over, self.move_by_key, self.move_atomically, self.cut_connections]
        # Each kind comes once before any comes twice.
        order = [fault for _ in range(COUNT // len(faults) + 1) for fault in self.random.sample(faults, len(faults))]
        client = await self.connect(unresponsive_after=1.0, random=Random(SEED))
        workload = Workload(self.cluster.reactor, client)
        workload.start()
        happened: list[str] = []
        for fault in order[:COUNT]:
            await self.progress(workload)
            happened.append(fault.__name__)
            await fault(workload)
            await self.cluster.wait_until_whole()
        await self.progress(workload)
        report = await workload.stop()
        self.assertEqual((report.wrong, report.unfired), ([], 0), f"seed {SEED}: {', '.join(happened)}")
        self.assertLessEqual(set(report.errors), {"SET: ConnectionLost, maybe executed"})
        await client.close()

    async def primary(self) -> Server:
        return self.random.choice(await self.cluster.primaries())

    async def two_primaries(self) -> list[Server]:
        return self.random.sample(await self.cluster.primaries(), 2)

    async def kill(self, workload: Workload) -> None:
        """SIGKILL of a primary, which comes back as a replica."""
        victim = await self.primary()
        await self.expect_losses(workload, victim)
        self.cluster.kill(victim)
        await self.cluster.wait_for_takeover(victim)
        await self.cluster.restart(victim)

    async def pause(self, workload: Workload) -> None:
        """A primary hangs until it is replaced, then goes on."""
        victim = await self.primary()
        await self.expect_losses(workload, victim)
        self.cluster.pause(victim)
        await self.cluster.wait_for_takeover(victim)
        self.cluster.resume(victim)

    async def hand_over(self, _: Workload) -> None:
        """A graceful failover."""
        primary = await self.primary()
        await self.cluster.failover(self.random.choice(await self.cluster.replicas_of(primary)))

    async def move_by_key(self, _: Workload) -> None:
        """Slots that hold keys of the workload move one by one."""
        source, target = await self.two_primaries()
        ranges = await self.cluster.ranges_of(source)
        used = {key_slot(f"workload:{worker}:{key}") for worker in range(50) for key in range(20)}
        mine = sorted(slot for slot in used if any(slot in owned for owned in ranges))
        await self.cluster.migrate_by_key(mine[:40], source, target)

    async def move_atomically(self, _: Workload) -> None:
        """A range of slots moves at once."""
        source, target = await self.two_primaries()
        for owned in (await self.cluster.ranges_of(source))[:1]:
            await self.cluster.migrate_atomically(owned[0], owned[:201][-1], source, target)

    async def cut_connections(self, _: Workload) -> None:
        """Every client of every server is thrown out."""
        for server in self.cluster.servers:
            await self.cluster.ask(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
