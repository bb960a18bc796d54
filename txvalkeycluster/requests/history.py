"""What a request has been through, and what its caller is told of that when its time is up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import CommandTimeout


class History:
    """What a request has been through, made only when something has gone other than straight."""

    __slots__ = ("asking", "attempts", "last", "on_end", "on_reply", "redirects", "written")

    def __init__(self) -> None:
        #: Attempts that ended in a redirect, an error or a lost connection.
        self.attempts = 0
        self.redirects = 0
        #: Why the last attempt ended.
        self.last = ""
        #: Whether the next node must be told ASKING first.
        self.asking = False
        #: Whether an earlier attempt may have been executed: it was written and its reply lost, or its error proves
        #: nothing.
        self.written = False
        #: Called when a reply has come, before the caller is told: there are others that wait for the same.
        self.on_reply: Callable[[], None] | None = None
        #: Called when the caller has been told, unless it was the caller who cancelled.
        self.on_end: Callable[[Any], None] | None = None


def timeout_error(
    name: str, seconds: float, history: History | None, where: str = "", *, written: bool = False
) -> CommandTimeout:
    """The error of a command whose deadline has passed: where it was, and what became of earlier attempts."""
    text = f"{name} had no reply within {seconds:.2f} s" + (f": {where}" if where else "")
    if history is not None:
        written = written or history.written
        if history.attempts:
            text += f"; earlier attempts: {history.attempts}, the last ended with: {history.last}"
    return CommandTimeout(text, maybe_executed=written)
