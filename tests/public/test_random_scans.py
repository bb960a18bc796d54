"""Scans in stories made by chance: whatever befalls the cluster between two steps, no key and no member is missed.

Everything happens in memory, at a pace that chance chooses, so that a seed always tells the same story.

``TXVALKEYCLUSTER_SCANS`` is how many scans there are of each kind, ``TXVALKEYCLUSTER_SEED`` where chance begins.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import txvalkeycluster.scan
from tests.memory import Network
from tests.public.simulation import Simulation
from txvalkeycluster import Address, ClusterClient
from txvalkeycluster.testing import ScriptedCluster

SCANS = int(os.environ.get("TXVALKEYCLUSTER_SCANS", "500"))
SEED = int(os.environ.get("TXVALKEYCLUSTER_SEED", "2026"))
# After so many scans chance makes a new cluster.
OF_ONE_CLUSTER = 10
# No scan takes longer; it would be stuck.
TURNS = 200_000


class Story:
    """A simulated cluster, a client, and how fast bytes go from one to the other."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.pace = self.random.choice([0.1, 0.3, 0.7, 1.0])
        self.clock = Clock()
        cluster = ScriptedCluster(None, 7)
        for index, node in enumerate(cluster.nodes):
            node.address = Address("node", 7000 + index)
        self.network = Network(self.clock, cluster.nodes)
        # Maps change in the middle of a scan, too.
        self.client = ClusterClient(
            self.clock,
            seeds=",".join(str(node.address) for node in cluster.nodes),
            endpoint_for=self.network.endpoint_for,
            backoff_max=0.01,
            refresh_interval=0.001,
            random=self.random,
        )
        self.simulation = Simulation(cluster, self.random)

    def tell(self, found: AsyncIterator[Any]) -> set[bytes]:
        """Go through one scan, while things befall the cluster at its commands and between what it gives."""
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

    def stories(self) -> Any:
        """Each scan: its number, and the story that it is told in."""
        for number in range(SCANS):
            if number % OF_ONE_CLUSTER == 0:
                story = Story(SEED + number)
            yield number, story
            if number % OF_ONE_CLUSTER == OF_ONE_CLUSTER - 1:
                story.client.abort()

    def test_keys(self) -> None:
        for number, story in self.stories():
            seen = story.tell(story.client.scan_iter(count=story.random.randrange(1, 12)))
            missed = {*story.simulation.keys, *story.simulation.collections} - seen
            self.assertEqual(missed, set(), f"seed {SEED}, scan {number}: {story.simulation.happened}")

    def test_members(self) -> None:
        """Of hashes, sets and sorted sets."""
        for number, story in self.stories():
            client = story.client
            scan: Any = story.random.choice([client.hscan_iter, client.sscan_iter, client.zscan_iter])
            key = story.random.choice(story.simulation.collections)
            seen = story.tell(scan(key, count=story.random.randrange(1, 12)))
            missed = {b"%d" % member for member in range(40)} - seen
            self.assertEqual(missed, set(), f"seed {SEED}, scan {number}: {story.simulation.happened}")
