"""Subscriber: a connection to one node for subscriptions, made when it is needed and closed when it is not used.

Each `SubscriberGroup` has at most one such connection to a node.  The subscriptions of a client share one group.  A
subscription that stops reading when its buffer is full has a group of its own, so that the others can still read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from ..address import Address
from ..errors import ConnectionLost, ReplyError, ValkeyError
from ..messages import LostReason
from ..options import Options
from ..requests.later_calls import LaterCalls
from ..requests.pending_queue import PendingQueue
from ..requests.request import Request, for_each
from ..requests.subscribe import CHANNEL, PATTERN, SHARDED, Kind, NodeSubscription, SubscribeCall, UnsubscribeCall
from ..requests.timer import Timer
from ..requests.waits import Waits
from ..statistics import NodeStatistics, Purpose
from .dial_backoff import DialBackoff
from .listener import ConnectionListener
from .protocol import RESPProtocol
from .subscriber_group import SubscriberGroup
from .subscriber_protocol import Deliveries, SubscriberProtocol


class Node(Protocol):
    """The node of a subscriber."""

    #: The address of the node.
    address: Address
    #: What the node has done.
    counters: NodeStatistics

    def reply_failed(self, connection: RESPProtocol, request: Request, error: ReplyError) -> None:
        """Handle an error reply; the request belongs to the node now."""

    def requests_lost(self, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception) -> None:
        """Handle requests whose connection ended before their replies came."""

    def requests_stranded(self, requests: list[Request], reason: ValkeyError, purpose: Purpose) -> None:
        """Handle requests for which no connection could be made."""


# Seconds that a connection without subscriptions stays open: requests that are refused for now come back soon.
_LINGER = 1.0
# A refused UNSUBSCRIBE is sent this often, with a pause in seconds.  Then the connection is ended.
_UNSUBSCRIBE_TRIES, _UNSUBSCRIBE_PAUSE = 4, 0.2


class Subscriber(ConnectionListener):
    """The connection of one group to one node."""

    def __init__(
        self,
        clock: IReactorTime,
        options: Options,
        waits: Waits,
        establish: Callable[[], Deferred[tuple[SubscriberProtocol, Any]]],
        node: Node,
        dials: DialBackoff,
        group: SubscriberGroup,
        unused: Callable[[Subscriber], None],
    ) -> None:
        """Make a subscriber without a connection.

        Args:
            clock: The clock of the client.
            options: The options of the client.
            waits: What all queues of the client share.
            establish: Makes a connection that has finished its handshake.
            node: The node.
            dials: Limits how often the node is dialled; all subscribers of the node share it.
            group: The group of this subscriber.
            unused: Called with this subscriber when it has no subscriptions and no requests any more.
        """
        self.node = node
        self.group = group
        self._clock = clock
        self._options = options
        self._waits = waits
        self._establish = establish
        self._dials = dials
        self._unused = unused
        self._connection: SubscriberProtocol | None = None
        self._dialling: Deferred[Any] | None = None
        self._dial_timer = Timer(clock, self._dial)
        self._ping_timer = Timer(clock, self._watch)
        self._unused_timer = Timer(clock, self._end_if_unused)
        self._unsubscribe_again = LaterCalls(clock, _UNSUBSCRIBE_PAUSE)
        where = f"waiting for a subscriber of {node.address}"
        self._waiting = PendingQueue(clock, options, waits, node.counters, lambda: where)
        self._parts: dict[tuple[Kind, bytes], list[NodeSubscription]] = {}
        self._deliveries: Deliveries = {kind.message: {} for kind in (CHANNEL, PATTERN, SHARDED)}
        self._connected_at = 0.0
        # Whether the connection was not read for a while, and no reply has come since.
        self._was_paused = False
        self._closed = False
        group.add(self)

    def __repr__(self) -> str:
        return f"<Subscriber {self.node.address} subscriptions={len(self._parts)} {self._connection!r}>"

    @property
    def in_use(self) -> bool:
        """Whether this subscriber has subscriptions or requests."""
        return bool(self._parts or self._waiting or (self._connection is not None and self._connection.pending))

    # ---- requests

    def send(self, request: SubscribeCall) -> None:
        """Send a request; dial the node first if there is no connection."""
        if self._closed:
            request.fail_unanswered(ConnectionLost, f"{self.node.address}: the connection was closed")
            return
        request.where = self
        if self._connection is not None:
            self._give(request)
            return
        self._waiting.add(request)
        if self._dialling is None and not self._dial_timer.running:
            # Dialling runs code of the application.  It is deferred to the next turn to avoid re-entrancy.
            self._dial_timer.start(self._dials.delay)

    def unsubscribe(self, parts: Sequence[NodeSubscription], have_twins: bool) -> Deferred[None]:
        """End subscriptions of one kind; sharded channels of one slot only.

        Args:
            parts: The subscriptions.  Their requests may be without a reply; they are taken back already.
            have_twins: Whether other subscriptions may have the same names.  Only patterns can.

        Returns:
            A Deferred that fires when the server has processed the end, or the connection is lost.
        """
        kind = parts[0].kind
        names: list[bytes] = []
        awaited = self._awaited(kind) if have_twins else frozenset()
        for part in parts:
            key = (kind, part.name)
            left = [other for other in self._parts.get(key, ()) if other is not part]
            self._set_parts(key, left)
            if not left and part.name not in awaited:
                names.append(part.name)
        done: Deferred[None] = Deferred()
        self._send_unsubscribe(kind, names, done, _UNSUBSCRIBE_TRIES)
        return done

    def _send_unsubscribe(self, kind: Kind, names: list[bytes], done: Deferred[None], tries: int) -> None:
        connection = self._connection
        if not names or connection is None or connection.ended:
            self._close_if_unused()
            done.callback(None)
            return
        request = UnsubscribeCall(kind, names, self._clock.seconds(), self._waits.cancels.note)

        def ended(result: object) -> None:
            refusal = result.value if isinstance(result, Failure) else None
            if not isinstance(refusal, ReplyError) or refusal.code == "MOVED":
                # A lost connection has ended the subscriptions, too; so has the server when the slot left.
                self._close_if_unused()
                done.callback(None)
            elif tries > 1:
                self._unsubscribe_again.add(again)
            else:
                connection.abort(ConnectionLost(f"{connection.peer} refused {request.command.name}: {refusal}"))
                done.callback(None)

        def again() -> None:
            # The connection may be another one, and some may be subscribed again.
            same = connection is self._connection
            awaited = self._awaited(kind)
            left = [name for name in names if (kind, name) not in self._parts and name not in awaited] if same else []
            self._send_unsubscribe(kind, left, done, tries - 1)

        request.addBoth(ended)
        connection.send_mixed(request)

    def _awaited(self, kind: Kind) -> frozenset[bytes]:
        """The names whose subscription has been requested on this connection."""
        requests = self._connection.everything() if self._connection is not None else []
        return frozenset(
            name
            for request in requests
            if isinstance(request, SubscribeCall) and not request.called and request.kind is kind
            for name in request.parts
        )

    def _give(self, request: Request) -> None:
        assert self._connection is not None
        if request.admit().asking:
            self._connection.ask(request)
        else:
            self._connection.send_mixed(request)

    # ---- the connection

    def _dial(self) -> None:
        self._dialling = self._establish()
        self._dialling.addCallbacks(self._connected, self._dial_failed)

    def _connected(self, made: tuple[SubscriberProtocol, Any]) -> None:
        self._dialling = None
        connection, _ = made
        if self._closed:
            connection.drain()
            return
        self._connection = connection
        self._connected_at = self._clock.seconds()
        connection.owner = self
        connection.start(self, self._deliveries)
        self._ping_timer.start(self._options.unresponsive_after / 2)
        for_each(self._waiting.take(), self._give)
        if self.group.paused:
            self.pause()
        self._close_if_unused()

    def _dial_failed(self, failure: Failure) -> None:
        self._dialling = None
        self._dials.failed()
        if not self._closed:
            reason = failure.value
            assert isinstance(reason, ValkeyError)
            self.node.requests_stranded(self._waiting.take(), reason, "subscriber")
            self._close_if_unused()

    def _watch(self) -> None:
        """Send a PING if nothing has come from the server for half of ``unresponsive_after``."""
        connection = self._connection
        if connection is None:
            return
        wait = self._options.unresponsive_after / 2
        self._ping_timer.start(wait)
        quiet = self._clock.seconds() - connection.heard_at >= wait * 0.9
        # A PING counts as a use, so it would delay the end of an unused connection.
        if quiet and not self.group.paused and not self._unused_timer.running:
            # Without a reply, the connection ends after ``unresponsive_after``.  An error is a reply.
            connection.call("PING").addBoth(self._close_if_unused)

    def pause(self) -> None:
        """Stop reading from the connection."""
        if self._connection is not None:
            self._was_paused = True
            self._connection.pause()

    def resume(self) -> None:
        """Read from the connection again."""
        if self._connection is not None:
            self._connection.resume()
            # The reply shows that the server has not closed the connection meanwhile.
            self._connection.call("PING").addBoth(self._resumed)

    def _resumed(self, reply: object) -> None:
        if not isinstance(reply, Failure) or isinstance(reply.value, ReplyError):
            self._was_paused = self.group.paused
            connection = self._connection
            if connection is not None and connection.login is not None and not self._was_paused:
                connection.login.connection_is_free()
        self._close_if_unused()

    def redial(self, connection: Any) -> None:
        """End ``connection``, whose address now belongs to another machine, if this subscriber uses it."""
        if connection is self._connection and connection is not None:
            connection.abort(ConnectionLost(f"{self.node.address} belongs to another machine now"))

    def _close_if_unused(self, _: object = None) -> None:
        if not self._closed and not self.in_use:
            self._unused_timer.start(_LINGER)

    def _end_if_unused(self) -> None:
        if not self._closed and not self.in_use and self._dialling is None and not self._dial_timer.running:
            self._shut()
            self._unused(self)

    def close(self) -> None:
        """Accept no more requests and report the subscriptions as lost, because the node or the client is closed."""
        connection, parts, waiting = self._connection, self._parts_now(), self._waiting.take()
        self._shut()
        self.group.lost(self, parts, LostReason.NODE_REMOVED, "")
        reason = ConnectionLost(f"{self.node.address}: the connection was closed")
        if connection is not None:
            # Its requests go to other nodes; the server may never answer them.
            connection.abort(reason)
        for request in waiting:
            request.fail_unanswered(ConnectionLost, str(reason))

    def abort(self, reason: Exception) -> list[Request]:
        """End the connection at once.

        Args:
            reason: Why.

        Returns:
            The requests that waited for a connection.
        """
        connection, waiting = self._connection, self._waiting.take()
        self._shut()
        if connection is not None:
            connection.abort(reason)
        return waiting

    def _shut(self) -> None:
        self._closed = True
        self._parts_now()
        self.group.remove(self)
        self._dial_timer.stop()
        self._ping_timer.stop()
        self._unused_timer.stop()
        connection, self._connection = self._connection, None
        if self._dialling is not None:
            self._dialling.cancel()
        if connection is not None:
            if self.group.paused:
                connection.resume()
            connection.drain()
        self._unsubscribe_again.call_now()

    def take_waiting(self, wanted: Callable[[Request], bool]) -> list[Request]:
        """Remove and return those waiting requests for which ``wanted`` returns true."""
        return self._waiting.take_where(wanted)

    def waiting(self) -> list[Request]:
        """Return the requests that wait for a connection."""
        return self._waiting.everything()

    # ---- called by the connection

    @property
    def occupied(self) -> bool:
        """Whether the connection is not read, or the replies of that time have not come yet."""
        return self._was_paused

    def subscribed(self, part: NodeSubscription) -> None:
        """Start to deliver the messages of a subscription."""
        key = (part.kind, part.name)
        parts = self._parts.get(key, [])
        if part not in parts:
            self._set_parts(key, [*parts, part])
        part.confirmed(self)

    def unsubscribed(self, kind: Kind, name: Any) -> None:
        """Report the end of a subscription, unless the client ended it."""
        parts = self._parts.get((kind, name), []) if isinstance(name, bytes) else []
        if parts:
            self._set_parts((kind, name), [])
            for part in parts:
                part.ended_by_server()
            self._close_if_unused()

    def read_started(self) -> None:
        """Pass the start of a read to the group."""
        self.group.reading = True

    def read_done(self) -> None:
        """Pass the end of a read to the group."""
        self.group.read_done()

    def reply_failed(self, connection: Any, request: Request, error: ReplyError) -> None:
        """Pass an error reply to the node."""
        if isinstance(request, SubscribeCall):
            # Nothing is subscribed, so nothing must be ended here.
            request.where = None
        self.node.reply_failed(connection, request, error)
        self._close_if_unused()

    def connection_ended(
        self, connection: Any, unsent: Sequence[Request], sent: Sequence[Request], reason: Exception
    ) -> None:
        """Report the subscriptions as lost, then pass the requests to the node."""
        if connection is self._connection:
            self._connection = None
            self._ping_timer.stop()
            self._dials.ended(self._connected_at)
        parts = self._parts_now()
        was_paused, self._was_paused = self._was_paused, False
        cause = LostReason.OUTPUT_LIMIT if was_paused else LostReason.CONNECTION
        self.group.lost(self, parts, cause, str(reason))
        self.node.requests_lost(unsent, sent, reason)
        self._close_if_unused()

    def _parts_now(self) -> list[NodeSubscription]:
        """Remove and return all subscriptions; no more messages are delivered."""
        parts = [part for parts in self._parts.values() for part in parts]
        self._parts = {}
        for table in self._deliveries.values():
            table.clear()
        return parts

    def _set_parts(self, key: tuple[Kind, bytes], parts: list[NodeSubscription]) -> None:
        kind, name = key
        if not parts:
            self._parts.pop(key, None)
            self._deliveries[kind.message].pop(name, None)
            return
        self._parts[key] = parts
        self._deliveries[kind.message][name] = parts[0] if len(parts) == 1 else _Several(parts)


class _Several:
    """Subscriptions to the same pattern on one connection."""

    text = None
    sink = None

    def __init__(self, parts: Sequence[NodeSubscription]) -> None:
        self._parts = parts

    def failed(self) -> None:
        """Nothing, since there is no `sink`."""

    def deliver(self, push: Sequence[Any]) -> None:
        for part in self._parts:
            part.deliver(push)
