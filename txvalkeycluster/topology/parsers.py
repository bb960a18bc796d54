"""Parsers of CLUSTER SLOTS and CLUSTER SHARDS, and the table of all sources of slot maps.

Each parser reads a RESP2 or a RESP3 reply.  It returns shards, or raises a TopologyError that names the place in the
reply.  It ignores unknown fields, as Valkey's documentation asks (https://valkey.io/commands/cluster-slots/,
https://valkey.io/commands/cluster-shards/).

A slot map can have 16,384 rows.  Reading all of them at once would block the reactor for about 15 ms.  So each parser
is a generator: it yields after each step, so that the reactor can do other work, and returns the shards at the end.
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
    """Read a CLUSTER SLOTS reply.

    Args:
        reply: The reply: a list of rows.
        asked: The address of the node that answered.  Its host replaces an empty endpoint.

    Returns:
        A generator that returns the shards.

    Raises:
        TopologyError: The reply is not valid.  The text names the row and the node.
    """
    rows = list(reversed(list_of(reply)))
    # The rows are freed one by one while they are read.  Freeing 16,384 rows at once takes 6 ms.
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
    """Collects the rows of CLUSTER SLOTS and makes shards of them."""

    def __init__(self, asked: Address) -> None:
        self._asked = asked
        self._shards: dict[str, tuple[Node, tuple[Node, ...], list[tuple[int, int]]]] = {}
        self._unowned: list[tuple[int, int]] = []
        # Raw primary entries by host and port: of a shard with many rows, only the first row is parsed in full.
        self._seen: dict[tuple[Any, Any], tuple[object, list[tuple[int, int]]]] = {}

    def shards(self) -> list[Shard]:
        found = [Shard(primary, replicas, tuple(ranges)) for primary, replicas, ranges in self._shards.values()]
        return [*found, Shard(None, (), tuple(self._unowned))] if self._unowned else found

    def read(self, row: Any) -> None:
        if self._is_known(row):
            return
        row = list_of(row)
        if len(row) < 2:
            raise TopologyError(f"has {len(row)} elements, fewer than 2")
        slots = slot_range(row[0], row[1])
        if len(row) == 2:
            self._unowned.append(slots)
            return
        nodes = row[2:]
        primary = self._node_at(nodes, 0)
        if primary.id in self._shards:
            self._shards[primary.id][2].append(slots)
        else:
            # Each row of a shard lists the same replicas.  The first row is enough.
            replicas = by_node_id(self._node_at(nodes, number) for number in range(1, len(nodes)))
            self._shards[primary.id] = (primary, replicas, [slots])
        if len(nodes[0]) > 2:
            self._seen[nodes[0][0], nodes[0][1]] = nodes[0], self._shards[primary.id][2]

    def _is_known(self, row: Any) -> bool:
        """Add the slots of a row if an equal primary entry was read before; tell whether it was."""
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
                raise TopologyError(f"has {len(fields)} elements, but needs a host and a port")
            metadata = mapping_of(fields[3], "metadata ") if len(fields) > 3 and fields[3] else {}
            # Servers before 4.0 sent only host and port.
            node_id = fields[2] if len(fields) > 2 else None
            return node_of(node_id, "replica" if number else "primary", fields[0], fields[1], self._asked, metadata)
        except TopologyError as error:
            raise TopologyError(f"node {number} {error}") from None


@reader("CLUSTER SHARDS")
def read_shards(reply: object, asked: Address, *, tls: bool | None = False) -> Steps:
    """Read a CLUSTER SHARDS reply.

    Args:
        reply: The reply: a list of maps.
        asked: The address of the node that answered.  Its host replaces an empty endpoint.
        tls: Whether to use the TLS port of a node that has two ports.  With None, a node with two ports is an error.

    Returns:
        A generator that returns the shards.

    Raises:
        TopologyError: The reply is not valid.  The text names the shard and the node.
    """
    entries = list(reversed(list_of(reply)))
    # The entries are freed one by one, as in read_slots.
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
    # After a failover, the failed primary can stay in the list for a while, beside its successor.
    primaries = sorted((n for n in nodes if n.role == "primary"), key=lambda n: n.health != "online")
    if slots and len(primaries) > 1 and primaries[1].health == "online":
        # Seen with Valkey 9.1.2 for up to 85 ms of a failover.  In half of those replies, the first is not the owner.
        raise TopologyError(f"has two online primaries, {primaries[0].address} and {primaries[1].address}")
    replicas = by_node_id(n for n in nodes if n.role == "replica")
    return Shard(primaries[0] if primaries else None, replicas, slots)


def _bounds(numbers: Sequence[Any]) -> tuple[tuple[int, int], ...]:
    """Make ranges of a list that alternates between first and last slots."""
    if len(numbers) % 2:
        raise TopologyError("has an odd number of slot bounds")
    starts, ends = numbers[::2], numbers[1::2]
    ranges = zip(starts, ends, strict=True)
    if set(map(type, numbers)) == {int} and sorted(numbers) == numbers and numbers[0] >= 0 and numbers[-1] < SLOT_COUNT:
        # All ranges are valid.  Checking each of 16,384 ranges would take five times as long.
        return tuple([SINGLES[start] if start == end else (start, end) for start, end in ranges])
    return tuple(slot_range(start, end) for start, end in ranges)


def _shards_node(fields: dict[Any, Any], asked: Address, tls: bool | None) -> Node:
    for name in (b"id", b"role"):
        if name not in fields:
            raise TopologyError(f"has no {name.decode()}")
    ports = fields.get(b"port"), fields.get(b"tls-port")
    if tls is None and all(ports):
        raise TopologyError("has a TLS port and a plain port, and the client cannot tell which of them to use")
    return node_of(
        fields[b"id"],
        fields[b"role"],
        fields.get(b"endpoint", fields.get(b"ip")),
        # Behind a proxy that terminates TLS, for the server or for its clients, a server has only the other port.
        (ports[1] or ports[0] if tls else ports[0] or ports[1]) or 0,
        asked,
        fields,
        fields.get(b"health", b"online"),
    )


#: The sources of slot maps by the name that the option ``topology_source`` has: the command, and the parser of its
#: reply.
SOURCES: dict[str, tuple[tuple[str, str], Callable[..., Steps]]] = {
    "slots": (("CLUSTER", "SLOTS"), lambda reply, asked, tls: read_slots(reply, asked)),
    "shards": (("CLUSTER", "SHARDS"), lambda reply, asked, tls: read_shards(reply, asked, tls=tls)),
    "nodes": (("CLUSTER", "NODES"), lambda reply, asked, tls: read_nodes(reply, asked)),
}


def as_slots_tell(shards: tuple[Shard, ...]) -> tuple[Shard, ...]:
    """Bring the shards of CLUSTER SHARDS into the form of CLUSTER SLOTS.

    CLUSTER SLOTS does not list shards without slots, nor replicas that are not online, and does not tell the health of
    nodes.

    Args:
        shards: The shards that CLUSTER SHARDS listed.

    Returns:
        The shards that CLUSTER SLOTS would have listed at the same time.
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
