"""Reply: the result of a command for asyncio, and how it gets the result of a Deferred."""

from __future__ import annotations

import asyncio
import sys
from asyncio import Task, _get_running_loop, current_task
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from ..commands import Command
from ..commands.converters import Convert, converted
from ..commands.encoder import Packed
from ..errors import WrongThread
from ..requests.fast_deferred import fast
from ..requests.history import History
from ..requests.request import Request
from ..requests.target import Target

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


_init = asyncio.Future.__init__


class _ReplyRecord(asyncio.Future[_T]):
    """The attributes of a `CommandReply`, and its way from the result to the waiting task.  `_fast` has it in C."""

    #: Converts the result.
    convert: Convert | None = None
    #: Whether it has ended.
    called = False
    history: History | None = None
    # Continues the task that was the first to wait, and the context of the task.
    _task: Callable[[Any], object] | None = None
    _context: Context | None = None

    def _continue_later(self) -> None:
        raise NotImplementedError

    def _step_failed(self, error: BaseException) -> None:
        raise NotImplementedError

    def errback(self, fail: Any = None) -> None:
        """End with an error."""
        raise NotImplementedError

    def add_done_callback(self, function: Callable[[Any], object], /, *, context: Context | None = None) -> None:
        """Call a function in the next turn of the loop after the end; a task that waits continues at once.

        Args:
            function: Called with this reply.
            context: The context variables of the call.
        """
        if self._task is None and not self.called and getattr(function, "__self__", None).__class__ is Task:
            self._task, self._context = function, context
        elif context is None:
            # asyncio copies the current context now only if the argument is missing.
            super().add_done_callback(function)
        else:
            super().add_done_callback(function, context=context)

    def callback(self, result: Any) -> None:
        """End with a result."""
        self.called = True
        if self.convert is not None:
            try:
                result = converted(result, self.convert)
            except Exception as error:
                self.errback(error)
                return
        self.set_result(result)
        if self._task is None:
            return
        if self._context is None or current_task() is not None:
            # One task cannot run within a step of another one.
            self._continue_later()
            return
        try:
            self._context.run(self._task, self)
        except BaseException as error:
            self._step_failed(error)


#: The version in Python.
PythonReplyRecord = _ReplyRecord
if fast is not None and not TYPE_CHECKING:
    # From Python 3.14 on, the tasks that run are not in this dict.
    _running = getattr(asyncio.tasks, "_current_tasks", None) if sys.version_info < (3, 14) else None
    _ReplyRecord = fast.reply_record(asyncio.Future, Task, current_task, _running, converted)


class CommandReply(_ReplyRecord[Any], Reply[Any]):
    """A reply that is also the request of its command.

    It has the attributes and methods of `Request`, but cannot inherit from it: both have memory layouts of their own.
    The task that waits for it continues within the read that brings the result, as a coroutine does that waits for a
    `FastDeferred`.  The usual way of asyncio, a callback in the next turn of the loop, costs 1 us more: 7% of a command
    with 50 in flight.
    """

    internal = False
    raw = False
    notes_write = False

    def __init__(
        self,
        payload: Packed,
        command: Command,
        target: Target,
        since: float,
        deadline: float,
        repeatable: bool,
        canceller: Callable[[Any], None],
    ) -> None:
        """Make the request, with the arguments of `Call`.  It belongs to the running loop."""
        # super().__init__() costs 0.05 us more.
        _init(self)
        self.payload = payload
        self.command = command
        self.target = target
        self.since = since
        self.deadline = deadline
        self.repeatable = repeatable
        self._canceller = canceller

    is_new = Request.is_new
    admit = Request.admit
    give_to = Request.give_to
    _send_to = Request._send_to
    written_on = Request.written_on
    refused = Request.refused
    undecodable = Request.undecodable
    failed_attempt = Request.failed_attempt
    answer = Request.answer
    _replied = Request._replied
    fail = Request.fail
    fail_unanswered = Request.fail_unanswered
    _end = Request._end
    _ended = Request._ended
    time_out = Request.time_out

    def errback(self, fail: Any = None) -> None:
        """End with an error."""
        self.called = True
        _fail(self, fail.value if isinstance(fail, Failure) else fail)
        self._continue_later()

    def _continue_later(self) -> None:
        if self._task is not None:
            self.get_loop().call_soon(self._task, self, context=self._context)

    def _step_failed(self, error: BaseException) -> None:
        # SystemExit and KeyboardInterrupt end the loop, but must not end the read that has brought this reply.
        self.get_loop().call_soon(_raise, error)

    def addBoth(self, function: Callable[[Any], object]) -> None:
        """Call a function with the result or the Failure.  Only `LaterCalls.postponed` does this, after the end."""
        error = self.exception()
        function(self.result() if error is None else Failure(error))  # type: ignore[no-untyped-call]

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the command, as `Reply.cancel` does."""
        if self.called:
            return False
        self._canceller(self)
        self.called = True
        asyncio.Future.cancel(self, msg)
        self._continue_later()
        return True


def _raise(error: BaseException) -> None:
    raise error


# The router makes a request of any kind that has the methods of `Call`.
_make: Any = CommandReply


def _send(
    call: Callable[..., Deferred[Any]],
    loop: asyncio.AbstractEventLoop,
    words: Sequence[Any],
    convert: Convert | None = None,
) -> Reply[Any]:
    if _get_running_loop() is not loop:
        check_loop(loop)
    sent: Any = call(words, make=_make)
    if sent.__class__ is not CommandReply:
        # A command for several nodes, for example.
        return reply_by(loop, lambda: sent if convert is None else sent.addCallback(converted, convert))
    if convert is not None:
        sent.convert = convert
    return sent


def sender(call: Callable[..., Deferred[Any]], loop: asyncio.AbstractEventLoop) -> Callable[..., Reply[Any]]:
    """Return a function that sends a command: ``(words, convert=None)``.

    It raises WrongThread if the loop does not run in this thread.

    Args:
        call: The method `_call` of a client.
        loop: The event loop of the client.
    """
    send = partial(_send, call, loop)
    if fast is not None and isinstance(call, fast.Executor):
        return fast.ReplySender(send, call, loop, _get_running_loop)  # type: ignore[no-any-return]
    return send


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


if fast is not None:
    fast.use_reply(CommandReply)
