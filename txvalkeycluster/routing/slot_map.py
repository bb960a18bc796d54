"""The current slot map: the destination of each slot, and the nodes.

A new map is prepared in steps, because a map with 16,384 ranges takes some milliseconds.  Then it is installed at once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from random import Random

from ..address import Address, parse_address
from ..connection.factory import ClusterFactory
from ..connection.node import NodeConnection, State
from ..errors import RoutingError
from ..requests.request import Request
from ..requests.retry_queue import RetryQueue
from ..requests.target import PrimaryOf, Target
from ..slots import SLOT_COUNT
from ..topology.model import Node, Shard, Topology, same

#: The owner of a slot, or the queue of the requests that wait for an owner.
Destination = NodeConnection | RetryQueue

# How many shards are prepared in one step.  With new nodes, this takes about 0.2 ms.
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Draft:
    """A prepared map, to be installed."""

    #: The map.
    topology: Topology
    #: Its nodes by address.
    listed: dict[Address, Node]
    #: Its primaries.
    primaries: list[NodeConnection]
    #: The destination of each slot.
    destinations: list[Destination]


class SlotMap:
    """The current slot map.  Before the first map, no slot has an owner."""

    def __init__(self, factory: ClusterFactory, ownerless: RetryQueue, random: Random) -> None:
        """Make it without a map.

        Args:
            factory: Makes the nodes.
            ownerless: The queue of the requests for slots without an owner.
            random: Chooses a node for commands without a key.
        """
        #: The current map.
        self.topology = Topology(0, ())
        #: The destination of each slot.  It is always the same list.
        self.destinations: list[Destination] = [ownerless] * SLOT_COUNT
        self._factory = factory
        self._ownerless = ownerless
        self._random = random
        self._listed: dict[Address, Node] = {}
        self._primaries: list[NodeConnection] = []
        # Whether a MOVED has changed a slot since the map was installed.
        self._repointed = False
        # The result of `snapshot`; None if there is none, or if the destinations have changed since.
        self._snapshot: list[Destination] | None = None
        self._relays = False

    def snapshot(self) -> list[Destination]:
        """Return the destination of each slot as it is now, in a list that never changes.

        It is for relayed requests, whose caller is told from now on when later ones can overtake them.
        """
        if self._snapshot is None:
            self._relays = True
            self._snapshot = list(self.destinations)
        return self._snapshot

    def overtake(self, nodes: Iterable[Destination]) -> None:
        """Note that nodes have lost slots: later requests can overtake those that are on the way to these nodes.

        It is called before any later request is sent.
        """
        self._snapshot = None
        if self._relays:
            for node in nodes:
                if isinstance(node, NodeConnection) and node.protocol is not None:
                    for request in dict.fromkeys(node.protocol.everything()):
                        request.overtaken()

    def draft(self, shards: tuple[Shard, ...]) -> Generator[None, None, Draft | None]:
        """Prepare a map.

        Args:
            shards: The shards of the map.

        Returns:
            A generator that returns the prepared map.  It returns None if the current map is equal and no MOVED has
            changed it.
        """
        topology = self.topology
        if not (yield from same(topology.shards, shards)):
            topology = Topology(topology.version + 1, shards)
        elif not self._repointed:
            return None
        draft = Draft(topology, {}, [], [self._ownerless] * SLOT_COUNT)
        for number, shard in enumerate(topology.shards):
            if number % _AT_ONCE == _AT_ONCE - 1:
                yield
            self._add(shard, draft)
        return draft

    def _add(self, shard: Shard, draft: Draft) -> None:
        for node in shard.nodes:
            if node.address is not None:
                draft.listed[node.address] = node
                self._factory.node_at(node.address)
        if shard.primary is None or shard.primary.address is None:
            return
        owner = self._factory.node_at(shard.primary.address)
        draft.primaries.append(owner)
        for start, end in shard.slots:
            if start == end:
                # A fragmented map has thousands of these.  The slice below takes six times as long.
                draft.destinations[start] = owner
            else:
                draft.destinations[start : end + 1] = [owner] * (end + 1 - start)

    def install(self, draft: Draft) -> tuple[list[Request], list[NodeConnection]]:
        """Replace the current map.

        Args:
            draft: The prepared map.

        Returns:
            The requests that waited for nodes, to be sent again; and the nodes that are no longer in the map, to be
            closed.
        """
        self._repointed = False
        self.topology = draft.topology
        if self._relays:
            pairs = zip(self.destinations, draft.destinations, strict=True)
            self.overtake({old for old, new in pairs if old is not new})
        self.destinations[:] = draft.destinations
        self._listed = draft.listed
        self._primaries = draft.primaries
        return self._factory.install(draft.listed)

    def repoint(self, slot: int, node: NodeConnection) -> None:
        """Assign a slot to the target of a MOVED, until the next map."""
        if self.destinations[slot] is not node:
            self.overtake([self.destinations[slot]])
        self.destinations[slot] = node
        self._repointed = True

    def lists_as_replica(self, address: Address) -> bool:
        """Tell whether the map lists the node at this address as a replica."""
        listed = self._listed.get(address)
        return listed is not None and listed.role == "replica"

    def destination_of(self, target: Target) -> Destination:
        """Return the current destination of a target."""
        if isinstance(target, int):
            return self.destinations[target]
        if isinstance(target, PrimaryOf):
            return self._primary_of(target.shard)
        return self._any_primary()

    def _primary_of(self, shard: Shard) -> Destination:
        """Return the primary of a shard of this or an earlier map, or the queue of ownerless slots if there is none."""
        ids = {node.id for node in shard.nodes}
        for now in self.topology.shards:
            # One common node is enough: the earlier map may not have listed the node that is primary now.
            if now.primary is not None and now.primary.address is not None and any(n.id in ids for n in now.nodes):
                return self._factory.node_at(now.primary.address)
        return self._ownerless

    def _any_primary(self) -> Destination:
        """Return a random primary, preferably a connected one.  Before the first map: the queue of ownerless slots."""
        if not self._primaries:
            return self._ownerless
        ready = [node for node in self._primaries if node.state is State.READY]
        return self._random.choice(ready or [n for n in self._primaries if not n.failing] or self._primaries)

    def address_of(self, where: Node | Address | str) -> Address:
        """Return the current address of a node.

        Args:
            where: A node of this or an earlier map, an address, or text such as ``host:port``.

        Returns:
            The address.

        Raises:
            RoutingError: The node has no address.
            ValueError: The text is not an address.
            TypeError: The value is neither a node nor an address.
        """
        if isinstance(where, Node):
            known = self.topology.node(where.id) or where
            if known.address is None:
                raise RoutingError(f"the slot map has no address of node {where.id}")
            return known.address
        if isinstance(where, str):
            try:
                return parse_address(where)
            except ValueError as error:
                raise ValueError(f"{where!r} is not a host:port: {error}") from None
        if not isinstance(where, tuple) or len(where) != 2:
            raise TypeError(f"expected a node of client.nodes(), an Address or 'host:port', not {type(where).__name__}")
        return Address(*where)
