"""The base of tests that run a client against three scripted nodes on real sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.cases import TestCase
from txvalkeycluster import Address, ClusterClient, key_slot
from txvalkeycluster.testing import DEFAULT_REPLY, ScriptedCluster, ScriptedNode
from txvalkeycluster.testing.scripted import Connection


class ScriptedTests(TestCase):
    """Each test has a cluster of its own: three scripted nodes that share the slots."""

    timeout = 30

    async def setUp(self) -> None:  # type: ignore[override]
        self.cluster = ScriptedCluster(reactor)
        self.addCleanup(self.cluster.stop)
        await self.cluster.start()

    @property
    def nodes(self) -> list[ScriptedNode]:
        return self.cluster.nodes

    async def client(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client that knows the slot map."""
        client = self.lazy_client(**options)
        await client.refresh_topology()
        return client

    def lazy_client(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client that knows no slot map yet."""
        client = ClusterClient(reactor, self.cluster.url if "seeds" not in options else None, **options)
        self.addCleanup(client.abort)
        return client

    def key_of(self, node: ScriptedNode, number: int = 0) -> str:
        """Return one of the keys whose slots a node serves, by its number."""
        return self.cluster.keys_of(node, number + 1)[number]

    def until(self, condition: Callable[[], object]) -> Deferred[None]:
        """Return a Deferred that fires when the condition holds.  If it never does, the test ends at its timeout."""
        return Deferred.fromCoroutine(_until(condition))


def transactional(node: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
    """The script of a node that executes MULTI and EXEC."""
    state = vars(connection)
    queue: list[bytes] | None = state.get("queue")
    if words[0] == b"MULTI":
        state["queue"] = []
        return b"+OK\r\n"
    if queue is None:
        return DEFAULT_REPLY
    if words[0] == b"EXEC":
        state["queue"] = None
        return b"*%d\r\n%b" % (len(queue), b"".join(queue))
    queue.append(node.usual(words, asking=False))
    return b"+QUEUED\r\n"


async def _until(condition: Callable[[], object]) -> None:
    while not condition():
        await deferLater(reactor, 0.001)


def moved(key: str | bytes, target: Address | str) -> bytes:
    """Return the reply MOVED for the slot of a key."""
    return b"-MOVED %d %b\r\n" % (key_slot(key), str(target).encode())


def ask(key: str | bytes, target: Address | str) -> bytes:
    """Return the reply ASK for the slot of a key."""
    return b"-ASK %d %b\r\n" % (key_slot(key), str(target).encode())
