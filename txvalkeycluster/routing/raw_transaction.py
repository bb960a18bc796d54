"""Transactions of encoded requests, whose reply is passed on as the server's own bytes."""

from __future__ import annotations

import re
from typing import Any

from ..requests.interfaces import Connection
from .transaction_outcome import outcome
from .transaction_request import TransactionRequest

_NULL = frozenset([b"*-1\r\n", b"_\r\n"])
_COUNT = re.compile(rb"\*(0|[1-9]\d{0,8})\r\n").match


class RawTransactionRequest(TransactionRequest):
    """A transaction whose result is the bytes of the reply to EXEC, if the connection does not parse it."""

    __slots__ = ()

    @property
    def unparsed(self) -> bool:  # type: ignore[override]
        """Whether the next reply is that to EXEC.  The replies before it are texts, which are parsed."""
        return len(self._replies) + 1 == len(self)

    def _result(self, replies: list[Any], connection: Connection) -> Any:
        executed = replies[-1]
        if not isinstance(executed, bytes):
            # An error, or a value of a connection that parses all replies.
            return super()._result(replies, connection)
        outcome([*replies[:-1], _items_of(executed)])
        return executed


def _items_of(frame: bytes) -> Any:
    """Return what `outcome` needs to know about the reply to EXEC: None, or a list of the same length."""
    if frame in _NULL:
        return None
    count = _COUNT(frame)
    # Anything else than an array is reported by its bytes.
    return [None] * int(count[1]) if count is not None else frame
