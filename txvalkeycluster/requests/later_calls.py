"""Call functions a little later, with one timer for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from ..errors import WrongThread
from .thread_check import ThreadCheck
from .timer import Timer

_T = TypeVar("_T")


class LaterCalls:
    """Calls each function once, ``delay`` seconds after the first was added; 0 is the next turn of the reactor."""

    def __init__(self, clock: IReactorTime, delay: float, thread: ThreadCheck | None = None) -> None:
        self._delay = delay
        self._thread = thread
        self._waiting: list[Callable[[], object]] = []
        self._timer = Timer(clock, self.call_now)

    def add(self, function: Callable[[], object]) -> None:
        """Add a function, which is called once.

        Raises:
            WrongThread: This is not the thread of the reactor, and the timer does not run yet.
        """
        if not self._timer.running:
            if self._thread is not None:
                self._thread.check()
            self._timer.start(self._delay)
        self._waiting.append(function)

    def call_now(self) -> None:
        """Call all added functions now, for example because the client closes."""
        self._timer.stop()
        waiting, self._waiting = self._waiting, []
        for function in waiting:
            function()

    def postponed(self, ended: Deferred[_T]) -> Deferred[_T]:
        """Postpone the result of a Deferred that has already fired.

        A caller that repeats a command at once after an error would otherwise keep the reactor from running.

        Args:
            ended: A Deferred.

        Returns:
            If it has fired, a Deferred that fires with the same result, or fails with the same error, later; else
            ``ended`` itself.
        """
        if not ended.called:
            return ended
        later: Deferred[_T] = Deferred()

        def pass_on(result: Any) -> None:
            # If it has fired, it was cancelled.
            if not later.called:
                later.callback(result)

        try:
            self.add(lambda: ended.addBoth(pass_on))
        except WrongThread:
            # The caller gets this error instead.
            ended.addErrback(lambda _: None)
            raise
        return later


def failure(error: Exception) -> Deferred[Any]:
    """Return a Deferred that has failed with an error."""
    failed: Deferred[Any] = Deferred()
    # The traceback would keep the frames of the callers alive until a garbage collection.
    failed.errback(error.with_traceback(None))
    return failed
