"""SubscriptionHub: places channels on nodes, and moves them when the slot map changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..address import Address
from ..connection.decoder import decoder
from ..connection.node import NodeConnection
from ..connection.subscriber import Subscriber
from ..connection.subscriber_group import SubscriberGroup
from ..errors import ClientClosed, ValkeyError
from ..events import Event, TopologyUpdated
from ..messages import Lost, LostReason, Resubscribed
from ..options import Options
from ..requests.subscribe import Kind
from ..requests.timer import Timer
from ..routing.router import Router
from ..topology.model import Topology
from .acknowledgement import Acknowledgement
from .feed import Feed
from .keyspace import check_configuration
from .placement import Scope, addresses_of, why_node_came, why_node_left, why_slot_moved
from .subscribe_requests import SubscribeRequests
from .upstream import Part, Upstream, UpstreamKey

_log = Logger()
# Seconds after a server has ended sharded channels at which the slot map is fetched again.  The map that is fetched at
# once can still be the old one; and a primary that was demoted accepts the channels again, as a replica.
_REFRESHES = (1.0, 2.0, 4.0, 8.0)
# Seconds between two refreshes of the slot map while every primary is subscribed: nothing else shows a new primary, and
# its events are missed until it is subscribed.
_REFRESH_PERIOD = 5.0


class SubscriptionHub:
    """The subscriptions of one client."""

    def __init__(self, router: Router, options: Options, emit: Callable[[Event], None]) -> None:
        """Make a hub without subscriptions.

        Args:
            router: The router of the client.
            options: The options of the client.
            emit: Emits an event to the listeners of the client.
        """
        self.clock = router.clock
        self.statistics = router.statistics
        #: Makes text of what servers send; None if the client has no encoding.
        self.decode = decoder(options)
        #: Why no subscription is made any more; None while the client is open.
        self.closed: ClientClosed | None = None
        #: Calls a function in the next turn of the reactor.
        self.next_turn = router.next_turn.add
        self._router = router
        self._emit = emit
        #: The connections that subscriptions share.
        self.shared = self.make_group()
        self._upstreams: dict[UpstreamKey, Upstream] = {}
        self._feeds: set[Feed] = set()
        self._requests = SubscribeRequests(self, router)
        self._refreshes: list[float] = []
        self._refresh_timer = Timer(self.clock, self._refresh_again)
        self._period_timer = Timer(self.clock, self._refresh_for_primaries)
        router.topology_listeners.append(self._topology_changed)

    def __repr__(self) -> str:
        return f"<SubscriptionHub feeds={len(self._feeds)} upstreams={len(self._upstreams)}>"

    @property
    def topology(self) -> Topology:
        """The current slot map."""
        return self._router.topology

    def wants(self, key: UpstreamKey) -> bool:
        """Tell whether there is a channel or pattern with this key."""
        return key in self._upstreams

    def make_group(self) -> SubscriberGroup:
        """Make a group of connections: one is shared; a subscription that can stop the reading has its own."""
        return SubscriberGroup(self.lost)

    def dropped(self, messages: int) -> None:
        """Count messages that a full buffer has dropped."""
        self.statistics.messages_dropped += messages

    # ---- what subscriptions ask for

    def add(
        self,
        feed: Feed,
        group: SubscriberGroup,
        kind: Kind,
        scope: Scope,
        names: Iterable[bytes],
        timeout: float | None,
        *,
        first: bool,
    ) -> Acknowledgement:
        """Subscribe channels or patterns for a feed.

        Args:
            feed: The feed.
            group: The connections to use.
            kind: The kind of all names.
            scope: The nodes at which they are subscribed.
            names: Channels or patterns.  Those that the feed has already are only waited for.
            timeout: Seconds until it fails, and none of the new ones stays subscribed.  None: no limit.
            first: Whether the feed ends if it fails.

        Returns:
            An acknowledgement.
        """
        found = [
            self._upstreams.get((group, kind, scope, name)) or Upstream(self, group, kind, scope, name, self.decode)
            for name in names
        ]
        added = [upstream for upstream in found if upstream.name not in feed.upstreams]
        awaited = [upstream for upstream in found if feed not in upstream.feeds or not upstream.complete]
        acknowledgement = Acknowledgement(self, feed, added, awaited, timeout, first=first)
        if self.closed is not None:
            acknowledgement.fail(self.closed)
            return acknowledgement
        self._feeds.add(feed)
        for upstream in added:
            self._upstreams[upstream.key] = feed.upstreams[upstream.name] = upstream
            upstream.add_feed(feed)
            self._place(upstream)
        self._requests.subscribe(part for upstream in added for part in upstream.parts.values())
        for upstream in added:
            if upstream.complete:
                acknowledgement.confirm(upstream)
        acknowledgement.check()
        return acknowledgement

    def unsubscribe(self, feed: Feed, upstreams: Iterable[Upstream]) -> Deferred[None]:
        """Remove some upstreams from a feed.

        Returns:
            A Deferred that fires when no server has a subscription to those that no other feed wants.
        """
        unwanted: list[Part] = []
        affected: dict[Acknowledgement, None] = {}
        for upstream in upstreams:
            if feed.upstreams.get(upstream.name) is not upstream:
                continue
            del feed.upstreams[upstream.name]
            upstream.remove_feed(feed)
            for acknowledgement in feed.concerned.pop(upstream, ()):
                acknowledgement.remove(upstream)
                affected[acknowledgement] = None
            if not upstream.feeds:
                del self._upstreams[upstream.key]
                unwanted += upstream.parts.values()
                upstream.parts = {}
        ended = self._requests.unsubscribe(unwanted)
        # Last, since their callbacks may subscribe again.
        for acknowledgement in affected:
            acknowledgement.check()
        return ended

    def end(self, feed: Feed, error: Exception | None = None) -> Deferred[None]:
        """End a feed; the Deferred is that of `unsubscribe`.  ``error`` is None if the application ends it."""
        self._feeds.discard(feed)
        acknowledgements = list(feed.acknowledgements)
        for acknowledgement in acknowledgements:
            acknowledgement.decide(error or ValkeyError("the subscription was closed"))
        ended = self.unsubscribe(feed, list(feed.upstreams.values()))
        feed.end(error)
        for acknowledgement in acknowledgements:
            acknowledgement.tell()
        return ended

    def close(self, error: ClientClosed) -> None:
        """End every subscription: iterators stop, and what waits for an acknowledgement fails with ``error``."""
        if self.closed is not None:
            return
        self.closed = error
        self._requests.stop()
        self._refresh_timer.stop()
        self._period_timer.stop()
        upstreams, self._upstreams = self._upstreams, {}
        for upstream in upstreams.values():
            upstream.remove_feeds()
            for part in upstream.parts.values():
                part.leave()
                call, part.call = part.call, None
                if call is not None and not call.called:
                    call.cancel()
        feeds, self._feeds = self._feeds, set()
        for feed in feeds:
            acknowledgements = list(feed.acknowledgements)
            for acknowledgement in acknowledgements:
                acknowledgement.decide(error)
            feed.upstreams.clear()
            feed.end()
            for acknowledgement in acknowledgements:
                acknowledgement.tell()

    # ---- where channels belong

    def _place(self, upstream: Upstream) -> None:
        """Make the first parts of an upstream, if its nodes are known."""
        if upstream.placed:
            return
        if upstream.scope in (Scope.ANY_NODE, Scope.SLOT_OWNER):
            nodes: list[Address | None] = [None]
        elif self.topology.version:
            self._period_timer.start(_REFRESH_PERIOD)
            nodes = [*addresses_of(self.topology, upstream.scope)]
        else:
            self._router.recovery.refresher.trigger()
            return
        upstream.placed = True
        upstream.parts = {node: Part(upstream, node) for node in nodes}

    def _follow(self, upstream: Upstream, previous: Topology | None) -> list[tuple[Part, LostReason, Address]]:
        """Make parts for new nodes, and end the parts at nodes that no longer belong to the scope.

        Returns:
            The gaps to be reported.
        """
        addresses = addresses_of(self.topology, upstream.scope)
        gone = [address for address in upstream.parts if address is not None and address not in addresses]
        new = [address for address in addresses if address not in upstream.parts]
        gaps: list[tuple[Part, LostReason, Address]] = []
        # A feed that has had nothing from any node yet has no gaps.
        begun = {feed for part in upstream.parts.values() for feed in part.told} if new else set()
        for address in gone:
            part = upstream.parts.pop(address)
            gaps.append((part, why_node_left(self.topology, address), address))
            self._requests.unsubscribe([part])
        for address in new:
            part = upstream.parts[address] = Part(upstream, address)
            # The events of the node were missed until now.
            part.told = dict.fromkeys(begun, True)
            gaps.append((part, why_node_came(self.topology, previous, address), address))
        return gaps

    def _topology_changed(self, event: TopologyUpdated) -> None:
        """Move the channels that belong to another node now."""
        moves: dict[tuple[Subscriber, LostReason], list[Part]] = {}
        requested: list[Part] = []
        everywhere: list[Upstream] = []
        gaps: dict[tuple[LostReason, Address], list[Part]] = {}
        # First without the listeners, which can change everything.
        for upstream in self._upstreams.values():
            if upstream.slot is not None:
                part = upstream.parts[None]
                if part.where is not None and self._is_misplaced(part, part.where):
                    moves.setdefault((part.where, self._why_moved(part, part.where)), []).append(part)
                elif (
                    (call := part.call) is not None and call.where is not None and self._is_misplaced(part, call.where)
                ):
                    requested.append(part)
            elif upstream.scope is not Scope.ANY_NODE:
                everywhere.append(upstream)
                if not upstream.placed:
                    self._place(upstream)
                    continue
                for part, why, address in self._follow(upstream, event.previous):
                    gaps.setdefault((why, address), []).append(part)
        for (why, address), parts in gaps.items():
            self._report_lost(parts, why, "", address)
        self._requests.subscribe(part for upstream in everywhere for part in upstream.parts.values())
        for upstream in everywhere:
            if upstream.complete:
                self._confirm(upstream)
        for (where, reason), parts in moves.items():
            self._move(where, reason, parts)
        # Their node may never answer.
        self._requests.unsubscribe(requested)
        self._requests.subscribe(requested)

    def _is_misplaced(self, part: Part, where: Subscriber) -> bool:
        """Whether the slot of a sharded channel has another owner than the node of ``where``."""
        slot = part.upstream.slot
        owner = self._router.destinations[slot] if slot is not None else None
        return isinstance(owner, NodeConnection) and owner.address != where.node.address

    def _why_moved(self, part: Part, where: Subscriber) -> LostReason:
        assert part.upstream.slot is not None
        return why_slot_moved(self.topology, part.upstream.slot, where.node.address)

    def _move(self, where: Subscriber, reason: LostReason, parts: Sequence[Part]) -> None:
        """Stop the messages of one node, report the gap, and subscribe at the owner."""
        self._requests.unsubscribe(parts)
        self._report_lost(parts, reason, "", where.node.address)
        self._requests.subscribe(parts)

    # ---- called by connections

    def confirmed(self, part: Part, where: Subscriber, *, asked: bool) -> None:
        """A server has confirmed a part; ``asked``: an ASK had led there, so the slot map does not."""
        upstream = part.upstream
        address = where.node.address
        regained = Resubscribed((upstream.text,), address)
        told, part.told = part.told, dict.fromkeys(upstream.feeds, True)
        waiting = [feed for feed, live in told.items() if not live]
        # A listener can do anything; this part may be lost or unwanted afterwards.
        for feed in waiting:
            if feed in upstream.feeds:
                feed.report(regained)
        if waiting:
            self.statistics.resubscribed += 1
            self._emit(regained)
        if part.node is not None:
            check_configuration(self._router.factory.node_at(address), upstream.name)
        if upstream.complete:
            self._confirm(upstream)
        if not asked and part.where is where and self._is_misplaced(part, where):
            self._move(where, self._why_moved(part, where), [part])

    @staticmethod
    def _confirm(upstream: Upstream) -> None:
        acknowledgements, upstream.acknowledgements = upstream.acknowledgements, {}
        for acknowledgement in acknowledgements:
            acknowledgement.confirm(upstream)

    def lost(self, where: Subscriber, parts: Sequence[Part], reason: LostReason, detail: str) -> None:
        """A server or a connection has ended parts: report the gap, and subscribe them where they belong now."""
        for part in parts:
            part.leave()
        if not parts or self.closed is not None:
            return
        if where.group.home is where.node and reason is not LostReason.SLOT_MOVED:
            where.group.home = None
        self._report_lost(parts, reason, detail, where.node.address)
        self._router.recovery.refresher.trigger()
        if reason is LostReason.SLOT_MOVED:
            self._refreshes = list(_REFRESHES)
            self._refresh_timer.start(self._refreshes.pop(0))
        # A node that has left the cluster gets no more requests; the change of the slot map ends its parts.
        self._requests.subscribe(part for part in parts if part.node is None or reason is not LostReason.NODE_REMOVED)

    def _report_lost(self, parts: Sequence[Part], reason: LostReason, detail: str, node: Address) -> None:
        """Report a gap to every feed that was told that these parts are subscribed."""
        by_feed: dict[Feed, list[Any]] = {}
        texts: dict[Any, None] = {}
        for part in parts:
            for feed, live in part.told.items():
                if live:
                    part.told[feed] = False
                    by_feed.setdefault(feed, []).append(part.upstream.text)
                    texts[part.upstream.text] = None
        for feed, names in by_feed.items():
            feed.report(Lost(tuple(names), reason, detail, node=node))
        if texts:
            self.statistics.lost += len(texts)
            self._emit(Lost(tuple(texts), reason, detail, node=node))

    def _refresh_again(self) -> None:
        self._router.recovery.refresher.trigger()
        if self._refreshes:
            self._refresh_timer.start(self._refreshes.pop(0))

    def _refresh_for_primaries(self) -> None:
        if any(upstream.scope in (Scope.PRIMARIES, Scope.ALL_NODES) for upstream in self._upstreams.values()):
            self._router.recovery.refresher.trigger()
            self._period_timer.start(_REFRESH_PERIOD)
