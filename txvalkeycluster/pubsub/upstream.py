"""Upstream: one channel or pattern of the cluster, shared by the feeds that want it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..connection.subscriber import Subscriber
from ..connection.subscriber_group import SubscriberGroup
from ..messages import LostReason, Message
from ..requests.subscribe import PATTERN, Kind, SubscribeCall
from ..requests.timer import Timer
from ..slots import key_slot
from .delivery import Deliver, Sink, deliverer, sink_of
from .feed import Feed, ListenerFeed
from .placement import Scope, may_repeat

if TYPE_CHECKING:
    from .acknowledgement import Acknowledgement
    from .hub import SubscriptionHub


# Seconds for which messages are not delivered after a channel has come to another node.  They are part of the gap that
# was reported.  The cluster bus can bring a message that the old node has delivered to the new node a little later.
_QUARANTINE = 0.1


UpstreamKey = tuple[SubscriberGroup, Kind, Scope, bytes]


class Upstream:
    """A channel or pattern, with its state at each node and the feeds that want it."""

    def __init__(
        self,
        hub: SubscriptionHub,
        group: SubscriberGroup,
        kind: Kind,
        scope: Scope,
        name: bytes,
        decode: Callable[[Any], Any] | None,
    ) -> None:
        """Make an upstream that nobody wants yet.

        Args:
            hub: The hub.
            group: The connections that carry it.
            kind: Channel, pattern or sharded channel.
            scope: The nodes at which it is subscribed.
            name: Its name, as the server has it.
            decode: Makes text of what the server sends; None leaves bytes.
        """
        self.hub = hub
        self.group = group
        self.kind = kind
        self.scope = scope
        self.name = name
        #: The slot of a sharded channel; None for others, which belong to no slot.
        self.slot = key_slot(name) if scope is Scope.SLOT_OWNER else None
        #: Its name, as the application sees it.
        self.text: Any = decode(name) if decode is not None else name
        self.feeds: dict[Feed, None] = {}
        #: What waits until it is subscribed.
        self.acknowledgements: dict[Acknowledgement, None] = {}
        #: By node for a scope of many nodes; else the only one, under None.
        self.parts: dict[Address | None, Part] = {}
        #: Whether it is known at which nodes it belongs.
        self.placed = False
        self._decode = decode

    def __repr__(self) -> str:
        live = sum(part.live for part in self.parts.values())
        return f"<Upstream {self.text!r} at {self.scope.value} live={live}/{len(self.parts)} feeds={len(self.feeds)}>"

    @property
    def key(self) -> UpstreamKey:
        """What makes it one."""
        return self.group, self.kind, self.scope, self.name

    @property
    def complete(self) -> bool:
        """Whether it is subscribed wherever it belongs."""
        return self.placed and all(part.live for part in self.parts.values())

    def add_feed(self, feed: Feed) -> None:
        """Deliver the messages to a feed from now on."""
        self.feeds[feed] = None
        for part in self.parts.values():
            part.feeds_changed()
            if part.live:
                part.told[feed] = True

    def remove_feed(self, feed: Feed) -> None:
        """Stop the delivery to a feed."""
        del self.feeds[feed]
        for part in self.parts.values():
            part.feeds_changed()
            part.told.pop(feed, None)

    def remove_feeds(self) -> None:
        """Stop the delivery to all feeds."""
        self.feeds.clear()
        for part in self.parts.values():
            part.feeds_changed()

    def sink(self) -> Sink | None:
        """Return what takes the messages; None if it is a pattern, or if they are to be decoded."""
        return None if self.kind is PATTERN or self._decode is not None else sink_of(list(self.feeds))

    def deliverer(self, node: Address | None) -> Deliver:
        """Return what takes the pushes of messages otherwise; ``node`` is put into the messages."""
        return deliverer(self.text, node, self.kind is PATTERN, self._decode, list(self.feeds))


class Part:
    """An upstream at one node, or at the one node that happens to have it.  Implements `NodeSubscription`."""

    def __init__(self, upstream: Upstream, node: Address | None) -> None:
        """``node`` is None if the node is chosen by the slot map."""
        self.upstream = upstream
        self.kind = upstream.kind
        self.name = upstream.name
        self.node = node
        #: The channel, as it stands in messages.
        self.text: Any = upstream.text
        #: Takes a message; None: `deliver` takes the push.
        self.sink: Sink | None = None
        #: Takes the push of a message.
        self.deliver: Deliver = _ignore
        #: The subscriber where the server has confirmed it; None if it is not subscribed.
        self.where: Subscriber | None = None
        #: The request that is to subscribe it; None if there is none.
        self.call: SubscribeCall | None = None
        #: What each feed was told: True that it is subscribed, False that it was lost.
        self.told: dict[Feed, bool] = {}
        #: Whether its messages are delivered.
        self.live = False
        # The node that it was live at last.
        self._last_node: Address | None = None
        self._quarantine = Timer(upstream.hub.clock, self._go_live)
        self._asked = False
        #: How many requests in a row came to nothing.
        self.failures = 0
        #: Whether the log says that the server refuses it.
        self.refused = False

    def __repr__(self) -> str:
        return f"<Part {self.upstream.text!r} node={self.node} where={self.where!r} call={self.call!r}>"

    def feeds_changed(self) -> None:
        """Make `sink` or `deliver` again with the next message.  Many feeds may be added or removed before it."""
        self.sink = None
        self.deliver = self._first_delivery if self.live else _ignore

    def _first_delivery(self, push: Sequence[Any]) -> None:
        self.sink = self.upstream.sink()
        if self.sink is None:
            self.deliver = self.upstream.deliverer(self.node)
            self.deliver(push)
        else:
            for feed in list(self.upstream.feeds):
                feed.put(Message(self.text, push[2]))

    def failed(self) -> None:
        """Log what a listener has raised on a message."""
        ListenerFeed.failed(Message)

    def confirmed(self, where: Subscriber) -> None:
        """Handle the confirmation of the server on the connection of ``where``."""
        call, self.call = self.call, None
        if call is not None:
            # If the connection ends before the others are confirmed, they are requested without this one.
            del call.parts[self.name]
        self.where = where
        self.failures = 0
        self.refused = False
        self._asked = call is not None and call.history is not None and call.history.asking
        if self.told and may_repeat(
            self.upstream.hub.topology, self.upstream.scope, self._last_node, where.node.address
        ):
            self._quarantine.start(_QUARANTINE)
        else:
            self._go_live()

    def _go_live(self) -> None:
        """Deliver messages from now on."""
        where = self.where
        assert where is not None
        self._last_node = where.node.address
        self.live = True
        self.feeds_changed()
        self.upstream.hub.confirmed(self, where, asked=self._asked)

    def leave(self) -> Subscriber | None:
        """Stop the delivery; return the subscriber where it was subscribed, or None."""
        where, self.where = self.where, None
        self._quarantine.stop()
        self.live = False
        self.feeds_changed()
        return where

    def ended_by_server(self) -> None:
        """Handle the end of the subscription by the server: report the gap, and subscribe again."""
        if self.where is not None:
            self.upstream.hub.lost(self.where, [self], LostReason.SLOT_MOVED, "")


def _ignore(_: Sequence[Any]) -> None:
    """Take the push of a message that is not delivered."""
