"""Listening on sockets that another process has opened."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer


@implementer(IListeningPort)
class _Shared:
    """A Unix port that other processes use, too.  Twisted's own removes the path when it stops to listen."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def startListening(self) -> None:
        """Do nothing: it listens."""

    def stopListening(self) -> None:
        """Accept no more clients."""
        self._port.stopReading()

    def getHost(self) -> IAddress:
        """Return the address."""
        address: IAddress = self._port.getHost()
        return address


class _Inheriting:
    """A reactor whose endpoints use an open socket instead of a new one."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def _adopt(self, factory: Factory) -> IListeningPort:
        with socket.socket(fileno=os.dup(self._descriptor)) as opened:
            family = opened.family
        port: IListeningPort = self._reactor.adoptStreamPort(self._descriptor, family, factory)
        os.close(self._descriptor)
        return _Shared(port) if family == socket.AF_UNIX else port

    def listenTCP(self, port: int, factory: Factory, *args: Any, **others: Any) -> IListeningPort:
        """Listen on the socket."""
        return self._adopt(factory)

    def listenUNIX(self, address: str, factory: Factory, *args: Any, **others: Any) -> IListeningPort:
        """Listen on the socket."""
        return self._adopt(factory)

    def listenSSL(self, port: int, factory: Factory, contextFactory: Any, *args: Any, **others: Any) -> IListeningPort:
        """Listen on the socket, with TLS."""
        tls: Any = TLSMemoryBIOFactory(contextFactory, False, factory)
        return self._adopt(tls)


def inherited_endpoints(
    reactor: Any, descriptions: Sequence[str], descriptors: Sequence[int]
) -> list[IStreamServerEndpoint]:
    """Return endpoints that listen on open sockets.

    Args:
        reactor: The reactor.
        descriptions: The endpoint strings, which also say how TLS is done.
        descriptors: The socket of each of them.
    """
    endpoints: list[IStreamServerEndpoint] = []
    for description, descriptor in zip(descriptions, descriptors, strict=True):
        if description.startswith("systemd:"):
            with socket.socket(fileno=os.dup(descriptor)) as opened:
                endpoints.append(AdoptedStreamServerEndpoint(reactor, descriptor, opened.family))  # type: ignore[no-untyped-call]
        else:
            endpoints.append(serverFromString(_Inheriting(reactor, descriptor), description))  # type: ignore[no-untyped-call]
    return endpoints
