"""Host and port -> Twisted endpoint: plain, TLS, mapped for NAT, with a look at the socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from inspect import signature
from typing import Any

from OpenSSL import SSL
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet import ssl
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from ..address import Address
from ..options import Options

# TLS contexts that are kept, each with all trusted certificates.
_CONTEXTS = 4096
EndpointFor = Callable[[str, int], Any]

# Seconds of silence before the kernel asks a peer whether it lives, between two questions, and how many go unanswered.
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


def endpoint_maker(reactor: IReactorTime, options: Options) -> EndpointFor:
    """The way this client dials a node, from its options."""
    dial: EndpointFor
    if options.endpoint_for is not None:
        dial = options.endpoint_for
    else:
        tcp = plain(reactor, options.connect_timeout, options.on_socket)
        dial = secured(tcp, reactor, options) if options.tls else tcp
    return mapped(dial, options.address_map) if options.address_map is not None else dial


def plain(
    reactor: IReactorTime, timeout: float, on_socket: Callable[[Any, Address], None] | None = None
) -> EndpointFor:
    """TCP.  IP literals are dialled as they are; names are resolved anew each time, IPv6 and IPv4 raced."""

    def endpoint_for(host: str, port: int) -> Any:
        endpoint: Any
        if isIPAddress(host):
            endpoint = TCP4ClientEndpoint(reactor, host, port, timeout=timeout)
        elif isIPv6Address(host):
            endpoint = TCP6ClientEndpoint(reactor, host, port, timeout=timeout)  # type: ignore[no-untyped-call]
        else:
            # HostnameEndpoint sends each look-up through a thread; for literals that is 1.0 ms against 0.36 ms.
            endpoint = HostnameEndpoint(reactor, host, port, timeout=timeout)
        return _SocketEndpoint(endpoint, Address(host, port), on_socket)

    return endpoint_for


def secured(dial: EndpointFor, reactor: IReactorTime, options: Options) -> EndpointFor:
    """TLS over ``dial``, certificate and name verified; the name is ``server_name`` or the host that was dialled."""
    trust_root = _trust_root(options.trust_root)
    certificate = _client_certificate(options.client_certificate)
    # Making the context reads every trusted certificate: once for each name, not for each connection.
    contexts: dict[str, Any] = {}
    # Before Twisted 26.4 it took the global reactor's.
    clock = {"clock": reactor} if "clock" in signature(wrapClientTLS).parameters else {}

    def endpoint_for(host: str, port: int) -> Any:
        name = options.server_name or host
        if name not in contexts:
            if len(contexts) >= _CONTEXTS:
                # A cluster can tell of ever more names.
                contexts.clear()
            creator = ssl.optionsForClientTLS(name, trustRoot=trust_root, clientCertificate=certificate)
            contexts[name] = _NameVerifier(creator, name)
        return wrapClientTLS(contexts[name], dial(host, port), **clock)

    return endpoint_for


def mapped(dial: EndpointFor, addresses: Any) -> EndpointFor:
    """Dial something else than what the cluster announces; what a mapping does not hold stays as it is."""

    def endpoint_for(host: str, port: int) -> Any:
        target = addresses(host, port) if callable(addresses) else addresses.get((host, port), (host, port))
        return dial(*target)

    return endpoint_for


@implementer(IOpenSSLClientConnectionCreator)
class _NameVerifier:
    """Verifies the host name itself, since Twisted 26.10 lets a certificate pass that has no subjectAltName at all."""

    def __init__(self, creator: Any, name: str) -> None:
        self._creator = creator
        self._id: Any = IPAddress_ID(name) if isIPAddress(name) or isIPv6Address(name) else DNS_ID(name)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection: SSL.Connection = self._creator.clientConnectionForTLS(tlsProtocol)

        def verify(_: SSL.Connection, certificate: Any, error: int, depth: int, ok: int) -> bool:
            if ok and depth == 0:
                try:
                    verify_service_identity(extract_patterns(certificate), [self._id], [])
                except Exception:
                    # OpenSSL calls us from C: whatever went wrong must end here, and end the handshake.
                    tlsProtocol.failVerification(Failure())  # type: ignore[no-untyped-call]
                    return False
            return bool(ok)

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection


@implementer(IStreamClientEndpoint)
class _SocketEndpoint:
    """Sets socket options, and shows the socket to the application, before a byte is sent."""

    def __init__(self, endpoint: Any, address: Address, on_socket: Callable[[Any, Address], None] | None) -> None:
        self._endpoint = endpoint
        self._address = address
        self._on_socket = on_socket

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory = _SocketFactory(protocolFactory, self._prepare)
        connected: Deferred[IProtocol] = self._endpoint.connect(factory)
        return connected.addCallback(factory.check)

    def _prepare(self, transport: Any) -> None:
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        sock = transport.getHandle()
        for name, value in _KEEPALIVE:
            if hasattr(socket, name) and hasattr(sock, "setsockopt"):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if self._on_socket is not None:
            self._on_socket(sock, self._address)


class _SocketFactory(Factory):
    """Has a look at the transport on its way to the protocol that another factory makes."""

    noisy = False

    def __init__(self, wrapped: Any, prepare: Callable[[Any], None]) -> None:
        self._wrapped = wrapped
        self._prepare = prepare
        self._failure: Failure | None = None

    def check(self, connected: Any) -> Any:
        """Give the connection that was made, or why it was given up."""
        return connected if self._failure is None else self._failure

    def buildProtocol(self, addr: IAddress | None) -> Any:
        made = self._wrapped.buildProtocol(addr)
        if made is not None:
            make_connection = made.makeConnection

            def connected(transport: Any) -> None:
                del made.makeConnection
                try:
                    self._prepare(transport)
                except Exception:
                    # The application's own; it fails the dial, and the protocol never hears of it.
                    self._failure = Failure()  # type: ignore[no-untyped-call]
                    made.dataReceived = made.connectionLost = lambda _: None
                    transport.abortConnection()
                    return
                make_connection(transport)

            made.makeConnection = connected
        return made


def _trust_root(given: Any) -> Any:
    if given is None or not isinstance(given, (str, bytes, os.PathLike)):
        return given
    begin = b"-----BEGIN CERTIFICATE-----"
    pieces = _pem(given, "trust_root").split(begin)[1:]
    if not pieces:
        raise ValueError("trust_root holds no PEM certificate")
    certificates = [ssl.Certificate.loadPEM(begin + piece) for piece in pieces]
    return ssl.trustRootFromCertificates(certificates)  # type: ignore[no-untyped-call]


def _client_certificate(given: Any) -> Any:
    if given is None or not isinstance(given, (str, bytes, os.PathLike)):
        return given
    return ssl.PrivateCertificate.loadPEM(_pem(given, "client_certificate"))  # type: ignore[no-untyped-call]


def _pem(given: Any, option: str) -> bytes:
    if isinstance(given, bytes):
        return given
    try:
        with open(given, "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"{option}: {error}") from error
