"""Requests on exclusive connections: commands that may block, and commands that must not wait behind others."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from ..address import Address
from ..commands import Command
from ..commands.encoder import Arg, Packed, pack
from ..commands.overrides import block_time
from .interfaces import Connection, Destination
from .request import Call
from .target import Target


class Lease(Protocol):
    """A connection that one request has leased."""

    @property
    def address(self) -> Address:
        """The node of the connection."""

    def give_back(self) -> None:
        """Return the connection to its pool.  A connection with pending replies is aborted."""

    def unblock(self, *, error: bool) -> Deferred[Any]:
        """Let the server end the command that blocks on the connection, as if its time were over, or with an error."""


class ExclusiveCall(Call):
    """A command that is sent on an exclusive connection from the node's pool."""

    __slots__ = ("_note_cancel", "address", "keeps_lease", "lease")

    #: Whether the command may block, so that its reply may come late.
    blocks = False

    def __init__(
        self,
        payload: Packed,
        command: Command,
        target: Target,
        since: float,
        deadline: float,
        repeatable: bool,
        note_cancel: Callable[[Deferred[Any]], None],
        keeps_lease: bool = False,
    ) -> None:
        """Create the call.

        Args:
            payload: The packed command.
            command: The command's definition.
            target: Where the command goes.
            since: The time of the call, as reactor.seconds().
            deadline: When the call times out, as reactor.seconds().
            repeatable: Whether the command may be sent again after a lost connection.
            note_cancel: Called with this call when it is cancelled.
            keeps_lease: After a successful reply the caller keeps the connection, and must give it back.
        """
        super().__init__(payload, command, target, since, deadline, repeatable, _cancelled)
        #: The leased connection; None while there is none.
        self.lease: Lease | None = None
        #: The node of the last leased connection.
        self.address: Address | None = None
        self.keeps_lease = keeps_lease
        self._note_cancel = note_cancel

    def give_to(self, destination: Destination) -> None:
        """Give this call to a destination that has exclusive connections."""
        destination.send_exclusive(self)

    def release(self) -> None:
        """Give the connection back, if this call has one."""
        lease, self.lease = self.lease, None
        if lease is not None:
            self.address = lease.address
            lease.give_back()

    def callback(self, result: Any) -> None:
        """Give the connection back unless the caller keeps it, then end with a reply."""
        if not self.keeps_lease:
            self.release()
        super().callback(result)

    def errback(self, fail: Any = None) -> None:
        """Give the connection back, then end with an error."""
        self.release()
        super().errback(fail)


def _cancelled(call: Any) -> None:
    call.release()
    call._note_cancel(call)


class BlockingCall(ExclusiveCall):
    """A command that may block.  If it is sent again, its timeout argument is the time that is left."""

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
        note_cancel: Callable[[Deferred[Any]], None],
    ) -> None:
        """Create the call.

        Args:
            args: The words of the command.
            command: The command's definition.
            target: Where the command goes.
            now: The time of the call, as reactor.seconds().
            timeout: Seconds after the end of the blocking time until the call times out; None is no limit.  A command
                that blocks without end has no limit.
            repeatable: Whether the command may be sent again after a lost connection.
            note_cancel: Called with this call when it is cancelled.
        """
        place = block_time(command.name, args)
        self._args = args
        self._place, self._unit = place if place is not None and place[0] < len(args) else (0, 1.0)
        # 0 means without end, or that the argument is not a time; then the server replies with an error.
        self._seconds = _number(args[self._place]) / self._unit if self._place else 0.0
        endless = timeout is None or (self._place and not self._seconds)
        deadline = inf if timeout is None or endless else now + self._seconds + timeout
        super().__init__(pack(args), command, target, now, deadline, repeatable, note_cancel)

    def written_on(self, connection: Connection) -> None:
        """Replace the timeout argument by the time that is left, if that is shorter by more than 50 ms."""
        left = max(self.since + self._seconds - connection.seconds(), 0.001)
        # The few milliseconds for making a connection do not matter.
        if self._seconds and left < self._seconds - 0.05:
            time = left if self._unit == 1.0 else max(int(left * self._unit), 1)
            self.payload = pack((*self._args[: self._place], time, *self._args[self._place + 1 :]))


class RawBlockingCall(BlockingCall):
    """A command that may block, with the bytes of its reply as the result."""

    __slots__ = ()

    unparsed = True

    def unblock(self, *, error: bool = False) -> Deferred[Any]:
        """Let the server end the command.  This is not certain: an element may be taken in the same moment.

        Args:
            error: Whether the reply is an error, UNBLOCKED; otherwise it is that of a command whose time is over.

        Returns:
            A Deferred that fires with 1 if the server has ended it, and with 0 if it was not blocked.  It fails as
            another command for the node.
        """
        return self.lease.unblock(error=error) if self.lease is not None else succeed(0)


def _number(arg: Arg) -> float:
    try:
        number = float(arg)
    except (TypeError, ValueError):
        return 0.0
    # "nan" is not greater, either.
    return number if number > 0.0 else 0.0
