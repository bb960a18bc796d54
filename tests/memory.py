"""A client and scripted nodes in memory: no sockets, and time that passes only when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport, IOPump
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txvalkeycluster import Address, ClusterClient
from txvalkeycluster.testing import ScriptedCluster, ScriptedNode
from txvalkeycluster.testing.scripted import Connection

# Enough turns for whatever a few commands set off.
_TURNS = 200


class Network:
    """Connects clients to scripted nodes by their addresses."""

    def __init__(self, clock: Clock, nodes: list[ScriptedNode]) -> None:
        self.clock = clock
        #: What is done in place of connecting to an address.
        self.instead: dict[Address, Callable[[], Deferred[Any]]] = {}
        #: Every attempt to connect: when, and where.
        self.dials: list[tuple[float, Address]] = []
        self._nodes = {node.address: node for node in nodes}
        self._pumps: list[IOPump] = []

    def add(self, node: ScriptedNode) -> None:
        """Have a node be reached at its address."""
        self._nodes[node.address] = node

    def refuse(self, node: ScriptedNode) -> None:
        """Refuse connections from now on, and end those that there are."""
        self.instead[node.address] = lambda: fail(ConnectionRefusedError())
        self.cut(node)

    def cut(self, node: ScriptedNode) -> None:
        """End the connections of a node."""
        for connection in list(node.connections):
            connection.close()

    def endpoint_for(self, host: str, port: int) -> Any:
        """For the option of that name."""
        return _Endpoint(self, Address(host, port))

    def connect(self, address: Address, factory: Any) -> Deferred[Any]:
        """Connect to a node, or do what is to be done instead."""
        self.dials.append((self.clock.seconds(), address))
        if address in self.instead:
            return self.instead[address]()
        client = factory.buildProtocol(None)
        if client is None:
            return fail(ConnectionRefusedError())
        node = self._nodes.get(address)
        if node is None:
            return fail(ConnectionRefusedError())
        node.accepted += 1
        server = Connection(node, node.accepted)
        client_end, server_end = FakeTransport(client, False), FakeTransport(server, True)
        self._pumps.append(IOPump(client, server, client_end, server_end, False, self.clock))
        server.makeConnection(server_end)
        client.makeConnection(client_end)
        connected: Deferred[Any] = Deferred()
        connected.callback(client)
        return connected

    def trickle(self, random: Random, pace: float) -> None:
        """Let what is due now happen, and some of the bytes arrive: those of a connection with the chance ``pace``."""
        self.clock.advance(0)
        for pump in list(self._pumps):
            if random.random() < pace:
                pump.pump(advanceClock=False)

    def settle(self) -> None:
        """Let what is due now happen, until nothing moves any more."""
        for _ in range(_TURNS):
            self.clock.advance(0)
            moved = [pump.pump(advanceClock=False) for pump in list(self._pumps)]
            due = any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls())
            if not any(moved) and not due:
                return
        raise AssertionError("something goes on and on")


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, network: Network, address: Address) -> None:
        self._network = network
        self._address = address

    def connect(self, factory: Any) -> Deferred[Any]:
        return self._network.connect(self._address, factory)


class MemoryTests(SynchronousTestCase):
    """Three scripted nodes that share the slots."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.cluster = ScriptedCluster(None)
        for index, node in enumerate(self.cluster.nodes):
            node.address = Address("node", 7000 + index)
        self.nodes = self.cluster.nodes
        self.network = Network(self.clock, self.nodes)

    def client(self, **options: Any) -> ClusterClient[bytes]:
        """A client that knows the slot map."""
        client = self.lazy_client(**options)
        self.result_of(client.refresh_topology())
        return client

    def lazy_client(self, **options: Any) -> ClusterClient[bytes]:
        """A client that knows no slot map yet."""
        client = self.made(**options)
        self.addCleanup(client.abort)
        return client

    def made(self, **options: Any) -> ClusterClient[bytes]:
        """A client that the test ends itself."""
        seeds = ",".join(str(node.address) for node in self.nodes)
        options = {"seeds": seeds, "endpoint_for": self.network.endpoint_for, "random": Random(1), **options}
        return ClusterClient(self.clock, **options)

    def key_of(self, node: ScriptedNode, number: int = 0) -> str:
        """The number-th key that lives on a node."""
        return self.cluster.keys_of(node, number + 1)[number]

    def advance(self, seconds: float, step: float = 0.01) -> None:
        """Let time pass in small steps, and everything happen that comes with it."""
        self.network.settle()
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end - 1e-9:
            self.clock.advance(min(step, end - self.clock.seconds()))
            self.network.settle()

    def result_of(self, deferred: Deferred[Any]) -> Any:
        """What it fires with, within a second."""
        self._let_fire(deferred)
        return self.successResultOf(deferred)

    def error_of(self, deferred: Deferred[Any], *kinds: type[Exception]) -> Any:
        """What it fails with, within a second."""
        self._let_fire(deferred)
        return self.failureResultOf(deferred, *kinds).value

    def _let_fire(self, deferred: Deferred[Any]) -> None:
        self.network.settle()
        for _ in range(100):
            if deferred.called:
                break
            self.advance(0.01)
