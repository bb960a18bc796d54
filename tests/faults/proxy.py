"""A TCP proxy in front of one server that can delay and drop bytes, and cut connections."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

_HOST = "127.0.0.1"
_CONNECT_TIMEOUT = 5.0


class Proxy:
    """Listens on a port of its own, and connects each client to the address that ``target()`` returns then."""

    def __init__(self, reactor: Any, target: Callable[[], tuple[str, int]]) -> None:
        self.reactor = reactor
        self.target = target
        #: The port for clients; 0 before `start`.
        self.port = 0
        #: The delay of all bytes, in seconds.
        self.delay = 0.0
        #: How many bytes each direction of a new connection passes before it drops all others; None: no limit.
        self.commands_pass: int | None = None
        self.replies_pass: int | None = None
        self._links: set[_Link] = set()
        self._listening: Any = None

    def __repr__(self) -> str:
        return f"<Proxy {self.port} -> {self.target()} connections={self.connections} delay={self.delay}>"

    @property
    def connections(self) -> int:
        """The number of open connections of clients."""
        return len(self._links)

    async def start(self) -> None:
        """Listen on any free port."""
        endpoint: Any = TCP4ServerEndpoint(self.reactor, 0, interface=_HOST)  # type: ignore[no-untyped-call]
        self._listening = await endpoint.listen(_AcceptingFactory(self))
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Cut every connection, and stop listening."""
        listening, self._listening = self._listening, None
        self.cut(orderly=False)
        if listening is not None:
            await listening.stopListening()

    def cut(self, *, orderly: bool) -> None:
        """End every connection, with FIN if ``orderly``, else with RST."""
        for link in list(self._links):
            link.end(orderly=orderly)

    def cut_in_reply(self) -> None:
        """End every connection with RST in the middle of its next reply."""
        for link in self._links:
            link.cuts_next_reply = True

    def drop(self, *, commands: int | None = None, replies: int | None = None) -> None:
        """Drop the bytes of all connections after a limit; also of new connections, until `heal`.

        A direction that has dropped bytes drops all later bytes of its connection too, because these would make no
        sense without the missing ones.

        Args:
            commands: How many more bytes of commands pass; None: no limit.
            replies: How many more bytes of replies pass; None: no limit.
        """
        self.commands_pass, self.replies_pass = commands, replies
        for link in self._links:
            link.commands.limit(commands)
            link.replies.limit(replies)

    def heal(self) -> None:
        """Stop all delays and cuts.  Directions that have dropped no bytes yet pass all bytes again."""
        self.delay = 0.0
        self.commands_pass = self.replies_pass = None
        for link in self._links:
            link.cuts_next_reply = False
            link.commands.limit(None)
            link.replies.limit(None)

    def opened(self, link: _Link) -> None:
        """Add a connection."""
        self._links.add(link)

    def closed(self, link: _Link) -> None:
        """Remove a connection that has ended."""
        self._links.discard(link)


class _Flow:
    """One direction of a connection."""

    def __init__(self, proxy: Proxy, passes: int | None) -> None:
        self._proxy = proxy
        self._passes = passes
        self._has_dropped = False
        self._waiting: deque[bytes] = deque()
        self._transport: Any = None
        self._ended = False

    def limit(self, passes: int | None) -> None:
        """Set the number of bytes that still pass, unless bytes have been dropped already."""
        if not self._has_dropped:
            self._passes = passes

    def connect(self, transport: Any) -> None:
        """Deliver all bytes so far, and all later bytes, to ``transport``."""
        self._transport = transport
        while self._waiting:
            self._deliver()

    def end(self) -> None:
        """Drop the bytes that are being delayed."""
        self._ended = True
        self._waiting.clear()

    def take(self, data: bytes) -> None:
        """Deliver bytes, now or after the delay, or drop them."""
        if self._passes is not None:
            passed = data[: self._passes]
            self._passes -= len(passed)
            self._has_dropped |= len(passed) < len(data)
            data = passed
        if not data or self._ended:
            return
        self._waiting.append(data)
        if self._transport is None:
            return
        if self._proxy.delay or len(self._waiting) > 1:
            # One call for each chunk.  Each call delivers the oldest chunk, so that a new delay keeps the order.
            self._proxy.reactor.callLater(self._proxy.delay, self._deliver)
        else:
            self._deliver()

    def _deliver(self) -> None:
        if self._waiting:
            self._transport.write(self._waiting.popleft())


class _Link:
    """A connection of a client, and the connection to the server for it."""

    def __init__(self, proxy: Proxy, front: _Side) -> None:
        self.commands = _Flow(proxy, proxy.commands_pass)
        self.replies = _Flow(proxy, proxy.replies_pass)
        self.cuts_next_reply = False
        self._proxy = proxy
        self._front = front
        self._back: _Side | None = None
        self._ended = False
        proxy.opened(self)
        self.replies.connect(front.transport)
        endpoint = TCP4ClientEndpoint(proxy.reactor, *proxy.target(), timeout=_CONNECT_TIMEOUT)
        connecting: Deferred[Any] = endpoint.connect(Factory.forProtocol(_Side))
        connecting.addCallbacks(self._connected, lambda _: self.end(orderly=False))

    def _connected(self, back: _Side) -> None:
        self._back = back
        back.received = self._reply_received
        back.lost = self._lost
        if self._ended:
            back.end(orderly=True)
        else:
            self.commands.connect(back.transport)

    def _reply_received(self, data: bytes) -> None:
        if self.cuts_next_reply:
            self._front.transport.write(data[: len(data) // 2])
            # In the next turn, so that the half reply is sent before the connection ends.
            self._proxy.reactor.callLater(0, self.end, orderly=False)
            self.replies.end()
        else:
            self.replies.take(data)

    def lost(self, reason: Failure) -> None:
        """End both connections, because the client has ended its connection."""
        self._lost(reason)

    def _lost(self, reason: Failure) -> None:
        self.end(orderly=isinstance(reason.value, ConnectionDone))

    def end(self, *, orderly: bool) -> None:
        """End both connections, and drop the bytes that are being delayed."""
        if self._ended:
            return
        self._ended = True
        self._proxy.closed(self)
        self.commands.end()
        self.replies.end()
        self._front.end(orderly=orderly)
        if self._back is not None:
            self._back.end(orderly=orderly)


class _Side(Protocol):
    """One of the two connections."""

    transport: Any

    def __init__(self) -> None:
        self.received: Callable[[bytes], None] = lambda _: None
        self.lost: Callable[[Failure], None] = lambda _: None

    def dataReceived(self, data: bytes) -> None:
        self.received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost(reason)

    def end(self, *, orderly: bool) -> None:
        """Close the connection with FIN if ``orderly``, else with RST."""
        if orderly:
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()


class _AcceptingFactory(Factory):
    """Makes a link for each accepted connection."""

    noisy = False

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def buildProtocol(self, addr: IAddress | None) -> _Accepted:
        return _Accepted(self._proxy)


class _Accepted(_Side):
    """A client's connection."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy = proxy

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        link = _Link(self._proxy, self)
        self.received = link.commands.take
        self.lost = link.lost
