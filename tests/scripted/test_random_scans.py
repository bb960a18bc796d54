"""Scans in stories made by chance: whatever befalls the cluster between two steps, no key and no member is missed.

``TXVALKEYCLUSTER_SCANS`` is how many scans there are of each kind, ``TXVALKEYCLUSTER_SEED`` where chance begins.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

import txvalkeycluster.scan
from tests.scripted.simulation import Simulation
from txvalkeycluster import ClusterClient
from txvalkeycluster.testing import ScriptedCluster

SCANS = int(os.environ.get("TXVALKEYCLUSTER_SCANS", "500"))
SEED = int(os.environ.get("TXVALKEYCLUSTER_SEED", "2026"))
# After so many scans chance makes a new cluster.
OF_ONE_CLUSTER = 50


class RandomScanTests(TestCase):
    timeout = 60 + SCANS

    async def setUp(self) -> None:
        self.patch(txvalkeycluster.scan, "PAUSE", 0.0)
        self.random = Random(SEED)

    async def begin(self) -> tuple[Simulation, ClusterClient]:
        cluster = ScriptedCluster(reactor, 7)
        self.addCleanup(cluster.stop)
        await cluster.start()
        # Maps change in the middle of a scan, too.
        client = ClusterClient(reactor, cluster.url, backoff_max=0.01, refresh_interval=0.001, random=self.random)
        self.addCleanup(client.abort)
        return Simulation(cluster, self.random), client

    async def tell(self, number: int, simulation: Simulation, found: Any) -> set[bytes]:
        """Go through one scan, while things befall the cluster at its commands and between what it gives."""
        simulation.budget = self.random.choice([self.random.randrange(9), 40])
        simulation.likelihood = self.random.choice([0.02, 0.1, 0.4, 0.8])
        simulation.happened = []
        seen = set()
        async for item in found:
            seen.add(item[0] if isinstance(item, tuple) else item)
            if simulation.budget and self.random.random() < simulation.likelihood:
                simulation.happen()
        return seen

    async def test_keys(self) -> None:
        for number in range(SCANS):
            if number % OF_ONE_CLUSTER == 0:
                simulation, client = await self.begin()
            seen = await self.tell(number, simulation, client.scan_iter(count=self.random.randrange(1, 12)))
            missed = {*simulation.keys, *simulation.collections} - seen
            self.assertEqual(missed, set(), f"seed {SEED}, scan {number}: {simulation.happened}")

    async def test_members(self) -> None:
        """Of hashes, sets and sorted sets."""
        for number in range(SCANS):
            if number % OF_ONE_CLUSTER == 0:
                simulation, client = await self.begin()
            scan: Any = self.random.choice([client.hscan_iter, client.sscan_iter, client.zscan_iter])
            key = self.random.choice(simulation.collections)
            seen = await self.tell(number, simulation, scan(key, count=self.random.randrange(1, 12)))
            missed = {b"%d" % member for member in range(40)} - seen
            self.assertEqual(missed, set(), f"seed {SEED}, scan {number}: {simulation.happened}")
