"""BlockingIteration: gives the items of an asynchronous iterator to threads."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, succeed

from ..errors import ClientClosed
from .bridge import Bridge, Waiter

_T = TypeVar("_T")
# A tuple of one item, or the exception that ends the iteration.
_Step = tuple[Any] | Exception
# The most items that are taken in one visit to the reactor.
_AT_ONCE = 500


class BlockingIteration(Iterator[_T], Generic[_T]):
    """An iterator whose `next` waits for the next item.  If several threads use it, each item goes to one of them.

    One visit to the reactor takes all items that are there.  If a wait is given up, nothing is lost: the item belongs
    to the next call.
    """

    def __init__(self, bridge: Bridge, iterator: AsyncIterator[_T], owner: object = None) -> None:
        """Make an iterator.

        Args:
            bridge: Leads to the reactor of the iterator.
            iterator: The iterator.
            owner: An object that must not be garbage-collected before the iterator.
        """
        self._bridge = bridge
        self._reader = _Reader(iterator)
        self._owner = owner
        self._lock = Lock()
        self._items: deque[_T] = deque()
        self._over = False
        # The visit whose result nobody has taken.
        self._waiter: Waiter | None = None

    def __iter__(self) -> BlockingIteration[_T]:
        return self

    def __next__(self) -> _T:
        item: _T = self.take(None)
        return item

    def take(self, timeout: float | None) -> _T:
        """Wait for the next item.

        Args:
            timeout: The longest time to wait, in seconds; None is no limit.

        Returns:
            The item.

        Raises:
            StopIteration: There are no more items.
            TimeoutError: The time is up.
            ClientClosed: The client is closed.
            BaseException: Whatever the iterator raises.
        """
        left = timeout
        if not self._lock.acquire(blocking=False):
            # Another thread waits for an item.
            begun = monotonic()
            if not self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0.0)):
                raise _late(timeout)
            left = None if timeout is None else timeout - (monotonic() - begun)
        try:
            if not self._items:
                if self._over:
                    raise StopIteration
                if self._waiter is None:
                    self._waiter = self._bridge.begin(self._reader.visit)
                # After a timeout or KeyboardInterrupt the visit goes on, for the next call.
                if not self._bridge.wait(self._waiter, left):
                    raise _late(timeout)
                waiter, self._waiter = self._waiter, None
                try:
                    self._items.extend(self._bridge.done(waiter))
                except StopAsyncIteration:
                    self._over = True
                    raise StopIteration from None
            return self._items.popleft()
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the iteration early.  A thread that waits for an item gets StopIteration."""
        self._items.clear()
        # If the reactor has stopped, the iteration has ended with it.
        with suppress(ClientClosed):
            self._bridge.run(self._reader.close)

    def __del__(self) -> None:
        if "_items" in vars(self):
            if self._waiter is not None:
                self._bridge.cancel(self._waiter)
            self._bridge.post(self._reader.drop)


class _Reader:
    """Takes the items in the thread of the reactor."""

    def __init__(self, iterator: AsyncIterator[Any]) -> None:
        self._iterator = iterator
        self._closed = False
        # The latest step, and whether its result is for the next visit.
        self._step: Deferred[_Step] | None = None
        self._left_over = False

    def visit(self) -> Deferred[list[Any]]:
        """Return all items that are there, at least one; wait for one if there is none."""
        step = self._step if self._left_over and self._step is not None else self._next()
        self._left_over = False
        items: Deferred[list[Any]] = Deferred(lambda _: step.cancel())

        def got(first: _Step) -> None:
            # If it has fired, the visit was cancelled.
            if not items.called:
                self._add_more(first, items)

        step.addCallback(got)
        return items

    def _add_more(self, first: _Step, items: Deferred[list[Any]]) -> None:
        if isinstance(first, Exception):
            items.errback(first)
            return
        found = [*first]
        while len(found) < _AT_ONCE:
            step = self._next()
            results: list[_Step] = []
            if step.called:
                step.addCallback(results.append)
            if not results or isinstance(results[0], Exception):
                self._left_over = True
                self._step = succeed(results[0]) if results else step
                break
            found += results[0]
        items.callback(found)

    def _next(self) -> Deferred[_Step]:
        """Return a Deferred that fires with a tuple of the next item, or with an exception.  It does not fail."""
        self._step = Deferred.fromCoroutine(self._anext())
        return self._step

    async def _anext(self) -> _Step:
        try:
            if self._closed:
                raise StopAsyncIteration
            return (await anext(self._iterator),)
        except Exception as error:
            return StopAsyncIteration() if self._closed else error

    def close(self) -> Deferred[None]:
        """End the iteration; a visit fails with StopAsyncIteration."""
        self.drop()
        self._left_over = False
        close: Any = getattr(self._iterator, "aclose", None)
        return Deferred.fromCoroutine(close()) if close is not None else succeed(None)

    def drop(self) -> None:
        """Cancel the step that waits."""
        self._closed = True
        if self._step is not None:
            self._step.cancel()


def _late(timeout: float | None) -> TimeoutError:
    return TimeoutError(f"there was no item within {timeout or 0.0:g} s")
