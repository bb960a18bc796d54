"""Feed: the items of one subscription on their way to the application."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..messages import Lost, LostReason, Message, Resubscribed

_log = Logger()

Item = Message[Any] | Lost | Resubscribed


class Feed:
    """Where the items of a subscription go.  Subclasses keep them for an iterator, or hand them to a listener."""

    #: Whether no more items are taken.
    ended = False
    #: Why it ended; None if the application or the client closed it.
    error: Exception | None = None

    def put(self, message: Message[Any]) -> None:
        """Take a message."""
        raise NotImplementedError

    def report(self, item: Lost | Resubscribed) -> None:
        """Take the report of a gap."""
        raise NotImplementedError

    def end(self, error: Exception | None = None) -> None:
        """Take nothing more."""
        if not self.ended:
            self.ended = True
            self.error = error


class ListenerFeed(Feed):
    """Hands each item to a function of the application at once."""

    def __init__(self, listener: Callable[[Item], object]) -> None:
        """``listener`` is called with each item; what it raises is logged."""
        self.listener = listener

    def put(self, message: Message[Any]) -> None:
        """Call the listener."""
        if not self.ended:
            try:
                self.listener(message)
            except BaseException:
                self.failed(Message)

    def report(self, item: Lost | Resubscribed) -> None:
        """Call the listener."""
        if not self.ended:
            try:
                self.listener(item)
            except BaseException:
                self.failed(type(item))

    @staticmethod
    def failed(kind: type) -> None:
        """Log what the listener has raised on an item of a kind."""
        # SystemExit, too, must not end the connection; the reactor does the same with it.
        _log.failure("a listener of a subscription raised an exception on {kind}", kind=kind.__name__)


class BufferedFeed(Feed):
    """Keeps items until an iterator takes them.  A full buffer drops its oldest messages, or stops the reading."""

    def __init__(
        self,
        max_messages: int,
        max_bytes: int,
        wake_after_read: Callable[[BufferedFeed], None],
        dropped: Callable[[int], None],
        pause: Callable[[], None] | None = None,
        resume: Callable[[], None] | None = None,
    ) -> None:
        """Make an empty buffer.

        Args:
            max_messages: The number of items that it keeps.
            max_bytes: The length of channels and data that it keeps.  One message is kept even if it is larger.
            wake_after_read: Calls `wake` when the read that is being processed ends.
            dropped: Called with the number of messages that were dropped.
            pause: Stops the reading when the buffer is full.  None: the oldest messages are dropped.
            resume: Starts it again when the buffer is half empty.
        """
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._wake_after_read = wake_after_read
        self._on_dropped = dropped
        self._pause = pause
        self._resume = resume
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._paused = False
        self._dropped: _Dropped | None = None
        # The reports of what was dropped, once an iterator has begun to take them.
        self._reports: deque[Item] = deque()
        self._waiters: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._items) + len(self._reports) + (self._dropped is not None)

    def __repr__(self) -> str:
        return f"<BufferedFeed items={len(self)} bytes={self._bytes} paused={self._paused}>"

    def put(self, message: Message[Any]) -> None:
        """Append a message."""
        if self.ended:
            return
        items = self._items
        items.append(message)
        self._bytes += len(message[0]) + len(message[1])
        if self._bytes > self._max_bytes or len(items) > self._max_messages:
            self._full()
        if self._waiters:
            self._wake_after_read(self)

    def report(self, item: Lost | Resubscribed) -> None:
        """Append the report of a gap."""
        if self.ended:
            return
        self._items.append(item)
        if len(self._items) > self._max_messages:
            self._full()
        if self._waiters:
            self._wake_after_read(self)

    def take(self) -> Item | None:
        """Return the oldest item; None if there is none."""
        if self._dropped is not None:
            self._reports.extend(self._dropped.reports())
            self._dropped = None
        if self._reports:
            return self._reports.popleft()
        if not self._items:
            return None
        item = self._items.popleft()
        if item.__class__ is Message:
            self._bytes -= len(item[0]) + len(item[1])
        if self._paused and self._half_empty():
            self._paused = False
            assert self._resume is not None
            self._resume()
        return item

    def wait(self) -> Deferred[None]:
        """Return a Deferred that fires when there is an item, or the end."""
        waiter: Deferred[None] = Deferred(lambda waiter: self._waiters.remove(waiter))
        self._waiters.append(waiter)
        return waiter

    def end(self, error: Exception | None = None) -> None:
        """Discard what is in the buffer, and wake the iterators."""
        if self.ended:
            return
        super().end(error)
        self._items.clear()
        self._reports.clear()
        self._dropped = None
        self._bytes = 0
        self.wake()

    def _half_empty(self) -> bool:
        return len(self._items) <= self._max_messages // 2 and self._bytes <= self._max_bytes // 2

    def _full(self) -> None:
        if self._pause is not None:
            if not self._paused:
                self._paused = True
                self._pause()
            return
        items = self._items
        if self._dropped is None:
            self._dropped = _Dropped()
        count = 0
        while len(items) > 1 and (self._bytes > self._max_bytes or len(items) > self._max_messages):
            item = items.popleft()
            if isinstance(item, Message):
                self._bytes -= len(item[0]) + len(item[1])
            count += self._dropped.add(item)
        if count:
            self._on_dropped(count)

    def wake(self) -> None:
        """Wake the iterators: there is an item, or the end."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)


class _Dropped:
    """What a full buffer has dropped since the last item that was taken: it becomes a few reports."""

    def __init__(self) -> None:
        self._messages = 0
        self._channels: dict[Any, None] = {}
        # The last report of each channel at each node, whether its gap has ended, and how.
        self._lost: dict[tuple[Any, Any], Lost] = {}
        self._resubscribed: dict[tuple[Any, Any], None] = {}

    def add(self, item: Item) -> int:
        """Note an item that is dropped; return how many messages it is."""
        if isinstance(item, Message):
            self._messages += 1
            self._channels[item.channel if item.pattern is None else item.pattern] = None
            return 1
        for channel in item.channels:
            if isinstance(item, Lost):
                self._lost[channel, item.node] = item
                self._resubscribed.pop((channel, item.node), None)
            else:
                self._resubscribed[channel, item.node] = None
        return 0

    def reports(self) -> list[Item]:
        """Return the reports: what was dropped, then the gaps that are known, then their ends."""
        reports: list[Item] = []
        if self._messages:
            reports.append(Lost(tuple(self._channels), LostReason.OVERFLOW, dropped=self._messages))
        gaps: dict[tuple[LostReason, str, int, Any], list[Any]] = {}
        for (channel, node), lost in self._lost.items():
            gaps.setdefault((lost.reason, lost.detail, lost.dropped, node), []).append(channel)
        reports += [Lost(tuple(names), *facts) for facts, names in gaps.items()]
        ends: dict[Any, list[Any]] = {}
        for channel, node in self._resubscribed:
            ends.setdefault(node, []).append(channel)
        return reports + [Resubscribed(tuple(names), node) for node, names in ends.items()]
