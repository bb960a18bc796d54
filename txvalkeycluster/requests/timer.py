"""A timer that can be started and stopped any number of times."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Timer:
    """Calls a function once, some time after each start, unless it is stopped before."""

    __slots__ = ("_call", "_clock", "_function")

    def __init__(self, clock: IReactorTime, function: Callable[[], object]) -> None:
        self._clock = clock
        self._function = function
        self._call: IDelayedCall | None = None

    @property
    def running(self) -> bool:
        """Whether the timer has been started and a call is still to come."""
        return self._call is not None

    def start(self, delay: float) -> None:
        """Call the function in ``delay`` seconds.  If the timer is running, this replaces the earlier time."""
        if self._call is None:
            self._call = self._clock.callLater(delay, self._ring)
        else:
            self._call.reset(delay)

    def stop(self) -> None:
        """Cancel the call.  Do nothing if the timer is not running."""
        if self._call is not None:
            call, self._call = self._call, None
            call.cancel()

    def _ring(self) -> None:
        self._call = None
        self._function()
