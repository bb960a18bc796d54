"""Replies to CLUSTER SLOTS, SHARDS and NODES -> the shards of a slot map.

A reader takes a reply in its RESP2 or RESP3 shape and returns shards, or raises TopologyError naming the place.
Unknown extra fields are passed over, as the server's documents ask.

A slot map can have 16,384 rows, and reading them at a stretch would hold the reactor up for some 15 ms.  So readers are
generators that stop now and then for others to do something, and return the shards in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, wraps
from typing import Any, ParamSpec

from ..address import Address
from ..errors import TopologyError
from ..slots import SLOT_COUNT
from .model import Node, OpenSlot, Role, Shard

_P = ParamSpec("_P")

#: Reading, in steps of less than a millisecond.
Reading = Generator[None, None, tuple[Shard, ...]]
_ROWS = 128
_SHARDS = 32
_RANGES = 4096

_ROLES: dict[str, Role] = {"master": "primary", "primary": "primary", "replica": "replica", "slave": "replica"}


class _Singles(dict[int, tuple[int, int]]):
    """Ranges of one slot, which all maps share: a map in pieces has thousands, to be made and freed with each."""

    def __missing__(self, slot: int) -> tuple[int, int]:
        single = self[slot] = (slot, slot)
        return single


_SINGLES = _Singles()


def _reader(command: str) -> Callable[[Callable[_P, Reading]], Callable[_P, Reading]]:
    """Have a reader's errors begin with the command."""

    def decorate(read: Callable[_P, Reading]) -> Callable[_P, Reading]:
        @wraps(read)
        def named(*args: _P.args, **kwargs: _P.kwargs) -> Reading:
            reading = read(*args, **kwargs)
            # The reader frees the reply as it goes.
            del args, kwargs
            try:
                return (yield from reading)
            except TopologyError as error:
                raise TopologyError(f"{command} {error}") from None

        return named

    return decorate


@_reader("CLUSTER SLOTS")
def read_slots(reply: object, asked: Address) -> Reading:
    """Read CLUSTER SLOTS; ``asked`` is the node that answered, whose host stands in for an empty endpoint."""
    rows = list(reversed(_list(reply)))
    # Freed as it is read: 16,384 rows at once take 6 ms.
    del reply
    reading = _Rows(asked)
    for index in range(len(rows)):
        if index % _ROWS == _ROWS - 1:
            yield
        try:
            reading.read(rows.pop())
        except TopologyError as error:
            raise TopologyError(f"row {index} {error}") from None
    return (yield from _checked(reading.shards()))


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
        row = _list(row)
        if len(row) < 2:
            raise TopologyError(f"has {len(row)} elements, not at least 2")
        slots = _range(row[0], row[1])
        if len(row) == 2:
            self._unowned.append(slots)
            return
        nodes = row[2:]
        primary = self._node(nodes, 0)
        if primary.id in self._shards:
            self._shards[primary.id][2].append(slots)
        else:
            # A shard's replicas stand in each of its rows; the first is enough.
            replicas = _by_node_id(self._node(nodes, number) for number in range(1, len(nodes)))
            self._shards[primary.id] = (primary, replicas, [slots])
        if len(nodes[0]) > 2:
            self._seen[nodes[0][0], nodes[0][1]] = nodes[0], self._shards[primary.id][2]

    def _is_known(self, row: Any) -> bool:
        """Take the slots of a row whose primary entry has been read before, to the letter."""
        try:
            start, end, entry = row[0], row[1], row[2]
            known = self._seen.get((entry[0], entry[1]))
        except (TypeError, LookupError):
            return False
        if known is None or known[0] != entry or type(start) is not int or type(end) is not int:
            return False
        if not 0 <= start <= end < SLOT_COUNT:
            return False
        known[1].append(_SINGLES[start] if start == end else (start, end))
        return True

    def _node(self, entries: Sequence[Any], number: int) -> Node:
        try:
            fields = _list(entries[number])
            if len(fields) < 2:
                raise TopologyError(f"has {len(fields)} elements, not at least host and port")
            metadata = _mapping(fields[3], "metadata ") if len(fields) > 3 and fields[3] else {}
            # Two-element nodes are what servers before 4.0 sent.
            node_id = fields[2] if len(fields) > 2 else None
            return _node(node_id, "replica" if number else "primary", fields[0], fields[1], self._asked, metadata)
        except TopologyError as error:
            raise TopologyError(f"node {number} {error}") from None


@_reader("CLUSTER SHARDS")
def read_shards(reply: object, asked: Address, *, tls: bool | None = False) -> Reading:
    """Read CLUSTER SHARDS; ``tls`` chooses which of a node's two ports counts.  If it is None none may have two."""
    entries = list(reversed(_list(reply)))
    # Freed as it is read, as above.
    del reply
    found = []
    for index in range(len(entries)):
        if index % _SHARDS == _SHARDS - 1:
            yield
        try:
            found.append(_shard(entries.pop(), asked, tls))
        except TopologyError as error:
            raise TopologyError(f"shard {index} {error}") from None
    return (yield from _checked(found))


