"""BlockingIteration: gives the items of an asynchronous iterator to a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, succeed

from .bridge import Bridge, Waiter

_T = TypeVar("_T")
# A tuple of one item, or the exception that ends the iteration.
_Step = tuple[Any] | Exception
# The most items that are taken in one visit to the reactor.
_AT_ONCE = 500


class BlockingIteration(Iterator[_T], Generic[_T]):
    """An iterator whose `next` waits for the next item.  Only one thread may use it at a time.

    One visit to the reactor takes all items that are there.  If a wait is given up, nothing is lost: the item belongs
    to the next call.
    """

    def __init__(self, bridge: Bridge, iterator: AsyncIterator[_T]) -> None:
        """Make an iterator.

        Args:
            bridge: Leads to the reactor of the iterator.
            iterator: The iterator.
        """
        self._bridge = bridge
        self._iterator = iterator
        self._items: deque[_T] = deque()
        # For the thread of the reactor: a step whose result nobody has taken.
        self._step: Deferred[_Step] | None = None
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
            BaseException: Whatever the iterator raises.
        """
        if not self._items:
            waiter, self._waiter = self._waiter or self._bridge.begin(self._visit), None
            try:
                there = waiter.wait(timeout)
            except BaseException:
                # KeyboardInterrupt.  The items belong to the next call.
                self._waiter = waiter
                raise
            if not there:
                self._waiter = waiter
                raise TimeoutError(f"there was no item within {timeout:g} s")
            try:
                self._items.extend(self._bridge.done(waiter))
            except StopAsyncIteration:
                raise StopIteration from None
        return self._items.popleft()

    def close(self) -> None:
        """End the iteration early."""
        self._items.clear()
        close = getattr(self._iterator, "aclose", None)
        if close is not None and not self._bridge.ended:
            self._bridge.run(self._cancel)

    # ---- in the thread of the reactor

    def _visit(self) -> Deferred[list[_T]]:
        """Return all items that are there, at least one; wait for one if there is none."""
        step, self._step = self._step or self._next(), None
        return step.addCallback(self._with_more)

    def _with_more(self, first: _Step) -> list[_T]:
        if isinstance(first, Exception):
            raise first
        items = [*first]
        while len(items) < _AT_ONCE:
            step = self._next()
            results: list[_Step] = []
            if step.called:
                step.addCallback(results.append)
            if not results or isinstance(results[0], Exception):
                # For the next visit.
                self._step = succeed(results[0]) if results else step
                break
            items += results[0]
        return items

    def _next(self) -> Deferred[_Step]:
        """Return a Deferred that fires with a tuple of the next item, or with an exception.  It does not fail."""
        return Deferred.fromCoroutine(_anext(self._iterator))

    def _cancel(self) -> Deferred[None]:
        if self._step is not None:
            step, self._step = self._step, None
            step.cancel()
        close: Any = getattr(self._iterator, "aclose", None)
        return Deferred.fromCoroutine(close()) if close is not None else succeed(None)


async def _anext(iterator: AsyncIterator[Any]) -> _Step:
    try:
        return (await anext(iterator),)
    except Exception as error:
        return error
