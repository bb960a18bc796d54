"""MGET with keys in several slots: one part for each key, whose replies become one."""

from __future__ import annotations

from typing import Any

from ..upstream import Cell, Upstream

# The reply to MGET with one key is this, and the value.
_ONE = b"*1\r\n"


class SplitCell(list[Any]):
    """The cell of a split MGET.  It has a reply as soon as all its parts have one."""

    def __init__(self, session: Any, frame: bytes) -> None:
        super().__init__((None, session, frame))
        #: The cell of each part, in the order of the keys.
        self.parts: list[Cell] = []
        # The number of parts at the begin that have a reply.
        self._answered = 0

    def __getitem__(self, index: Any) -> Any:
        parts = self.parts
        if index == 0 and parts:
            answered = self._answered
            while answered < len(parts) and parts[answered][0] is not None:
                answered += 1
            self._answered = answered
            if answered == len(parts):
                self.parts = []
                self[0] = _joined([part[0] for part in parts])
        return super().__getitem__(index)


def parts_of(cell: Cell) -> list[Cell]:
    """Return the cells of the parts of a split MGET that has no reply yet; for any other cell, the cell itself."""
    return cell.parts or [cell] if isinstance(cell, SplitCell) else [cell]


def send_mget(cell: SplitCell, upstream: Upstream, keys: list[bytes]) -> None:
    """Send the parts of an MGET.

    Args:
        cell: Its cell.
        upstream: Sends them.
        keys: The keys.
    """
    session = cell[1]
    frames = [b"*2\r\n$4\r\nMGET\r\n$%d\r\n%b\r\n" % (len(key), key) for key in keys]
    cell.parts = [[None, session, frame] for frame in frames]
    upstream.add_keyed(cell.parts, keys, frames)


def _joined(replies: list[bytes]) -> bytes:
    for reply in replies:
        if not reply.startswith(_ONE):
            # An error of one part is the error of the whole command.
            return reply if reply.startswith(b"-") else b"-ERR the server's reply to MGET is not valid\r\n"
    return b"*%d\r\n%b" % (len(replies), b"".join([reply[4:] for reply in replies]))
