"""The pool of exclusive connections of a node.

One caller at a time leases such a connection: for a command that blocks, or to watch keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from ..address import Address
from ..commands.encoder import Arg
from ..errors import ClientClosed, ConnectionLost, MaybeExecuted, ReplyError, ValkeyError
from ..options import Options
from ..requests.exclusive import ExclusiveCall
from ..requests.pending_queue import PendingQueue
from ..requests.request import MultiRequest, Request, for_each
from ..requests.timer import Timer
from ..requests.waits import Waits
from ..statistics import NodeStatistics, Purpose
from .handshake import ServerInfo
from .listener import ConnectionListener
from .protocol import RESPProtocol

_R = TypeVar("_R", bound=Request)
#: A new connection that has completed its handshake, with the facts about its server.
Made = tuple[RESPProtocol, ServerInfo]

#: A connection that ended sooner than this, in seconds, counts as a failed dial.
LIVED = 1.0
# An idle connection is closed after about this time, in seconds.
_KEPT = 30.0


class PoolOwner(Protocol):
    """The node of a pool, as the pool and its leases use it."""

    #: The address of the node.
    address: Address
    #: What the node has done.
    counters: NodeStatistics
    #: When the node last refused MULTI to the user of this client, as clock.seconds(), and the server's text.
    multi_refusal: tuple[float, str] | None

    def reply_failed(self, connection: RESPProtocol, request: Request, error: ReplyError) -> None:
        """Handle an error reply; the request belongs to the node now."""

    def send_batch(self, batch: MultiRequest) -> None:
        """Accept a request with several replies for the shared connection."""

    def call(self, *args: Arg) -> Deferred[Any]:
        """Send a command on the shared connection, as a request of the client itself."""

    def unblock(self) -> None:
        """Make the server end the blocking commands, as if the commands had timed out."""

    def requests_lost(self, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception) -> None:
        """Handle requests whose leased connection ended before their replies came."""

    def requests_stranded(self, requests: list[Request], reason: ValkeyError, purpose: Purpose) -> None:
        """Handle requests for which no connection could be made."""


class Lease(ConnectionListener):
    """An exclusive connection.  Its user must always give it back, even after the connection has ended."""

    def __init__(self, pool: ExclusivePool, connection: RESPProtocol, info: ServerInfo, now: float) -> None:
        self.node = pool.owner
        self.connection = connection
        self.info = info
        #: Whether the connection is used by a command that may block.
        self.blocked = False
        self.made_at = self.idle_since = now
        self._pool = pool
        # The CLIENT UNBLOCK commands for it without a reply, and whether it is given back when they have ended.
        self._unblocking = 0
        self._given_back = False
        connection.owner = self
        # A blocking command gets no reply for a long time.  TCP keepalive detects a dead peer.
        connection.patience = inf

    @property
    def address(self) -> Address:
        """The address of the node."""
        return self.node.address

    @property
    def occupied(self) -> bool:
        """Whether a caller has the connection for itself now."""
        return self in self._pool.leases

    def carry(self, request: ExclusiveCall) -> None:
        """Send the request that leased this connection."""
        request.lease = self
        self.blocked = request.blocks
        if request.admit().asking:
            self.ask(request)
        else:
            self.send(request)

    def send(self, request: Request) -> None:
        """Send a request.  It fails with `ConnectionLost` if the connection has ended."""
        self._give(request, self.connection.send_mixed)

    send_mixed = send_exclusive = send_subscription = send

    def send_batch(self, batch: MultiRequest) -> None:
        """Send a request with several replies.  It fails with `ConnectionLost` if the connection has ended."""
        self._give(batch, self.connection.send_batch)

    def ask(self, request: Request) -> None:
        """Send a request after ASKING.  It fails with `ConnectionLost` if the connection has ended."""
        self._give(request, self.connection.ask)

    def _give(self, request: _R, take: Callable[[_R], None]) -> None:
        if self.connection.ended:
            request.fail_unanswered(ConnectionLost, f"{self.connection.peer}: the connection has ended")
        else:
            take(request)

    def unblock(self, *, error: bool) -> Deferred[Any]:
        """Let the server end the command that blocks on this connection."""
        if not self.info.client_id:
            return fail(ReplyError("NOPERM the user may not use CLIENT ID, so the server cannot end the command"))
        self._unblocking += 1
        how = "ERROR" if error else "TIMEOUT"
        return self.node.call("CLIENT", "UNBLOCK", self.info.client_id, how).addBoth(self._unblocked)

    def _unblocked(self, result: Any) -> Any:
        self._unblocking -= 1
        if isinstance(result, Failure):
            # The server may still execute it.
            self.connection.abort(ConnectionLost(f"{self.address}: CLIENT UNBLOCK has failed: {result.value}"))
        if self._given_back and not self._unblocking:
            self._given_back = False
            self._pool.take_back(self)
        return result

    def give_back(self) -> None:
        """Return the connection to the pool.  A connection with pending replies is aborted."""
        if self._unblocking and not self.connection.pending:
            # CLIENT UNBLOCK could come so late that it ends the next command on this connection.
            self._given_back = True
        else:
            self._pool.take_back(self)

    # ---- called by the connection

    def reply_failed(self, connection: RESPProtocol, request: Request, error: ReplyError) -> None:
        """Pass an error reply to the node, which may send the request on another connection."""
        if isinstance(request, ExclusiveCall):
            request.release()
        self.node.reply_failed(connection, request, error)

    def connection_ended(
        self, connection: RESPProtocol, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception
    ) -> None:
        """Pass the requests to the node."""
        was_lent = self._pool.lost(self)
        if was_lent:
            for request in (*unsent, *sent):
                if isinstance(request, ExclusiveCall):
                    request.release()
        else:
            # The exclusive call has given the connection back and ends by itself.  Requests of a session may be left.
            unsent, sent = _of_sessions(unsent), _of_sessions(sent)
        if was_lent or unsent or sent:
            self.node.requests_lost(unsent, sent, reason)


def _of_sessions(requests: Sequence[Request]) -> list[Request]:
    return [request for request in requests if not isinstance(request, ExclusiveCall)]


class ExclusivePool:
    """The exclusive connections of one node.

    A connection is made when it is needed.  There are at most ``max_exclusive`` of them.  An idle connection is closed
    after about 30 seconds.
    """

    def __init__(
        self,
        clock: IReactorTime,
        options: Options,
        waits: Waits,
        establish: Callable[[], Deferred[Made]],
        owner: PoolOwner,
    ) -> None:
        self.owner = owner
        self._clock = clock
        self._options = options
        self._establish = establish
        self._idle: list[Lease] = []
        self._leased: set[Lease] = set()
        self._dialling: set[Deferred[Made]] = set()
        self._waiting = PendingQueue(clock, options, waits, owner.counters, self._describe)
        self._idle_timer = Timer(clock, self._close_idle)
        self._closed: MaybeExecuted | None = None
        self._failures = 0
        self._next_dial = Timer(clock, self._serve)

    def __repr__(self) -> str:
        counts = f"leased={len(self._leased)} idle={len(self._idle)} waiting={len(self._waiting)}"
        return f"<ExclusivePool {self.owner.address} {counts}>"

    def _describe(self) -> str:
        return f"waiting for one of {self._options.max_exclusive} exclusive connections to {self.owner.address}"

    @property
    def leases(self) -> list[Lease]:
        """The connections that are leased now."""
        return list(self._leased)

    def waiting(self) -> list[Request]:
        """Return the requests that wait for a connection."""
        return self._waiting.everything()

    def take_waiting(self, wanted: Callable[[Request], bool]) -> list[Request]:
        """Remove and return those waiting requests for which ``wanted`` returns true."""
        return self._waiting.take_where(wanted)

    def send(self, request: Request) -> None:
        """Queue a request for an exclusive connection.  Requests are sent in the order of the calls.

        Raises:
            TooManyPending: The limit is reached; the request was not accepted.
        """
        if self._closed is not None:
            request.fail_unanswered(type(self._closed), str(self._closed))
            return
        self._waiting.add(request)
        self._serve()

    def take_back(self, lease: Lease) -> None:
        """Take back a leased connection.  A connection with pending replies is aborted."""
        self._leased.discard(lease)
        if lease.connection.ended or lease.connection.pending:
            lease.connection.abort(ConnectionLost(f"{self.owner.address}: returned with replies pending"))
        elif self._closed is not None:
            lease.connection.drain()
        else:
            self._failures = 0
            self._keep(lease)
        self._serve()

    def lost(self, lease: Lease) -> bool:
        """Remove a connection that has ended.

        Returns:
            Whether the connection was leased.
        """
        if lease not in self._leased:
            return False
        self._leased.discard(lease)
        if self._closed is None and self._clock.seconds() - lease.made_at < LIVED:
            # Treated as a failed dial.  Otherwise requests could be sent again and lost again without a pause.
            self._back_off()
        return True

    def close(self, reason: MaybeExecuted | None = None) -> None:
        """Lend no more connections and fail the waiting requests.  Leased connections are closed on their return.

        Args:
            reason: The error for the waiting and all later requests.
        """
        for request in self._shut(reason or ConnectionLost(f"{self.owner.address}: the connection was closed")):
            assert self._closed is not None
            request.fail_unanswered(type(self._closed), str(self._closed))

    def cut_idle(self) -> None:
        """Abort the leased connections without pending requests, because their users wait for nothing."""
        for lease in list(self._leased):
            if not lease.connection.pending:
                lease.connection.abort(ConnectionLost(f"{self.owner.address}: the connection was closed"))

    @property
    def in_use(self) -> bool:
        """Whether a connection is leased."""
        return bool(self._leased)

    def redial(self, _: RESPProtocol | None) -> None:
        """Close the idle connections: the address of the node belongs to another machine now."""
        self.forget()

    def forget(self) -> None:
        """Close the idle connections."""
        idle, self._idle = self._idle, []
        for lease in idle:
            lease.connection.drain()

    def abort(self, reason: Exception) -> list[Request]:
        """Abort every connection.

        Args:
            reason: The error for the connections and for all later requests.

        Returns:
            The requests that waited for a connection.
        """
        closed = reason if isinstance(reason, MaybeExecuted) else ClientClosed(str(reason))
        waiting = self._shut(closed)
        for lease in list(self._leased):
            lease.connection.abort(reason)
        return waiting

    def _shut(self, reason: MaybeExecuted) -> list[Request]:
        self._closed = reason
        self._idle_timer.stop()
        self._next_dial.stop()
        waiting = self._waiting.take()
        for dialling in list(self._dialling):
            dialling.cancel()
        self.forget()
        return waiting

    def _keep(self, lease: Lease) -> None:
        lease.blocked = False
        lease.idle_since = self._clock.seconds()
        self._idle.append(lease)
        if lease.connection.login is not None:
            lease.connection.login.connection_is_free()
        if not self._idle_timer.running and self._closed is None:
            self._idle_timer.start(_KEPT)

    def _serve(self) -> None:
        """Lend idle connections, the newest first, and dial for the requests that are left."""
        self._waiting.drop_cancelled()
        while self._waiting and self._idle:
            lease = self._idle.pop()
            if lease.connection.ended:
                continue
            taken = [request for request in self._waiting.take(1) if isinstance(request, ExclusiveCall)]
            if taken:
                self._leased.add(lease)
                for_each(taken, lease.carry)
            else:
                # The request was cancelled.
                self._idle.append(lease)
        while self._is_one_missing():
            dialling = self._establish()
            self._dialling.add(dialling)
            dialling.addBoth(self._dialled, dialling)

    def _is_one_missing(self) -> bool:
        """Return whether another connection is to be dialled now."""
        most = 1 if self._failures else self._options.max_exclusive - len(self._leased)
        return not self._next_dial.running and len(self._dialling) < min(len(self._waiting), most)

    def _back_off(self) -> None:
        """Delay the next dial; the delay doubles with each failure.  Then dial one connection at a time."""
        if not self._next_dial.running:
            self._failures += 1
            self._next_dial.start(self._options.backoff(self._failures))

    def _dialled(self, result: Made | Failure, dialling: Deferred[Made]) -> None:
        self._dialling.discard(dialling)
        if isinstance(result, tuple):
            connection, info = result
            lease = Lease(self, connection, info, self._clock.seconds())
            if self._closed is not None:
                lease.connection.drain()
                return
            self._keep(lease)
        elif self._closed is None:
            self._back_off()
            reason = result.value
            assert isinstance(reason, ValkeyError)
            # The listener routes each waiting request again.
            self.owner.requests_stranded(self._waiting.take(), reason, "exclusive")
        self._serve()

    def _close_idle(self) -> None:
        now = self._clock.seconds()
        old = [lease for lease in self._idle if now - lease.idle_since >= _KEPT / 2 or lease.connection.ended]
        self._idle = [lease for lease in self._idle if lease not in old]
        for lease in old:
            lease.connection.drain()
        if self._idle:
            self._idle_timer.start(_KEPT)
