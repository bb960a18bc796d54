"""One timer for many deadlines.

A timer for each command would cost as much as the command itself (``callLater`` and ``cancel`` take 3 to 4 us).  So
each place that holds commands has one timer, which fires at the earliest deadline or before.  A sweep follows: it times
out the commands that are late, and sets the timer for the earliest deadline that is left.  Under load this is one sweep
in the time of a timeout, and not one timer for each command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from twisted.internet.interfaces import IReactorTime

from .request import Request
from .timer import Timer

#: The shortest delay of the timer, in seconds.  Deadlines that are closer together share a sweep.
RESOLUTION = 0.005


class DeadlineTimer:
    """Calls ``sweep`` once, at the earliest of the times given to `by` since the last sweep."""

    __slots__ = ("_clock", "_sweep", "_timer", "at")

    def __init__(self, clock: IReactorTime, sweep: Callable[[], None]) -> None:
        #: When the timer fires, as clock.seconds(); infinity if it is not set.
        self.at = inf
        self._clock = clock
        self._sweep = sweep
        self._timer = Timer(clock, self._ring)

    def by(self, at: float) -> None:
        """Sweep at a time, unless a sweep at an earlier time is set.

        Args:
            at: The time, as clock.seconds().
        """
        if at >= self.at:
            return
        self.at = at
        self._timer.start(max(at - self._clock.seconds(), RESOLUTION))

    def stop(self) -> None:
        """Cancel the sweep."""
        self.at = inf
        self._timer.stop()

    def _ring(self) -> None:
        self.at = inf
        self._sweep()


def not_too_soon(at: float, now: float, count: int) -> float:
    """Return when to sweep again, so that sweeps take at most a tenth of the time.

    A sweep of 100,000 requests takes 20 ms, so it is repeated every 200 ms at most.

    Args:
        at: The earliest deadline.
        now: The current time.
        count: The number of requests to sweep.

    Returns:
        ``at`` or a later time.
    """
    return max(at, now + count * 2e-6)


def split_expired(requests: Iterable[Request], now: float) -> tuple[list[Request], list[Request], float]:
    """Separate requests that are past their deadline from the others.

    Args:
        requests: The requests.
        now: The current time, as clock.seconds().

    Returns:
        The late requests, the other requests, and the earliest deadline of the others (infinity if there is none).
        Requests that have ended, for example because they were cancelled, are in neither list.
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
