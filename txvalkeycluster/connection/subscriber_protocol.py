"""SubscriberProtocol: a connection that carries subscriptions.

Until `start` it is an ordinary connection, for the handshake.  After `start`, the server sends three kinds of data:

- Messages.  They are looked up by kind and channel, and delivered.
- Confirmations of changes, and the server's own ``sunsubscribe`` when a slot leaves.
- Ordinary replies.  Only PING, ASKING and refused changes have them.

With RESP3, messages and confirmations are pushes.  With RESP2 they are lists.  Any other data is ignored or ends this
connection.  It cannot affect a command, because commands use other connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..errors import ProtocolError, ReplyError
from ..messages import Message
from ..requests.fast_deferred import fast
from ..requests.subscribe import (
    CHANNEL,
    PATTERN,
    SHARDED,
    FencedCall,
    Kind,
    NodeSubscription,
    Receiver,
    SubscribeCall,
    UnsubscribeCall,
)
from .protocol import NOTHING, PUSH, RESPProtocol

# Message(...) costs three times as much: it calls a function that is written in Python.
_new = tuple.__new__
_KINDS = (CHANNEL, PATTERN, SHARDED)
_SUBSCRIBED = {kind.subscribed: kind for kind in _KINDS}
_UNSUBSCRIBED = {kind.unsubscribed: kind for kind in _KINDS}
# These are no replies to PING.  SUNSUBSCRIBE gets them after the server's own ``sunsubscribe``, which acknowledges it.
_ERRORS_OF_SLOTS = frozenset(["MOVED", "ASK", "CLUSTERDOWN"])

#: What gets the messages of a connection, by the first word of the push, then by channel or pattern.
Deliveries = dict[bytes, dict[bytes, Receiver]]


class Listener(Protocol):
    """The owner of a connection with subscriptions."""

    def subscribed(self, part: NodeSubscription) -> None:
        """Handle the server's confirmation of a requested subscription."""

    def unsubscribed(self, kind: Kind, name: Any) -> None:
        """Handle the end of a subscription by the server."""

    def read_started(self) -> None:
        """Handle the start of the processing of a read."""

    def read_done(self) -> None:
        """Handle the end of the processing of a read."""


class SubscriberProtocol(RESPProtocol):
    """One connection to one node, for subscriptions."""

    purpose = "subscriber"
    _deliveries: Deliveries | None = None
    # Delivers messages, and returns the next reply that is none; None without the C extension.
    _messages: Any = None
    _subscriptions: Listener

    def start(self, listener: Listener, deliveries: Deliveries) -> None:
        """Begin to carry subscriptions.

        Args:
            listener: Gets the confirmations and the ends of subscriptions.
            deliveries: What gets the messages.  A message that is not found there is ignored.
        """
        self._subscriptions = listener
        self._deliveries = deliveries
        if fast is not None:
            self._messages = fast.Messages(self._reader, Message, deliveries)

    def pause(self) -> None:
        """Stop reading.  The server counts as silent only after `resume`."""
        self.patience = float("inf")
        self._transport().pauseProducing()

    def resume(self) -> None:
        """Read again, and detect silence again."""
        self.patience = self._options.unresponsive_after
        self.heard_at = self.seconds()
        self._transport().resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        """Deliver the messages that are complete with ``data``."""
        deliveries = self._deliveries
        if deliveries is None:
            super().dataReceived(data)
            return
        if self.ended:
            return
        scheduler = self._write_scheduler
        outer, scheduler.held = scheduler.held, True
        self.heard_at = self.seconds()
        self.counters.bytes_received += len(data)
        in_c = self._messages
        gets: Callable[[], Any] = self._reader.gets if in_c is None else in_c
        messages = 0
        self._subscriptions.read_started()
        try:
            self._reader.feed(data)
            while True:
                reply = gets()
                kind = reply.__class__
                if kind is PUSH or kind is list:
                    try:
                        part = deliveries[reply[0]][reply[1]]
                    except (LookupError, TypeError):
                        self._other(reply)
                    else:
                        messages += 1
                        sink = part.sink
                        if sink is None:
                            part.deliver(reply)
                        else:
                            # Here, not in a function of its own: a call costs a twentieth of what a message costs.
                            message = _new(Message, (part.text, reply[2], None, None))
                            try:
                                sink(message)
                            except BaseException:
                                part.failed()
                elif reply is NOTHING:
                    break
                else:
                    self._replied(reply)
        except Exception as error:
            self._broken(error, None)
        finally:
            scheduler.held = outer
            if in_c is not None:
                messages += in_c.count
                in_c.count = 0
            self.counters.messages += messages
            self._subscriptions.read_done()
            if not outer:
                scheduler.read_done(0)
        if self._draining:
            self._close_if_drained()

    def _other(self, reply: Any) -> None:
        """Handle a list or a push that is not a message of a subscription."""
        word = reply[0] if reply else None
        if isinstance(word, bytes) and len(reply) > 1:
            if word in _SUBSCRIBED:
                self._confirmed(_SUBSCRIBED[word], reply[1])
                return
            if word in _UNSUBSCRIBED:
                self._ended(_UNSUBSCRIBED[word], reply[1])
                return
            if any(word == kind.message for kind in _KINDS):
                # The subscription has just been removed.
                return
        if reply.__class__ is not PUSH:
            self._replied(reply)

    def _confirmed(self, kind: Kind, name: Any) -> None:
        request = self._sent[0] if self._sent else None
        if isinstance(request, SubscribeCall) and request.kind is kind:
            request.acknowledged = True
            part = request.parts.get(name) if isinstance(name, bytes) else None
            if part is not None and not request.called:
                self._subscriptions.subscribed(part)

    def _ended(self, kind: Kind, name: Any) -> None:
        request = self._sent[0] if self._sent else None
        if isinstance(request, UnsubscribeCall) and request.kind is kind and name in request.names:
            request.acknowledged = True
        self._subscriptions.unsubscribed(kind, name)

    def _replied(self, reply: Any) -> None:
        """Handle an ordinary reply, which belongs to the oldest request."""
        if not self._sent:
            raise ProtocolError(f"{self.peer} sent a reply without a pending command")
        request = self._sent[0]
        if reply.__class__ is ReplyError:
            by_slot = reply.code in _ERRORS_OF_SLOTS
            if isinstance(request, FencedCall) and (by_slot or not request.acknowledged) and request.error is None:
                # The reply to the PING is still to come.  After a confirmation or another error, this is the reply: a
                # server refuses PING with NOPERM, MISCONF, LOADING or BUSY.
                request.error = reply
                return
        elif isinstance(request, FencedCall) and not request.is_fence(reply):
            raise ProtocolError(f"{self.peer} answered {request.command.name} with {type(reply).__name__}")
        self._sent.popleft()
        if isinstance(request, FencedCall):
            self._fenced(request)
        elif reply.__class__ is ReplyError:
            self._refused(request, reply)
        elif not request.called:
            self._answer(request, reply)

    def _fenced(self, request: FencedCall) -> None:
        """End a change that the server has processed."""
        error, request.error, request.acknowledged = request.error, None, False
        if error is not None:
            self._refused(request, error)
        elif not request.called:
            request.answer(None)
