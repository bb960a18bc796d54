"""MGET with keys in several slots: one part for each key, whose replies become one."""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import Any

from ..upstream import Cell, Upstream

# The reply to MGET with one key is this, and the value.
_ONE = b"*1\r\n"
# Functions in C: a loop over the parts in Python would take half of the time of an MGET.
_first, _begin_of, _rest_of = itemgetter(0), itemgetter(slice(len(_ONE))), itemgetter(slice(len(_ONE), None))


# The cell of a part has one item more than others: the cell of the whole.
_WHOLE = 3


class SplitCell(list[Any]):
    """The cell of a split MGET.  It has a reply as soon as all its parts have one."""

    def __init__(self, session: Any, frame: bytes) -> None:
        super().__init__((None, session, frame))
        #: Whether SLOWLOG has it.
        self.noted = False
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
                self[0] = _joined(list(map(_first, parts)))
        return super().__getitem__(index)


def whole_of(cell: Cell) -> Any:
    """Return the cell of the request that a client has sent, for the cell of a part or of a request."""
    return cell[_WHOLE] if len(cell) > _WHOLE else cell


def parts_of(cell: Cell) -> list[Cell]:
    """Return the cells of the parts of a split MGET that has no reply yet; for any other cell, the cell itself."""
    return cell.parts or [cell] if isinstance(cell, SplitCell) else [cell]


@lru_cache(maxsize=1024)
def _header(length: int) -> bytes:
    """Return what is before a key of this length in a request with one key."""
    return b"*2\r\n$4\r\nMGET\r\n$%d\r\n" % length


def send_mget(cell: SplitCell, upstream: Upstream, keys: list[bytes]) -> None:
    """Send the parts of an MGET.

    Args:
        cell: Its cell.
        upstream: Sends them.
        keys: The keys.
    """
    session = cell[1]
    frames = [_header(len(key)) + key + b"\r\n" for key in keys]
    cell.parts = [[None, session, frame, cell] for frame in frames]
    upstream.add_keyed(cell.parts, keys, frames)


def _joined(replies: list[bytes]) -> bytes:
    if set(map(_begin_of, replies)) != {_ONE}:
        # An error of one part is the error of the whole command.
        wrong = next(reply for reply in replies if not reply.startswith(_ONE))
        return wrong if wrong.startswith(b"-") else b"-ERR the server's reply to MGET is not valid\r\n"
    return b"*%d\r\n%b" % (len(replies), b"".join(map(_rest_of, replies)))
