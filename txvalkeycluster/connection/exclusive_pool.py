"""Connections that one caller has to itself for a while: to block on, or to watch keys on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from ..address import Address
from ..errors import ClientClosed, ConnectionLost, MaybeExecuted, ReplyError, ValkeyError
from ..options import Options
from ..requests.exclusive import ExclusiveCall
from ..requests.pending_queue import PendingQueue
from ..requests.request import Cancels, MultiRequest, Request, for_each
from ..requests.timer import Timer
from .handshake import ServerInfo
from .listener import ConnectionListener
from .protocol import RESPProtocol

# A connection that lived shorter than this does not count as a success of dialling.
LIVED = 1.0
# An idle one is closed after about this long.
_KEPT = 30.0


class PoolOwner(Protocol):
    """What a pool needs from its node."""

    address: Address
    #: When the node last refused MULTI to our user, and what it said.
    multi_refusal: tuple[float, str] | None

    def reply_failed(self, connection: RESPProtocol, request: Request, error: Any) -> None:
        """An error reply; the request belongs to the node now."""

    def send_batch(self, batch: MultiRequest) -> None:
        """Take a request with several replies, for the connection that all share."""

    def unblock(self) -> None:
        """Have the commands end that the server holds back, as if their time were up."""

    def exclusive_lost(self, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception) -> None:
        """A connection ended that somebody had, under these requests."""

    def exclusive_dial_failed(self, requests: list[Request], reason: ValkeyError) -> None:
        """No connection could be made for these."""


class Lease(ConnectionListener):
    """One such connection.  Whoever has it gives it back, whatever has become of it."""

    def __init__(self, pool: ExclusivePool, connection: RESPProtocol, info: ServerInfo, now: float) -> None:
        self.node = pool.owner
        self.connection = connection
        self.info = info
        #: Whether it is waiting for a reply that the server may hold back for long.
        self.blocked = False
        self.made_at = self.idle_since = now
        self._pool = pool
        connection.owner = self
        # A reply that is held back is no silence; of a dead peer keepalive tells.
        connection.patience = inf

    def carry(self, request: ExclusiveCall) -> None:
        """Send the request that it was lent to."""
        request.lease = self
        self.blocked = request.blocks
        if request.admit().asking:
            self.ask(request)
        else:
            self.send(request)

    def send(self, request: Request) -> None:
        """Send a request."""
        self._give(request, self.connection.send_mixed)

    send_mixed = send_exclusive = send

    def send_batch(self, batch: MultiRequest) -> None:
        """Send a request with several replies."""
        self._give(batch, self.connection.send_batch)

    def ask(self, request: Request) -> None:
        """Send a request behind an ASKING."""
        self._give(request, self.connection.ask)

    def _give(self, request: Any, take: Callable[[Any], None]) -> None:
        if self.connection.ended:
            request.fail_unanswered(ConnectionLost, f"{self.connection.peer}: the connection has ended")
        else:
            take(request)

    def give_back(self) -> None:
        """Return it to the pool.  One that owes replies is cut."""
        self._pool.take_back(self)

    # ---- what the connection tells

    def reply_failed(self, connection: RESPProtocol, request: Request, error: ReplyError) -> None:
        """Pass an error reply up; the request may go to another node, and need another connection."""
        if isinstance(request, ExclusiveCall):
            request.release()
        self.node.reply_failed(connection, request, error)

    def connection_ended(
        self, connection: RESPProtocol, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception
    ) -> None:
        """Pass the requests up."""
        was_lent = self._pool.lost(self)
        if was_lent:
            for request in (*unsent, *sent):
                if isinstance(request, ExclusiveCall):
                    request.release()
        else:
            # What it was lent to has given it back, and is ending; a session may have left others on it.
            unsent, sent = _of_sessions(unsent), _of_sessions(sent)
        if was_lent or unsent or sent:
            self.node.exclusive_lost(unsent, sent, reason)


def _of_sessions(requests: Sequence[Request]) -> list[Request]:
    return [request for request in requests if not isinstance(request, ExclusiveCall)]


class ExclusivePool:
    """The exclusive connections of one node: made when needed, at most ``max_exclusive``, kept for a while."""

    def __init__(
        self,
        clock: IReactorTime,
        options: Options,
        cancels: Cancels,
        establish: Callable[[], Deferred[tuple[RESPProtocol, ServerInfo]]],
        owner: PoolOwner,
    ) -> None:
        self.owner = owner
        self._clock = clock
        self._options = options
        self._establish = establish
        self._idle: list[Lease] = []
        self._leased: set[Lease] = set()
        self._dialling: set[Deferred[Any]] = set()
        self._waiting = PendingQueue(clock, options, cancels, self._describe)
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
        """Those that somebody has."""
        return list(self._leased)

    def waiting(self) -> list[Request]:
        """The requests that wait for a connection."""
        return self._waiting.everything()

    def take_waiting(self, wanted: Callable[[Request], bool]) -> list[Request]:
        """Hand over those of them that are ``wanted``."""
        return self._waiting.take_where(wanted)

    def send(self, request: Request) -> None:
        """Send a request on a connection, in the order asked.  Raises TooManyPending."""
        if self._closed is not None:
            request.fail_unanswered(type(self._closed), str(self._closed))
            return
        self._waiting.add(request)
        self._serve()

    def take_back(self, lease: Lease) -> None:
        """Take one back; one that owes replies is cut."""
        self._leased.discard(lease)
        if lease.connection.ended or lease.connection.pending:
            lease.connection.abort(ConnectionLost(f"{self.owner.address}: given up"))
        elif self._closed is not None:
            lease.connection.drain()
        else:
            self._failures = 0
            self._keep(lease)
        self._serve()

    def lost(self, lease: Lease) -> bool:
        """Whether somebody had a connection that has ended."""
        if lease not in self._leased:
            return False
        self._leased.discard(lease)
        if self._closed is None and self._clock.seconds() - lease.made_at < LIVED:
            # As a failed dial: what is sent again could else be lost again and again.
            self._back_off()
        return True

    def close(self, reason: MaybeExecuted | None = None) -> None:
        """Lend nothing more; those that are lent are closed when they come back."""
        for request in self._shut(reason or ConnectionLost(f"{self.owner.address}: the connection was closed")):
            assert self._closed is not None
            request.fail_unanswered(type(self._closed), str(self._closed))

    def cut_idle(self) -> None:
        """Cut those that are lent and have nothing on its way: whoever has them is not waiting for anything."""
        for lease in list(self._leased):
            if not lease.connection.pending:
                lease.connection.abort(ConnectionLost(f"{self.owner.address}: the connection was closed"))

    def forget(self) -> None:
        """Close the idle ones."""
        idle, self._idle = self._idle, []
        for lease in idle:
            lease.connection.drain()

    def abort(self, reason: Exception) -> list[Request]:
        """Cut every one; hand over the requests that waited."""
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
        if not self._idle_timer.running and self._closed is None:
            self._idle_timer.start(_KEPT)

    def _serve(self) -> None:
        """Lend idle ones, newest first, and dial for those that go without."""
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
                # It was cancelled meanwhile.
                self._idle.append(lease)
        while self._is_one_missing():
            dialling = self._establish()
            self._dialling.add(dialling)
            dialling.addBoth(self._dialled, dialling)

    def _is_one_missing(self) -> bool:
        """Whether another connection is to be dialled now."""
        most = 1 if self._failures else self._options.max_exclusive - len(self._leased)
        return not self._next_dial.running and len(self._dialling) < min(len(self._waiting), most)

    def _back_off(self) -> None:
        """Dial again only after a while, that doubles with each failure, and one at a time."""
        if not self._next_dial.running:
            self._failures += 1
            self._next_dial.start(self._options.backoff(self._failures))

    def _dialled(self, result: Any, dialling: Deferred[Any]) -> None:
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
            # Each is routed anew.
            self.owner.exclusive_dial_failed(self._waiting.take(), result.value)
        self._serve()

    def _close_idle(self) -> None:
        now = self._clock.seconds()
        old = [lease for lease in self._idle if now - lease.idle_since >= _KEPT / 2 or lease.connection.ended]
        self._idle = [lease for lease in self._idle if lease not in old]
        for lease in old:
            lease.connection.drain()
        if self._idle:
            self._idle_timer.start(_KEPT)
