"""One node's connection through its life: idle, dialling, ready, waiting to dial again, closed.

Commands are taken in every state but the last.  While there is no connection they wait here, provably unsent, and the
first of them has the node dialled.  ``send`` *is* the connection's own ``send`` while there is one, so that a command
to a connected node passes through nothing of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import cached_property
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from ..address import Address
from ..commands.encoder import Arg
from ..errors import ClientClosed, ConnectionLost, ValkeyError
from ..options import Options
from ..requests.pending_queue import PendingQueue
from ..requests.request import Cancels, InternalCall, MarkedCall, MultiRequest, Request, for_each
from ..requests.target import ANY_NODE, THIS_NODE
from ..requests.timer import Timer
from .connect_errors import connect_error
from .exclusive_pool import LIVED, ExclusivePool, Lease
from .handshake import ServerInfo, handshake
from .listener import ConnectionListener
from .protocol import RESPProtocol

# How long one that no map lists is kept without having anything to do.
_IDLE = 10.0
# Before the server is asked again to end what blocks.
_UNBLOCK_AGAIN = 0.05


class State(Enum):
    """Where a node's connection stands."""

    IDLE = "idle"
    DIALLING = "dialling"
    READY = "ready"
    BACKING_OFF = "waiting to dial again"
    CLOSED = "closed"


class NodeListener(Protocol):
    """What a node needs from above: whoever decides about requests that it cannot carry."""

    def reply_failed(self, node: NodeConnection, connection: RESPProtocol, request: Request, error: Any) -> None:
        """An error reply to a routed request."""

    def lost(self, node: NodeConnection, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception) -> None:
        """The connection ended under these requests."""

    def dial_failed(self, node: NodeConnection, stranded: list[Request], reason: ValkeyError) -> None:
        """Dialling failed; ``stranded`` cannot wait for the next try here."""

    def writes_lost(self, node: NodeConnection, why: str) -> None:
        """No WAIT can confirm any more what the shared connection has carried."""

    def connected(self, node: NodeConnection) -> None:
        """The handshake was answered."""

    def disconnected(self, node: NodeConnection, reason: Exception, clean: bool) -> None:
        """A connection that was connected is gone."""


