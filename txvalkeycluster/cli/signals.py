"""SIGINT and SIGTERM, which end every command with the exit status that shells expect."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

# Seconds for what a command has to undo.  The servers end with this process in any case.
_GRACE = 2


def on_signals(handler: Callable[[int, Any], object]) -> None:
    """Have SIGINT and SIGTERM handled, in place of any earlier handler."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # A shell has its background jobs ignore Ctrl-C, and they go on doing so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def exit_status(number: int) -> int:
    """What a command exits with that a signal has ended."""
    return 128 + number


def leave(number: int, _: Any) -> NoReturn:
    """A handler for commands that wait without a reactor: they undo what they have done, and end."""
    raise SystemExit(exit_status(number))


def leave_at_last(number: int) -> None:
    """End this process a little later, whatever it waits for then."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(exit_status(number)))
    signal.alarm(_GRACE)
