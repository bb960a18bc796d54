"""Requests that have a connection to themselves: what may block, and what nothing must stand in front of."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from ..commands import Command
from ..commands.encoder import Arg, Packed, pack
from ..commands.overrides import block_time
from .request import Call, Connection, Destination
from .target import Target


class Lease(Protocol):
    """A connection that was lent to one request."""

    def give_back(self) -> None:
        """Return it.  One that owes replies is cut."""


class ExclusiveCall(Call):
    """A command that is sent on a connection of its own, lent by the node's pool."""

    __slots__ = ("_note_cancel", "keeps_lease", "lease")

    #: Whether the server may hold its reply back for long.
    blocks = False

    def __init__(
        self,
        payload: Packed,
        command: Command,
        target: Target,
        since: float,
        deadline: float,
        repeatable: bool,
        note_cancel: Callable[[Any], None],
        keeps_lease: bool = False,
    ) -> None:
        """With ``keeps_lease`` the caller has the connection after a good reply, and gives it back."""
        super().__init__(payload, command, target, since, deadline, repeatable, _cancelled)
        self.lease: Lease | None = None
        self.keeps_lease = keeps_lease
        self._note_cancel = note_cancel

    def give_to(self, destination: Destination) -> None:
        destination.send_exclusive(self)

    def release(self) -> None:
        """Give the connection back, if it has one."""
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.give_back()

    def callback(self, result: Any) -> None:
        if not self.keeps_lease:
            self.release()
        super().callback(result)

    def errback(self, fail: Any = None) -> None:
        self.release()
        super().errback(fail)


def _cancelled(call: Any) -> None:
    call.release()
    call._note_cancel(call)


class BlockingCall(ExclusiveCall):
    """A command whose reply the server may hold back.  When it is sent again it asks for the time that is left."""

    __slots__ = ("_args", "_place", "_seconds", "_unit")

    blocks = True
    notes_write = True

    def __init__(
        self,
        args: tuple[Arg, ...],
        command: Command,
        target: Target,
        now: float,
        timeout: float | None,
        repeatable: bool,
        note_cancel: Callable[[Any], None],
    ) -> None:
        """``timeout`` in seconds counts from when the server should have answered; what blocks for ever has none."""
        place = block_time(command.name, args)
        self._args = args
        self._place, self._unit = place if place is not None and place[0] < len(args) else (0, 1.0)
        # 0 is without end, or not a time at all, of which the server complains.
        self._seconds = _number(args[self._place]) / self._unit if self._place else 0.0
        endless = timeout is None or (self._place and not self._seconds)
        deadline = inf if timeout is None or endless else now + self._seconds + timeout
        super().__init__(pack(args), command, target, now, deadline, repeatable, note_cancel)

    def written_on(self, connection: Connection) -> None:
        left = max(self.since + self._seconds - connection.seconds(), 0.001)
        # What is left after the few milliseconds that a connection takes is as good as all.
        if self._seconds and left < self._seconds - 0.05:
            time = left if self._unit == 1.0 else max(int(left * self._unit), 1)
            self.payload = pack((*self._args[: self._place], time, *self._args[self._place + 1 :]))


def _number(arg: Arg) -> float:
    try:
        return max(float(arg), 0.0)
    except (TypeError, ValueError):
        return 0.0
