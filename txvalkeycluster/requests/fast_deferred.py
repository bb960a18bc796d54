"""A Deferred that hands its result straight to the coroutine that awaits it.

Of the 2.5 us that a command costs, Twisted's general way from a Deferred's result to a waiting coroutine takes 0.7: it
makes three tuples and a list entry, and has to look at what the callback returned and whether it raised.  Where a
coroutine was the first to wait, it is resumed, and that is all.

This repeats what Twisted does in private.  It is tried once, when this module is imported; with a Twisted that does it
otherwise, the general way is taken.
"""

from __future__ import annotations

from collections.abc import Generator
from inspect import signature
from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_T = TypeVar("_T")

# What Twisted adds as a callback for a coroutine, and what that calls to resume it.
_got_result: Any = getattr(defer, "_gotResultInlineCallbacks", None)
_resume: Any = getattr(defer, "_inlineCallbacks", None)


class FastDeferred(Deferred[_T]):
    """Deferred, and the same in all that can be seen of it."""

    # The arguments of `_got_result`, if the first to wait is a coroutine; whatever is in the list came after it.
    _waiter: tuple[Any, ...] | None = None

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


def _is_as_known() -> bool:
    """Whether Twisted resumes coroutines in the way that is repeated here: its names, their arguments, what they do."""
    try:
        names = [list(signature(function).parameters) for function in (_got_result, _resume)]
        if names != [["r", "waiting", "gen", "status", "context"], ["result", "gen", "status", "context"]]:
            return False
        return all(_tries(result) for result in (b"reply", ValueError("an error"), None))
    except Exception:
        return False


def _tries(result: Any) -> bool:
    """Whether a coroutine gets a result as it should, and everybody else what it leaves."""
    deferred: FastDeferred[Any] = FastDeferred()
    got: list[Any] = []

    async def wait() -> str:
        try:
            got.append(await deferred)
        except ValueError as error:
            got.append(error)
        return "done"

    waiting = wait()
    ended: list[Any] = []
    try:
        done = Deferred.fromCoroutine(waiting)
        if deferred._waiter is None or done.called:
            return False
        if isinstance(result, Exception):
            deferred.errback(result)
        else:
            deferred.callback(result)
        done.addBoth(ended.append)
        deferred.addBoth(ended.append)
    finally:
        waiting.close()
    return got == [result] and ended == ["done", None]


#: Whether coroutines are resumed directly; they are with Twisted 25.5 and newer.
DIRECT = _is_as_known()
if not DIRECT:
    # The general way: nothing but Deferred.
    for _name in ("addBoth", "callback", "errback", "__iter__", "__await__"):
        delattr(FastDeferred, _name)
