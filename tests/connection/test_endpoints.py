"""How a client dials a node: with or without TLS, by address or by name, and at a mapped address."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from zope.interface import alsoProvides, implementer

from tests.cases import SynchronousTestCase
from tests.memory import MemoryTests
from txvalkeycluster import ClientClosed, ClusterClient
from txvalkeycluster.connection.endpoints import endpoint_maker
from txvalkeycluster.connection.tls import TLSEndpoints
from txvalkeycluster.options import Options
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, Certificates


class Transport:
    """A transport that records its socket options; its handle has none."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def setTcpNoDelay(self, on: bool) -> None:
        self.calls.append(("no delay", on))

    def setTcpKeepAlive(self, on: bool) -> None:
        self.calls.append(("keep alive", on))

    def getHandle(self) -> str:
        return "handle"

    def abortConnection(self) -> None:
        self.calls.append("aborted")


@implementer(IHostnameResolver)
class Resolver:
    """A resolver that records the names that it is asked for."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        self.names.append(hostName)
        return resolutionReceiver


def endpoints(reactor: Any, options: Options) -> Any:
    """Return what makes the endpoints of a client with these options."""
    return endpoint_maker(reactor, options, TLSEndpoints(reactor, options, print) if options.tls else None)


def memory_reactor() -> Any:
    return MemoryReactorClock()  # type: ignore[no-untyped-call]


class DialTests(SynchronousTestCase):
    def dial(self, host: str, factory: Any = None, **options: Any) -> tuple[Any, Deferred[Any]]:
        reactor = memory_reactor()
        factory = factory if factory is not None else Factory.forProtocol(Protocol)
        connecting = endpoints(reactor, Options(**options))(host, 7000).connect(factory)
        connecting.addErrback(lambda _: None)
        return reactor, connecting

    def test_ip_addresses_are_not_resolved(self) -> None:
        """IP addresses are dialled without a query to a resolver."""
        for host in ("127.0.0.1", "::1"):
            reactor, _ = self.dial(host, connect_timeout=3.0)
            (connection,) = reactor.tcpClients
            self.assertEqual((*connection[:2], connection[3]), (host, 7000, 3.0))

    def test_names_are_resolved_at_every_attempt(self) -> None:
        reactor = memory_reactor()
        resolver = reactor.nameResolver = Resolver()
        # The reactor for tests does not provide this in Twisted 24.10.
        alsoProvides(reactor, IReactorPluggableNameResolver)
        dial = endpoints(reactor, Options())
        for _ in range(2):
            dial("valkey.example", 7000).connect(Factory.forProtocol(Protocol)).addErrback(lambda _: None)
        self.assertEqual(resolver.names, ["valkey.example"] * 2)

    def test_address_map(self) -> None:
        """``address_map`` is a function, or a mapping that leaves other addresses as they are."""
        mapping = {("10.0.0.1", 7000): ("127.0.0.1", 8000)}
        for address_map in (mapping, lambda host, port: mapping.get((host, port), (host, port))):
            for host, expected in (("10.0.0.1", ("127.0.0.1", 8000)), ("10.0.0.2", ("10.0.0.2", 7000))):
                reactor, _ = self.dial(host, address_map=address_map)
                self.assertEqual(reactor.tcpClients[0][:2], expected)

    def test_socket_options_are_set_first(self) -> None:
        """Before the protocol knows of the connection, the socket has its options and ``on_socket`` has been called."""
        seen: list[Any] = []
        reactor, connecting = self.dial("127.0.0.1", on_socket=lambda *what: seen.append(what))
        protocol = reactor.tcpClients[0][2].buildProtocol(None)
        transport = Transport()
        protocol.makeConnection(transport)
        self.assertIsNotNone(self.successResultOf(connecting))
        self.assertEqual(transport.calls, [("no delay", True), ("keep alive", True)])
        self.assertEqual(seen, [("handle", ("127.0.0.1", 7000))])

    def test_a_connection_that_the_factory_refuses(self) -> None:
        """If an attempt succeeds after it was given up, no protocol is made."""
        factory: Any = Factory()
        factory.buildProtocol = lambda _: None
        reactor, _ = self.dial("127.0.0.1", factory)
        self.assertIsNone(reactor.tcpClients[0][2].buildProtocol(None))


class TLSTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.made = Certificates.make("127.0.0.1", "node.example")

    def written(self, data: bytes) -> str:
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(data)
        return path

    def test_certificates(self) -> None:
        """Certificates are accepted as bytes, as files and as objects of Twisted."""
        made = self.made
        authority = ssl.Certificate.loadPEM(made.authority)
        client = ssl.PrivateCertificate.loadPEM(made.client)  # type: ignore[no-untyped-call]
        for trusted in (made.authority, self.written(made.authority), authority, None):
            for shown in (made.client, self.written(made.client), client, None):
                reactor = memory_reactor()
                dial = endpoints(reactor, Options(tls=True, trust_root=trusted, client_certificate=shown))
                for _ in range(2):
                    dial("127.0.0.1", 7000).connect(Factory.forProtocol(Protocol))
                self.assertEqual(len(reactor.tcpClients), 2)

    def test_unreadable_certificates(self) -> None:
        """An unreadable certificate fails the constructor of the client, and the error names the option."""
        missing = os.path.join(self.mktemp(), "none.pem")
        for options, text in (
            ({"trust_root": missing}, "trust_root: "),
            ({"trust_root": b"no certificate"}, "trust_root holds no PEM certificate"),
            ({"client_certificate": missing}, "client_certificate: "),
        ):
            with self.assertRaisesRegex(ValueError, text):
                ClusterClient(memory_reactor(), "valkeys://127.0.0.1", **options)


class GivenUpTests(MemoryTests):
    """An endpoint of the application can deliver a connection after its attempt was cancelled."""

    def uncancellable(self) -> Any:
        """Return an endpoint whose attempt succeeds when it is cancelled."""

        class Endpoint:
            def connect(inner, factory: Any) -> Deferred[Any]:
                def cancelled(dialling: Deferred[Any]) -> None:
                    self.network.connect(self.nodes[0].address, factory).chainDeferred(dialling)

                return Deferred(cancelled)

        return Endpoint()

    def test_abort(self) -> None:
        """``abort`` closes a connection that is delivered late."""
        client = self.lazy_client(endpoint_for=lambda host, port: self.uncancellable())
        waiting = client.get("k")
        self.network.settle()
        self.result_of(client.abort())
        self.failureResultOf(waiting)
        self.advance(20.0, step=1.0)
        self.assertEqual(self.nodes[0].connections, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close(self) -> None:
        """``close`` waits until a connection that is delivered late is closed."""
        client = self.lazy_client(endpoint_for=lambda host, port: self.uncancellable())
        waiting = client.get("k")
        self.network.settle()
        closed = client.close()
        waiting.cancel()
        self.failureResultOf(waiting)
        self.advance(20.0, step=1.0)
        self.successResultOf(closed)
        self.assertEqual(self.nodes[0].connections, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_exclusive_connection(self) -> None:
        """``close`` also waits for an exclusive connection that is delivered late."""
        odd: list[Any] = []
        client = self.client(endpoint_for=lambda host, port: odd[0] if odd else self.network.endpoint_for(host, port))
        key = self.key_of(self.nodes[0])
        self.result_of(client.get(key))
        odd.append(self.uncancellable())
        self.nodes[0].script = lambda node, words, _: SILENCE if words[0] == b"GET" else DEFAULT_REPLY
        # close() waits for this command, so the new connection has time to finish its handshake.
        other = client.get(key)
        waiting = client.blpop(key, 0)
        self.network.settle()
        closed = client.close()
        self.failureResultOf(waiting, ClientClosed)
        self.network.settle()
        self.assertEqual(len(self.nodes[0].connections), 1)
        self.nodes[0].connections[0].write(b"_\r\n")
        self.assertIsNone(self.result_of(other))
        self.network.settle()
        self.successResultOf(closed)
        self.assertEqual(self.nodes[0].connections, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
