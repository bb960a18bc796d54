"""Requests of the client itself: they have no caller, and no limit applies to them."""

from __future__ import annotations

from math import inf

from ..commands import Command
from ..commands.encoder import Arg, pack
from ..errors import ReplyError
from .interfaces import Connection, Destination
from .request import Call
from .target import THIS_NODE

_INTERNAL = Command("a request of the client's own")


class InternalCall(Call):
    """A request of the client itself for one node, without redirects, repetitions and limits."""

    __slots__ = ()

    internal = True
    raw = True

    def __init__(self, args: tuple[Arg, ...], now: float, timeout: float) -> None:
        super().__init__(pack(args), _INTERNAL, THIS_NODE, now, now + timeout)

    def give_to(self, destination: Destination) -> None:
        """Give this request to a destination."""
        destination.send_mixed(self)

    def refused(self, connection: Connection, error: ReplyError) -> None:
        """End this request with the error of the server."""
        if not self.called:
            self.fail(error)


class MarkedCall(InternalCall):
    """An internal call that notes its connection, and which commands of callers were written before it."""

    __slots__ = ("_connection", "_position")

    notes_write = True

    def written_on(self, connection: Connection) -> None:
        """Note the connection and the position of this request on it."""
        self._connection = connection
        self._position = connection.carried()

    def confirm(self) -> None:
        """Note that the commands before this request are confirmed; only after its reply has come."""
        self._connection.confirmed = max(self._connection.confirmed, self._position)


#: Precedes a command that follows an ASK redirect.
ASKING = InternalCall(("ASKING",), 0.0, inf)
# The reply to ASKING is always dropped.
ASKING.callback(None)
