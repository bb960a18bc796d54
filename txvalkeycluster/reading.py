"""Replies to CLUSTER SLOTS, SHARDS and NODES -> the shards of a slot map.

A reader takes a reply in its RESP2 or RESP3 shape and returns shards, or raises TopologyError naming the place.
Unknown extra fields are passed over, as the server's documents ask.

A slot map can have 16,384 rows, and reading them at a stretch would hold the reactor up for some 15 ms.  So readers are
generators that stop now and then for others to do something, and return the shards in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from typing import Any

from .address import Address
from .errors import TopologyError
from .slots import SLOT_COUNT
from .topology import Node, OpenSlot, Role, Shard

#: Reading, in steps of about a millisecond.
Reading = Generator[None, None, tuple[Shard, ...]]
_ROWS = 256
_SHARDS = 16
_RANGES = 4096


def read_slots(reply: object, asked: Address) -> Reading:
    """Read CLUSTER SLOTS; ``asked`` is the node that answered, whose host stands in for an empty endpoint."""
    shards: dict[str, tuple[Node, tuple[Node, ...], list[tuple[int, int]]]] = {}
    unowned: list[tuple[int, int]] = []
    # Raw primary entries by port and host: of a shard in many rows, one is read with care.
    seen: dict[tuple[Any, Any], tuple[object, list[tuple[int, int]]]] = {}
    rows = list(reversed(_list(reply, "CLUSTER SLOTS")))
    # Freed row by row: all 16,384 at once take 6 ms.
    del reply
    for index in range(len(rows)):
        row = rows.pop()
        if index % _ROWS == _ROWS - 1:
            yield
        known_slots = _slots_of_known(row, seen)
        if known_slots is not None:
            known_slots.append((row[0], row[1]))
            continue
        where = f"CLUSTER SLOTS row {index}"
        row = _list(row, where)
        if len(row) < 2:
            raise TopologyError(f"{where} has {len(row)} elements, not at least 2")
        slots = _range(row[0], row[1], where)
        if len(row) == 2:
            unowned.append(slots)
            continue
        primary = _slots_node(row[2], "primary", asked, f"{where} node 0")
        known = shards.get(primary.id)
        if known is None:
            # A shard's replicas stand in each of its rows; the first is enough.
            replicas = (
                _slots_node(entry, "replica", asked, f"{where} node {number}")
                for number, entry in enumerate(row[3:], 1)
            )
            shards[primary.id] = (primary, _by_node_id(replicas), [slots])
        else:
            known[2].append(slots)
        if len(row[2]) > 2:
            seen[row[2][0], row[2][1]] = row[2], shards[primary.id][2]
    found = [Shard(primary, replicas, tuple(ranges)) for primary, replicas, ranges in shards.values()]
    if unowned:
        found.append(Shard(None, (), tuple(unowned)))
    return (yield from _checked(found, "CLUSTER SLOTS"))


def _slots_of_known(
    row: Any, seen: dict[tuple[Any, Any], tuple[object, list[tuple[int, int]]]]
) -> list[tuple[int, int]] | None:
    """The slots of the shard whose primary entry stands in this row to the letter, if that has been read before."""
    try:
        start, end, entry = row[0], row[1], row[2]
        known = seen.get((entry[0], entry[1]))
    except (TypeError, LookupError):
        return None
    if known is None or known[0] != entry or type(start) is not int or type(end) is not int:
        return None
    return known[1] if 0 <= start <= end < SLOT_COUNT else None


def read_shards(reply: object, asked: Address, *, tls: bool = False) -> Reading:
    """Read CLUSTER SHARDS; ``tls`` chooses which of a node's two ports counts."""
    found = []
    for index, entry in enumerate(_list(reply, "CLUSTER SHARDS")):
        if index % _SHARDS == _SHARDS - 1:
            yield
        where = f"CLUSTER SHARDS shard {index}"
        shard = _mapping(entry, where)
        numbers = _list(shard.get("slots", []), f"{where} slots")
        if len(numbers) % 2:
            raise TopologyError(f"{where} has an odd number of slot bounds")
        slots = [
            _range(start, end, f"{where} slots") for start, end in zip(numbers[::2], numbers[1::2], strict=True)
        ]
        nodes = [
            _shards_node(_mapping(node, f"{where} node {number}"), asked, tls, f"{where} node {number}")
            for number, node in enumerate(_list(shard.get("nodes", []), f"{where} nodes"))
        ]
        # After a failover the dead primary can stand beside its successor for a while.
        primaries = sorted((n for n in nodes if n.role == "primary"), key=lambda n: n.health != "online")
        primary = primaries[0] if primaries else None
        found.append(Shard(primary, _by_node_id(n for n in nodes if n.role == "replica"), tuple(slots)))
    return (yield from _checked(found, "CLUSTER SHARDS"))


