"""The connection to one node, with the states idle, dialling, ready, waiting to dial again, and closed.

A node accepts commands in every state but closed.  While there is no connection, commands wait in the node, so they are
certainly unsent.  The first waiting command causes a dial.  While the node is connected, its ``send`` attribute is the
``send`` method of the connection, so a command needs no code of this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import cached_property, partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from ..address import Address
from ..commands.encoder import Arg
from ..errors import ClientClosed, ConnectionLost, ReplyError, ValkeyError
from ..options import Options
from ..requests.internal import InternalCall, MarkedCall
from ..requests.pending_queue import PendingQueue
from ..requests.request import MultiRequest, Request, for_each
from ..requests.target import ANY_NODE, THIS_NODE
from ..requests.timer import Timer
from ..requests.waits import Waits
from ..statistics import NodeStatistics, Purpose
from .dial_backoff import DialBackoff
from .exclusive_pool import ExclusivePool, Lease
from .handshake import ServerInfo
from .listener import ConnectionListener, NodeListener
from .node_dialler import NodeDialler
from .node_subscribers import Subscribers
from .protocol import RESPProtocol

# A node that no slot map lists is kept this long without requests, in seconds.
_IDLE = 10.0
# CLIENT UNBLOCK is repeated after this time, in seconds.
_UNBLOCK_AGAIN = 0.05


class State(Enum):
    """The state of a node's connection."""

    IDLE = "idle"
    DIALLING = "dialling"
    READY = "ready"
    BACKING_OFF = "waiting to dial again"
    CLOSED = "closed"