class NodeConnection(ConnectionListener):
    """The one connection to a node, made when it is needed."""

    def __init__(
        self,
        clock: IReactorTime,
        address: Address,
        options: Options,
        cancels: Cancels,
        dial: Callable[[Address], Deferred[Any]],
        listener: NodeListener,
    ) -> None:
        self.address = address
        self.state = State.IDLE
        #: What the server said of itself at the last handshake.
        self.info: ServerInfo | None = None
        #: Whether a slot map has ever listed this node.
        self.listed = False
        #: When this node last refused MULTI to our user, and what it said.
        self.multi_refusal: tuple[float, str] | None = None
        self.protocol: RESPProtocol | None = None
        self._leads = True
        #: Takes a request.  Raises TooManyPending.
        self.send: Callable[[Request], None] = self._wait
        self._clock = clock
        self._options = options
        self._cancels = cancels
        self._dial = dial
        self._listener = listener
        self._waiting = PendingQueue(clock, options, cancels, self._describe)
        self._failures = 0
        self._not_before = 0.0
        self._ready_at = 0.0
        self._dialling: Deferred[Any] | None = None
        self._dial_timer = Timer(clock, self._dial_now)
        self._unblock_timer = Timer(clock, self._unblock_leases)
        self._last_failure = ""

    def __repr__(self) -> str:
        return f"<NodeConnection {self.address} {self.state.value} waiting={len(self._waiting)} {self.protocol!r}>"

    @cached_property
    def pool(self) -> ExclusivePool:
        """Connections that one caller at a time has to itself.  Most of 1,000 nodes never need one."""
        return ExclusivePool(self._clock, self._options, self._cancels, self._establish, self)

    @property
    def _has_pool(self) -> bool:
        return "pool" in vars(self)

    @property
    def pending(self) -> int:
        """Requests it has, waiting or on the shared connection."""
        waiting = len(self._waiting) + (len(self.pool.waiting()) if self._has_pool else 0)
        return waiting + (self.protocol.pending if self.protocol is not None else 0)

    @property
    def unused(self) -> bool:
        """Whether it has no requests, and nobody has one of its connections to itself."""
        return not self.pending and not (self._has_pool and self.pool.leases)

    @property
    def idle(self) -> bool:
        """Whether it has told nothing for a while, and is not being dialled."""
        if self.protocol is not None:
            return bool(self._clock.seconds() - self.protocol.heard_at > _IDLE)
        return self.state is not State.DIALLING

    @property
    def failing(self) -> bool:
        """Whether the last try to dial it came to nothing."""
        return self._failures > 0 and self.state is not State.READY

    def send_batch(self, batch: MultiRequest) -> None:
        """Take a request with several replies; while there is no connection, what it dissolves into waits."""
        if self.protocol is not None:
            self.protocol.send_batch(batch)
        elif self.state is State.CLOSED:
            batch.fail_unanswered(ConnectionLost, f"{self.address}: the connection was closed")
        else:
            self._waiting.add_batch(batch)
            self.dial()

    def ask(self, request: Request) -> None:
        """Take a request that must stand behind an ASKING."""
        if self.protocol is not None:
            self.protocol.ask(request)
        else:
            self._wait(request)

    def call(self, *args: Arg) -> Deferred[Any]:
        """Ask this node something on the client's own behalf, dialling it if need be."""
        request = InternalCall(args, self._clock.seconds(), 2 * self._options.connect_timeout)
        self.send_mixed(request)
        return request

    def marked_call(self, *args: Arg) -> MarkedCall:
        """The same, by a request that knows which commands it was written behind."""
        request = MarkedCall(args, self._clock.seconds(), 2 * self._options.connect_timeout)
        self.send_mixed(request)
        return request

    def send_exclusive(self, request: Request) -> None:
        """Take a request that needs a connection to itself.  Raises TooManyPending."""
        self.pool.send(request)

    def send_mixed(self, request: Request) -> None:
        """Take a request that is not simply a caller's command.  Raises TooManyPending."""
        if self.protocol is not None:
            self.protocol.send_mixed(request)
        else:
            self._wait(request)

    def set_leads(self, leads: bool) -> None:
        """Note whether it is a primary, as far as is known.  What a replica is sent are no writes."""
        if self._leads and not leads and self.give_up_unconfirmed():
            # It may have dropped what it had not handed on, even if it leads again later.
            self._listener.writes_lost(self, "the node that carried commands is no primary any more")
        if leads and not self._leads and self.protocol is not None:
            self.protocol.confirmed = self.protocol.carried()
        self._leads = leads

    @property
    def has_unconfirmed(self) -> bool:
        """Whether the connection has carried callers' commands that no WAIT has confirmed."""
        return self._leads and self.protocol is not None and self.protocol.carried() > self.protocol.confirmed

    def give_up_unconfirmed(self) -> bool:
        """Whether it has; from now on those commands count no more."""
        if self.protocol is None or not self.has_unconfirmed:
            return False
        self.protocol.confirmed = self.protocol.carried()
        return True

    def dial(self) -> None:
        """Connect now, unless that is under way, done, or has just failed."""
        if self.state is not State.IDLE:
            return
        delay = self._not_before - self._clock.seconds()
        self.state = State.BACKING_OFF if delay > 0 else State.DIALLING
        # Never at once: dialling runs code of the application, and whoever asked may not be ready for that.
        self._dial_timer.start(max(delay, 0))

    def redial(self, connection: RESPProtocol | None) -> None:
        """Replace ``connection``, if it is still the one: its address names another machine now."""
        if self._has_pool:
            self.pool.forget()
        if self.protocol is connection and connection is not None:
            self._disconnected()
            connection.drain()

    def take_waiting(self) -> list[Request]:
        """Hand over the routed requests that wait for a connection."""
        taken = self._waiting.take_where(_is_routed)
        return taken + self.pool.take_waiting(_is_routed) if self._has_pool else taken

    def waiting(self) -> list[Request]:
        """Every request that waits for a connection."""
        return self._waiting.everything() + (self.pool.waiting() if self._has_pool else [])

    def unblock(self) -> None:
        """Have the commands end that the server holds back, as if their time were up."""
        self.pool.close(ClientClosed("the client is closed"))
        self._unblock_leases()

    def _unblock_leases(self) -> None:
        for lease in self.pool.leases:
            if lease.blocked and lease.info.client_id and self.state is not State.CLOSED:
                unblocking = self.call("CLIENT", "UNBLOCK", lease.info.client_id)
                unblocking.addCallbacks(self._unblocked, lambda _, lease: self._cut(lease), errbackArgs=(lease,))
            elif lease.blocked:
                self._cut(lease)

    def _unblocked(self, found: Any) -> None:
        if not found and self.state is not State.CLOSED and not self._unblock_timer.running:
            # It has ended by itself, or the server has yet to read that it is to block.
            self._unblock_timer.start(_UNBLOCK_AGAIN)

    def _cut(self, lease: Lease) -> None:
        if lease in self.pool.leases:
            lease.connection.abort(ConnectionLost(f"{self.address}: the client was closed"))

    def close(self) -> None:
        """Take nothing more; what is unanswered on the connection is still waited for."""
        connection, waiting = self.protocol, self._shut()
        # Made to be closed, where there is none yet: it turns away what comes late.
        self.pool.close()
        self.pool.cut_idle()
        if connection is not None:
            connection.drain()
        for request in waiting:
            request.fail_unanswered(ConnectionLost, f"{self.address}: the connection was closed")

    def abort(self, reason: Exception) -> list[Request]:
        """End at once; hand over the routed requests that waited."""
        connection, waiting = self.protocol, self._shut()
        waiting += self.pool.abort(reason)
        if connection is not None:
            connection.abort(reason)
        return waiting

    # ---- waiting

    def _wait(self, request: Request) -> None:
        if self.state is State.CLOSED:
            request.fail_unanswered(ConnectionLost, f"{self.address}: the connection was closed")
            return
        self._waiting.add(request)
        self.dial()

    def _describe(self) -> str:
        last = f"; last try: {self._last_failure}" if self._last_failure else ""
        return f"waiting for {self.address} ({self.state.value}) with {len(self._waiting)} commands in all{last}"

    # ---- dialling

    def _dial_now(self) -> None:
        self.state = State.DIALLING
        self._dialling = self._establish()
        self._dialling.addCallbacks(self._became_ready, self._dial_ended_badly)

    def _establish(self) -> Deferred[tuple[RESPProtocol, ServerInfo]]:
        """Make a connection that has answered the handshake, or fail with one of our own errors in good time."""
        made: Deferred[Any] = Deferred.fromCoroutine(self._connect())
        made.addTimeout(self._options.connect_timeout, self._clock)
        made.addErrback(self._explain)
        return made

    async def _connect(self) -> tuple[RESPProtocol, ServerInfo]:
        connection: RESPProtocol = await self._dial(self.address)
        try:
            return connection, await handshake(connection, self._options)
        except BaseException as error:
            connection.abort(error if isinstance(error, Exception) else ConnectionLost("given up"))
            raise

    def _explain(self, failure: Failure) -> Failure:
        return Failure(connect_error(self.address, failure, self._options))  # type: ignore[no-untyped-call]

    def _became_ready(self, made: tuple[RESPProtocol, ServerInfo]) -> None:
        connection, self.info = made
        self._dialling = None
        if self.state is not State.DIALLING:
            connection.drain()
            return
        self.state = State.READY
        self._last_failure = ""
        self._ready_at = self._clock.seconds()
        self.protocol = connection
        connection.owner = self
        self.send = connection.send
        for_each(self._waiting.take(), self._give_waiting)
        self._listener.connected(self)

    def _give_waiting(self, request: Request) -> None:
        assert self.protocol is not None
        request.give_to(self.protocol)

    def _dial_ended_badly(self, failure: Failure) -> None:
        self._dialling = None
        if self.state is not State.DIALLING:
            return
        reason = failure.value
        assert isinstance(reason, ValkeyError)
        self._last_failure = str(reason)
        self._back_off()
        stranded = self._waiting.take_where(self._is_stranded)
        self.state = State.IDLE
        if self._waiting:
            self.dial()
        self._listener.dial_failed(self, stranded, reason)

    def _is_stranded(self, request: Request) -> bool:
        """Whether a request gains nothing by waiting for the next try: the map may never lead here, or not only."""
        asking = request.history is not None and request.history.asking
        return not self.listed or asking or request.target in (THIS_NODE, ANY_NODE)

    def _back_off(self) -> None:
        self._failures += 1
        self._not_before = self._clock.seconds() + self._options.backoff(self._failures)

    def _disconnected(self) -> None:
        self._detach(State.IDLE)
        if self._clock.seconds() - self._ready_at >= LIVED:
            self._failures = 0
            self._not_before = 0.0
        else:
            self._back_off()

    def _detach(self, state: State) -> None:
        # What is unsent may still be written while the connection is drained.
        unsent = self._leads and self.protocol is not None and self.protocol.has_any_unsent
        if self.give_up_unconfirmed() or unsent:
            self._listener.writes_lost(self, "the connection that carried commands was replaced")
        self.protocol = None
        self.send = self._wait
        self.state = state

    def _shut(self) -> list[Request]:
        self._detach(State.CLOSED)
        self._dial_timer.stop()
        self._unblock_timer.stop()
        if self._dialling is not None:
            dialling, self._dialling = self._dialling, None
            dialling.cancel()
        return self._waiting.take()

    # ---- what the connection tells

    def reply_failed(self, connection: RESPProtocol, request: Request, error: Any) -> None:
        """Pass an error reply up."""
        self._listener.reply_failed(self, connection, request, error)

    def connection_ended(
        self, connection: RESPProtocol, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception
    ) -> None:
        """Be ready to dial again, then pass the requests up."""
        if self.protocol is connection:
            self._disconnected()
        self._listener.lost(self, unsent, sent, reason)

    def exclusive_lost(self, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception) -> None:
        """Pass the requests of an exclusive connection up."""
        self._listener.lost(self, unsent, sent, reason)

    def exclusive_dial_failed(self, requests: list[Request], reason: ValkeyError) -> None:
        """Pass up the requests that wanted an exclusive connection."""
        self._listener.dial_failed(self, requests, reason)

    def connection_gone(self, connection: RESPProtocol, reason: Exception, *, clean: bool) -> None:
        """Pass the end of the socket up."""
        self._listener.disconnected(self, reason, clean)


def _is_routed(request: Request) -> bool:
    """Whether it may go to another node."""
    return request.target is not THIS_NODE
