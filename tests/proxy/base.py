"""The base of tests of the proxy: a cluster, a proxy in this process, and a client that sends and collects bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.cluster.base import ClusterTests
from txvalkeycluster.framing import ReplyFramer
from txvalkeycluster.proxy import ProxyService, ProxySettings
from txvalkeycluster.testing.ports import free_ports
from txvalkeycluster.testing.processes import ProcessGroup, find_server

HOST = "127.0.0.1"
_LARGEST = 1 << 32


def request(*words: bytes | str | int | float) -> bytes:
    """Return a request as a RESP array."""
    plain = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n%b" % (len(plain), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in plain))


def frames_of(reply: bytes) -> list[bytes]:
    """Cut bytes into complete replies."""
    return ReplyFramer(_LARGEST).feed(reply)


class Wire(Protocol):
    """A connection that sends bytes and collects what it receives."""

    def __init__(self) -> None:
        #: All bytes that came and were not taken yet.
        self.received = b""
        self.closed = False
        self._frames: list[bytes] = []
        self._framer = ReplyFramer(_LARGEST)
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def send(self, data: bytes) -> None:
        """Send bytes."""
        assert self.transport is not None
        self.transport.write(data)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is checked whenever bytes come and when the connection ends."""
        if not condition():
            waiter: Deferred[None] = Deferred()
            self._waiting.append((condition, waiter))
            await waiter

    async def replies(self, count: int) -> list[bytes]:
        """Return the next replies, each with its bytes; fewer if the connection ends before."""
        await self.until(lambda: len(self._frames) >= count or self.closed)
        found, self._frames = self._frames[:count], self._frames[count:]
        return found

    async def call(self, *words: bytes | str | int | float) -> bytes:
        """Send one request and return the bytes of its reply; empty if the connection ends before."""
        self.send(request(*words))
        return b"".join(await self.replies(1))

    async def ended(self) -> bytes:
        """Wait until the other side closes the connection; return all bytes that were not taken."""
        await self.until(lambda: self.closed)
        return self.received

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._frames += self._framer.feed(data)
        self._check()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True
        self._check()

    def close(self) -> None:
        """Close the connection."""
        assert self.transport is not None
        self.transport.loseConnection()

    def _check(self) -> None:
        waiting, self._waiting = self._waiting, []
        for condition, waiter in waiting:
            if condition():
                waiter.callback(None)
            else:
                self._waiting.append((condition, waiter))


async def wire_to(port: int) -> Wire:
    """Return a connection to a port of this machine."""
    endpoint: Any = TCP4ClientEndpoint(reactor, HOST, port)
    wire: Wire = await connectProtocol(endpoint, Wire())  # type: ignore[no-untyped-call]
    return wire


class ProxyTests(ClusterTests):
    """Each test has a cluster of three primaries, and a proxy before it."""

    options: ClassVar[dict[str, Any]] = {"replicas": 0}
    #: The settings of the proxy beside ``cluster`` and ``listen``.
    settings: ClassVar[dict[str, Any]] = {}

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.service = await self.start_proxy(**self.settings)
        self.port = self.port_of(self.service)

    async def start_proxy(self, **settings: Any) -> ProxyService:
        """Start a proxy, which ends with the test."""
        settings = {"cluster": self.cluster.url, "listen": (f"tcp:0:interface={HOST}",), **settings}
        service = ProxyService(reactor, ProxySettings(**settings))
        service.startService()
        self.addCleanup(service.stopService)
        await service.whenListening()
        return service

    def port_of(self, service: ProxyService) -> int:
        """Return the port of a proxy."""
        port: Any = service.ports[0]
        return int(port.getHost().port)

    async def wire(self, port: int | None = None) -> Wire:
        """Return a connection to the proxy, or to another port.  It is closed when the test ends."""
        made = await wire_to(self.port if port is None else port)
        self.addCleanup(made.close)
        return made

    async def start_single(self, *options: str) -> int:
        """Start a single server without cluster support, which ends with the test; return its port.

        Args:
            *options: More options of its command line.
        """
        group = ProcessGroup()
        self.addCleanup(group.close)
        (port,) = free_ports(HOST, 1)
        command = [find_server(), "--port", str(port), "--bind", HOST, "--save", "", *options]
        process = group.start(command, group.folder)
        while True:
            try:
                wire = await wire_to(port)
            except ConnectError:
                self.assertIsNone(process.poll(), (group.folder / "log").read_text(errors="replace"))
                await deferLater(reactor, 0.01)
            else:
                wire.close()
                return port

    async def ask(self, wire: Wire, requests: Sequence[bytes]) -> list[bytes]:
        """Send requests in one write; return the bytes of as many replies."""
        wire.send(b"".join(requests))
        return await wire.replies(len(requests))
