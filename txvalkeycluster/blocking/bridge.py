"""Bridge: runs functions in the reactor's thread for other threads, which wait for the results.

A thread that calls puts its function into a queue, wakes the reactor unless another thread has done so, and waits for
a lock.  So the calls of many threads need one wake-up.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python import threadable
from twisted.python.failure import Failure

from ..connection.forks import in_forked_children
from ..connection.write_scheduler import WriteScheduler
from ..errors import ClientClosed
from ..requests.fast_deferred import fast
from ..requests.request import Call

_ENDED = "the reactor of the client has stopped"
_FORKED = "this object belongs to the parent process; make a new one in the child"
# A waiting thread looks whether the reactor still runs after each of these periods, in seconds.
_PERIOD = 2.0


class Waiter:
    """A thread that waits for one result."""

    __slots__ = ("_done", "_error", "_lock", "_result", "deferred", "given_up", "started")

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()
        self._done = False
        self._result: Any = None
        self._error: BaseException | None = None
        #: Whether the reactor has started the function.
        self.started = False
        #: Whether the thread does not wait any more.
        self.given_up = False
        #: The Deferred of the result; None before the function has returned it.
        self.deferred: Deferred[Any] | None = None

    def succeed(self, result: Any) -> None:
        """End the wait with a result."""
        self._end(result, None)

    def fail(self, error: Any) -> None:
        """End the wait with an exception or a Failure."""
        self._end(None, error.value if isinstance(error, Failure) else error)

    def _end(self, result: Any, error: BaseException | None) -> None:
        if not self._done:
            self._done = True
            self._result, self._error = result, error
            # If another thread has ended the wait at the same moment, that is an error.
            with suppress(RuntimeError):
                self._lock.release()

    def wait(self, timeout: float) -> bool:
        """Wait for the result.

        Args:
            timeout: The longest time to wait, in seconds.

        Returns:
            Whether there is a result.
        """
        return self._done or self._lock.acquire(timeout=max(timeout, 0.0)) or self._done

    def result(self) -> Any:
        """Return the result, or raise the error, after `wait`."""
        error = self._error
        if error is None:
            return self._result
        try:
            raise error
        finally:
            # The traceback refers to this frame: without this there would be a cycle of references.
            self._error = error = None


class ThreadCall(Call):
    """A call that gives its result to a waiting thread directly."""

    #: The thread; None: the callbacks get the result, as those of any Deferred.
    waiter: Waiter | None = None

    def callback(self, result: Any) -> None:
        """Give the result to the thread."""
        waiter, self.waiter = self.waiter, None
        if waiter is None:
            super().callback(result)
        else:
            self._end_without_callbacks()
            waiter.succeed(result)

    def errback(self, fail: Any = None) -> None:
        """Give the error to the thread."""
        waiter, self.waiter = self.waiter, None
        if waiter is None:
            super().errback(fail)
        else:
            self._end_without_callbacks()
            waiter.fail(fail)

    def _end_without_callbacks(self) -> None:
        self.called = True
        # Deferred.cancel reads it, also after the thread got the result.
        self.result = None


if fast is not None:
    fast.use_also(ThreadCall)


class Bridge:
    """Lets threads use what belongs to the thread of a reactor."""

    def __init__(self, reactor: Any, thread: int, alive: Callable[[], bool]) -> None:
        """Make a bridge.

        Args:
            reactor: The reactor, which runs.
            thread: The identifier of its thread.
            alive: Returns whether the reactor still runs.
        """
        #: The reactor.
        self.reactor = reactor
        #: The identifier of its thread.
        self.thread = thread
        #: The schedulers of the clients: the commands of one visit to the reactor are written together.
        self.schedulers: list[WriteScheduler] = []
        self._alive = alive
        self._queue: deque[tuple[Context, Callable[[], Any], Waiter]] = deque()
        self._waiting: set[Waiter] = set()
        self._awake = False
        #: Whether the reactor has stopped.
        self.ended = False
        self._why = _ENDED
        in_forked_children(self, Bridge._forked)

    def run(self, start: Callable[[], Any]) -> Any:
        """Run a function in the reactor's thread, and wait for its result.

        Args:
            start: The function; it returns the result, or a Deferred of it.  It gets the context variables of the
                caller.

        Returns:
            The result.

        Raises:
            RuntimeError: This is the thread of a running reactor.
            ClientClosed: The reactor has stopped.
            BaseException: Whatever the function raises, or its Deferred fails with.
        """
        self.check_thread()
        waiter = Waiter()
        try:
            self._enter(start, waiter)
            while not waiter._lock.acquire(timeout=_PERIOD):
                self._look()
            self._waiting.discard(waiter)
        except BaseException:
            # KeyboardInterrupt, or another exception from a handler of a signal.
            self.cancel(waiter)
            raise
        return waiter.result()

    def begin(self, start: Callable[[], Any]) -> Waiter:
        """Run a function in the reactor's thread, without waiting for its result; the arguments are those of `run`."""
        self.check_thread()
        waiter = Waiter()
        self._enter(start, waiter)
        return waiter

    def wait(self, waiter: Waiter, seconds: float | None) -> bool:
        """Wait for the result of `begin`.

        Args:
            waiter: What `begin` has returned.
            seconds: The longest time to wait; None is no limit.

        Returns:
            Whether there is a result; `done` returns it.
        """
        while seconds is None or seconds > _PERIOD:
            if waiter.wait(_PERIOD):
                return True
            self._look()
            if seconds is not None:
                seconds -= _PERIOD
        return waiter.wait(seconds)

    def done(self, waiter: Waiter) -> Any:
        """Return the result of a waiter whose wait has ended, or raise its error."""
        self._waiting.discard(waiter)
        return waiter.result()

    def cancel(self, waiter: Waiter) -> None:
        """Cancel what a thread waits for, because it waits no longer.  The garbage collector may call this."""
        self._waiting.discard(waiter)
        waiter.given_up = True

        def cancel() -> None:
            if waiter.deferred is not None:
                waiter.deferred.cancel()

        self.post(cancel)

    def post(self, function: Callable[[], object]) -> None:
        """Run a function in the reactor's thread, if the reactor still runs.  This does not wait."""
        if not self.ended:
            self.reactor.callFromThread(function)

    def check_thread(self) -> None:
        """Check that this thread may wait for the reactor.

        Raises:
            RuntimeError: It is the thread of this reactor, or of Twisted's global reactor while that runs.
        """
        ident = get_ident()
        if ident == self.thread:
            if not self.ended:
                raise RuntimeError(
                    "a blocking call in the thread of the reactor would wait for itself: "
                    "use the Deferreds of ClusterClient"
                )
        elif ident == threadable.ioThread and global_reactor() is not None:
            raise RuntimeError(
                "a blocking call in the thread of the reactor would stop the reactor: "
                "use the Deferreds of ClusterClient, or deferToThread"
            )

    def _enter(self, start: Callable[[], Any], waiter: Waiter) -> None:
        self._waiting.add(waiter)
        # Listeners of commands get the context of the caller.
        self._queue.append((copy_context(), start, waiter))
        if not self._awake:
            try:
                self._awake = True
                self.reactor.callFromThread(self._drain)
            except BaseException:
                # A handler of a signal has raised it.  Other threads rely on this wake-up.
                self._awake = False
                self.reactor.callFromThread(self._drain)
                raise
        if self.ended:
            self._waiting.discard(waiter)
            self._end_one(waiter)

    def _look(self) -> None:
        """Notice a reactor that ended without its triggers, and a wake-up that was lost."""
        if not self._alive():
            self.end()
        elif self._queue:
            self.reactor.callFromThread(self._drain)

    def _drain(self) -> None:
        # Before the queue is read: a thread that comes later wakes the reactor again.
        self._awake = False
        # Not more: the connections must have their turn.
        count = len(self._queue)
        schedulers = list(self.schedulers)
        for scheduler in schedulers:
            scheduler.held = True
        try:
            self._start(count)
        finally:
            for scheduler in schedulers:
                scheduler.held = False
                scheduler.read_done(count)

    def _start(self, count: int) -> None:
        queue = self._queue
        for _ in range(count):
            context, start, waiter = queue.popleft()
            if waiter.given_up:
                continue
            waiter.started = True
            try:
                result = context.run(start)
            except BaseException as error:
                # It belongs to the thread that waits.
                waiter.fail(error)
                continue
            if isinstance(result, ThreadCall) and not result.called:
                waiter.deferred = result
                result.waiter = waiter
            elif isinstance(result, Deferred):
                waiter.deferred = result
                result.addCallbacks(waiter.succeed, waiter.fail)
            else:
                waiter.succeed(result)

    def end(self) -> None:
        """Let every thread that waits fail with ClientClosed, because the reactor has stopped."""
        self.ended = True
        while self._waiting:
            try:
                waiter = self._waiting.pop()
            except KeyError:
                # Another thread took the last one.
                break
            self._end_one(waiter)

    def _end_one(self, waiter: Waiter) -> None:
        waiter.fail(ClientClosed(self._why, maybe_executed=waiter.started))

    def freeze(self) -> None:
        """Let the threads that wait now wait until the process ends."""
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            waiter._done = True

    def _forked(self) -> None:
        # The threads that wait do not exist in the child.
        self.ended, self._why = True, _FORKED
        self._queue, self._waiting = deque(), set()


def global_reactor() -> Any:
    """Return Twisted's global reactor if it is installed and runs, else None."""
    installed: Any = sys.modules.get("twisted.internet.reactor")
    return installed if installed is not None and getattr(installed, "running", False) else None
