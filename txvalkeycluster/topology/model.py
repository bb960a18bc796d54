"""The values of a slot map, all of them immutable, and functions that compare two maps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import Literal

from ..address import Address
from ..slots import SLOT_COUNT

Role = Literal["primary", "replica"]
Health = Literal["online", "fail", "loading"]


@dataclass(frozen=True, slots=True)
class Node:
    """One server, as a slot map lists it.

    The ``id`` identifies a node.  Its address can change.
    """

    #: The id that the server chose, 40 hexadecimal digits.
    id: str
    #: The host to dial; empty if it is unknown.
    host: str
    #: The port to dial; 0 if it is unknown.
    port: int
    #: ``"primary"`` or ``"replica"``.
    role: Role
    #: ``"online"``, ``"fail"`` or ``"loading"``.  CLUSTER SLOTS does not tell it, and then it is ``"online"``.
    health: Health = "online"
    #: The IP address; None if it is unknown or equal to ``host``.
    ip: str | None = None
    #: The host name; None if it is unknown or equal to ``host``.
    hostname: str | None = None
    #: The availability zone; None if the server does not tell it.
    availability_zone: str | None = None
    #: The address to dial; None if the cluster did not tell it (endpoint ``?``, flag ``noaddr``, or port 0).
    address: Address | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        address = Address(self.host, self.port) if self.host and self.port else None
        object.__setattr__(self, "address", address)


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """A slot that is being moved between two nodes.

    Only CLUSTER NODES lists them: as ``[93->-id]`` (migrating) and ``[93-<-id]`` (importing).
    """

    #: The slot, 0 to 16383.
    slot: int
    #: What the node that lists the slot does with it.
    direction: Literal["importing", "migrating"]
    #: The id of the other node.
    node_id: str


@dataclass(frozen=True, slots=True)
class Shard:
    """A primary with its replicas and its slots."""

    #: The primary; None if the shard has none at the moment.
    primary: Node | None
    #: The replicas, sorted by id.
    replicas: tuple[Node, ...] = ()
    #: The ranges of slots, sorted: pairs of the first and the last slot.
    slots: tuple[tuple[int, int], ...] = ()
    #: Slots that are being moved.  Filled only by the source ``"nodes"``.
    open_slots: tuple[OpenSlot, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The primary, then the replicas."""
        return self.replicas if self.primary is None else (self.primary, *self.replicas)

    @property
    def slot_count(self) -> int:
        """The number of slots that the shard serves."""
        return sum(end - start + 1 for start, end in self.slots)


@dataclass(frozen=True)
class Topology:
    """One slot map of a client.

    Example:
        ::

            topology = client.topology
            node = topology.owner(key_slot("key"))
    """

    #: The number of this map, counted by the client from 1.  0 means that the client has no map yet.
    version: int
    #: The shards, sorted by their first slot.
    shards: tuple[Shard, ...]

    def __repr__(self) -> str:
        return (
            f"<Topology version={self.version} shards={len(self.shards)} primaries={len(self.primaries)}"
            f" replicas={len(self.replicas)} slots={self.slot_count}>"
        )

    @cached_property
    def primaries(self) -> tuple[Node, ...]:
        """All primaries."""
        return tuple(shard.primary for shard in self.shards if shard.primary is not None)

    @cached_property
    def replicas(self) -> tuple[Node, ...]:
        """All replicas."""
        return tuple(replica for shard in self.shards for replica in shard.replicas)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, first the primaries, then the replicas."""
        return self.primaries + self.replicas

    @property
    def slot_count(self) -> int:
        """The number of slots that have a primary, 0 to 16384."""
        return sum(end - start + 1 for start, end, shard in self._ranges if shard.primary is not None)

    def shard_of(self, slot: int) -> Shard | None:
        """Return the shard that serves a slot.

        Args:
            slot: The slot, 0 to 16383.

        Returns:
            The shard, or None if no shard serves the slot.

        Raises:
            ValueError: The slot is not in the range from 0 to 16383.
        """
        if not 0 <= slot < SLOT_COUNT:
            raise ValueError(f"slot {slot} is not between 0 and {SLOT_COUNT - 1}")
        index = bisect_right(self._starts, slot) - 1
        if index < 0 or self._ranges[index][1] < slot:
            return None
        return self._ranges[index][2]

    def owner(self, slot: int) -> Node | None:
        """Return the primary that serves a slot.

        Args:
            slot: The slot, 0 to 16383.

        Returns:
            The primary, or None if the slot has none.

        Raises:
            ValueError: The slot is not in the range from 0 to 16383.
        """
        shard = self.shard_of(slot)
        return None if shard is None else shard.primary

    def node(self, node_id: str) -> Node | None:
        """Return the node with this id, or None."""
        return self._by_id.get(node_id)

    def ranges(self) -> Iterator[tuple[int, int, Node]]:
        """Iterate over the ranges of slots that have a primary.

        Yields:
            The first slot, the last slot and the primary of each range, in the order of the slots.
        """
        for start, end, shard in self._ranges:
            if shard.primary is not None:
                yield start, end, shard.primary

    # Computed at first use: with 16,384 ranges this takes some milliseconds.

    @cached_property
    def _ranges(self) -> list[tuple[int, int, Shard]]:
        ranges = [(start, end, shard) for shard in self.shards for start, end in shard.slots]
        return sorted(ranges, key=itemgetter(0))

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _, _ in self._ranges]

    @cached_property
    def _by_id(self) -> dict[str, Node]:
        return {node.id: node for shard in self.shards for node in shard.nodes}


def lost_most_nodes(old: Iterable[Shard], new: Iterable[Shard]) -> bool:
    """Tell whether the new map has fewer than half of the nodes of the old one, compared by id.

    Such a map is used only if a second node confirms it.
    """
    known = {node.id for shard in old for node in shard.nodes}
    kept = known & {node.id for shard in new for node in shard.nodes}
    return 2 * len(kept) < len(known)


def same(one: tuple[Shard, ...], other: tuple[Shard, ...]) -> Generator[None, None, bool]:
    """Compare two maps, in steps like those of the parsers.  The generator returns whether they are equal."""
    if len(one) != len(other):
        return False
    for number, (shard, counterpart) in enumerate(zip(one, other, strict=True)):
        if number % 64 == 63:
            yield
        if shard != counterpart:
            return False
    return True


def same_view(one: Iterable[Shard], other: Iterable[Shard]) -> bool:
    """Tell whether two maps have the same primaries, by id, for the same slots.  Addresses may differ."""

    def view(shards: Iterable[Shard]) -> set[tuple[str, int, int]]:
        return {(s.primary.id, start, end) for s in shards if s.primary is not None for start, end in s.slots}

    return view(one) == view(other)
