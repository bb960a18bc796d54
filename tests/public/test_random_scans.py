"""Scans of clusters that change at random: no key and no member is missed.

Everything happens in memory. The seed determines all changes and the speed of all connections.

``TXVALKEYCLUSTER_SCANS`` is the number of scans of each kind, ``TXVALKEYCLUSTER_SEED`` the first seed.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

import txvalkeycluster.scan
from tests.cases import SynchronousTestCase
from tests.memory import Network
from tests.public.simulation import Simulation
from txvalkeycluster import Address, ClusterClient
from txvalkeycluster.testing import ScriptedCluster

SCANS = int(os.environ.get("TXVALKEYCLUSTER_SCANS", "500"))
SEED = int(os.environ.get("TXVALKEYCLUSTER_SEED", "2026"))
# The number of scans in one cluster.
OF_ONE_CLUSTER = 10
# A scan that takes more turns of the reactor is stuck.
TURNS = 200_000


class Scenario:
    """A simulated cluster, a client, and connections of random speed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.pace = self.random.choice([0.1, 0.3, 0.7, 1.0])
        self.clock = Clock()
        cluster = ScriptedCluster(self.clock, 7)
        for index, node in enumerate(cluster.nodes):
            node.address = Address("node", 7000 + index)
        self.network = Network(self.clock, cluster.nodes)
        # The slot map can change in the middle of a scan, too.
        self.client = ClusterClient(
            self.clock,
            seeds=",".join(str(node.address) for node in cluster.nodes),
            endpoint_for=self.network.endpoint_for,
            backoff_max=0.01,
            refresh_interval=0.001,
            random=self.random,
        )
        self.simulation = Simulation(cluster, self.random)

    def scan(self, found: AsyncIterator[Any]) -> set[bytes]:
        """Run one scan, change the cluster at its commands and between its results, and return what it finds."""
        simulation = self.simulation
        simulation.budget = self.random.choice([self.random.randrange(9), 40])
        simulation.likelihood = self.random.choice([0.02, 0.1, 0.4, 0.8])
        simulation.happened = []
        seen: set[bytes] = set()

        async def go() -> None:
            async for item in found:
                seen.add(item[0] if isinstance(item, tuple) else item)
                if simulation.budget and self.random.random() < simulation.likelihood:
                    simulation.happen()

        going = Deferred.fromCoroutine(go())
        for _ in range(TURNS):
            if going.called:
                break
            self.network.trickle(self.random, self.pace)
            self.clock.advance(0.0003)
        ended: list[Any] = []
        going.addBoth(ended.append)
        if ended != [None]:
            raise AssertionError(f"the scan did not end: {ended}")
        return seen


class RandomScanTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(txvalkeycluster.scan, "PAUSE", 0.001)

    def scenarios(self) -> Any:
        """Yield the number of each scan and its scenario."""
        for number in range(SCANS):
            if number % OF_ONE_CLUSTER == 0:
                scenario = Scenario(SEED + number)
            yield number, scenario
            if number % OF_ONE_CLUSTER == OF_ONE_CLUSTER - 1:
                scenario.client.abort()

    def test_keys(self) -> None:
        for number, scenario in self.scenarios():
            seen = scenario.scan(scenario.client.scan_iter(count=scenario.random.randrange(1, 12)))
            missed = {*scenario.simulation.keys, *scenario.simulation.collections} - seen
            self.assertEqual(missed, set(), f"seed {SEED}, scan {number}: {scenario.simulation.happened}")

    def test_members(self) -> None:
        """The members of hashes, sets and sorted sets are complete."""
        for number, scenario in self.scenarios():
            client = scenario.client
            scan: Any = scenario.random.choice([client.hscan_iter, client.sscan_iter, client.zscan_iter])
            key = scenario.random.choice(scenario.simulation.collections)
            seen = scenario.scan(scan(key, count=scenario.random.randrange(1, 12)))
            missed = {b"%d" % member for member in range(40)} - seen
            self.assertEqual(missed, set(), f"seed {SEED}, scan {number}: {scenario.simulation.happened}")
