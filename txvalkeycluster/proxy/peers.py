"""What the workers of one proxy ask each other: the next step of a scan, the clients, and the numbers.

Each worker listens on a Unix socket in a folder that only this user can enter.  A request is one RESP array, and the
reply one RESP reply; each has a connection of its own, since they are rare.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import hiredis
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from ..commands.encoder import pack
from .clients import ClientFilter
from .replies import encode, error
from .scans import UnknownCursor
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .server import ProxyServer

_TIMEOUT = 10.0


class PeerError(Exception):
    """Another worker did not answer."""


class _Answering(Protocol):
    """Answers the request of another worker."""

    def __init__(self, server: ProxyServer) -> None:
        self._server = server
        self._reader = hiredis.Reader()

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        words = self._reader.gets()
        if words is not False:
            answering = Deferred.fromCoroutine(_answer(self._server, words))
            answering.addErrback(lambda failure: error(f"ERR {failure.value}"))
            answering.addCallback(self._write)

    def _write(self, reply: bytes) -> None:
        assert self.transport is not None
        self.transport.write(reply)
        self.transport.loseConnection()


async def _answer(server: ProxyServer, words: list[bytes]) -> bytes:
    name = words[0]
    if name == b"NUMBERS":
        return encode(json.dumps(server.snapshot().as_json()), 2)
    if name == b"CLIENTS":
        return encode(server.client_lines(ClientFilter(server, words[1:])), 2)
    if name == b"KILL":
        return encode(server.kill(ClientFilter(server, words[1:])), 2)
    if name == b"SCAN":
        owner, cursor, count, *options = words[1:]
        try:
            following, found = await server.scans.step(owner.decode() or None, int(cursor), tuple(options), int(count))
        except UnknownCursor:
            return encode(None, 2)
        return encode([str(following), found], 2)
    return error("ERR unknown request")


class _Asking(Protocol):
    """Sends a request to another worker, and waits for the reply."""

    def __init__(self, payload: Any) -> None:
        self.done: Deferred[Any] = Deferred()
        self._payload = payload
        self._reader = hiredis.Reader()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.writeSequence(self._payload if isinstance(self._payload, list) else [self._payload])

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        reply = self._reader.gets()
        if reply is not False and not self.done.called:
            self.done.callback(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            self.done.errback(PeerError("another worker has closed the connection"))


class Peers:
    """The other workers."""

    def __init__(self, reactor: Any, folder: str, number: int) -> None:
        """Make the way to the other workers.

        Args:
            reactor: The reactor.
            folder: The folder of the sockets.
            number: The number of this worker.
        """
        self._reactor = reactor
        self._folder = folder
        self.number = number
        #: The numbers of the other workers.
        self.others: list[int] = []

    def socket_of(self, number: int) -> str:
        """Return the path of the socket of a worker."""
        return f"{self._folder}/{number}.sock"

    def listen(self, server: ProxyServer) -> None:
        """Answer the other workers."""
        factory: Any = Factory.forProtocol(lambda: _Answering(server))
        factory.noisy = False
        self._reactor.listenUNIX(self.socket_of(self.number), factory, mode=0o600)

    async def ask(self, number: int, *words: Any) -> Any:
        """Send a request to another worker.

        Args:
            number: The number of the worker.
            *words: The request.

        Returns:
            The reply.

        Raises:
            PeerError: It does not answer, or it has answered with an error.
        """
        endpoint = UNIXClientEndpoint(self._reactor, self.socket_of(number), timeout=_TIMEOUT)  # type: ignore[no-untyped-call]
        asking = _Asking(pack(words))
        try:
            await connectProtocol(endpoint, asking)  # type: ignore[no-untyped-call]
            reply = await asking.done.addTimeout(_TIMEOUT, self._reactor)
        except Exception as reason:
            raise PeerError(f"worker {number} does not answer: {reason}") from reason
        finally:
            if asking.transport is not None:
                asking.transport.loseConnection()
        if isinstance(reply, hiredis.ReplyError):
            raise PeerError(f"worker {number}: {reply}")
        return reply

    async def ask_all(self, *words: Any) -> list[Any]:
        """Send a request to all other workers, and return the replies of those that answer."""
        asking = [Deferred.fromCoroutine(self.ask(number, *words)) for number in self.others]
        return [reply for answered, reply in await DeferredList(asking, consumeErrors=True) if answered]


def total_of(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Add the numbers of several workers."""
    total = Snapshot()
    for each in snapshots:
        total.add(each)
    return total


def snapshot_of(reply: bytes) -> Snapshot:
    """Read the numbers of another worker."""
    return Snapshot.from_json(json.loads(reply))
