"""Parsers of CLUSTER NODES: one reads the whole slot map, one reads only the line of the node that answered.

Format: https://valkey.io/commands/cluster-nodes/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..address import Address
from ..errors import TopologyError
from .checks import SHARDS_AT_ONCE, Steps, checked, reader
from .fields import by_node_id, integer, node_of, shown, slot_range, text_of
from .model import Node, OpenSlot, Shard


@reader("CLUSTER NODES")
def read_nodes(reply: object, asked: Address) -> Steps:
    """Read a CLUSTER NODES reply.

    Only this command also lists open slots, failed nodes and nodes without slots.

    Args:
        reply: The reply, as bytes or str.
        asked: The address of the node that answered.  Its host replaces an empty host in the reply.

    Returns:
        A generator that returns the shards.

    Raises:
        TopologyError: The reply is not valid.  The text names the line.
    """
    primaries: dict[str, tuple[Node, list[tuple[int, int]], list[OpenSlot]]] = {}
    replicas: dict[str, list[Node]] = {}
    for number, line in enumerate(text_of(reply, "reply").splitlines()):
        if number % SHARDS_AT_ONCE == SHARDS_AT_ONCE - 1:
            yield
        try:
            if (fields := _nodes_fields(line)) is None:
                continue
            node = _nodes_node(fields, asked)
            if node.role == "replica":
                replicas.setdefault(fields[3], []).append(node)
            else:
                primaries[node.id] = (node, *_nodes_slots(fields[8:]))
        except TopologyError as error:
            raise TopologyError(f"line {number} {error}") from None
    found = [
        Shard(node, by_node_id(replicas.pop(node_id, ())), tuple(slots), tuple(open_slots))
        for node_id, (node, slots, open_slots) in primaries.items()
    ]
    found += [Shard(None, by_node_id(orphans)) for orphans in replicas.values()]
    return (yield from checked(found))


@dataclass(frozen=True, slots=True)
class OwnView:
    """The line ``myself`` of a CLUSTER NODES reply, with the other nodes that its open slots name."""

    #: The node that answered.
    node: Node
    #: Its configuration epoch.
    epoch: int
    #: The ranges of slots that it serves: pairs of the first and the last slot.
    slots: tuple[tuple[int, int], ...]
    #: The slots that it is importing or migrating.
    open_slots: tuple[OpenSlot, ...]
    #: The nodes that its open slots move to or come from, by id.
    others: dict[str, Node]


def read_own_view(reply: object, asked: Address) -> OwnView:
    """Read the line ``myself`` of a CLUSTER NODES reply.

    Args:
        reply: The reply, as bytes or str.
        asked: The address of the node that answered.

    Returns:
        The node, its slots and its open slots.

    Raises:
        TopologyError: The reply is not valid, or has no line ``myself``.
    """
    lines: dict[str, Sequence[str]] = {}
    own: Sequence[str] = ()
    try:
        for line in text_of(reply, "reply").splitlines():
            if (fields := _nodes_fields(line)) is not None:
                lines[fields[0]] = fields
                if "myself" in fields[2].split(","):
                    own = fields
        if not own:
            raise TopologyError("has no line with the flag 'myself'")
        slots, open_slots = _nodes_slots(own[8:])
        ids = {slot.node_id for slot in open_slots} & lines.keys()
        others = {node_id: _nodes_node(lines[node_id], asked) for node_id in ids}
        epoch = integer(own[6], "configuration epoch")
        return OwnView(_nodes_node(own, asked), epoch, tuple(slots), tuple(open_slots), others)
    except TopologyError as error:
        raise TopologyError(f"CLUSTER NODES {error}") from None


def lists_address(reply: object, asked: Address, wanted: Address) -> bool:
    """Tell whether a CLUSTER NODES reply lists a node with the address ``wanted``.

    Args:
        reply: The reply, as bytes or str.
        asked: The address of the node that answered.
        wanted: The address to look for; its host can be an IP address or a host name.

    Returns:
        Whether a line has this address.

    Raises:
        TopologyError: The reply is not valid.
    """
    for line in text_of(reply, "CLUSTER NODES reply").splitlines():
        if (fields := _nodes_fields(line)) is not None:
            node = _nodes_node(fields, asked)
            if node.address is not None and wanted.port == node.address.port and wanted.host in _names(fields, node):
                return True
    return False


def _names(fields: Sequence[str], node: Node) -> tuple[str, ...]:
    address, *extra = fields[1].split(",")
    return (node.address.host if node.address is not None else "", address.rpartition(":")[0], *extra[:1])


def _nodes_fields(line: str) -> list[str] | None:
    """Return the fields of a line; None for a line to ignore."""
    fields = line.split(" ")
    if not line or (len(fields) > 2 and "handshake" in fields[2].split(",")):
        return None
    if len(fields) < 8:
        raise TopologyError(f"has {len(fields)} fields, fewer than 8")
    return fields


def _nodes_node(fields: Sequence[str], asked: Address) -> Node:
    flags = fields[2].split(",")
    address, *extra = fields[1].split(",")
    ip, colon, port = address.partition("@")[0].rpartition(":")
    if not colon:
        raise TopologyError(f"has an address without a port: {shown(address)}")
    return node_of(
        fields[0],
        "replica" if "slave" in flags or "replica" in flags else "primary",
        "?" if "noaddr" in flags else ip,
        port,
        asked,
        {b"ip": ip, b"hostname": extra[0] if extra and "=" not in extra[0] else None},
        "fail" if "fail" in flags else "online",
    )


def _nodes_slots(fields: Sequence[str]) -> tuple[list[tuple[int, int]], list[OpenSlot]]:
    slots, open_slots = [], []
    for text in fields:
        if text.startswith("["):
            for arrow, direction in (("->-", "migrating"), ("-<-", "importing")):
                number, found, node_id = text.strip("[]").partition(arrow)
                if found:
                    slot = slot_range(number, number)[0]
                    open_slots.append(OpenSlot(slot, direction, node_id))  # type: ignore[arg-type]
                    break
            else:
                raise TopologyError(f"has an open slot that cannot be read: {shown(text)}")
        elif text:
            start, dash, end = text.partition("-")
            slots.append(slot_range(start, end if dash else start))
    return slots, open_slots
