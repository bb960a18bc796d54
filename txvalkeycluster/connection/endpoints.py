"""Make Twisted endpoints from host and port: TCP or TLS, with mapped addresses for NAT, with socket options."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import X509
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
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ..address import Address
from ..options import Options

# The most TLS contexts that are kept.  Each holds all trusted certificates.
_CONTEXTS = 4096
#: Makes the endpoint for a host and a port.
EndpointFor = Callable[[str, int], IStreamClientEndpoint]
_Path = str | os.PathLike[str]

# Seconds of silence before the kernel's first probe, seconds between two probes, probes without an answer.
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


def endpoint_maker(reactor: IReactorTime, options: Options) -> EndpointFor:
    """Make the function that gives an endpoint for each node.

    Args:
        reactor: The reactor that dials.
        options: The options of the client: ``endpoint_for``, ``address_map``, ``tls`` and those that go with TLS.

    Returns:
        A function from host and port to an endpoint.

    Raises:
        ValueError: ``trust_root`` or ``client_certificate`` cannot be read, or holds no certificate.
    """
    dial: EndpointFor
    if options.endpoint_for is not None:
        dial = options.endpoint_for
    else:
        tcp = plain(reactor, options.connect_timeout, options.on_socket)
        dial = secured(tcp, reactor, options) if options.tls else tcp
    return mapped(dial, options.address_map) if options.address_map is not None else dial


def plain(
    reactor: IReactorTime, timeout: float, on_socket: Callable[[socket.socket, Address], None] | None = None
) -> EndpointFor:
    """Make endpoints for TCP.

    A host name is resolved at each dial; its IPv6 and IPv4 addresses are tried in parallel.  An IP address needs no
    look-up.

    Args:
        reactor: The reactor that dials.
        timeout: The limit of a TCP connect, in seconds.
        on_socket: Called with the socket and the address right after the TCP connect.

    Returns:
        A function from host and port to an endpoint.
    """

    def endpoint_for(host: str, port: int) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint
        if isIPAddress(host):
            endpoint = TCP4ClientEndpoint(reactor, host, port, timeout=timeout)
        elif isIPv6Address(host):
            endpoint = TCP6ClientEndpoint(reactor, host, port, timeout=timeout)  # type: ignore[no-untyped-call]
        else:
            # Only for names: HostnameEndpoint uses a thread for each look-up (1.0 ms a dial against 0.36 ms).
            endpoint = HostnameEndpoint(reactor, host, port, timeout=timeout)
        return _SocketEndpoint(endpoint, Address(host, port), on_socket)

    return endpoint_for


def secured(dial: EndpointFor, reactor: IReactorTime, options: Options) -> EndpointFor:
    """Make endpoints for TLS that verify the certificate and the host name.

    Args:
        dial: Makes the endpoints for TCP.
        reactor: The clock of the TLS connections.
        options: The options of the client.  The certificate must be valid for ``server_name``, or for the dialled host
            if there is no ``server_name``.

    Returns:
        A function from host and port to an endpoint.

    Raises:
        ValueError: ``trust_root`` or ``client_certificate`` cannot be read, or holds no certificate.
    """
    trust_root = _trust_root(options.trust_root)
    certificate = _client_certificate(options.client_certificate)
    # One context for each name and not for each connection, because a new context reads every trusted certificate.
    contexts: dict[str, _NameVerifier] = {}
    # Before Twisted 26.4, wrapClientTLS always uses the global reactor.
    clock = {"clock": reactor} if "clock" in signature(wrapClientTLS).parameters else {}

    def endpoint_for(host: str, port: int) -> IStreamClientEndpoint:
        name = options.server_name or host
        if name not in contexts:
            if len(contexts) >= _CONTEXTS:
                # A cluster can announce new names without end.
                contexts.clear()
            creator = ssl.optionsForClientTLS(name, trustRoot=trust_root, clientCertificate=certificate)
            contexts[name] = _NameVerifier(creator, name)
        return wrapClientTLS(contexts[name], dial(host, port), **clock)

    return endpoint_for


def mapped(
    dial: EndpointFor,
    addresses: Mapping[tuple[str, int], tuple[str, int]] | Callable[[str, int], tuple[str, int]],
) -> EndpointFor:
    """Dial other addresses than the ones that the cluster announces.

    Args:
        dial: Makes the endpoint for the address to dial.
        addresses: A mapping from announced to dialled (host, port) pairs, or a function from host and port to such a
            pair.  An address that is not in the mapping is dialled unchanged.

    Returns:
        A function from announced host and port to an endpoint.
    """

    def endpoint_for(host: str, port: int) -> IStreamClientEndpoint:
        target = addresses(host, port) if callable(addresses) else addresses.get((host, port), (host, port))
        return dial(*target)

    return endpoint_for


@implementer(IOpenSSLClientConnectionCreator)
class _NameVerifier:
    """Verifies the host name, because Twisted 26.10 accepts a certificate that has no subjectAltName."""

    def __init__(self, creator: IOpenSSLClientConnectionCreator, name: str) -> None:
        self._creator = creator
        is_ip = isIPAddress(name) or isIPv6Address(name)
        self._id: IPAddress_ID | DNS_ID = IPAddress_ID(name) if is_ip else DNS_ID(name)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection: SSL.Connection = self._creator.clientConnectionForTLS(tlsProtocol)

        def verify(_: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
            if ok and depth == 0:
                try:
                    verify_service_identity(extract_patterns(certificate), [self._id], [])
                except Exception:
                    # OpenSSL calls this function from C, so no exception may leave it.  Each one ends the handshake.
                    tlsProtocol.failVerification(Failure())  # type: ignore[no-untyped-call]
                    return False
            return bool(ok)

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection


@implementer(IStreamClientEndpoint)
class _SocketEndpoint:
    """Sets socket options and calls the application's ``on_socket`` before any byte is sent."""

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        address: Address,
        on_socket: Callable[[socket.socket, Address], None] | None,
    ) -> None:
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
    """Calls ``prepare`` with the transport before the protocol of another factory gets the transport."""

    noisy = False

    def __init__(self, wrapped: IProtocolFactory, prepare: Callable[[Any], None]) -> None:
        # Any, because `buildProtocol` replaces methods of the protocol that this factory makes.
        self._wrapped: Any = wrapped
        self._prepare = prepare
        self._failure: Failure | None = None

    def check(self, connected: IProtocol) -> IProtocol | Failure:
        """Return the new connection, or the failure if ``prepare`` failed."""
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
                    # on_socket is the application's code.  Its error fails the dial; the protocol is not started.
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


def _client_certificate(given: _Path | bytes | ssl.PrivateCertificate | None) -> ssl.PrivateCertificate | None:
    if given is None or not isinstance(given, (str, bytes, os.PathLike)):
        return given
    pem = _pem(given, "client_certificate")
    loaded: ssl.PrivateCertificate = ssl.PrivateCertificate.loadPEM(pem)  # type: ignore[no-untyped-call]
    return loaded


def _pem(given: _Path | bytes, option: str) -> bytes:
    if isinstance(given, bytes):
        return given
    try:
        with open(given, "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"{option}: cannot read the file: {error}") from error
