"""The base of tests of a client in memory with a hostile node: what must hold afterwards."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.memory import MemoryTests
from txvalkeycluster import ClusterClient

TIMEOUT = 1.0
# The option max_nodes.
MOST_NODES = 20


class HostileTests(MemoryTests):
    """The first node is hostile while it has a script."""

    world: ClusterClient[bytes]

    def start(self, random: Random, **options: Any) -> None:
        """Make a new cluster and a client with its slot map."""
        self.setUp()
        options = {"unresponsive_after": 2.0, "max_nodes": MOST_NODES, "backoff_max": 0.05, **options}
        self.world = self.client(timeout=TIMEOUT, password="secret", random=random, **options)

    def ends(self, commands: list[Deferred[Any]], *documented: type[Exception], within: float = TIMEOUT + 0.2) -> None:
        """Check that each command ends once, in time, with a reply or a documented error."""
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
        """Check that the other nodes serve."""
        for node in self.nodes[1:]:
            key = self.key_of(node)
            self.result_of(self.world.set(key, b"v"))
            self.assertEqual(self.result_of(self.world.get(key)), b"v")

    def recovers(self) -> None:
        """Make the node honest.  Check that it serves, that the client knows few nodes, and that abort() clears all."""
        self.nodes[0].script = None
        self.network.cut(self.nodes[0])
        self.advance(0.5, step=0.05)
        refreshed = self.world.refresh_topology()
        self.advance(1.5, step=0.05)
        self.successResultOf(refreshed)
        self.assertEqual(self.result_of(self.world.get(self.key_of(self.nodes[0], 7))), None)
        router = self.world._router
        self.assertLessEqual(len(router.factory.nodes), MOST_NODES)
        self.assertLessEqual(len(router.recovery.queues()), 2 * MOST_NODES)
        self.assertEqual(sum(map(len, router.recovery.queues())), 0)
        ended = self.world.abort()
        self.advance(0.1)
        self.successResultOf(ended)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual([node.connections for node in self.nodes], [[], [], []])
