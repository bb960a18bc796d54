"""Waits: what all queues of waiting commands of a client share.  It notices commands that wait for long."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from twisted.internet.interfaces import IReactorTime

from .request import Cancels
from .thread_check import ThreadCheck
from .timer import Timer

#: A command that has waited for this many seconds since its call waits for long.
LONG = 2.0
# Seconds between two looks at the queues, while any command waits.
_PERIOD = 1.0


class LongWait(NamedTuple):
    """Commands that wait for long."""

    #: The number of commands in the queue with the oldest command.
    commands: int
    #: The time since the call of the oldest command, in seconds.
    seconds: float
    #: What the commands wait for, such as "waiting for host:port".
    reason: str


class Queue(Protocol):
    """A queue of waiting commands."""

    def longest_wait(self) -> LongWait | None:
        """Return the wait of the oldest command; None if there is none."""


class Waits:
    """The queues of a client that hold commands."""

    def __init__(self, clock: IReactorTime, cancels: Cancels, thread: ThreadCheck | None = None) -> None:
        #: Counts cancelled commands.
        self.cancels = cancels
        #: Called when the first command has waited for long, and with None when no command does so any more.
        self.changed: Callable[[LongWait | None], None] = _ignore
        self._queues: dict[Queue, None] = {}
        self._timer = Timer(clock, self._look)
        self._long = False
        self._thread = thread or ThreadCheck(clock)

    def entered(self, queue: Queue) -> None:
        """Note that a queue will hold commands.

        Raises:
            WrongThread: This is not the thread of the reactor.
        """
        self._thread.check()
        self._queues[queue] = None
        if not self._timer.running:
            self._timer.start(_PERIOD)

    def left(self, queue: Queue) -> None:
        """Note that a queue is empty now."""
        self._queues.pop(queue, None)
        if not self._queues and not self._long:
            self._timer.stop()

    def stop(self) -> None:
        """Look no more, because the client is closed."""
        self._timer.stop()

    def _look(self) -> None:
        waits = [wait for queue in self._queues if (wait := queue.longest_wait()) is not None]
        longest = max(waits, key=lambda wait: wait.seconds, default=None)
        is_long = longest is not None and longest.seconds >= LONG
        if self._queues or is_long:
            self._timer.start(_PERIOD)
        if is_long != self._long:
            self._long = is_long
            self.changed(longest if is_long else None)


def _ignore(_: LongWait | None) -> None:
    """Nobody wants to know."""
