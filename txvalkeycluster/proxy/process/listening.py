"""Listening: from endpoint strings to open ports, on new sockets or on those that another process has opened."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IReadDescriptor,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from ..settings import SettingsError

_log = Logger()
_DONE = Failure(ConnectionDone())  # type: ignore[no-untyped-call]
# How many connections may wait until they are accepted, if the endpoint does not say it: as many as at a server.
_BACKLOG = 511
# How many connections are accepted before the process does something else, and before other processes have their turn.
_AT_ONCE = 4
# The system has no more descriptors or no memory: it is tried again after this time, in seconds.
_PAUSE = 1.0
_EXHAUSTED = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
_PASSING = frozenset([errno.EINTR, errno.ECONNABORTED, errno.EPERM, errno.EPROTO])


@implementer(IListeningPort)
class SharedPort(FileDescriptor):
    """Accepts clients on a socket that another process has opened, and that other processes may use, too.

    Twisted's own ports would set mode and backlog of such a socket, and remove the path of a Unix socket at the end.
    """

    def __init__(self, reactor: Any, opened: socket.socket, factory: Factory) -> None:
        """Make a port that does not accept clients yet.

        Args:
            reactor: The reactor.
            opened: The socket, which this port closes at its end.
            factory: Makes the protocols.
        """
        super().__init__(reactor)
        self._reactor: Any = reactor
        opened.setblocking(False)
        self.socket = opened
        self.factory = factory
        self._open = False
        self._accepting = False
        self._pause: IDelayedCall | None = None

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self.socket.fileno()

    def startListening(self) -> None:
        """Accept clients."""
        self._open = True
        self.factory.doStart()  # type: ignore[no-untyped-call]
        self.startReading()

    def stopListening(self) -> Deferred[None]:
        """Accept no more clients.  Other processes go on."""
        if self._open:
            self.connectionLost(_DONE)
        return succeed(None)

    def startReading(self) -> None:
        """Accept clients from now on."""
        # The process that has opened the socket may have shut it down.
        if self._open:
            self._accepting = True
            super().startReading()  # type: ignore[no-untyped-call]

    def stopReading(self) -> None:
        """Accept no clients for now."""
        self._accepting = False
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        super().stopReading()  # type: ignore[no-untyped-call]

    def getHost(self) -> IAddress:
        """Return the address."""
        name: Any = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return UNIXAddress(os.fsencode(name) if isinstance(name, str) else name)
        return (IPv6Address if self.socket.family == socket.AF_INET6 else IPv4Address)("TCP", *name)

    def doRead(self) -> None:
        """Accept a few clients."""
        for _ in range(_AT_ONCE):
            # A client can be the last one that is allowed.
            if not self._accepting:
                return
            try:
                accepted, _address = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as reason:
                if reason.errno in _PASSING:
                    continue
                self.stopReading()
                if reason.errno in _EXHAUSTED:
                    _log.error("no clients are accepted for {pause} s: {reason}", pause=_PAUSE, reason=reason)
                    self._pause = self._reactor.callLater(_PAUSE, self._again)
                # Otherwise the process that has opened the socket has shut it down.
                return
            with accepted:
                accepted.setblocking(False)
                try:
                    self._reactor.adoptStreamConnection(accepted.fileno(), accepted.family, self.factory)
                except Exception as reason:
                    # A client that has gone already has no address.  After other errors, only this client may suffer.
                    if not isinstance(reason, OSError) or reason.errno != errno.ENOTCONN:
                        _log.failure("a client is disconnected, because its connection cannot be used")

    def _again(self) -> None:
        self._pause = None
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket."""
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.stopReading()
        if self._open:
            self._open = False
            self.socket.close()
            self.factory.doStop()  # type: ignore[no-untyped-call]


class _Adopting:
    """A reactor that uses a `SharedPort` for a socket that another process, such as systemd, has opened."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def adoptStreamPort(self, descriptor: int, family: int, factory: Factory) -> IListeningPort:
        """Accept clients on the socket."""
        port = SharedPort(self._reactor, socket.socket(fileno=os.dup(descriptor)), factory)
        port.startListening()
        return port


class _Inheriting(_Adopting):
    """A reactor whose endpoints use an open socket in place of a new one."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        super().__init__(reactor)
        self._descriptor = descriptor

    def _inherit(self, factory: Factory) -> IListeningPort:
        port = self.adoptStreamPort(self._descriptor, 0, factory)
        os.close(self._descriptor)
        return port

    def listenTCP(self, port: int, factory: Factory, *args: Any, **others: Any) -> IListeningPort:
        """Listen on the socket."""
        return self._inherit(factory)

    def listenUNIX(self, address: str, factory: Factory, *args: Any, **others: Any) -> IListeningPort:
        """Listen on the socket."""
        return self._inherit(factory)

    def listenSSL(self, port: int, factory: Factory, contextFactory: Any, *args: Any, **others: Any) -> IListeningPort:
        """Listen on the socket, with TLS."""
        tls: Any = TLSMemoryBIOFactory(contextFactory, False, factory)
        return self._inherit(tls)


