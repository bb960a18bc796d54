"""The history of a request that did not succeed at once, and the error of a request that timed out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import CommandTimeout

if TYPE_CHECKING:
    from .request import Request


class History:
    """What has happened to a request so far; made only if the request did not succeed at once."""

    __slots__ = ("asking", "attempts", "last", "on_end", "on_reply", "redirects", "written")

    def __init__(self) -> None:
        #: The number of attempts that ended with a redirect, an error or a lost connection.
        self.attempts = 0
        #: The number of redirects that were followed.
        self.redirects = 0
        #: Why the last attempt ended.
        self.last = ""
        #: Whether ASKING must be sent before the request.
        self.asking = False
        #: Whether an earlier attempt may have been executed: its reply was lost, or its error does not exclude that.
        self.written = False
        #: Called when a reply has come, before the caller gets it.  A retry queue sends its other requests then.
        self.on_reply: Callable[[], None] | None = None
        #: Called with the request when it has ended, but not when the caller cancelled it.
        self.on_end: Callable[[Request], None] | None = None


def timeout_error(
    name: str, seconds: float, history: History | None, where: str = "", *, written: bool = False
) -> CommandTimeout:
    """Make the error of a command whose deadline has passed.

    Args:
        name: The command's name.
        seconds: The time since the call.
        history: The history of the request, if it has one.
        where: What the command waited for at the end.
        written: Whether the last attempt was written.

    Returns:
        The error.  ``maybe_executed`` is true if any attempt may have been executed.
    """
    text = f"{name} had no reply within {seconds:.2f} s" + (f": {where}" if where else "")
    if history is not None:
        written = written or history.written
        if history.attempts:
            text += f"; earlier attempts: {history.attempts}, last error: {history.last}"
    return CommandTimeout(text, maybe_executed=written)
