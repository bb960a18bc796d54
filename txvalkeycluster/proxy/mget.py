"""MGET with keys in several slots: one part for each slot, whose replies become one."""

from __future__ import annotations

from typing import Any

from ..framing import ReplyFramer
from ..slots import key_slot
from .upstream import Cell, Upstream

_LARGEST = 1 << 32
_ONE = b"*1\r\n"


class SplitCell(list[Any]):
    """The cell of a split MGET.  It has a reply as soon as all its parts have one."""

    def __init__(self, session: Any, frame: bytes) -> None:
        super().__init__((None, session, frame))
        #: The cell of each part, and the places of its keys.
        self.parts: list[tuple[Cell, list[int]]] = []
        self.size = 0

    def __getitem__(self, index: Any) -> Any:
        if index == 0 and self.parts and all(cell[0] is not None for cell, _ in self.parts):
            parts, self.parts = self.parts, []
            self[0] = _joined(self.size, parts)
        return super().__getitem__(index)


def send_mget(cell: SplitCell, upstream: Upstream, keys: list[bytes]) -> None:
    """Send the parts of an MGET.

    Args:
        cell: Its cell.
        upstream: Sends them.
        keys: The keys.
    """
    by_slot: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        by_slot.setdefault(key_slot(key), []).append(place)
    cell.size = len(keys)
    session = cell[1]
    for slot, places in by_slot.items():
        words = b"".join(b"$%d\r\n%b\r\n" % (len(keys[place]), keys[place]) for place in places)
        frame = b"*%d\r\n$4\r\nMGET\r\n%b" % (len(places) + 1, words)
        part: Cell = [None, session, frame]
        cell.parts.append((part, places))
        upstream.add(part, slot, frame)


def _joined(count: int, parts: list[tuple[Cell, list[int]]]) -> bytes:
    values: list[bytes] = [b""] * count
    for cell, places in parts:
        reply: bytes = cell[0]
        if len(places) == 1 and reply.startswith(_ONE):
            values[places[0]] = reply[4:]
            continue
        header, _, elements = reply.partition(b"\r\n")
        found = ReplyFramer(_LARGEST).feed(elements) if header == b"*%d" % len(places) else []
        if len(found) != len(places):
            # An error of one part is the error of the whole command.
            return reply if reply.startswith(b"-") else b"-ERR the server's reply to MGET is not valid\r\n"
        for place, value in zip(places, found, strict=True):
            values[place] = value
    return b"*%d\r\n%b" % (count, b"".join(values))