def _shard(entry: object, asked: Address, tls: bool | None) -> Shard:
    fields = _mapping(entry)
    for name in (b"slots", b"nodes"):
        if name not in fields:
            raise TopologyError(f"has no {name.decode()}")
    slots = _bounds(_list(fields[b"slots"], "slots "))
    nodes = []
    for number, node in enumerate(_list(fields[b"nodes"], "nodes ")):
        try:
            nodes.append(_shards_node(_mapping(node), asked, tls))
        except TopologyError as error:
            raise TopologyError(f"node {number} {error}") from None
    # After a failover the dead primary can stand beside its successor for a while.
    primaries = sorted((n for n in nodes if n.role == "primary"), key=lambda n: n.health != "online")
    if slots and len(primaries) > 1 and primaries[1].health == "online":
        # For up to 85 ms in a failover of Valkey 9.1.2; in half of all answers the first is not the owner.
        raise TopologyError(f"has two primaries that are online, {primaries[0].address} and {primaries[1].address}")
    replicas = _by_node_id(n for n in nodes if n.role == "replica")
    return Shard(primaries[0] if primaries else None, replicas, slots)


def _bounds(numbers: Sequence[Any]) -> tuple[tuple[int, int], ...]:
    """First and last slots in turn -> ranges."""
    if len(numbers) % 2:
        raise TopologyError("has an odd number of slot bounds")
    starts, ends = numbers[::2], numbers[1::2]
    ranges = zip(starts, ends, strict=True)
    if set(map(type, numbers)) == {int} and sorted(numbers) == numbers and numbers[0] >= 0 and numbers[-1] < SLOT_COUNT:
        # All is well, and looking at each of 16,384 ranges would take five times as long.
        return tuple([_SINGLES[start] if start == end else (start, end) for start, end in ranges])
    return tuple(_range(start, end) for start, end in ranges)


def _shards_node(fields: dict[Any, Any], asked: Address, tls: bool | None) -> Node:
    for name in (b"id", b"role"):
        if name not in fields:
            raise TopologyError(f"has no {name.decode()}")
    ports = fields.get(b"port"), fields.get(b"tls-port")
    if tls is None and all(ports):
        raise TopologyError("has a port for TLS and one without, and which of them counts is not known")
    return _node(
        fields[b"id"],
        fields[b"role"],
        fields.get(b"endpoint", fields.get(b"ip")),
        # A server behind something that ends TLS for it, or for its clients, has no port of its own for that.
        (ports[1] or ports[0] if tls else ports[0] or ports[1]) or 0,
        asked,
        fields,
        fields.get(b"health", b"online"),
    )


@_reader("CLUSTER NODES")
def read_nodes(reply: object, asked: Address) -> Reading:
    """Read CLUSTER NODES, the only one that also tells of open slots, failed nodes and nodes without slots."""
    primaries: dict[str, tuple[Node, list[tuple[int, int]], list[OpenSlot]]] = {}
    replicas: dict[str, list[Node]] = {}
    for number, line in enumerate(_text(reply).splitlines()):
        if number % _SHARDS == _SHARDS - 1:
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
        Shard(node, _by_node_id(replicas.pop(node_id, ())), tuple(slots), tuple(open_slots))
        for node_id, (node, slots, open_slots) in primaries.items()
    ]
    found += [Shard(None, _by_node_id(orphans)) for orphans in replicas.values()]
    return (yield from _checked(found))


@dataclass(frozen=True, slots=True)
class OwnView:
    """What a node says of itself in CLUSTER NODES, and where the others are that it knows."""

    node: Node
    epoch: int
    slots: tuple[tuple[int, int], ...]
    open_slots: tuple[OpenSlot, ...]
    #: The nodes that its open slots are moved to or from, by id.
    others: dict[str, Node]


def read_own_view(reply: object, asked: Address) -> OwnView:
    """Read of a CLUSTER NODES reply what the node that gave it says of itself.  Raises TopologyError."""
    lines: dict[str, Sequence[str]] = {}
    own: Sequence[str] = ()
    for line in _text(reply).splitlines():
        if (fields := _nodes_fields(line)) is not None:
            lines[fields[0]] = fields
            if "myself" in fields[2].split(","):
                own = fields
    try:
        if not own:
            raise TopologyError("does not say who gave it")
        slots, open_slots = _nodes_slots(own[8:])
        ids = {slot.node_id for slot in open_slots} & lines.keys()
        others = {node_id: _nodes_node(lines[node_id], asked) for node_id in ids}
        epoch = _integer(own[6], "configuration epoch")
        return OwnView(_nodes_node(own, asked), epoch, tuple(slots), tuple(open_slots), others)
    except TopologyError as error:
        raise TopologyError(f"CLUSTER NODES {error}") from None


def _nodes_fields(line: str) -> list[str] | None:
    """The fields of a line; None for one that is to be passed over."""
    fields = line.split(" ")
    if not line or (len(fields) > 2 and "handshake" in fields[2].split(",")):
        return None
    if len(fields) < 8:
        raise TopologyError(f"has {len(fields)} fields, not at least 8")
    return fields