@implementer(IStreamServerEndpoint)
class _WithBacklog:
    """An endpoint that does not say how many connections may wait until they are accepted.  Twisted's 50 are few."""

    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        self._endpoint = endpoint

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        listening: Deferred[IListeningPort] = self._endpoint.listen(factory)
        return listening.addCallback(self._widen)

    def _widen(self, port: IListeningPort) -> IListeningPort:
        opened = getattr(port, "socket", None)
        if isinstance(opened, socket.socket):
            opened.listen(_BACKLOG)
        return port


def endpoint_of(reactor: Any, setting: str, description: str, descriptor: int | None = None) -> IStreamServerEndpoint:
    """Make the endpoint of an endpoint string.

    Args:
        reactor: The reactor.
        setting: The name of the setting that has the string.
        description: The string.
        descriptor: A socket that is open already, to be used in place of a new one.

    Raises:
        SettingsError: The string is not valid, or a file of it cannot be used.
    """
    systemd = description.startswith("systemd:")
    if descriptor is not None and systemd:
        # The parser would look for the sockets that systemd has passed.
        return AdoptedStreamServerEndpoint(_Adopting(reactor), descriptor, None)  # type: ignore[no-untyped-call]
    adopting = _Adopting(reactor) if descriptor is None else _Inheriting(reactor, descriptor)
    try:
        endpoint: IStreamServerEndpoint = serverFromString(adopting, description)  # type: ignore[no-untyped-call]
    except Exception as reason:
        # The parsers of endpoint strings can be those of plugins.
        raise SettingsError(setting, f"has {description!r}: {_why(reason, systemd)}") from reason
    return endpoint if systemd or descriptor is not None or "backlog=" in description else _WithBacklog(endpoint)


def is_passed_by_systemd(error: SettingsError) -> bool:
    """Tell whether an endpoint was refused only because systemd has not started this process."""
    return isinstance(error.__cause__, (IndexError, KeyError))


def _why(reason: Exception, systemd: bool) -> str:
    if systemd and isinstance(reason, (IndexError, KeyError)):
        return "systemd has passed no such socket to this process"
    if isinstance(reason, OSError) and reason.strerror:
        return f"{reason.strerror}: {reason.filename}"
    if isinstance(reason, (TypeError, ValueError)):
        # Without the name of a function of Twisted.
        return re.sub(r"^\w+\(\) ", "", str(reason))
    return f"{type(reason).__name__}: {reason}"


def open_ports(
    reactor: Any, listening: Sequence[tuple[str, Deferred[IListeningPort]]], ports: list[IListeningPort]
) -> None:
    """Collect ports that are being opened.

    If one fails later, the reactor stops.

    Args:
        reactor: The reactor.
        listening: The endpoint strings, and what `IStreamServerEndpoint.listen` has returned for each.
        ports: Gets the open ports.

    Raises:
        Exception: A port cannot be opened.  None is open then.
    """
    failures: list[Failure] = []
    at_once = True

    def failed(failure: Failure, description: str) -> None:
        _log.error(
            "the proxy cannot listen at {endpoint}: {reason}", endpoint=description, reason=failure.getErrorMessage()
        )
        failures.append(failure)
        if not at_once:
            reactor.callWhenRunning(reactor.stop)

    for description, each in listening:
        each.addCallbacks(ports.append, failed, errbackArgs=(description,))
    at_once = False
    if failures:
        for port in ports:
            _close_now(reactor, port)
        ports.clear()
        failures[0].raiseException()


def _close_now(reactor: Any, port: Any) -> None:
    """Close a port although the reactor may not run."""
    if IReadDescriptor.providedBy(port):
        reactor.removeReader(port)
        port.connectionLost(_DONE)
    else:
        port.stopListening()


async def close_ports(ports: Sequence[IListeningPort]) -> None:
    """Close ports; one that cannot be closed is logged."""
    for port in ports:
        closing: Deferred[Any] = maybeDeferred(port.stopListening)
        try:
            await closing
        except Exception as reason:
            _log.warn("{port} cannot be closed: {reason}", port=port, reason=reason)
