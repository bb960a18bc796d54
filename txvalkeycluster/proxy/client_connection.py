"""The connection of one client: it reads only when that is wanted, and notices a client that does not read."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from ..direct_write import direct_writer, write_at_once
from .poller import ClientPoller

if TYPE_CHECKING:
    from .server import ProxyServer


def _notice_a_vanished_peer(transport: Any) -> None:
    """Let the kernel end the connection within two minutes if the client's machine has disappeared."""
    opened = getattr(transport, "socket", None)
    if opened is None or opened.family == socket.AF_UNIX:
        return
    transport.setTcpKeepAlive(True)
    if hasattr(socket, "TCP_KEEPIDLE"):
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


@implementer(IPushProducer)
class ClientConnection(Protocol):
    """The transport of one client."""

    closed = False
    #: Whether the proxy reads from the client.
    reading = True
    #: Whether the transport has too many unsent bytes.
    paused = False
    #: When the client last read something while bytes were waiting for it.
    stuck_since = 0.0
    # How many were waiting then.
    _unread_seen = 0
    _peer = ""
    # The transport and its function that writes to the socket at once; None without such a function.
    _direct: Any = None
    _write_at_once: Any = None
    # What reads from the socket in place of the reactor.
    _poller: ClientPoller | None = None

    def __init__(self, server: ProxyServer) -> None:
        """Make a connection that is not open yet.

        Args:
            server: What all clients share.
        """
        self.server = server
        self.bytes_out = 0

    def open(self) -> None:
        """Start to read."""
        transport: Any = self.transport
        self._direct = direct_writer(transport)
        if self._direct is not None:
            self._write_at_once = write_at_once(self._direct)
            if self.server.poller is not None:
                self._poller = self.server.poller
                self._poller.add(transport)
            if getattr(transport.protocol, "_wrappedProtocol", None) is self:
                transport.protocol = self
        transport.registerProducer(self, True)
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
            _notice_a_vanished_peer(transport)

    def ended(self) -> None:
        """Note that the connection has ended."""
        self.closed = True
        self._direct = self._write_at_once = None
        if self._poller is not None:
            self._poller.remove(self.transport)

    def writable(self, possible: bool) -> None:
        """Handle that the client begins to read its replies, or stops."""
        raise NotImplementedError

    @property
    def peer(self) -> str:
        """The address of the client."""
        peer = self._peer or self.server.address_of(self.transport, "getPeer")
        if self.transport is not None:
            self._peer = peer
        return peer

    @property
    def unread(self) -> int:
        """The number of bytes that the client has not read yet, as far as they are in this process."""
        transport: Any = self.transport
        below = transport
        while below is not None and not hasattr(below, "dataBuffer"):
            below = getattr(below, "transport", None)
        if below is None:
            return 0
        return len(below.dataBuffer) - int(below.offset) + int(below._tempDataLen)

    def has_left(self) -> bool:
        """Tell whether the client has closed its connection while a command waits and the proxy does not read."""
        if self.reading or not hasattr(select, "POLLRDHUP"):
            return False
        transport: Any = self.transport
        descriptor = transport.fileno()
        if descriptor < 0:
            return False
        ended = select.poll()
        ended.register(descriptor, select.POLLRDHUP)
        return bool(ended.poll(0))

    def pauseProducing(self) -> None:
        """Start nothing more: the client does not read its replies."""
        self.paused = True
        self.stuck_since = self.server.seconds()
        self._unread_seen = self.unread
        self.writable(False)

    def resumeProducing(self) -> None:
        """Go on: the client has read its replies."""
        self.paused = False
        self.writable(True)

    def stopProducing(self) -> None:
        """Do nothing; connectionLost handles the end."""

    def is_stuck(self, now: float, patience: float) -> bool:
        """Tell whether the client has read nothing for some time although replies wait for it."""
        unread = self.unread
        if unread < self._unread_seen:
            self.stuck_since = now
        self._unread_seen = unread
        return now - self.stuck_since > patience

    def read(self, wanted: bool) -> None:
        """Read from the client, or not any more."""
        self.reading = wanted
        transport: Any = self.transport
        if self._poller is not None:
            (self._poller.add if wanted else self._poller.remove)(transport)
        elif wanted:
            transport.resumeProducing()
        else:
            transport.pauseProducing()

    def send(self, data: bytes) -> None:
        """Write bytes, at once if nothing waits to be written."""
        length = len(data)
        self.bytes_out += length
        direct = self._direct
        if direct is not None and not direct.dataBuffer and not direct._tempDataBuffer:
            try:
                written = self._write_at_once(data)
            except OSError:
                written = 0
            # Any other result means that the socket is broken; the reactor reports that later in connectionLost.
            if isinstance(written, int):
                if written == length:
                    return
                data = data[written:]
        self.transport.write(data)  # type: ignore[union-attr]