def _nodes_node(fields: Sequence[str], asked: Address) -> Node:
    flags = fields[2].split(",")
    address, *extra = fields[1].split(",")
    ip, colon, port = address.partition("@")[0].rpartition(":")
    if not colon:
        raise TopologyError(f"has an address without a port: {address!r}")
    return _node(
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
                    slot = _range(number, number)[0]
                    open_slots.append(OpenSlot(slot, direction, node_id))  # type: ignore[arg-type]
                    break
            else:
                raise TopologyError(f"has an open slot that cannot be read: {text!r}")
        elif text:
            start, dash, end = text.partition("-")
            slots.append(_range(start, end if dash else start))
    return slots, open_slots


# The sources a client can be told to ask, each with its command.
SOURCES: dict[str, tuple[tuple[str, str], Callable[..., Reading]]] = {
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


def _node(
    node_id: object,
    role: object,
    endpoint: object,
    port: object,
    asked: Address,
    names: dict[Any, Any],
    health: object = b"online",
) -> Node:
    """A node as any of the replies tells of it; all three give it further names alike."""
    if endpoint in (None, b"", ""):
        endpoint = asked.host
    further = names.get(b"ip"), names.get(b"hostname"), names.get(b"availability-zone")
    try:
        return _node_once(node_id, role, endpoint, port, health, *further)
    except TypeError:
        raise TopologyError("has a list or a map in the place of a text or a number") from None


# Of 1,000 nodes few change from one time to the next, and all clients of a process may share them.
@lru_cache(maxsize=4096)
def _node_once(node_id: object, role: object, endpoint: object, port: object, health: object, *further: object) -> Node:
    text = _text(role, "role")
    if text not in _ROLES:
        raise TopologyError(f"has the unknown role {_shown(text)}")
    host, port = _text(endpoint, "endpoint"), _port(port)
    if host == "?":
        # Never dialled.
        host = ""
    health = _text(health, "health")
    names = {
        name: _text(value, name)
        for name, value in zip(("ip", "hostname", "availability_zone"), further, strict=True)
        if value
    }
    return Node(
        id=f"{host}:{port}" if node_id is None else _text(node_id, "id"),
        host=host,
        port=port,
        role=_ROLES[text],
        health="fail" if health.startswith("fail") else "loading" if health == "loading" else "online",
        **{name: value for name, value in names.items() if value != host},
    )


def _port(value: object) -> int:
    port = _integer(value, "port")
    if not 0 <= port < 65536:
        raise TopologyError(f"has the port {port}")
    return port


def _range(start: object, end: object) -> tuple[int, int]:
    first, last = _integer(start, "first slot"), _integer(end, "last slot")
    if not 0 <= first <= last < SLOT_COUNT:
        raise TopologyError(f"has the impossible slot range {first} to {last}")
    return _SINGLES[first] if first == last else (first, last)


def _integer(value: object, what: str) -> int:
    if type(value) is int:
        return value
    if isinstance(value, (bytes, str)) and value.isdigit() and value.isascii() and len(value) < 20:
        return int(value)
    raise TopologyError(f"{what}: {_shown(value)} is not a number")


def _text(value: object, what: str = "") -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return value
    raise TopologyError(f"{what}: {_shown(value)} is not text")


def _list(value: object, what: str = "") -> list[Any]:
    if isinstance(value, list):
        return value
    raise TopologyError(f"{what}is not a list but {_shown(value)}")


def _mapping(value: object, what: str = "") -> dict[Any, Any]:
    """A RESP3 map, or the flat list that RESP2 has in its place."""
    if isinstance(value, dict):
        return value
    flat = _list(value, what)
    if len(flat) % 2:
        raise TopologyError(f"{what}has an odd number of elements for a map")
    try:
        return dict(zip(flat[::2], flat[1::2], strict=True))
    except TypeError:
        raise TopologyError(f"{what}has a list in the place of a name") from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _by_node_id(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(sorted(nodes, key=lambda node: node.id))


def _owners(slot: int, shards: Iterable[Shard]) -> str:
    owners = (
        str(shard.primary.address) if shard.primary is not None else "nobody"
        for shard in shards
        for start, end in shard.slots
        if start <= slot <= end
    )
    return " and to ".join(owners)


def _checked(shards: list[Shard]) -> Reading:
    """Put shards in a fixed order, so that equal maps compare equal, and refuse a slot with two owners."""
    found: list[Shard] = []
    taken = bytearray(SLOT_COUNT)
    ranges = 0
    for shard in shards:
        slots = tuple(sorted(shard.slots))
        for start, end in slots:
            if start == end and not taken[start]:
                # Most ranges of a map in pieces; the other way costs several times as much.
                taken[start] = 1
                continue
            twice = taken.find(1, start, end + 1)
            if twice >= 0:
                raise TopologyError(f"gives slot {twice} twice, to {_owners(twice, shards)}")
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