def read_nodes(reply: object, asked: Address) -> Reading:
    """Read CLUSTER NODES, the only one that also tells of open slots, failed nodes and nodes without slots."""
    primaries: dict[str, tuple[Node, list[tuple[int, int]], list[OpenSlot]]] = {}
    replicas: dict[str, list[Node]] = {}
    for number, line in enumerate(_text(reply, "CLUSTER NODES").splitlines()):
        where = f"CLUSTER NODES line {number}"
        if number % _SHARDS == _SHARDS - 1:
            yield
        if not line:
            continue
        fields = line.split(" ")
        if len(fields) < 8:
            raise TopologyError(f"{where} has {len(fields)} fields, not at least 8")
        node_id, endpoint, flags, primary_id = fields[0], fields[1], fields[2].split(","), fields[3]
        if "handshake" in flags:
            continue
        address, *extra = endpoint.split(",")
        host, colon, port = address.partition("@")[0].rpartition(":")
        if not colon:
            raise TopologyError(f"{where} has an address without a port: {address!r}")
        role: Role = "replica" if "slave" in flags or "replica" in flags else "primary"
        node = Node(
            id=node_id,
            host="" if "noaddr" in flags else _host(host, asked),
            port=_port(port, where),
            role=role,
            health="fail" if "fail" in flags else "online",
            ip=host or None,
            hostname=extra[0] if extra and extra[0] and "=" not in extra[0] else None,
        )
        if role == "replica":
            replicas.setdefault(primary_id, []).append(node)
            continue
        slots, open_slots = _nodes_slots(fields[8:], where)
        primaries[node_id] = (node, slots, open_slots)
    found = [
        Shard(node, _by_node_id(replicas.pop(node_id, ())), tuple(slots), tuple(open_slots))
        for node_id, (node, slots, open_slots) in primaries.items()
    ]
    found += [Shard(None, _by_node_id(orphans)) for orphans in replicas.values()]
    return (yield from _checked(found, "CLUSTER NODES"))


# The sources a client can be told to ask, each with its command.
SOURCES: dict[str, tuple[tuple[str, str], Callable[..., Reading]]] = {
    "slots": (("CLUSTER", "SLOTS"), lambda reply, asked, tls: read_slots(reply, asked)),
    "shards": (("CLUSTER", "SHARDS"), lambda reply, asked, tls: read_shards(reply, asked, tls=tls)),
    "nodes": (("CLUSTER", "NODES"), lambda reply, asked, tls: read_nodes(reply, asked)),
}


def as_slots_tell(shards: tuple[Shard, ...]) -> tuple[Shard, ...]:
    """The shards that CLUSTER SLOTS would tell of: without those that serve nothing, and without failed replicas."""
    return tuple(
        replace(shard, replicas=tuple(replica for replica in shard.replicas if replica.health != "fail"))
        for shard in shards
        if shard.slots
    )


def _nodes_slots(fields: Sequence[str], where: str) -> tuple[list[tuple[int, int]], list[OpenSlot]]:
    slots, open_slots = [], []
    for text in fields:
        if text.startswith("["):
            for arrow, direction in (("->-", "migrating"), ("-<-", "importing")):
                number, found, node_id = text.strip("[]").partition(arrow)
                if found:
                    slot = _range(number, number, where)[0]
                    open_slots.append(OpenSlot(slot, direction, node_id))  # type: ignore[arg-type]
                    break
            else:
                raise TopologyError(f"{where} has an open slot that cannot be read: {text!r}")
        elif text:
            start, dash, end = text.partition("-")
            slots.append(_range(start, end if dash else start, where))
    return slots, open_slots


def _slots_node(entry: object, role: Role, asked: Address, where: str) -> Node:
    fields = _list(entry, where)
    if len(fields) < 2:
        raise TopologyError(f"{where} has {len(fields)} elements, not at least host and port")
    host = _host(fields[0], asked)
    port = _port(fields[1], where)
    # Two-element nodes are what servers before 4.0 sent.
    node_id = _text(fields[2], f"{where} id") if len(fields) > 2 else f"{host}:{port}"
    metadata = _mapping(fields[3], f"{where} metadata") if len(fields) > 3 and fields[3] else {}
    return Node(id=node_id, host=host, port=port, role=role, **_names(metadata))


