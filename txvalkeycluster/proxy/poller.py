"""Reads from the sockets of all clients as one event of the reactor.

For each event of a socket, Twisted sets up a context for its log, which takes 4 us; the rest of a read takes as long.
So the sockets of the clients are in an epoll descriptor of their own, and the reactor watches only that.  Everything
else, such as writing and closing, is Twisted's.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

_log = Logger()
# The most sockets that are read before the reactor can do other work.
_AT_ONCE = 256
# The most bytes that are read at once, as in Twisted.
_BYTES = 65536


@implementer(IReadDescriptor)
class ClientPoller:
    """A descriptor that is readable if the socket of any client is."""

    #: For `ValkeyEPollReactor`: `doRead` needs no context for its log.
    needs_no_context = True

    def __init__(self, reactor: Any, done: Callable[[], None]) -> None:
        """Begin to watch.

        Args:
            reactor: The reactor.
            done: Called after the sockets have been read that were readable together.
        """
        #: Whether sockets are being read now.
        self.reading = False
        self._reactor = reactor
        self._done = done
        self._epoll = select.epoll()
        self._transports: dict[int, Any] = {}
        self._descriptors: dict[Any, int] = {}
        reactor.addReader(self)

    def add(self, transport: Any) -> None:
        """Read from a transport, in place of the reactor."""
        transport.stopReading()
        descriptor = transport.fileno()
        self._transports[descriptor] = transport
        self._descriptors[transport] = descriptor
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, transport: Any) -> None:
        """Read from a transport no more.  Its socket is closed, or the reactor may read from it again."""
        descriptor = self._descriptors.pop(transport, None)
        if descriptor is None:
            return
        # A closed socket has left the epoll descriptor, and its number may belong to a new client.
        if self._transports.get(descriptor) is transport:
            del self._transports[descriptor]
        if transport.fileno() == descriptor:
            self._epoll.unregister(descriptor)

    def fileno(self) -> int:
        """Return the epoll descriptor."""
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """Return the name of this for the log."""
        return "ClientPoller"

    def doRead(self) -> None:
        """Read from all sockets that are readable."""
        transports = self._transports
        self.reading = True
        for descriptor, event in self._epoll.poll(0, _AT_ONCE):
            transport = transports.get(descriptor)
            if transport is None:
                continue
            try:
                # Twisted's `doRead`, without two calls.
                data = transport.socket.recv(_BYTES) if event == select.EPOLLIN else b""
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if data:
                try:
                    transport.protocol.dataReceived(data)
                except Exception:
                    # Only this client may suffer.
                    _log.failure("reading from {peer} failed", peer=transport.getPeer())
                    transport.abortConnection()
            else:
                # The connection has ended.  The reactor reads this again, and does what must be done.
                self.remove(transport)
                transport.startReading()
        self.reading = False
        self._done()

    def connectionLost(self, reason: object) -> None:
        """Close the descriptor; the reactor stops."""
        self.close()

    def close(self) -> None:
        """Stop watching."""
        if not self._epoll.closed:
            self._reactor.removeReader(self)
            self._epoll.close()
        self._transports.clear()
        self._descriptors.clear()
