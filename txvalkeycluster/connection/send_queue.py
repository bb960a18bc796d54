"""The queue of the commands that a connection has not written yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..requests.deadlines import DeadlineTimer
from ..requests.fast_deferred import fast
from ..requests.request import Request
from .write_scheduler import WriteScheduler

#: Many commands in one turn are written in pieces of this many commands, so that the server starts early.
BURST = 1024


class SendQueue:
    """Base class of `RESPProtocol`, which accepts plain commands.  `_fast` has the same class in C."""

    _unsent: list[Request]
    # With this many unsent commands, `send` checks the limits: a burst, the limit, or 0 while paused.
    _crowd: int
    _deadline_timer: DeadlineTimer
    _write_scheduler: WriteScheduler

    def _admit(self, request: Request, count: int = 1) -> None:
        """Check the limits for new commands."""
        raise NotImplementedError

    def send(self, request: Request) -> None:
        """Queue a request.

        Raises:
            TooManyPending: The limit is reached; the request was not accepted.
        """
        unsent = self._unsent
        queued = len(unsent)
        if not queued:
            self._write_scheduler.touch(self)  # type: ignore[arg-type]
        if queued >= self._crowd:
            self._admit(request)
        unsent.append(request)
        if request.deadline < self._deadline_timer.at:
            self._deadline_timer.by(request.deadline)
        if request.payload.__class__ is list or queued >= BURST:
            self._write_scheduler.write(self)  # type: ignore[arg-type]


def joined(requests: list[Request]) -> bytes | None:
    """Return the payloads of requests as one bytes object; None if one of them has large values."""
    try:
        data = requests[0].payload if len(requests) == 1 else b"".join([r.payload for r in requests])  # type: ignore[misc]
    except TypeError:
        return None
    return data if isinstance(data, bytes) else None


#: The versions in Python.
PythonSendQueue, python_joined = SendQueue, joined
if fast is not None and not TYPE_CHECKING:
    SendQueue, joined = fast.SendQueue, fast.joined
