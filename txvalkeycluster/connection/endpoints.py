"""Make Twisted endpoints from host and port: TCP or TLS, with mapped addresses for NAT, with socket options."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IAddress,
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
from .tls import TLSEndpoints

#: Makes the endpoint for a host and a port.
EndpointFor = Callable[[str, int], IStreamClientEndpoint]

# Seconds of silence before the kernel's first probe, seconds between two probes, probes without an answer.
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


def endpoint_maker(reactor: IReactorTime, options: Options, tls: TLSEndpoints | None) -> EndpointFor:
    """Make the function that gives an endpoint for each node.

    Args:
        reactor: The reactor that dials.
        options: The options of the client: ``endpoint_for``, ``address_map`` and ``on_socket``.
        tls: Adds TLS; None: the connections have none.

    Returns:
        A function from host and port to an endpoint.
    """
    dial: EndpointFor
    if options.endpoint_for is not None:
        dial = options.endpoint_for
    else:
        tcp = plain(reactor, options.connect_timeout, options.on_socket)
        dial = tcp if tls is None else lambda host, port: tls.wrap(host, tcp(host, port))
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