def _shards_node(fields: dict[str, Any], asked: Address, tls: bool, where: str) -> Node:
    for name in ("id", "role"):
        if name not in fields:
            raise TopologyError(f"{where} has no {name}")
    role = _text(fields["role"], f"{where} role")
    if role not in ("master", "primary", "replica", "slave"):
        raise TopologyError(f"{where} has the unknown role {role!r}")
    health = _text(fields.get("health", b"online"), f"{where} health")
    endpoint = fields.get("endpoint", fields.get("ip"))
    return Node(
        id=_text(fields["id"], f"{where} id"),
        host=_host(endpoint, asked),
        # A server behind something that ends TLS for it has no port of its own for that.
        port=_port((fields.get("tls-port") if tls else 0) or fields.get("port", 0), where),
        role="primary" if role in ("master", "primary") else "replica",
        health="fail" if health.startswith("fail") else "loading" if health == "loading" else "online",
        **_names(fields),
    )


def _names(fields: dict[str, Any]) -> dict[str, Any]:
    """The optional names of a node, which stand alike in the metadata of SLOTS and in the fields of SHARDS."""
    wire = {"ip": "ip", "hostname": "hostname", "availability_zone": "availability-zone"}
    return {ours: _text(fields[theirs], theirs) if fields.get(theirs) else None for ours, theirs in wire.items()}


def _host(value: object, asked: Address) -> str:
    """A node's host: the one asked for NULL and empty endpoints, nothing for ``?``, which is never dialled."""
    if value is None or value in (b"", ""):
        return asked.host
    text = _text(value, "endpoint")
    return "" if text == "?" else text


def _port(value: object, where: str) -> int:
    port = _integer(value, f"{where} port")
    if not 0 <= port < 65536:
        raise TopologyError(f"{where} has the port {port}")
    return port


def _range(start: object, end: object, where: str) -> tuple[int, int]:
    first, last = _integer(start, where), _integer(end, where)
    if not 0 <= first <= last < SLOT_COUNT:
        raise TopologyError(f"{where} has the impossible slot range {first} to {last}")
    return first, last


def _integer(value: object, where: str) -> int:
    if type(value) is int:
        return value
    if isinstance(value, (bytes, str)) and value.isdigit():
        return int(value)
    raise TopologyError(f"{where}: {_shown(value)} is not a number")


def _text(value: object, where: str) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return value
    raise TopologyError(f"{where}: {_shown(value)} is not text")


def _list(value: object, where: str) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        return value
    raise TopologyError(f"{where} is not a list but {_shown(value)}")


def _mapping(value: object, where: str) -> dict[str, Any]:
    """A RESP3 map, or the flat list that RESP2 has in its place."""
    if isinstance(value, dict):
        return {_text(name, where): item for name, item in value.items()}
    flat = _list(value, where)
    if len(flat) % 2:
        raise TopologyError(f"{where} has an odd number of elements for a map")
    return {_text(name, where): item for name, item in zip(flat[::2], flat[1::2], strict=True)}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _by_node_id(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(sorted(nodes, key=lambda node: node.id))


def _checked(shards: list[Shard], where: str) -> Reading:
    """Put shards in a fixed order, so that equal maps compare equal, and refuse a slot with two owners."""
    found: list[Shard] = []
    taken = bytearray(SLOT_COUNT)
    ranges = 0
    for shard in shards:
        slots = tuple(sorted(shard.slots))
        for start, end in slots:
            twice = taken.find(1, start, end + 1)
            if twice >= 0:
                raise TopologyError(f"{where} gives slot {twice} to two nodes")
            taken[start : end + 1] = b"\1" * (end + 1 - start)
        found.append(shard if slots == shard.slots else replace(shard, slots=slots))
        ranges += len(slots)
        if ranges > _RANGES:
            ranges = 0
            yield
    found.sort(key=lambda s: (s.slots[0][0] if s.slots else SLOT_COUNT, s.primary.id if s.primary else ""))
    if len(found) > _SHARDS:
        # Whatever is done with it is a step of its own.
        yield
    return tuple(found)
