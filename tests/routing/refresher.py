"""A ``TopologyRefresher`` with fake nodes, on a clock that only the test advances, for tests to inherit."""

from __future__ import annotations

from random import Random
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.cases import SynchronousTestCase
from tests.topology.test_parsers import finish
from txvalkeycluster.address import Address
from txvalkeycluster.connection.factory import ClusterFactory
from txvalkeycluster.connection.handshake import ServerInfo
from txvalkeycluster.errors import ConnectFailed, ReplyError
from txvalkeycluster.options import Options
from txvalkeycluster.requests.retry_queue import RetryQueue
from txvalkeycluster.routing.refresh import TopologyRefresher
from txvalkeycluster.routing.slot_map import Draft, SlotMap
from txvalkeycluster.statistics import Statistics
from txvalkeycluster.topology.model import Shard
from txvalkeycluster.topology.parsers import read_slots


def slots(*ids: str, port: int = 1) -> list[Any]:
    """Return a CLUSTER SLOTS reply in which nodes with these ids have one range each."""
    width = 16384 // len(ids)
    return [[n * width, (n + 1) * width - 1, [b"h", port + n, node.encode()]] for n, node in enumerate(ids)]


def fragmented_slots(*ids: str, count: int) -> list[Any]:
    """Return a CLUSTER SLOTS reply with ``count`` ranges, whose owners alternate."""
    width = 16384 // count
    owner = [(b"h", n + 1, node.encode()) for n, node in enumerate(ids)]
    return [[n * width, (n + 1) * width - 1, list(owner[n % len(ids)])] for n in range(count)]


def by_shard(rows: list[Any]) -> list[dict[bytes, Any]]:
    """Return the CLUSTER SHARDS reply for the rows of CLUSTER SLOTS."""
    slots: dict[Any, list[int]] = {}
    for start, end, node in rows:
        slots.setdefault(tuple(node), []).extend((start, end))
    return [
        {b"slots": bounds, b"nodes": [{b"id": node, b"port": port, b"ip": host, b"endpoint": host, b"role": b"master"}]}
        for (host, port, node), bounds in slots.items()
    ]


class FakeNode:
    """In place of a node: records each question, which the test answers."""

    def __init__(self, number: int) -> None:
        self.address = Address("h", number)
        self.asked: list[Deferred[Any]] = []
        self.questions: list[str] = []
        self.info: ServerInfo | None = ServerInfo(protocol=3, version="9.1.2")

    def call(self, *args: Any) -> Deferred[Any]:
        self.questions.append(args[1])
        self.asked.append(Deferred())
        return self.asked[-1]

    def answer(self, reply: Any) -> None:
        self.asked[-1].callback(reply)

    def refuse(self) -> None:
        self.asked[-1].errback(ReplyError("ERR unknown subcommand"))

    def fail(self) -> None:
        self.asked[-1].errback(ConnectFailed(f"{self.address}: gone"))


class FakeFactory:
    """In place of the factory: the nodes that can be asked, in the order of the questions."""

    def __init__(self) -> None:
        self.nodes = [FakeNode(number) for number in (1, 2, 3)]

    def candidates(self) -> list[FakeNode]:
        return list(self.nodes)

    def node_at(self, address: Address) -> FakeNode:
        known = [node for node in self.nodes if node.address == address]
        return known[0] if known else FakeNode(address.port)

    def install(self, listed: Any) -> tuple[list[Any], list[Any]]:
        return [], []


class RefresherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        fake = FakeFactory()
        self.factory = cast(ClusterFactory, fake)
        self.nodes = fake.nodes
        self.slot_map = SlotMap(self.factory, cast(RetryQueue, "ownerless"), Random(1))
        self.failures: list[Exception] = []
        self.refresher = self.make()

    def make(self, protocol: int = 2, **options: Any) -> TopologyRefresher:
        """Return a refresher. With RESP2 the version of a server is unknown, and only CLUSTER SLOTS is asked."""
        return TopologyRefresher(
            self.clock,
            Options(**{"random": Random(1), "protocol": protocol, **options}),
            self.slot_map,
            self.factory,
            Statistics(),
            install=self.install,
            failed=self.failures.append,
            needed=lambda: False,
        )

    def install(self, draft: Draft | None) -> None:
        if draft is not None:
            self.slot_map.install(draft)

    @property
    def map(self) -> tuple[Shard, ...]:
        return self.slot_map.topology.shards

    def know(self, rows: list[Any]) -> None:
        """Put a map in use."""
        self.install(finish(self.slot_map.draft(finish(read_slots(rows, Address("h", 1))))))

    @property
    def questions(self) -> int:
        return sum(len(node.asked) for node in self.nodes)
