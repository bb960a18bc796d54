"""A proxy before scripted nodes, and its clients, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import connectionDone

from tests.memory import MemoryTests
from txvalkeycluster import ClusterClient
from txvalkeycluster.proxy.server import ProxyServer
from txvalkeycluster.proxy.session import ClientSession
from txvalkeycluster.proxy.settings import ProxySettings


class ClientEnd:
    """The connection of a client of the proxy, in memory: the transport of its session."""

    def __init__(self, server: ProxyServer) -> None:
        #: What the client has received.
        self.received = bytearray()
        self.closed = False
        self.reading = True
        made: Any = server.buildProtocol(None)
        #: The session.
        self.session: ClientSession = made
        self.session.makeConnection(self)

    def send(self, data: bytes) -> None:
        """Send bytes to the proxy, which may have closed the connection."""
        if not self.closed:
            self.session.dataReceived(data)

    def close(self) -> None:
        """Close the connection."""
        if not self.closed:
            self.closed = True
            self.session.connectionLost(connectionDone)

    # ---- the methods of a transport

    def write(self, data: bytes) -> None:
        self.received += data

    def writeSequence(self, parts: list[bytes]) -> None:
        self.received += b"".join(parts)

    def loseConnection(self) -> None:
        self.close()

    def abortConnection(self) -> None:
        self.close()

    def registerProducer(self, producer: object, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def fileno(self) -> int:
        return -1

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "10.0.0.1", 1000)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "10.0.0.2", 6379)


class _Server(ProxyServer):
    """A proxy whose clients connect in memory."""

    def __init__(self, tests: MemoryProxyTests, settings: ProxySettings) -> None:
        self._tests = tests
        super().__init__(tests.clock, settings)

    def connect(self, protocol: int, user: str | None, password: str | None) -> ClusterClient[bytes]:
        return self._tests.made(protocol=protocol, raw_replies=True)


class MemoryProxyTests(MemoryTests):
    """Tests with a proxy before three scripted nodes, for tests to inherit."""

    def proxy(self, **settings: Any) -> ProxyServer:
        """Start a proxy."""
        server = _Server(self, ProxySettings(cluster="valkey://node:7000", **settings))
        server.start()
        self.network.settle()
        self.addCleanup(server.abort)
        return server
