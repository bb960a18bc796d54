"""The slot map: immutable values, and what comparing two of them tells."""

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
    """One server as the slot map lists it.  Nodes are the same by ``id``, not by address."""

    id: str
    host: str
    port: int
    role: Role
    health: Health = "online"
    # None if it is not known, or is what ``host`` says.
    ip: str | None = None
    hostname: str | None = None
    availability_zone: str | None = None
    #: Where to dial it, or None if the cluster did not say (endpoint ``?``, ``noaddr``, port 0).
    address: Address | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        address = Address(self.host, self.port) if self.host and self.port else None
        object.__setattr__(self, "address", address)


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """A slot half way between two nodes, as CLUSTER NODES alone tells: ``[93->-id]``, ``[93-<-id]``."""

    slot: int
    direction: Literal["importing", "migrating"]
    node_id: str


@dataclass(frozen=True, slots=True)
class Shard:
    """A primary (None if the shard has lost it), its replicas, and the slot ranges it serves, ends included."""

    primary: Node | None
    replicas: tuple[Node, ...] = ()
    slots: tuple[tuple[int, int], ...] = ()
    open_slots: tuple[OpenSlot, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The primary, then the replicas."""
        return self.replicas if self.primary is None else (self.primary, *self.replicas)

    @property
    def slot_count(self) -> int:
        """How many slots the shard serves."""
        return sum(end - start + 1 for start, end in self.slots)


@dataclass(frozen=True)
class Topology:
    """One slot map.  ``version`` counts the maps of one client from 1."""

    version: int
    shards: tuple[Shard, ...]

    def __repr__(self) -> str:
        return (
            f"<Topology version={self.version} shards={len(self.shards)} primaries={len(self.primaries)}"
            f" replicas={len(self.replicas)} slots={self.slot_count}>"
        )

    @cached_property
    def primaries(self) -> tuple[Node, ...]:
        """Every primary."""
        return tuple(shard.primary for shard in self.shards if shard.primary is not None)

    @cached_property
    def replicas(self) -> tuple[Node, ...]:
        """Every replica."""
        return tuple(replica for shard in self.shards for replica in shard.replicas)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every node, primaries first."""
        return self.primaries + self.replicas

    @property
    def slot_count(self) -> int:
        """How many of the 16384 slots have an owner."""
        return sum(end - start + 1 for start, end, shard in self._ranges if shard.primary is not None)

    def shard_of(self, slot: int) -> Shard | None:
        """The shard that serves a slot, or None.  Raises ValueError unless 0 <= slot < 16384."""
        if not 0 <= slot < SLOT_COUNT:
            raise ValueError(f"slot {slot} is not between 0 and {SLOT_COUNT - 1}")
        index = bisect_right(self._starts, slot) - 1
        if index < 0 or self._ranges[index][1] < slot:
            return None
        return self._ranges[index][2]

    def owner(self, slot: int) -> Node | None:
        """The primary that serves a slot, or None."""
        shard = self.shard_of(slot)
        return None if shard is None else shard.primary

    def node(self, node_id: str) -> Node | None:
        """The node with this id, or None."""
        return self._by_id.get(node_id)

    def ranges(self) -> Iterator[tuple[int, int, Node]]:
        """Every owned range as start, end (included) and primary, in the order of the slots."""
        for start, end, shard in self._ranges:
            if shard.primary is not None:
                yield start, end, shard.primary

    # Not made before somebody asks: of 16,384 ranges they take some milliseconds.

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
    """Whether fewer than half of the old map's nodes are in the new one, by id: a map not to believe on one word."""
    known = {node.id for shard in old for node in shard.nodes}
    kept = known & {node.id for shard in new for node in shard.nodes}
    return 2 * len(kept) < len(known)


def same(one: tuple[Shard, ...], other: tuple[Shard, ...]) -> Generator[None, None, bool]:
    """Compare two maps, in steps as parsers do if they are large."""
    if len(one) != len(other):
        return False
    for number, (shard, counterpart) in enumerate(zip(one, other, strict=True)):
        if number % 64 == 63:
            yield
        if shard != counterpart:
            return False
    return True


def same_view(one: Iterable[Shard], other: Iterable[Shard]) -> bool:
    """Whether two maps name the same primaries for the same slots, whatever addresses each was told."""

    def view(shards: Iterable[Shard]) -> set[tuple[str, int, int]]:
        return {(s.primary.id, start, end) for s in shards if s.primary is not None for start, end in s.slots}

    return view(one) == view(other)
