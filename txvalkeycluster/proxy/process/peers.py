"""What the workers of one proxy ask each other: the next step of a scan, the clients, the numbers, and the state.

Each worker listens on a Unix socket in a folder that only this user can enter.  A request is one RESP array, and the
reply one RESP reply; each has a connection of its own, since they are rare.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import hiredis
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, TimeoutError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from ...commands.encoder import pack
from ...errors import ReplyError, ValkeyError
from ..commands.client_list import ClientFilter
from ..commands.scans import UnknownCursor
from ..replies import EXPECTED, encode, error, error_frame
from ..snapshot import Snapshot
from ..web.status import Part, Readiness, part_of, readiness_of

if TYPE_CHECKING:
    from ..server import ProxyServer

_log = Logger()
# How long another worker may take for what needs no cluster, in seconds.
_PATIENCE = 5.0
#: The numbers of workers are below this one.
MOST_NUMBERS = 1 << 12


class PeerError(ValkeyError):
    """Another worker did not answer."""


class PeerAbsent(PeerError):
    """Another worker has ended, or does not listen yet.  It has no clients."""


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
            answering.addErrback(_refusal)
            answering.addCallback(self._write)

    def _write(self, reply: bytes) -> None:
        assert self.transport is not None
        self.transport.write(reply)
        self.transport.loseConnection()


def _refusal(failure: Failure) -> bytes:
    if not isinstance(failure.value, EXPECTED):
        _log.failure("a request of another worker failed", failure)
    assert failure.value is not None
    return error_frame(failure.value)


async def _answer(server: ProxyServer, words: list[bytes]) -> bytes:
    name = words[0]
    if name == b"NUMBERS":
        return encode(json.dumps(server.snapshot().as_json()), 2)
    if name == b"STATUS":
        return encode(json.dumps(part_of(server).as_json()), 2)
    if name == b"READY":
        return encode(json.dumps(asdict(readiness_of(server))), 2)
    if name == b"CLIENTS":
        return encode(server.client_lines(ClientFilter(server, words[1:])), 2)
    if name == b"KILL":
        return encode(server.kill(ClientFilter(server, words[1:])), 2)
    if name == b"UNBLOCK":
        return encode(await server.unblock(int(words[1]), words[2] == b"1"), 2)
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

    def __init__(self, reactor: Any, folder: str, number: int, timeout: float = 0.0) -> None:
        """Make the way to the other workers.

        Args:
            reactor: The reactor.
            folder: The folder of the sockets.
            number: The number of this worker.
            timeout: How long a command may take, in seconds.
        """
        self._reactor = reactor
        self._folder = folder
        self._patience = timeout + _PATIENCE
        self.number = number
        #: The numbers of the other workers.
        self.others: list[int] = []

    def socket_of(self, number: int) -> str:
        """Return the path of the socket of a worker."""
        return f"{self._folder}/{number}.sock"

    def listen(self, server: ProxyServer) -> IListeningPort:
        """Answer the other workers.

        Args:
            server: What knows the answers.

        Returns:
            The port; close it when there are no clients any more.
        """
        factory: Any = Factory.forProtocol(lambda: _Answering(server))
        factory.noisy = False
        path = self.socket_of(self.number)
        with suppress(FileNotFoundError):
            # An earlier worker with this number was killed.
            os.unlink(path)
        port: IListeningPort = self._reactor.listenUNIX(path, factory, mode=0o600)
        return port

    async def ask(self, number: int, *words: Any, patience: float | None = None) -> Any:
        """Send a request to another worker.

        Args:
            number: The number of the worker.
            *words: The request.
            patience: How many seconds the reply may take; None means as long as a command may take, and more.

        Returns:
            The reply.

        Raises:
            PeerAbsent: There is no such worker.
            PeerError: It does not answer.
            ReplyError: It has answered with an error.
        """
        seconds = self._patience if patience is None else patience
        endpoint = UNIXClientEndpoint(self._reactor, self.socket_of(number), timeout=seconds)  # type: ignore[no-untyped-call]
        asking = _Asking(pack(words))
        factory: Any = Factory.forProtocol(lambda: asking)
        factory.noisy = False
        try:
            await endpoint.connect(factory)  # type: ignore[no-untyped-call]
            reply = await asking.done.addTimeout(seconds, self._reactor)
        except Exception as reason:
            if isinstance(reason, ConnectError) and not isinstance(reason, TimeoutError):
                raise PeerAbsent(f"there is no worker {number}") from reason
            raise PeerError(f"worker {number} does not answer: {str(reason) or type(reason).__name__}") from reason
        finally:
            if asking.transport is not None:
                asking.transport.loseConnection()
        if isinstance(reply, hiredis.ReplyError):
            raise ReplyError(str(reply))
        return reply

    async def ask_all(self, *words: Any) -> list[Any]:
        """Send a request that needs no cluster to all other workers.

        Returns:
            The replies of those that have clients.

        Raises:
            PeerError: One of them does not answer.
        """
        asking = [Deferred.fromCoroutine(self.ask(number, *words, patience=_PATIENCE)) for number in self.others]
        replies: list[Any] = []
        for answered, reply in await DeferredList(asking, consumeErrors=True):
            if answered:
                replies.append(reply)
            elif not reply.check(PeerAbsent):
                reply.raiseException()
        return replies


def snapshot_in(reply: bytes) -> Snapshot:
    """Read the reply to NUMBERS."""
    return Snapshot.from_json(json.loads(reply))


def part_in(reply: bytes) -> Part:
    """Read the reply to STATUS."""
    return Part.from_json(json.loads(reply))


def readiness_in(reply: bytes) -> Readiness:
    """Read the reply to READY."""
    return Readiness(**json.loads(reply))
