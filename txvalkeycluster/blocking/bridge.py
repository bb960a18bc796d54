"""Bridge: runs functions in the reactor's thread for other threads, which wait for the results.

A thread that calls puts its function into a queue, wakes the reactor unless it has been woken already, and waits for a
lock.  So the calls of many threads need one wake-up.
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..errors import ClientClosed
from ..requests.request import Call

_ENDED = "the reactor has stopped, and with it the client"


class Waiter:
    """A thread that waits for one result."""

    __slots__ = ("_done", "_error", "_lock", "_result", "deferred")

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()
        self._done = False
        self._result: Any = None
        self._error: BaseException | None = None
        #: What it waits for; None before the reactor has started it.
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
            self._lock.release()

    def wait(self, timeout: float | None) -> bool:
        """Wait for the result.

        Args:
            timeout: The longest time to wait, in seconds; None is no limit.

        Returns:
            Whether there is a result.
        """
        return self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0.0))

    def result(self) -> Any:
        """Return the result, or raise the error, after `wait`."""
        if self._error is not None:
            raise self._error
        return self._result


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
            self.called = True
            waiter.succeed(result)

    def errback(self, fail: Any = None) -> None:
        """Give the error to the thread."""
        waiter, self.waiter = self.waiter, None
        if waiter is None:
            super().errback(fail)
        else:
            self.called = True
            waiter.fail(fail)


class Bridge:
    """Lets threads use what belongs to the thread of a reactor."""

    def __init__(self, reactor: Any, thread: int) -> None:
        """Make a bridge.

        Args:
            reactor: The reactor, which runs.
            thread: The identifier of its thread.
        """
        #: The reactor.
        self.reactor = reactor
        self._thread = thread
        self._queue: deque[tuple[Callable[[], Any], Waiter]] = deque()
        self._waiting: set[Waiter] = set()
        self._awake = False
        #: Whether the reactor has stopped.
        self.ended = False

    def run(self, start: Callable[[], Any]) -> Any:
        """Run a function in the reactor's thread, and wait for its result.

        Args:
            start: The function; it returns the result, or a Deferred of it.

        Returns:
            The result.

        Raises:
            RuntimeError: This is the thread of the reactor.
            ClientClosed: The reactor has stopped.
            BaseException: Whatever the function raises, or its Deferred fails with.
        """
        waiter = self.begin(start)
        try:
            waiter.wait(None)
        except BaseException:
            # KeyboardInterrupt, or another exception from a handler of a signal.
            self.cancel(waiter)
            raise
        self._waiting.discard(waiter)
        return waiter.result()

    def begin(self, start: Callable[[], Any]) -> Waiter:
        """Run a function in the reactor's thread, without waiting for its result; the arguments are those of `run`."""
        if get_ident() == self._thread:
            raise RuntimeError(
                "a blocking call in the thread of the reactor would wait for itself: use the Deferreds of ClusterClient"
            )
        waiter = Waiter()
        self._waiting.add(waiter)
        self._queue.append((start, waiter))
        if not self._awake:
            self._awake = True
            self.reactor.callFromThread(self._drain)
        if self.ended:
            self._end_all()
        return waiter

    def cancel(self, waiter: Waiter) -> None:
        """Cancel what a thread waits for, because it waits no longer."""
        self._waiting.discard(waiter)

        def cancel() -> None:
            if waiter.deferred is not None:
                waiter.deferred.cancel()

        if not self.ended:
            self.reactor.callFromThread(cancel)

    def done(self, waiter: Waiter) -> Any:
        """Return the result of a waiter whose wait has ended, or raise its error."""
        self._waiting.discard(waiter)
        return waiter.result()

    def _drain(self) -> None:
        # Before the queue is read: whoever comes later wakes the reactor again.
        self._awake = False
        queue = self._queue
        while queue:
            start, waiter = queue.popleft()
            try:
                result = start()
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
        self._end_all()

    def _end_all(self) -> None:
        while self._waiting:
            try:
                waiter = self._waiting.pop()
            except KeyError:
                # Another thread took the last one.
                break
            waiter.fail(ClientClosed(_ENDED, maybe_executed=True))
