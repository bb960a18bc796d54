"""The slot map in force: what takes the requests for a slot, and which nodes there are.

A new map is made ready in steps, since one in 16,384 ranges takes some milliseconds, and then put in force at once.
"""

from __future__ import annotations

from collections.abc import Generator
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

#: A slot's owner, or the queue where requests wait for one.
Destination = NodeConnection | RetryQueue

# Shards made ready in one step: some 0.2 ms with their nodes, if these are new.
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Draft:
    """A map made ready, to be put in force."""

    topology: Topology
    listed: dict[Address, Node]
    primaries: list[NodeConnection]
    destinations: list[Destination]


class SlotMap:
    """The map in force.  Before the first no slot has an owner."""

    def __init__(self, factory: ClusterFactory, ownerless: RetryQueue, random: Random) -> None:
        self.topology = Topology(0, ())
        #: By slot, what takes its requests.  It is the same list for good.
        self.destinations: list[Destination] = [ownerless] * SLOT_COUNT
        self._factory = factory
        self._ownerless = ownerless
        self._random = random
        self._listed: dict[Address, Node] = {}
        self._primaries: list[NodeConnection] = []
        # Whether a MOVED has changed a slot since the map was put in force.
        self._repointed = False

    def draft(self, shards: tuple[Shard, ...]) -> Generator[None, None, Draft | None]:
        """Make a map ready; None if the one in force is the same, and no MOVED has changed that."""
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
                # A map in pieces has thousands of these; a slice costs six times as much.
                draft.destinations[start] = owner
            else:
                draft.destinations[start : end + 1] = [owner] * (end + 1 - start)

    def install(self, draft: Draft) -> tuple[list[Request], list[NodeConnection]]:
        """Put a map in force; return what waited for nodes, and the nodes that are to be closed."""
        self._repointed = False
        self.topology = draft.topology
        self.destinations[:] = draft.destinations
        self._listed = draft.listed
        self._primaries = draft.primaries
        return self._factory.install(draft.listed)

    def repoint(self, slot: int, node: NodeConnection) -> None:
        """Have a slot belong to the target of a MOVED until the next map."""
        self.destinations[slot] = node
        self._repointed = True

    def lists_as_replica(self, address: Address) -> bool:
        """Whether the node there is a replica."""
        listed = self._listed.get(address)
        return listed is not None and listed.role == "replica"

    def destination_of(self, target: Target) -> Destination:
        """What takes the requests for a target now."""
        if isinstance(target, int):
            return self.destinations[target]
        if isinstance(target, PrimaryOf):
            return self._primary_of(target.shard)
        return self._any_primary()

    def _primary_of(self, shard: Shard) -> Destination:
        """The primary of a shard of this or an earlier map; the queue for slots without owner if none is known."""
        ids = {node.id for node in shard.nodes}
        for now in self.topology.shards:
            # Any node in common will do: the earlier map may not have listed the one that leads now.
            if now.primary is not None and now.primary.address is not None and any(n.id in ids for n in now.nodes):
                return self._factory.node_at(now.primary.address)
        return self._ownerless

    def _any_primary(self) -> Destination:
        """A random primary, preferably a connected one; before the first map the queue for slots without owner."""
        if not self._primaries:
            return self._ownerless
        ready = [node for node in self._primaries if node.state is State.READY]
        return self._random.choice(ready or [n for n in self._primaries if not n.failing] or self._primaries)

    def address_of(self, where: Node | Address | str) -> Address:
        """Where to dial a node, even if it was listed otherwise when the caller learnt of it.

        Raises RoutingError for a node without an address, and ValueError or TypeError for what is no address.
        """
        if isinstance(where, Node):
            known = self.topology.node(where.id) or where
            if known.address is None:
                raise RoutingError(f"node {where.id} has no address that can be dialled")
            return known.address
        if isinstance(where, str):
            try:
                return parse_address(where)
            except ValueError as error:
                raise ValueError(f"{where!r} is no host:port: {error}") from None
        if not isinstance(where, tuple) or len(where) != 2:
            raise TypeError(f"a node is one of client.nodes(), an Address or 'host:port', not {type(where).__name__}")
        return Address(*where)
