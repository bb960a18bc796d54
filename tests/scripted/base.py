"""A client and three scripted nodes."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from txvalkeycluster import ClusterClient, key_slot
from txvalkeycluster.testing import DEFAULT_REPLY, ScriptedCluster, ScriptedNode


class ScriptedTests(TestCase):
    timeout = 30

    async def setUp(self) -> None:
        self.cluster = ScriptedCluster(reactor)
        self.addCleanup(self.cluster.stop)
        await self.cluster.start()

    @property
    def nodes(self) -> list[ScriptedNode]:
        return self.cluster.nodes

    async def client(self, **options: Any) -> ClusterClient:
        """A client that knows the slot map."""
        client = self.lazy_client(**options)
        await client.refresh_topology()
        return client

    def lazy_client(self, **options: Any) -> ClusterClient:
        client = ClusterClient(reactor, self.cluster.url if "seeds" not in options else None, **options)
        self.addCleanup(client.abort)
        return client

    def key_of(self, node: ScriptedNode, number: int = 0) -> str:
        """The number-th key that lives on a node."""
        return self.cluster.keys_of(node, number + 1)[number]

    def until(self, condition: Any) -> Deferred[None]:
        """Fires when the condition holds; the test's own timeout is what ends it otherwise."""
        return Deferred.fromCoroutine(_until(condition))


def transactional(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
    """A node that knows MULTI and EXEC."""
    queue = vars(connection).setdefault("queue", None)
    if words[0] == b"MULTI":
        connection.queue = []
    elif words[0] == b"EXEC":
        connection.queue = None
        return b"*%d\r\n%b" % (len(queue), b"".join(queue))
    elif queue is not None:
        queue.append(node.usual(words, asking=False))
        return b"+QUEUED\r\n"
    else:
        return DEFAULT_REPLY
    return b"+OK\r\n"


async def _until(condition: Any) -> None:
    while not condition():
        await deferLater(reactor, 0.001)  # type: ignore[arg-type]


def moved(key: str | bytes, target: Any) -> bytes:
    return b"-MOVED %d %b\r\n" % (key_slot(key), str(target).encode())


def ask(key: str | bytes, target: Any) -> bytes:
    return b"-ASK %d %b\r\n" % (key_slot(key), str(target).encode())
