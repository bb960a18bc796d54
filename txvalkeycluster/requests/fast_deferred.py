"""A Deferred that passes its result directly to the coroutine that awaits it.

A command costs 2.5 us.  Of these, Twisted's general way from the result of a Deferred to the waiting coroutine takes
0.7 us: it makes three tuples and a list entry, and checks what the callback returned or raised.  The Deferred of this
module resumes the coroutine directly, if the coroutine was the first to wait.

The module repeats private code of Twisted.  On import it tests once whether Twisted still works that way.  If not, it
uses the general way.

There are two versions of the class: one in Python, and one whose base class is in C, `CallRecord` of `_fast`.
"""

from __future__ import annotations

from collections.abc import Generator
from inspect import signature
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .. import acceleration

_T = TypeVar("_T")

# The callback that Twisted adds for a coroutine, and the function that this callback calls to resume the coroutine.
_got_result: Any = getattr(defer, "_gotResultInlineCallbacks", None)
_resume: Any = getattr(defer, "_inlineCallbacks", None)
# What ``returnValue`` raises.
_Return: Any = getattr(defer, "_DefGen_Return", ())
# ``context.run`` and ``generator.send`` of a coroutine, which resume it, and its generator, status and context.
_Waiter = tuple[Any, Any, Any, Any, Any]


def _go_on(yielded: Any, generator: Any, status: Any, context: Any) -> None:
    """Let a coroutine wait for an object that is no `CallRecord`: the rest of the loop in Twisted's `_inlineCallbacks`.

    Args:
        yielded: The object.
        generator: The coroutine, or the generator of `inlineCallbacks`.
        status: Its ``_CancellationStatus``.
        context: Its context variables.
    """
    if isinstance(yielded, (CoroutineType, GeneratorType)):
        yielded = Deferred.fromCoroutine(yielded)
    if isinstance(yielded, Deferred):
        waiting = [True, None]
        yielded.addBoth(_got_result, waiting, generator, status, context)
        if waiting[0]:
            waiting[0] = False
            status.waitingOn = yielded
            return
        yielded = waiting[1]
    _resume(yielded, generator, status, context)


def _raised(error: BaseException, status: Any) -> None:
    """End a coroutine, or a generator of `inlineCallbacks`, that has raised an error."""
    if isinstance(error, _Return):
        status.deferred.callback(error.value)
    else:
        status.deferred.errback(error)


class FastDeferred(Deferred[_T]):
    """A Deferred with the same visible behaviour as its base class, but faster for a coroutine that awaits it."""

    # The coroutine that was the first to wait; None if there is none.  All callbacks in the list came later.
    _waiter: _Waiter | None = None

    def addBoth(self, callback: Any, *args: Any, **kwargs: Any) -> Any:
        """Add a callback as `Deferred.addBoth` does; a coroutine that is the first to wait is only noted."""
        if callback is _got_result and self._waiter is None and not self._callbacks and not self.called:
            _, generator, status, context = args
            self._waiter = context.run, generator.send, generator, status, context
            return self
        return Deferred.addBoth(self, callback, *args, **kwargs)

    def callback(self, result: Any) -> None:
        """Fire with a result, as `Deferred.callback` does."""
        waiter = self._waiter
        if waiter is None:
            # Deferred.callback does only this.
            self._startRunCallbacks(result)
            return
        if self.paused or self.debug or isinstance(result, Failure):
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
            # The same as Twisted's `_inlineCallbacks`.
            ended, error = False, None
            try:
                yielded = waiter[0](waiter[1], result)
            except StopIteration as stop:
                yielded, ended = stop.value, True
            except BaseException as raised:
                # Without this frame: the failure begins in the coroutine.
                error = raised.with_traceback(raised.__traceback__.tb_next)  # type: ignore[union-attr]
            # The rest must not run in the handlers: the errors of callbacks would refer to the handled ones.
            if error is not None:
                _raised(error, waiter[3])
            elif ended:
                waiter[3].deferred.callback(yielded)
            # Not isinstance: Deferred is an abstract base class, for which it takes 0.2 us.
            elif (
                yielded.__class__ is self.__class__
                and yielded._waiter is None
                and not yielded._callbacks
                and not yielded.called
            ):
                yielded._waiter = waiter
                waiter[3].waitingOn = yielded
            else:
                _go_on(yielded, *waiter[2:])
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
            Deferred.addBoth(self, _got_result, [False, None], *waiter[2:])
            self._callbacks += others

    def __iter__(self) -> Generator[Deferred[_T], Any, _T]:
        # Twisted resumes a coroutine with the result.  Deferred.__iter__ looks it up again, which takes 0.05 us.
        if not self.called:
            result = yield self
            if result is not None:
                return result  # type: ignore[no-any-return]
        return (yield from Deferred.__iter__(self))

    __await__ = __iter__


def _is_as_known(kind: type[Deferred[Any]]) -> bool:
    """Return whether Twisted resumes coroutines as this module assumes: same names, arguments and behaviour.

    Args:
        kind: The class to try.
    """
    try:
        names = [list(signature(function).parameters) for function in (_got_result, _resume)]
        if names != [["r", "waiting", "gen", "status", "context"], ["result", "gen", "status", "context"]]:
            return False
        return all(_tries(kind, result) for result in (b"reply", ValueError("an error"), None))
    except Exception:
        return False


def _tries(kind: type[Deferred[Any]], result: Any) -> bool:
    """Return whether a coroutine gets the result, and the later callbacks get what the coroutine leaves."""
    deferred: Any = kind()
    got: list[Any] = []

    async def wait() -> str:
        try:
            got.append(await deferred)
            got.append(await Deferred.fromCoroutine(_none()))
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
    return got[:1] == [result] and ended == ["done", None]


async def _none() -> None:
    """Return None."""


#: Whether coroutines are resumed directly, which needs Twisted 25.5 or newer.
DIRECT = _is_as_known(FastDeferred)
if not DIRECT:
    # Use the general way: FastDeferred becomes a plain Deferred.
    for _name in ("addBoth", "callback", "errback", "__iter__", "__await__"):
        delattr(FastDeferred, _name)


# ---- the version in C


def _raise_failure(deferred: Deferred[Any]) -> None:
    """Raise the error of a Deferred that has failed, as `Deferred.__iter__` does."""
    failure: Any = deferred.result
    debug_info = deferred._debugInfo
    if debug_info is not None:
        debug_info.failResult = None
    failure.raiseException()


def _make_class(extension: Any) -> type[Deferred[Any]]:
    """Make the class, with its attributes in a record of C."""
    extension.configure(Deferred, Failure, _got_result, _go_on, _raised, _raise_failure)

    class FastDeferred(extension.CallRecord, Deferred[_T]):  # type: ignore[misc]
        """The version whose attributes and methods are in C; see `_fast`."""

    return FastDeferred


#: The version in Python.
PythonFastDeferred = FastDeferred
if acceleration.fast is not None:
    _InC = _make_class(acceleration.fast) if DIRECT else None
    if _InC is None or not _is_as_known(_InC):
        acceleration.give_up("this version of Twisted resumes coroutines in another way")
    elif not TYPE_CHECKING:
        FastDeferred = _InC
#: The extension, or None.
fast = acceleration.fast
