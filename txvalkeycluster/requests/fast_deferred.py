"""A Deferred that hands its result straight to the coroutine that awaits it.

Of the 2.5 us that a command costs, Twisted's general way from a Deferred's result to a waiting coroutine takes 0.7: it
makes three tuples and a list entry, and has to look at what the callback returned and whether it raised.  Where a
coroutine was the first to wait, it is resumed, and that is all.

This knows how Twisted does it.  In a version that does it otherwise, the general way is taken.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_T = TypeVar("_T")

# What Twisted adds as a callback for a coroutine, and what that calls to resume it.
_got_result: Any = getattr(defer, "_gotResultInlineCallbacks", None)
_resume: Any = getattr(defer, "_inlineCallbacks", None)
#: Whether coroutines are resumed directly; they are with Twisted 25.5 and newer.
DIRECT = (
    _got_result is not None
    and _resume is not None
    and hasattr(Deferred(), "_callbacks")
    and all(hasattr(Deferred, name) for name in ("_startRunCallbacks", "_runCallbacks", "_runningCallbacks"))
)


class FastDeferred(Deferred[_T]):
    """Deferred, and the same in all that can be seen of it."""

    # The arguments of `_got_result`, if the first to wait is a coroutine; whatever is in the list came after it.
    _waiter: tuple[Any, ...] | None = None

    if DIRECT:

        def addBoth(self, callback: Any, *args: Any, **kwargs: Any) -> Any:
            if callback is _got_result and self._waiter is None and not self._callbacks and not self.called:
                self._waiter = args
                return self
            return Deferred.addBoth(self, callback, *args, **kwargs)

        def callback(self, result: Any) -> None:
            waiter = self._waiter
            if waiter is None:
                # Deferred.callback does nothing else.
                self._startRunCallbacks(result)
                return
            if self.paused or self.debug:
                self._queue_waiter()
                self._startRunCallbacks(result)
                return
            # From here on as Deferred._startRunCallbacks and _runCallbacks.
            self._waiter = None
            self.called = True
            self._canceller = None
            self.result = result
            self._runningCallbacks = True
            try:
                # As `_got_result` does once its coroutine is suspended.
                _resume(result, waiter[1], waiter[2], waiter[3])
                self.result = None
            except BaseException:
                self.result = Failure()  # type: ignore[no-untyped-call]
            self._runningCallbacks = False
            if self._callbacks or self.result is not None:
                self._runCallbacks()

        def errback(self, fail: Any = None) -> None:
            self._queue_waiter()
            Deferred.errback(self, fail)

    def _queue_waiter(self) -> None:
        """Have the coroutine wait as everybody else does, the first of them."""
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            others, self._callbacks = self._callbacks, []
            Deferred.addBoth(self, _got_result, *waiter)
            self._callbacks += others

    def __iter__(self) -> Generator[Deferred[_T], Any, _T]:
        # Twisted resumes a coroutine with the result that it waited for; Deferred's own goes and looks, for 0.05 us.
        if not self.called:
            result = yield self
            if result is not None:
                return result  # type: ignore[no-any-return]
        return (yield from Deferred.__iter__(self))

    __await__ = __iter__
