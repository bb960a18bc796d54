"""A client and scripted nodes in memory, without sockets, on a clock that only the test advances."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IReactorFromThreads, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport, IOPump
from zope.interface import implementer

from tests.cases import SynchronousTestCase
from txvalkeycluster import Address, ClusterClient
from txvalkeycluster.testing import ScriptedCluster, ScriptedNode
from txvalkeycluster.testing.scripted import Connection

_T = TypeVar("_T")
_E = TypeVar("_E", bound=Exception)

# More reactor turns than a few commands need.
_TURNS = 200


# Twisted does not declare the types of these.
_FakeTransport: Callable[..., Any] = FakeTransport
_IOPump: Callable[..., Any] = IOPump
_ConnectionRefusedError: Callable[[], Exception] = ConnectionRefusedError


def _refused() -> Deferred[Any]:
    return fail(_ConnectionRefusedError())


@implementer(IReactorFromThreads)
class ThreadedClock(Clock):
    """A clock that the garbage collector can call at any moment, also while the clock sorts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self._from_threads: deque[Callable[[], object]] = deque()

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Call a function at the next `advance`."""
        self._from_threads.append(partial(callable, *args, **kwargs))

    def callInThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Not used."""
        raise NotImplementedError

    def getThreadPool(self) -> Any:
        """Not used."""
        raise NotImplementedError

    def suggestThreadPoolSize(self, size: int) -> None:
        """Not used."""
        raise NotImplementedError

    def advance(self, amount: float) -> None:
        """Let time pass."""
        while self._from_threads:
            self._from_threads.popleft()()
        super().advance(amount)


class Network:
    """Connects clients to scripted nodes by their addresses."""

    def __init__(self, clock: Clock, nodes: list[ScriptedNode]) -> None:
        self.clock = clock
        #: Functions that replace the connection attempt, by address.
        self.instead: dict[Address, Callable[[], Deferred[Any]]] = {}
        #: The time and the address of every connection attempt.
        self.dials: list[tuple[float, Address]] = []
        self._nodes = {node.address: node for node in nodes}
        self._pumps: list[Any] = []

    def add(self, node: ScriptedNode) -> None:
        """Make a node reachable at its address."""
        self._nodes[node.address] = node

    def refuse(self, node: ScriptedNode) -> None:
        """Refuse new connections to a node, and close the open ones."""
        self.instead[node.address] = _refused
        self.cut(node)

    def cut(self, node: ScriptedNode) -> None:
        """Close the connections of a node."""
        for connection in list(node.connections):
            connection.close()

    def endpoint_for(self, host: str, port: int) -> Any:
        """Return an endpoint in memory: the option ``endpoint_for`` of a client."""
        return _Endpoint(self, Address(host, port))

    def connect(self, address: Address, factory: Any) -> Deferred[Any]:
        """Connect to a node in memory, or call the function that replaces the attempt."""
        self.dials.append((self.clock.seconds(), address))
        if address in self.instead:
            return self.instead[address]()
        client = factory.buildProtocol(None)
        node = self._nodes.get(address)
        if client is None or node is None:
            return _refused()
        node.accepted += 1
        server: Any = Connection(node, node.accepted)
        client_end, server_end = _FakeTransport(client, False), _FakeTransport(server, True)
        self._pumps.append(_IOPump(client, server, client_end, server_end, False, self.clock))
        server.makeConnection(server_end)
        client.makeConnection(client_end)
        connected: Deferred[Any] = Deferred()
        connected.callback(client)
        return connected

    def trickle(self, random: Random, pace: float) -> None:
        """Run the calls that are due, and deliver the bytes of each connection with the probability ``pace``."""
        self.clock.advance(0)
        for pump in list(self._pumps):
            if random.random() < pace:
                pump.pump(advanceClock=False)

    def step(self) -> None:
        """Run what is due now, and let the bytes arrive that are on the way now."""
        self.clock.advance(0)
        for pump in list(self._pumps):
            pump.pump(advanceClock=False)

    def settle(self) -> None:
        """Run the calls that are due and deliver all bytes, until nothing is left to do."""
        for _ in range(_TURNS):
            self.clock.advance(0)
            moved = [pump.pump(advanceClock=False) for pump in list(self._pumps)]
            due = any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls())
            if not any(moved) and not due:
                return
        raise AssertionError(f"the client or a node is still busy after {_TURNS} turns")


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, network: Network, address: Address) -> None:
        self._network = network
        self._address = address

    def connect(self, factory: Any) -> Deferred[Any]:
        return self._network.connect(self._address, factory)


class MemoryTests(SynchronousTestCase):
    """Three scripted nodes that share the slots, for tests to inherit."""

    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.cluster = ScriptedCluster(self.clock)
        for index, node in enumerate(self.cluster.nodes):
            node.address = Address("node", 7000 + index)
        self.nodes = self.cluster.nodes
        self.network = Network(self.clock, self.nodes)

    def client(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client that has the slot map."""
        client = self.lazy_client(**options)
        self.result_of(client.refresh_topology())
        return client

    def lazy_client(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client that has no slot map yet."""
        client = self.made(**options)
        self.addCleanup(client.abort)
        return client

    def made(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client that the test closes itself."""
        seeds = ",".join(str(node.address) for node in self.nodes)
        options = {"seeds": seeds, "endpoint_for": self.network.endpoint_for, "random": Random(1), **options}
        return ClusterClient(self.clock, **options)

    def key_of(self, node: ScriptedNode, number: int = 0) -> str:
        """Return a key whose slot belongs to ``node``; each ``number`` gives another key."""
        return self.cluster.keys_of(node, number + 1)[number]

    def advance(self, seconds: float, step: float = 0.01) -> None:
        """Advance the clock in small steps, and deliver all bytes at each step."""
        self.network.settle()
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end - 1e-9:
            self.clock.advance(min(step, end - self.clock.seconds()))
            self.network.settle()

    def result_of(self, deferred: Deferred[_T]) -> _T:
        """Return the result of a Deferred that fires within a second."""
        self._let_fire(deferred)
        return self.successResultOf(deferred)

    def error_of(self, deferred: Deferred[Any], *kinds: type[_E]) -> _E:
        """Return the error of a Deferred that fails within a second."""
        self._let_fire(deferred)
        return self.failureResultOf(deferred, *kinds).value

    def _let_fire(self, deferred: Deferred[Any]) -> None:
        self.network.settle()
        for _ in range(100):
            if deferred.called:
                break
            self.advance(0.01)
