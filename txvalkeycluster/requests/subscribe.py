"""Requests that change the subscriptions of a connection.

SUBSCRIBE and the similar commands have no ordinary reply.  The server confirms each channel with a push, and sends an
error reply if it refuses the command.  When a slot leaves a node, the server sends a ``sunsubscribe`` push without a
command; this push looks like the confirmation of SUNSUBSCRIBE.  So a PING follows every change.  Its reply proves that
the server has processed the change.

Source: https://valkey.io/topics/pubsub
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from ..commands import Command
from ..commands.encoder import Packed, pack
from ..errors import ReplyError
from ..messages import Message
from .interfaces import Connection, Destination
from .request import Call
from .target import THIS_NODE, Target

_numbers = count()


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of subscription: its commands, and the first words of its pushes."""

    subscribe: Command
    unsubscribe: Command
    subscribed: bytes
    unsubscribed: bytes
    message: bytes


def _kind(prefix: str) -> Kind:
    subscribe, unsubscribe, message = (f"{prefix}{word}" for word in ("SUBSCRIBE", "UNSUBSCRIBE", "MESSAGE"))
    words = (word.lower().encode() for word in (subscribe, unsubscribe, message))
    return Kind(Command(subscribe), Command(unsubscribe), *words)


#: Classic channels, patterns, and sharded channels.
CHANNEL, PATTERN, SHARDED = _kind(""), _kind("P"), _kind("S")


class Receiver(Protocol):
    """What gets the messages of a channel or pattern on one connection."""

    #: The channel, as it stands in a message.
    text: Any

    @property
    def sink(self) -> Callable[[Message[Any]], object] | None:
        """Takes a message of a channel; None: `deliver` takes the push."""

    @property
    def deliver(self) -> Callable[[Sequence[Any]], None]:
        """Takes the push of a message."""

    def failed(self) -> None:
        """Log what `sink` has raised."""


class NodeSubscription(Receiver, Protocol):
    """A channel or pattern that is subscribed at one node."""

    kind: Kind
    name: bytes

    def confirmed(self, where: Any) -> None:
        """Handle the server's confirmation, on the connection of ``where``."""

    def ended_by_server(self) -> None:
        """Handle the end of the subscription by the server: the slot no longer belongs to the node."""


class FencedCall(Call):
    """A command without an ordinary reply, followed by a PING.  It ends with the reply to the PING."""

    __slots__ = ("_token", "acknowledged", "error", "kind", "where")

    def __init__(
        self,
        kind: Kind,
        command: Command,
        names: Sequence[bytes],
        target: Target,
        now: float,
        cancelled: Callable[[Any], None],
    ) -> None:
        """Make a request without a deadline.

        Args:
            kind: The kind of the subscriptions.
            command: The command.
            names: Its arguments, channels or patterns.
            target: Where it is sent.
            now: The time, as clock.seconds().
            cancelled: Called if the request is cancelled.
        """
        self._token = b"%d" % next(_numbers)
        super().__init__(self._packed(command, names), command, target, now, inf, True, cancelled)
        self.kind = kind
        #: Whether the server has confirmed a change.  Then an error reply is the reply to the PING.
        self.acknowledged = False
        #: The error reply to the command; None if there is none.
        self.error: ReplyError | None = None
        #: The subscriber that has accepted this request; None before.
        self.where: Any = None
        # The client has accepted this request, so a full queue does not refuse it.
        self.admit()

    def give_to(self, destination: Destination) -> None:
        """Give this request to a destination that has connections for subscriptions."""
        destination.send_subscription(self)

    def _packed(self, command: Command, names: Sequence[bytes]) -> bytes:
        return _bytes(pack((command.name, *names))) + _bytes(pack(("PING", self._token)))

    def is_fence(self, reply: Any) -> bool:
        """Return whether a reply is the one to this request's PING; with RESP2 it may be a list."""
        return bool(reply == self._token or reply == [b"pong", self._token])


def _bytes(packed: Packed) -> bytes:
    return packed if isinstance(packed, bytes) else b"".join(packed)


class SubscribeCall(FencedCall):
    """Subscribes channels or patterns of one kind; sharded channels of one slot only."""

    __slots__ = ("group", "parts")

    notes_write = True

    def __init__(
        self,
        kind: Kind,
        parts: Sequence[NodeSubscription],
        group: Any,
        target: Target,
        now: float,
        cancelled: Callable[[Deferred[Any]], None],
    ) -> None:
        """Make the request.

        Args:
            kind: The kind of all ``parts``.
            parts: What to subscribe.
            group: The group of connections that carries the subscription.
            target: A slot, any node, or the node to which the request is given.
            now: The time, as clock.seconds().
            cancelled: Called if the request is cancelled.
        """
        #: The subscriptions that are not confirmed yet, by name.
        self.parts = {part.name: part for part in parts}
        self.group = group
        super().__init__(kind, kind.subscribe, list(self.parts), target, now, cancelled)

    def give_to(self, destination: Destination) -> None:
        """Give this request to a destination, if something is left to subscribe."""
        if self.parts:
            super().give_to(destination)
        else:
            self.answer(None)

    def written_on(self, connection: Connection) -> None:
        """Leave out what was removed since the request was made, and forget what an earlier connection has replied."""
        self.acknowledged, self.error = False, None
        self.payload = self._packed(self.command, list(self.parts))


class UnsubscribeCall(FencedCall):
    """Ends subscriptions of one kind on one connection."""

    __slots__ = ("names",)

    internal = True

    def __init__(self, kind: Kind, names: Sequence[bytes], now: float, cancelled: Callable[[Any], None]) -> None:
        """Make the request.

        Args:
            kind: The kind of all ``names``.
            names: Channels or patterns; sharded channels of one slot only.
            now: The time, as clock.seconds().
            cancelled: Called if the request is cancelled.
        """
        self.names = frozenset(names)
        super().__init__(kind, kind.unsubscribe, names, THIS_NODE, now, cancelled)

    def refused(self, connection: Connection, error: ReplyError) -> None:
        """End this request with the error of the server."""
        if not self.called:
            self.fail(error)
