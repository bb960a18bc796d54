"""Functions that are called a little later, all of them by one timer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from .timer import Timer


class LaterCalls:
    """Calls functions once, ``delay`` seconds after the first of them was added; 0 is the next turn of the reactor."""

    def __init__(self, clock: IReactorTime, delay: float) -> None:
        self._delay = delay
        self._waiting: list[Callable[[], object]] = []
        self._timer = Timer(clock, self.call_now)

    def add(self, function: Callable[[], object]) -> None:
        """Have ``function`` called once."""
        self._waiting.append(function)
        if not self._timer.running:
            self._timer.start(self._delay)

    def call_now(self) -> None:
        """Call them now, as at the client's end: each finds out by itself."""
        self._timer.stop()
        waiting, self._waiting = self._waiting, []
        for function in waiting:
            function()

    def postponed(self, ended: Deferred[Any]) -> Deferred[Any]:
        """A Deferred with the result of one that has fired, later.

        Whoever repeats at once what fails at once would otherwise never give the reactor a turn.
        """
        later: Deferred[Any] = Deferred()

        def pass_on(result: Any) -> None:
            # Else it was cancelled.
            if not later.called:
                later.callback(result)

        self.add(lambda: ended.addBoth(pass_on))
        return later


def failure(error: Exception) -> Deferred[Any]:
    """A Deferred that has failed."""
    failed: Deferred[Any] = Deferred()
    # Its traceback leads to the frames of callers, which the garbage collector would have to free.
    failed.errback(error.with_traceback(None))
    return failed
