"""A client in memory, one node of its cluster hostile, and what has to hold of it afterwards."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.memory import MemoryTests
from txvalkeycluster import ClusterClient

TIMEOUT = 1.0
# Nodes that a client may know after one hostile node has told it of many.
MOST_NODES = 20


class HostileTests(MemoryTests):
    """The first node is hostile, as long as it has a script."""

    world: ClusterClient[bytes]

    def start(self, random: Random, **options: Any) -> None:
        """A new cluster and a client that knows it."""
        self.setUp()
        options = {"unresponsive_after": 2.0, "max_nodes": MOST_NODES, "backoff_max": 0.05, **options}
        self.world = self.client(timeout=TIMEOUT, password="secret", random=random, **options)

    def ends(self, commands: list[Deferred[Any]], *documented: type[Exception], within: float = TIMEOUT + 0.2) -> None:
        """Each of some commands ends once, in time, and with no other error than these."""
        ended: list[Any] = []
        for command in commands:
            command.addBoth(ended.append)
        end = self.clock.seconds() + within
        while len(ended) < len(commands) and self.clock.seconds() < end:
            self.advance(0.1, step=0.05)
        self.assertEqual(len(ended), len(commands))
        errors = [result.value for result in ended if isinstance(result, Failure)]
        self.assertEqual([error for error in errors if not isinstance(error, documented)], [])

    def others_serve(self) -> None:
        """The nodes that are not hostile answer at once, over connections that were not touched."""
        for node in self.nodes[1:]:
            key = self.key_of(node)
            self.result_of(self.world.set(key, b"v"))
            self.assertEqual(self.result_of(self.world.get(key)), b"v")

    def recovers(self) -> None:
        """Once it is honest again, the node serves; and little is left of what it told."""
        self.nodes[0].script = None
        self.network.cut(self.nodes[0])
        self.advance(0.5, step=0.05)
        refreshed = self.world.refresh_topology()
        self.advance(1.5, step=0.05)
        self.successResultOf(refreshed)
        self.assertEqual(self.result_of(self.world.get(self.key_of(self.nodes[0], 7))), None)
        router = self.world._router
        self.assertLessEqual(len(router._factory.nodes), MOST_NODES)
        self.assertLessEqual(len(router._recovery.queues()), 2 * MOST_NODES)
        self.assertEqual(sum(map(len, router._recovery.queues())), 0)
        ended = self.world.abort()
        self.advance(0.1)
        self.successResultOf(ended)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual([node.connections for node in self.nodes], [[], [], []])
