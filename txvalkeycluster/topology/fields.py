"""Reads and checks the single fields of the replies to CLUSTER commands."""

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
    """Ranges of one slot.  All maps share them, because a fragmented map has thousands."""

    def __missing__(self, slot: int) -> tuple[int, int]:
        single = self[slot] = (slot, slot)
        return single


#: The shared range ``(slot, slot)`` of each slot.
SINGLES = _Singles()
# Longer than any id or host name.  Nodes stay in a cache of the process, so the texts of a server must be bounded.
_LONGEST_NAME = 1024
# Shows only the outer lists: the full repr of a deeply nested list raises RecursionError.
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
    """Make a node from the fields of any of the three replies.

    Args:
        node_id: The id of the node; None if the reply has none.
        role: One of the role names of the server, such as ``b"master"``.
        endpoint: The host.  If it is empty, the host of ``asked`` is used; ``?`` means unknown.
        port: The port; 0 means unknown.
        asked: The address of the server that sent the reply.
        names: Further fields by name: ``ip``, ``hostname`` and ``availability-zone`` are used.
        health: The state of the node, such as ``b"online"``.

    Returns:
        The node.

    Raises:
        TopologyError: A field is not valid.
    """
    if endpoint in (None, b"", ""):
        endpoint = asked.host
    further = names.get(b"ip"), names.get(b"hostname"), names.get(b"availability-zone")
    try:
        return _node_once(node_id, role, endpoint, port, health, *further)
    except TypeError:
        raise TopologyError("has a list or a map where text or a number is expected") from None


# Of 1,000 nodes, few change from one map to the next, and all clients of a process share them.  The cache is typed
# because 7000 is a port, but 7000.0 is not.
@lru_cache(maxsize=4096, typed=True)
def _node_once(node_id: object, role: object, endpoint: object, port: object, health: object, *further: object) -> Node:
    text = _name(role, "role")
    if text not in _ROLES:
        raise TopologyError(f"has the unknown role {shown(text)}")
    host, port = _name(endpoint, "endpoint"), _port(port)
    if host == "?":
        # Unknown: the node cannot be dialled.
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
        raise TopologyError(f"{what}: {shown(text)} is not a valid name")
    return text


def _port(value: object) -> int:
    port = integer(value, "port")
    if not 0 <= port < 65536:
        raise TopologyError(f"has the invalid port {port}")
    return port


def slot_range(start: object, end: object) -> tuple[int, int]:
    """Return the range of slots from ``start`` to ``end``, both included.  Raises TopologyError."""
    first, last = integer(start, "first slot"), integer(end, "last slot")
    if not 0 <= first <= last < SLOT_COUNT:
        raise TopologyError(f"has the invalid slot range {first} to {last}")
    return SINGLES[first] if first == last else (first, last)


def integer(value: object, what: str) -> int:
    """Return a number that is sent as a number or as text.  Raises TopologyError, which names the field ``what``."""
    if type(value) is int:
        return value
    if isinstance(value, (bytes, str)) and value.isdigit() and value.isascii() and len(value) < 20:
        return int(value)
    raise TopologyError(f"{what}: {shown(value)} is not a number")


def text_of(value: object, what: str) -> str:
    """Return bytes or str as str.  Raises TopologyError, which names the field ``what``."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return value
    raise TopologyError(f"{what}: {shown(value)} is not text")


def list_of(value: object, what: str = "") -> list[Any]:
    """Return ``value`` if it is a list.  Raises TopologyError; its text begins with ``what``."""
    if isinstance(value, list):
        return value
    raise TopologyError(f"{what}is {shown(value)}, not a list")


def mapping_of(value: object, what: str = "") -> dict[Any, Any]:
    """Return a RESP3 map, or the flat RESP2 list of a map, as a dict.

    Raises TopologyError; its text begins with ``what``.
    """
    if isinstance(value, dict):
        return value
    flat = list_of(value, what)
    if len(flat) % 2:
        raise TopologyError(f"{what}has an odd number of elements, so it is not a map")
    try:
        return dict(zip(flat[::2], flat[1::2], strict=True))
    except TypeError:
        raise TopologyError(f"{what}has a list where a name is expected") from None


def shown(value: object) -> str:
    """Return the repr of a value for an error text, at most 63 characters long."""
    text = _repr.repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def by_node_id(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Return the nodes, sorted by id."""
    return tuple(sorted(nodes, key=lambda node: node.id))
