"""One timer for many deadlines.

A timer for each command would cost as much as the command (``callLater`` and ``cancel`` take 3 to 4 us).  Here the
place that holds commands keeps one alarm, which is never later than the earliest deadline in it: going off, it sweeps
the place, and is set again for the earliest that is left.  Under load that is one sweep per timeout, not per command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from twisted.internet.interfaces import IReactorTime

from .request import Request
from .timer import Timer

# Deadlines closer together than this share a sweep.
RESOLUTION = 0.005


class DeadlineTimer:
    """Calls ``sweep`` once, at the earliest time asked for since the last call."""

    __slots__ = ("_clock", "_sweep", "_timer", "at")

    def __init__(self, clock: IReactorTime, sweep: Callable[[], None]) -> None:
        #: When it goes off, as clock.seconds(); infinity if it is not set.
        self.at = inf
        self._clock = clock
        self._sweep = sweep
        self._timer = Timer(clock, self._ring)

    def by(self, at: float) -> None:
        """Go off at ``at``, unless set for an earlier time."""
        if at >= self.at:
            return
        self.at = at
        self._timer.start(max(at - self._clock.seconds(), RESOLUTION))

    def stop(self) -> None:
        """Forget every time asked for."""
        self.at = inf
        self._timer.stop()

    def _ring(self) -> None:
        self.at = inf
        self._sweep()


def not_too_soon(at: float, now: float, count: int) -> float:
    """When to sweep ``count`` requests again: a sweep of 100,000 takes 20 ms, so it comes at most each 200 ms."""
    return max(at, now + count * 2e-6)


def split_expired(requests: Iterable[Request], now: float) -> tuple[list[Request], list[Request], float]:
    """Sort requests into those past their deadline and those that go on, with the earliest deadline of the latter.

    Cancelled ones are in neither list.
    """
    expired: list[Request] = []
    alive: list[Request] = []
    earliest = inf
    for request in requests:
        if request.called:
            continue
        if request.deadline <= now:
            expired.append(request)
        else:
            alive.append(request)
            if request.deadline < earliest:
                earliest = request.deadline
    return expired, alive, earliest
