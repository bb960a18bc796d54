"""A Deferred that passes its result directly to the coroutine that awaits it.

A command costs 2.5 us.  Of these, Twisted's general way from the result of a Deferred to the waiting coroutine takes
0.7 us: it makes three tuples and a list entry, and checks what the callback returned or raised.  The Deferred of this
module resumes the coroutine directly, if the coroutine was the first to wait.

The module repeats private code of Twisted.  On import it tests once whether Twisted still works that way.  If not, it
uses the general way.
"""

from __future__ import annotations

from collections.abc import Generator
from inspect import signature
from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_T = TypeVar("_T")

# The callback that Twisted adds for a coroutine, and the function that this callback calls to resume the coroutine.
_got_result: Any = getattr(defer, "_gotResultInlineCallbacks", None)
_resume: Any = getattr(defer, "_inlineCallbacks", None)


class FastDeferred(Deferred[_T]):
    """A Deferred with the same visible behaviour as its base class, but faster for a coroutine that awaits it."""

    # The arguments of `_got_result` if a coroutine was the first to wait.  All callbacks in the list came later.
    _waiter: tuple[Any, ...] | None = None

    def addBoth(self, callback: Any, *args: Any, **kwargs: Any) -> Any:
        """Add a callback as `Deferred.addBoth` does; a coroutine that is the first to wait is only noted."""
        if callback is _got_result and self._waiter is None and not self._callbacks and not self.called:
            self._waiter = args
            return self
        return Deferred.addBoth(self, callback, *args, **kwargs)

    def callback(self, result: Any) -> None:
        """Fire with a result, as `Deferred.callback` does."""
        waiter = self._waiter
        if waiter is None:
            # Deferred.callback does only this.
            self._startRunCallbacks(result)
            return
        if self.paused or self.debug:
            self._queue_waiter()
            self._startRunCallbacks(result)
            return
        # The code below does the same as Deferred._startRunCallbacks and _runCallbacks.
        self._waiter = None
        self.called = True
        self._canceller = None
        self.result = result
        self._runningCallbacks = True
        try:
            # `_got_result` does the same for a suspended coroutine.
            _resume(result, waiter[1], waiter[2], waiter[3])
            self.result = None
        except BaseException:
            self.result = Failure()  # type: ignore[no-untyped-call]
        self._runningCallbacks = False
        if self._callbacks or self.result is not None:
            self._runCallbacks()

    def errback(self, fail: Any = None) -> None:
        """Fire with a failure, as `Deferred.errback` does."""
        self._queue_waiter()
        Deferred.errback(self, fail)

    def _queue_waiter(self) -> None:
        """Move the waiting coroutine to the front of the list of callbacks."""
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            others, self._callbacks = self._callbacks, []
            Deferred.addBoth(self, _got_result, *waiter)
            self._callbacks += others

    def __iter__(self) -> Generator[Deferred[_T], Any, _T]:
        # Twisted resumes a coroutine with the result.  Deferred.__iter__ looks it up again, which takes 0.05 us.
        if not self.called:
            result = yield self
            if result is not None:
                return result  # type: ignore[no-any-return]
        return (yield from Deferred.__iter__(self))

    __await__ = __iter__


def _is_as_known() -> bool:
    """Return whether Twisted resumes coroutines as this module assumes: same names, arguments and behaviour."""
    try:
        names = [list(signature(function).parameters) for function in (_got_result, _resume)]
        if names != [["r", "waiting", "gen", "status", "context"], ["result", "gen", "status", "context"]]:
            return False
        return all(_tries(result) for result in (b"reply", ValueError("an error"), None))
    except Exception:
        return False


def _tries(result: Any) -> bool:
    """Return whether a coroutine gets the result, and the later callbacks get what the coroutine leaves."""
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


#: Whether coroutines are resumed directly, which needs Twisted 25.5 or newer.
DIRECT = _is_as_known()
if not DIRECT:
    # Use the general way: FastDeferred becomes a plain Deferred.
    for _name in ("addBoth", "callback", "errback", "__iter__", "__await__"):
        delattr(FastDeferred, _name)
