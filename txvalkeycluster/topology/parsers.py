"""Replies to CLUSTER SLOTS, SHARDS and NODES -> the shards of a slot map.

A reader takes a reply in its RESP2 or RESP3 shape and returns shards, or raises TopologyError naming the place.
Unknown extra fields are passed over, as the server's documents ask.

A slot map can have 16,384 rows, and reading them at a stretch would hold the reactor up for some 15 ms.  So readers are
generators that stop now and then for others to do something, and return the shards in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..address import Address
from ..errors import TopologyError
from ..slots import SLOT_COUNT
from .checks import SHARDS_AT_ONCE, Steps, checked, reader
from .fields import SINGLES, by_node_id, list_of, mapping_of, node_of, slot_range
from .model import Node, Shard
from .nodes_parser import read_nodes

_ROWS = 128


@reader("CLUSTER SLOTS")
def read_slots(reply: object, asked: Address) -> Steps:
    """Read CLUSTER SLOTS; ``asked`` is the node that answered, whose host stands in for an empty endpoint."""
    rows = list(reversed(list_of(reply)))
    # Freed as it is read: 16,384 rows at once take 6 ms.
    del reply
    found = _Rows(asked)
    for index in range(len(rows)):
        if index % _ROWS == _ROWS - 1:
            yield
        try:
            found.read(rows.pop())
        except TopologyError as error:
            raise TopologyError(f"row {index} {error}") from None
    return (yield from checked(found.shards()))


class _Rows:
    """The rows of CLUSTER SLOTS, put together to shards."""

    def __init__(self, asked: Address) -> None:
        self._asked = asked
        self._shards: dict[str, tuple[Node, tuple[Node, ...], list[tuple[int, int]]]] = {}
        self._unowned: list[tuple[int, int]] = []
        # Raw primary entries by host and port: of a shard in many rows, one is read with care.
        self._seen: dict[tuple[Any, Any], tuple[object, list[tuple[int, int]]]] = {}

    def shards(self) -> list[Shard]:
        found = [Shard(primary, replicas, tuple(ranges)) for primary, replicas, ranges in self._shards.values()]
        return [*found, Shard(None, (), tuple(self._unowned))] if self._unowned else found

    def read(self, row: Any) -> None:
        if self._is_known(row):
            return
        row = list_of(row)
        if len(row) < 2:
            raise TopologyError(f"has {len(row)} elements, not at least 2")
        slots = slot_range(row[0], row[1])
        if len(row) == 2:
            self._unowned.append(slots)
            return
        nodes = row[2:]
        primary = self._node_at(nodes, 0)
        if primary.id in self._shards:
            self._shards[primary.id][2].append(slots)
        else:
            # A shard's replicas stand in each of its rows; the first is enough.
            replicas = by_node_id(self._node_at(nodes, number) for number in range(1, len(nodes)))
            self._shards[primary.id] = (primary, replicas, [slots])
        if len(nodes[0]) > 2:
            self._seen[nodes[0][0], nodes[0][1]] = nodes[0], self._shards[primary.id][2]

    def _is_known(self, row: Any) -> bool:
        """Take the slots of a row whose primary entry has been read before, to the letter."""
        try:
            start, end, entry = row[0], row[1], row[2]
            known = self._seen.get((entry[0], entry[1]))
            if known is None or known[0] != entry:
                return False
        except (TypeError, LookupError, RecursionError):
            return False
        if type(start) is not int or type(end) is not int:
            return False
        if not 0 <= start <= end < SLOT_COUNT:
            return False
        known[1].append(SINGLES[start] if start == end else (start, end))
        return True

    def _node_at(self, entries: Sequence[Any], number: int) -> Node:
        try:
            fields = list_of(entries[number])
            if len(fields) < 2:
                raise TopologyError(f"has {len(fields)} elements, not at least host and port")
            metadata = mapping_of(fields[3], "metadata ") if len(fields) > 3 and fields[3] else {}
            # Two-element nodes are what servers before 4.0 sent.
            node_id = fields[2] if len(fields) > 2 else None
            return node_of(node_id, "replica" if number else "primary", fields[0], fields[1], self._asked, metadata)
        except TopologyError as error:
            raise TopologyError(f"node {number} {error}") from None


@reader("CLUSTER SHARDS")
def read_shards(reply: object, asked: Address, *, tls: bool | None = False) -> Steps:
    """Read CLUSTER SHARDS; ``tls`` chooses which of a node's two ports counts.  If it is None none may have two."""
    entries = list(reversed(list_of(reply)))
    # Freed as it is read, as above.
    del reply
    found = []
    for index in range(len(entries)):
        if index % SHARDS_AT_ONCE == SHARDS_AT_ONCE - 1:
            yield
        try:
            found.append(_shard(entries.pop(), asked, tls))
        except TopologyError as error:
            raise TopologyError(f"shard {index} {error}") from None
    return (yield from checked(found))


