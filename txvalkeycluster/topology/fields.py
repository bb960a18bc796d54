"""The fields of what servers reply about the cluster, each checked as it is read."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from reprlib import Repr
from typing import Any

from ..address import Address
from ..errors import TopologyError
from ..slots import SLOT_COUNT
from .model import Node, Role

_ROLES: dict[str, Role] = {"master": "primary", "primary": "primary", "replica": "replica", "slave": "replica"}


class _Singles(dict[int, tuple[int, int]]):
    """Ranges of one slot, which all maps share: a map in pieces has thousands, to be made and freed with each."""

    def __missing__(self, slot: int) -> tuple[int, int]:
        single = self[slot] = (slot, slot)
        return single


SINGLES = _Singles()
# Longer than any id or host name; nodes are kept for all clients of a process, so what servers send must not be.
_LONGEST_NAME = 1024
# Of lists in lists only the outermost: the whole of what is nested deeply has no repr.
_repr = Repr()
_repr.maxlevel = 2
_repr.maxstring = _repr.maxother = 200


def node_of(
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


# Of 1,000 nodes few change from one time to the next, and all clients of a process may share them.  By type, since 7000
# is a port and 7000.0 is none.
@lru_cache(maxsize=4096, typed=True)
def _node_once(node_id: object, role: object, endpoint: object, port: object, health: object, *further: object) -> Node:
    text = _name(role, "role")
    if text not in _ROLES:
        raise TopologyError(f"has the unknown role {shown(text)}")
    host, port = _name(endpoint, "endpoint"), _port(port)
    if host == "?":
        # Never dialled.
        host = ""
    health = _name(health, "health")
    names = {
        name: _name(value, name)
        for name, value in zip(("ip", "hostname", "availability_zone"), further, strict=True)
        if value
    }
    return Node(
        id=f"{host}:{port}" if node_id is None else _name(node_id, "id"),
        host=host,
        port=port,
        role=_ROLES[text],
        health="fail" if health.startswith("fail") else "loading" if health == "loading" else "online",
        **{name: value for name, value in names.items() if value != host},
    )


def _name(value: object, what: str) -> str:
    text = text_of(value, what)
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise TopologyError(f"{what}: {shown(text)} is no name")
    return text


def _port(value: object) -> int:
    port = integer(value, "port")
    if not 0 <= port < 65536:
        raise TopologyError(f"has the port {port}")
    return port


def slot_range(start: object, end: object) -> tuple[int, int]:
    first, last = integer(start, "first slot"), integer(end, "last slot")
    if not 0 <= first <= last < SLOT_COUNT:
        raise TopologyError(f"has the impossible slot range {first} to {last}")
    return SINGLES[first] if first == last else (first, last)


def integer(value: object, what: str) -> int:
    if type(value) is int:
        return value
    if isinstance(value, (bytes, str)) and value.isdigit() and value.isascii() and len(value) < 20:
        return int(value)
    raise TopologyError(f"{what}: {shown(value)} is not a number")


def text_of(value: object, what: str) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return value
    raise TopologyError(f"{what}: {shown(value)} is not text")


def list_of(value: object, what: str = "") -> list[Any]:
    if isinstance(value, list):
        return value
    raise TopologyError(f"{what}is not a list but {shown(value)}")


def mapping_of(value: object, what: str = "") -> dict[Any, Any]:
    """A RESP3 map, or the flat list that RESP2 has in its place."""
    if isinstance(value, dict):
        return value
    flat = list_of(value, what)
    if len(flat) % 2:
        raise TopologyError(f"{what}has an odd number of elements for a map")
    try:
        return dict(zip(flat[::2], flat[1::2], strict=True))
    except TypeError:
        raise TopologyError(f"{what}has a list in the place of a name") from None


def shown(value: object) -> str:
    text = _repr.repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def by_node_id(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(sorted(nodes, key=lambda node: node.id))
