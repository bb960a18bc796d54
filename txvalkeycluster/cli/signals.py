"""SIGINT and SIGTERM end every command, with the exit status that shells expect: 128 and the signal's number."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

# Seconds that a command has to undo its work.  Its servers end with this process in any case.
_GRACE = 2


def on_signals(handler: Callable[[int, FrameType | None], object]) -> None:
    """Set the handler of SIGINT and SIGTERM.

    Args:
        handler: Called with the number of the signal and the stack frame, as `signal.signal` describes.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        # A shell makes its background jobs ignore Ctrl-C.  That must stay so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def exit_status(number: int) -> int:
    """Return the exit status of a command that a signal has ended."""
    return 128 + number


def leave(number: int, _: FrameType | None) -> NoReturn:
    """Exit; the handler of commands that run without the reactor."""
    raise SystemExit(exit_status(number))


def leave_at_last(number: int) -> None:
    """End this process after 2 seconds, also if it hangs then."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(exit_status(number)))
    signal.alarm(_GRACE)
    # Python gives up its handlers when it ends.  Then the alarm itself would end the process, with another status.
    atexit.register(signal.alarm, 0)