class NodeConnection(ConnectionListener):
    """A node with its shared connection, which is made when it is needed."""

    def __init__(
        self,
        clock: IReactorTime,
        address: Address,
        options: Options,
        waits: Waits,
        dial: Callable[..., Deferred[Any]],
        listener: NodeListener,
    ) -> None:
        self.address = address
        #: What this node has done.
        self.counters = NodeStatistics()
        self.state = State.IDLE
        #: Facts about the server from the last handshake.
        self.info: ServerInfo | None = None
        #: Whether a slot map has ever listed this node.
        self.listed = False
        #: When this node last refused MULTI to the user of this client, as clock.seconds(), and the server's text.
        self.multi_refusal: tuple[float, str] | None = None
        #: The shared connection; None while the node is not connected.
        self.protocol: RESPProtocol | None = None
        # Whether the node is a primary, as far as is known.
        self._leads = True
        #: Accepts a request.  Raises TooManyPending.
        self.send: Callable[[Request], None] = self._wait
        self._clock = clock
        self._options = options
        self._waits = waits
        self._listener = listener
        self._dialler = NodeDialler(self, dial, clock, options, listener)
        self._waiting = PendingQueue(clock, options, waits, self.counters, self._describe)
        self._dials = DialBackoff(clock, options)
        self._ready_at = 0.0
        self._dialling: Deferred[tuple[RESPProtocol, ServerInfo]] | None = None
        self._dial_timer = Timer(clock, self._dial_now)
        self._unblock_timer = Timer(clock, self._unblock_leases)
        self._last_failure = ""

    def __repr__(self) -> str:
        return f"<NodeConnection {self.address} {self.state.value} waiting={len(self._waiting)} {self.protocol!r}>"

    @cached_property
    def pool(self) -> ExclusivePool:
        """The exclusive connections.  The pool is made at its first use, because most nodes never need one."""
        establish = partial(self._dialler.establish, "exclusive")
        return ExclusivePool(self._clock, self._options, self._waits, establish, self)

    @cached_property
    def subscribers(self) -> Subscribers:
        """The connections for subscriptions, made at the first subscription."""
        establish = partial(self._dialler.establish, "subscriber")
        return Subscribers(self._clock, self._options, self._waits, establish, self)

    def _others(self) -> list[ExclusivePool | Subscribers]:
        """Return the holders of the other connections of this node, as far as they have been made."""
        return [vars(self)[name] for name in ("pool", "subscribers") if name in vars(self)]

    @property
    def pending(self) -> int:
        """The number of requests that wait for a connection or are on the shared connection."""
        waiting = len(self._waiting) + sum(len(other.waiting()) for other in self._others())
        return waiting + (self.protocol.pending if self.protocol is not None else 0)

    @property
    def unused(self) -> bool:
        """Whether the node has no requests, no subscriptions, and no exclusive connection is leased."""
        return not self.pending and not any(other.in_use for other in self._others())

    @property
    def idle(self) -> bool:
        """Whether the server has sent nothing for 10 seconds, or the node is neither connected nor being dialled."""
        if self.protocol is not None:
            return bool(self._clock.seconds() - self.protocol.heard_at > _IDLE)
        return self.state is not State.DIALLING

    @property
    def failing(self) -> bool:
        """Whether the last dial failed."""
        return self._dials.failing and self.state is not State.READY

    def send_batch(self, batch: MultiRequest) -> None:
        """Accept a request with several replies.

        While there is no connection, the request dissolves into single requests, which wait.

        Raises:
            TooManyPending: The limit is reached; no part of the batch was accepted.
        """
        if self.protocol is not None:
            self.protocol.send_batch(batch)
        elif self.state is State.CLOSED:
            batch.fail_unanswered(ConnectionLost, f"{self.address}: the connection was closed")
        else:
            self._waiting.add_batch(batch)
            self.dial()

    def ask(self, request: Request) -> None:
        """Accept a request that must be sent after ASKING."""
        if self.protocol is not None:
            self.protocol.ask(request)
        else:
            self._wait(request)

    def call(self, *args: Arg) -> Deferred[Any]:
        """Send a command of the client itself to this node; dial the node if necessary.

        Args:
            args: The command's words.

        Returns:
            A Deferred that fires with the raw reply.  It fails with `ReplyError`, `ConnectionLost` or
            `CommandTimeout`; the timeout is twice ``connect_timeout``.
        """
        request = InternalCall(args, self._clock.seconds(), 2 * self._options.connect_timeout)
        self.send_mixed(request)
        return request

    def marked_call(self, *args: Arg) -> MarkedCall:
        """Send a command as `call` does, and note which commands of callers were written before it.

        Args:
            args: The command's words.

        Returns:
            The request, which is the Deferred of its reply.
        """
        request = MarkedCall(args, self._clock.seconds(), 2 * self._options.connect_timeout)
        self.send_mixed(request)
        return request

    def send_exclusive(self, request: Request) -> None:
        """Accept a request that needs an exclusive connection.

        Raises:
            TooManyPending: The limit is reached; the request was not accepted.
        """
        self.pool.send(request)

    def send_subscription(self, request: Request) -> None:
        """Accept a request that changes the subscriptions of a connection.

        Raises:
            TooManyPending: The limit is reached; the request was not accepted.
        """
        if self.state is State.CLOSED:
            request.fail_unanswered(ConnectionLost, f"{self.address}: the connection was closed")
        else:
            self.subscribers.send(request)

    def send_mixed(self, request: Request) -> None:
        """Accept a request that is not a plain command of a caller.

        Raises:
            TooManyPending: The limit is reached; the request was not accepted.
        """
        if self.protocol is not None:
            self.protocol.send_mixed(request)
        else:
            self._wait(request)

    def set_leads(self, leads: bool) -> None:
        """Set whether the node is a primary, as far as is known.

        Commands to a replica do not count as writes.
        """
        if self._leads and not leads and self.give_up_unconfirmed():
            # The node may have dropped writes that it had not replicated, even if it becomes a primary again.
            self._listener.writes_lost(self, "the node is no longer a primary")
        if leads and not self._leads and self.protocol is not None:
            self.protocol.confirmed = self.protocol.carried()
        self._leads = leads

    @property
    def has_unconfirmed(self) -> bool:
        """Whether the shared connection has sent commands of callers that no WAIT has confirmed."""
        return self._leads and self.protocol is not None and self.protocol.carried() > self.protocol.confirmed

    def give_up_unconfirmed(self) -> bool:
        """Stop counting unconfirmed commands.

        Returns:
            Whether there were any.
        """
        if self.protocol is None or not self.has_unconfirmed:
            return False
        self.protocol.confirmed = self.protocol.carried()
        return True

    def dial(self) -> None:
        """Start to connect if the node is idle.  After a failed dial, wait for the back-off first."""
        if self.state is not State.IDLE:
            return
        delay = self._dials.delay
        self.state = State.BACKING_OFF if delay > 0 else State.DIALLING
        # Dialling runs code of the application.  It is deferred to the next turn to avoid re-entrancy.
        self._dial_timer.start(delay)

    def redial(self, connection: RESPProtocol | None) -> None:
        """Replace a connection whose address now belongs to another machine.

        Args:
            connection: The connection to replace.  Nothing happens to another, newer connection.
        """
        for other in self._others():
            other.redial(connection)
        if self.protocol is connection and connection is not None:
            self._disconnected()
            connection.drain()

    def take_waiting(self) -> list[Request]:
        """Remove and return the routed requests that wait for a connection."""
        taken = self._waiting.take_where(_is_routed)
        return taken + [request for other in self._others() for request in other.take_waiting(_is_routed)]

    def waiting(self) -> list[Request]:
        """Return every request that waits for a connection."""
        return self._waiting.everything() + [request for other in self._others() for request in other.waiting()]

    def unblock(self) -> None:
        """Make the server end the blocking commands, as if the commands had timed out."""
        self.pool.close(ClientClosed("the client is closed"))
        self._unblock_leases()

    def _unblock_leases(self) -> None:
        for lease in self.pool.leases:
            if lease.blocked and lease.info.client_id and self.state is not State.CLOSED:
                unblocking = self.call("CLIENT", "UNBLOCK", lease.info.client_id)
                unblocking.addCallbacks(self._unblocked, lambda _, lease: self._cut(lease), errbackArgs=(lease,))
            elif lease.blocked:
                self._cut(lease)

    def _unblocked(self, found: object) -> None:
        if not found and self.state is not State.CLOSED and not self._unblock_timer.running:
            # The command has ended, or the server has not read it yet.
            self._unblock_timer.start(_UNBLOCK_AGAIN)

    def _cut(self, lease: Lease) -> None:
        if lease in self.pool.leases:
            lease.connection.abort(ConnectionLost(f"{self.address}: the client was closed"))

    def close(self) -> None:
        """Accept no more requests.  Close the connection when its pending replies have come."""
        connection, waiting = self.protocol, self._shut()
        # This also makes a pool if there is none yet: a closed pool refuses later requests.
        self.pool.close()
        self.pool.cut_idle()
        if connection is not None:
            connection.drain()
        if "subscribers" in vars(self):
            self.subscribers.close()
        for request in waiting:
            request.fail_unanswered(ConnectionLost, f"{self.address}: the connection was closed")

    def abort(self, reason: Exception) -> list[Request]:
        """End all connections at once.

        Args:
            reason: The error for the connections.

        Returns:
            The requests that waited for a connection.
        """
        connection, waiting = self.protocol, self._shut()
        waiting += self.pool.abort(reason)
        if "subscribers" in vars(self):
            waiting += self.subscribers.abort(reason)
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
        last = f"; last error: {self._last_failure}" if self._last_failure else ""
        return f"waiting for {self.address} ({self.state.value}, {len(self._waiting)} commands queued{last})"

    # ---- dialling

    def _dial_now(self) -> None:
        self.state = State.DIALLING
        self._dialling = self._dialler.establish("shared")
        self._dialling.addCallbacks(self._became_ready, self._dial_ended_badly)

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
        self._listener.connected(self, "shared")

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
        self._dials.failed()
        stranded = self._waiting.take_where(self._is_stranded)
        self.state = State.IDLE
        if self._waiting:
            self.dial()
        self._listener.dial_failed(self, stranded, reason, "shared")

    def _is_stranded(self, request: Request) -> bool:
        """Return whether a request must not wait for the next dial: it can use another node, or it fails now."""
        asking = request.history is not None and request.history.asking
        return not self.listed or asking or request.target in (THIS_NODE, ANY_NODE)

    def _disconnected(self) -> None:
        self._detach(State.IDLE)
        self._dials.ended(self._ready_at)

    def _detach(self, state: State) -> None:
        # Unsent requests may still be written while the connection is drained.
        unsent = self._leads and self.protocol is not None and self.protocol.has_any_unsent
        if self.give_up_unconfirmed() or unsent:
            self._listener.writes_lost(self, "the connection that sent the commands was replaced")
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

    # ---- called by connections and by the pool

    def reply_failed(self, connection: RESPProtocol, request: Request, error: ReplyError) -> None:
        """Pass an error reply to the listener."""
        self._listener.reply_failed(self, connection, request, error)

    def connection_ended(
        self, connection: RESPProtocol, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception
    ) -> None:
        """Become ready to dial again, then pass the requests to the listener."""
        if self.protocol is connection:
            self._disconnected()
        self._listener.lost(self, unsent, sent, reason)

    def requests_lost(self, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception) -> None:
        """Pass the requests of an exclusive connection to the listener."""
        self._listener.lost(self, unsent, sent, reason)

    def requests_stranded(self, requests: list[Request], reason: ValkeyError, purpose: Purpose) -> None:
        """Pass the requests that needed a connection of their own to the listener."""
        self._dialler.failed(purpose)
        self._listener.dial_failed(self, requests, reason, purpose)

    def connection_gone(self, connection: RESPProtocol, reason: Exception, *, clean: bool) -> None:
        """Tell the listener that the socket is closed."""
        self._listener.disconnected(self, reason, clean, connection.unanswered)


def _is_routed(request: Request) -> bool:
    """Return whether a request may go to another node."""
    return request.target is not THIS_NODE