def _shard(entry: object, asked: Address, tls: bool | None) -> Shard:
    fields = mapping_of(entry)
    for name in (b"slots", b"nodes"):
        if name not in fields:
            raise TopologyError(f"has no {name.decode()}")
    slots = _bounds(list_of(fields[b"slots"], "slots "))
    nodes = []
    for number, node in enumerate(list_of(fields[b"nodes"], "nodes ")):
        try:
            nodes.append(_shards_node(mapping_of(node), asked, tls))
        except TopologyError as error:
            raise TopologyError(f"node {number} {error}") from None
    # After a failover the dead primary can stand beside its successor for a while.
    primaries = sorted((n for n in nodes if n.role == "primary"), key=lambda n: n.health != "online")
    if slots and len(primaries) > 1 and primaries[1].health == "online":
        # For up to 85 ms in a failover of Valkey 9.1.2; in half of all answers the first is not the owner.
        raise TopologyError(f"has two primaries that are online, {primaries[0].address} and {primaries[1].address}")
    replicas = by_node_id(n for n in nodes if n.role == "replica")
    return Shard(primaries[0] if primaries else None, replicas, slots)


def _bounds(numbers: Sequence[Any]) -> tuple[tuple[int, int], ...]:
    """First and last slots in turn -> ranges."""
    if len(numbers) % 2:
        raise TopologyError("has an odd number of slot bounds")
    starts, ends = numbers[::2], numbers[1::2]
    ranges = zip(starts, ends, strict=True)
    if set(map(type, numbers)) == {int} and sorted(numbers) == numbers and numbers[0] >= 0 and numbers[-1] < SLOT_COUNT:
        # All is well, and looking at each of 16,384 ranges would take five times as long.
        return tuple([SINGLES[start] if start == end else (start, end) for start, end in ranges])
    return tuple(slot_range(start, end) for start, end in ranges)


def _shards_node(fields: dict[Any, Any], asked: Address, tls: bool | None) -> Node:
    for name in (b"id", b"role"):
        if name not in fields:
            raise TopologyError(f"has no {name.decode()}")
    ports = fields.get(b"port"), fields.get(b"tls-port")
    if tls is None and all(ports):
        raise TopologyError("has a port for TLS and one without, and which of them counts is not known")
    return node_of(
        fields[b"id"],
        fields[b"role"],
        fields.get(b"endpoint", fields.get(b"ip")),
        # A server behind something that ends TLS for it, or for its clients, has no port of its own for that.
        (ports[1] or ports[0] if tls else ports[0] or ports[1]) or 0,
        asked,
        fields,
        fields.get(b"health", b"online"),
    )


# The sources a client can be told to ask, each with its command.
SOURCES: dict[str, tuple[tuple[str, str], Callable[..., Steps]]] = {
    "slots": (("CLUSTER", "SLOTS"), lambda reply, asked, tls: read_slots(reply, asked)),
    "shards": (("CLUSTER", "SHARDS"), lambda reply, asked, tls: read_shards(reply, asked, tls=tls)),
    "nodes": (("CLUSTER", "NODES"), lambda reply, asked, tls: read_nodes(reply, asked)),
}


def as_slots_tell(shards: tuple[Shard, ...]) -> tuple[Shard, ...]:
    """The shards that CLUSTER SLOTS would tell of at the same moment.

    It leaves out shards that serve nothing and replicas that do not serve yet or any more, and knows no health.
    """
    return tuple(
        shard
        if all(node.health == "online" for node in shard.nodes)
        else replace(
            shard,
            primary=shard.primary and replace(shard.primary, health="online"),
            replicas=tuple(replica for replica in shard.replicas if replica.health == "online"),
        )
        for shard in shards
        if shard.slots
    )
