"""Reply: the result of a command for asyncio, and how it gets the result of a Deferred."""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from ..client import ClusterClient
from ..commands.converters import Convert, converted
from ..errors import WrongThread
from ..requests.request import Call

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Reply(asyncio.Future[_T], Coroutine[Any, Any, _T]):
    """A future of asyncio, for a command that has been sent already.

    Await it as often as needed, give it to `asyncio.gather` or `asyncio.wait_for`, or make a task of it as of a
    coroutine (``group.create_task(client.get("key"))``).  `asyncio.wait` accepts only such tasks.  To cancel a reply
    cancels the command: a command that is not written yet is not sent.
    """

    # What is cancelled with this reply.
    _source: Deferred[Any] | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the command, and this reply.

        Args:
            msg: The argument of the CancelledError.

        Returns:
            False if the command has ended already.
        """
        if not super().cancel(msg):
            return False
        source, self._source = self._source, None
        if source is not None:
            source.cancel()
        return True

    # ---- what tasks use of a coroutine.  There is no state, so that several tasks can be made of one reply.

    def send(self, value: Any) -> Any:
        """Run the next step, as of a coroutine; for tasks of asyncio."""
        if self.done():
            raise StopIteration(self.result())
        self._asyncio_future_blocking = True
        return self

    def throw(self, kind: Any, error: Any = None, trace: Any = None, /) -> Any:
        """Raise an error, as in a coroutine; for tasks of asyncio.  The command is cancelled, if it has not ended."""
        self.cancel()
        if error is None:
            error = kind() if isinstance(kind, type) else kind
        raise error.with_traceback(trace) if trace is not None else error

    def close(self) -> None:
        """Cancel the command, if it has not ended; for tasks of asyncio."""
        self.cancel()


def check_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Check that an event loop runs in this thread.

    Raises:
        WrongThread: It does not.
    """
    running = _get_running_loop()
    if running is not loop:
        where = "outside of an event loop" if running is None else "in another event loop"
        raise WrongThread(
            f"the client was used {where}; nothing was sent: "
            "a client belongs to the event loop that ran when it was made, and can be used only there"
        )


def reply_by(
    loop: asyncio.AbstractEventLoop, start: Callable[_P, Deferred[_T]], *args: _P.args, **kwargs: _P.kwargs
) -> Reply[_T]:
    """Call a function, and return a reply with the result of the Deferred that it returns.

    Args:
        loop: The event loop of the client.
        start: The function.
        *args: Its arguments.
        **kwargs: Its arguments.

    Raises:
        WrongThread: The loop does not run in this thread.
    """
    check_loop(loop)
    reply: Reply[_T] = Reply(loop=loop)
    reply._source = deferred = start(*args, **kwargs)
    deferred.addCallbacks(_succeeded, _failed, callbackArgs=(reply,), errbackArgs=(reply,))
    return reply


def reply_from(
    loop: asyncio.AbstractEventLoop,
    function: Callable[_P, Coroutine[Deferred[Any], Any, _T]],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> Reply[_T]:
    """Do as `reply_by` with a function that returns a coroutine, which awaits Deferreds."""

    def start() -> Deferred[_T]:
        return Deferred.fromCoroutine(function(*args, **kwargs))

    return reply_by(loop, start)


def _succeeded(result: Any, reply: Reply[Any]) -> None:
    if not reply.done():
        reply._source = None
        reply.set_result(result)


def _failed(failure: Failure, reply: Reply[Any]) -> None:
    if not reply.done():
        reply._source = None
        _fail(reply, failure.value)


def _fail(reply: Reply[Any], error: Any) -> None:
    if isinstance(error, (CancelledError, asyncio.CancelledError)):
        asyncio.Future.cancel(reply)
    elif isinstance(error, StopIteration):
        # A future refuses it.
        reply.set_exception(RuntimeError(f"StopIteration: {error}"))
    else:
        reply.set_exception(error)


class AsyncCall(Call):
    """A call that gives its result to a reply directly.

    With 50 commands in flight, a callback on an ordinary call costs 43% more CPU time than a Deferred that a coroutine
    awaits; this costs 20% more.
    """

    #: Gets the result; None: the callbacks get it, as those of any Deferred.
    reply: Reply[Any] | None = None
    #: Converts the result for the reply.
    convert: Convert | None = None

    def callback(self, result: Any) -> None:
        """Give the result to the reply."""
        reply = self.reply
        if reply is None:
            super().callback(result)
            return
        self.called = True
        self.reply = reply._source = None
        if not reply.done():
            if self.convert is not None:
                try:
                    result = converted(result, self.convert)
                except Exception as error:
                    reply.set_exception(error)
                    return
            reply.set_result(result)

    def errback(self, fail: Any = None) -> None:
        """Give the error to the reply."""
        reply = self.reply
        if reply is None:
            super().errback(fail)
            return
        self.called = True
        self.reply = reply._source = None
        if not reply.done():
            _fail(reply, fail.value if isinstance(fail, Failure) else fail)


def send(
    client: ClusterClient[Any], loop: asyncio.AbstractEventLoop, words: Any, convert: Convert | None
) -> Reply[Any]:
    """Send a command, and return a reply with its converted result.

    Raises:
        WrongThread: The loop does not run in this thread.
    """
    if _get_running_loop() is not loop:
        check_loop(loop)
    call = client._call(words, AsyncCall)
    if isinstance(call, AsyncCall) and not call.called:
        reply: Reply[Any] = Reply(loop=loop)
        call.convert, call.reply, reply._source = convert, reply, call
        return reply
    return reply_by(loop, lambda: call if convert is None else call.addCallback(converted, convert))


class AsyncIteration(AsyncIterator[_T]):
    """Iterates over what an iterator gives whose steps await Deferreds.

    To cancel a step ends the iteration, as with an asynchronous generator.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, iterator: AsyncIterator[_T]) -> None:
        self._loop = loop
        self._iterator = iterator
        # The step whose item nobody has taken.
        self._step: Reply[_T] | None = None
        self._waiting = False
        self._cancelled = False

    def __aiter__(self) -> AsyncIteration[_T]:
        return self

    async def __anext__(self) -> _T:
        if self._cancelled:
            # StopAsyncIteration would say that it is complete.
            raise RuntimeError("the iteration was cancelled before its end; begin a new one")
        if self._waiting:
            raise RuntimeError("another task waits for the next item of this iteration")
        step = self._step
        if step is None:
            step = self._step = reply_from(self._loop, _next, self._iterator)
        self._waiting = True
        try:
            item = await step
        except asyncio.CancelledError:
            if step.cancelled():
                self._cancelled = True
                self._step = None
            # Else the task was cancelled after the step had ended.  The item belongs to the next call.
            raise
        except BaseException:
            self._step = None
            raise
        finally:
            self._waiting = False
        self._step = None
        return item

    async def aclose(self) -> None:
        """End the iteration early."""
        if self._step is not None:
            self._step.cancel()
            self._step = None
        close: Any = getattr(self._iterator, "aclose", None)
        if close is not None:
            await reply_from(self._loop, close)


async def _next(iterator: AsyncIterator[_T]) -> _T:
    return await anext(iterator)
