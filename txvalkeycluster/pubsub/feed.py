"""Feed: the items of one subscription on their way to the application."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..address import Address
from ..messages import Lost, LostReason, Message, Resubscribed

if TYPE_CHECKING:
    from .acknowledgement import Acknowledgement
    from .upstream import Upstream

_log = Logger()

Item = Message[Any] | Lost | Resubscribed


class Feed:
    """Takes the items of one subscription.  A subclass keeps them for an iterator; another one calls a listener."""

    def __init__(self) -> None:
        #: Whether no more items are taken.
        self.ended = False
        #: Why it ended; None if the application or the client closed it.
        self.error: Exception | None = None
        #: The channels and patterns, by name.
        self.upstreams: dict[bytes, Upstream] = {}
        #: What waits for channels of this feed.
        self.acknowledgements: dict[Acknowledgement, None] = {}
        #: The same for each channel.
        self.concerned: dict[Upstream, dict[Acknowledgement, None]] = {}

    def put(self, message: Message[Any]) -> None:
        """Take a message."""
        raise NotImplementedError

    def report(self, item: Lost | Resubscribed) -> None:
        """Take the report of a gap."""
        raise NotImplementedError

    def end(self, error: Exception | None = None) -> None:
        """Accept no more items."""
        if not self.ended:
            self.ended = True
            self.error = error


class ListenerFeed(Feed):
    """Hands each item to a function of the application at once."""

    def __init__(self, listener: Callable[[Item], object]) -> None:
        """``listener`` is called with each item; what it raises is logged."""
        super().__init__()
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
        super().__init__()
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._wake_after_read = wake_after_read
        self._on_dropped = dropped
        self._pause = pause
        self._resume = resume
        self._items: deque[Message[Any] | Lost | _Ends] = deque()
        self._bytes = 0
        # How many of the items are reports.
        self._reported = 0
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
        if self._bytes > self._max_bytes or len(items) - self._reported > self._max_messages:
            self._full()
        if self._waiters:
            self._wake_after_read(self)

    def report(self, item: Lost | Resubscribed) -> None:
        """Append the report of a gap.  Reports do not push messages out of the buffer."""
        if self.ended:
            return
        last = self._items[-1] if self._items else None
        if isinstance(item, Resubscribed):
            if isinstance(last, _Ends) and last.node == item.node:
                last.channels += item.channels
                return
            self._items.append(_Ends(list(item.channels), item.node))
        else:
            self._items.append(item)
        self._reported += 1
        if self._reported > self._max_messages:
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
        else:
            self._reported -= 1
        if self._paused and self._half_empty():
            self._continue()
        return Resubscribed(tuple(item.channels), item.node) if isinstance(item, _Ends) else item

    def wait(self) -> Deferred[None]:
        """Return a Deferred that fires when there is an item, or the end."""
        waiter: Deferred[None] = Deferred(self._waiter_cancelled)
        self._waiters.append(waiter)
        return waiter

    def _waiter_cancelled(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def end(self, error: Exception | None = None) -> None:
        """Discard what is in the buffer, and wake the iterators."""
        if self.ended:
            return
        super().end(error)
        self._items.clear()
        self._reports.clear()
        self._dropped = None
        self._bytes = self._reported = 0
        if self._paused:
            self._continue()
        self.wake()

    def _continue(self) -> None:
        self._paused = False
        assert self._resume is not None
        self._resume()

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
        while len(items) > 1 and self._is_over():
            item = items.popleft()
            if isinstance(item, Message):
                self._bytes -= len(item[0]) + len(item[1])
                count += 1
            else:
                self._reported -= 1
            self._dropped.add(item)
        if count:
            self._on_dropped(count)

    def _is_over(self) -> bool:
        messages = len(self._items) - self._reported
        return self._bytes > self._max_bytes or max(messages, self._reported) > self._max_messages

    def wake(self) -> None:
        """Wake the iterators: there is an item, or the end."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            # One can cancel another.
            if not waiter.called:
                waiter.callback(None)


class _Ends:
    """Gaps at one node that have ended.  In the buffer they are one item, to which others are added."""

    def __init__(self, channels: list[Any], node: Address | None) -> None:
        self.channels = channels
        self.node = node


class _Dropped:
    """What a full buffer has dropped since the last item that was taken: it becomes a few reports."""

    def __init__(self) -> None:
        # The number of messages, and their channels, by the reason why they are missing.
        self._messages: dict[LostReason, int] = {}
        self._channels: dict[LostReason, dict[Any, None]] = {}
        # The last gap of each channel at each node, and whether it has ended.
        self._lost: dict[tuple[Any, Address | None], Lost] = {}
        self._ended: dict[tuple[Any, Address | None], None] = {}

    def add(self, item: Message[Any] | Lost | _Ends) -> None:
        """Note an item that is dropped."""
        if isinstance(item, Message):
            self._count(LostReason.OVERFLOW, 1, [item.channel if item.pattern is None else item.pattern])
        elif isinstance(item, _Ends):
            self._ended.update(((channel, item.node), None) for channel in item.channels)
        elif item.reason is LostReason.NOT_TEXT:
            self._count(item.reason, item.dropped, item.channels)
        else:
            for channel in item.channels:
                self._lost[channel, item.node] = item
                self._ended.pop((channel, item.node), None)

    def _count(self, reason: LostReason, messages: int, channels: Iterable[Any]) -> None:
        self._messages[reason] = self._messages.get(reason, 0) + messages
        self._channels.setdefault(reason, {}).update(dict.fromkeys(channels))

    def reports(self) -> list[Lost | Resubscribed]:
        """Return the reports: what was dropped, then the gaps that are known, then their ends."""
        reports: list[Lost | Resubscribed] = [
            Lost(tuple(self._channels[reason]), reason, dropped=number) for reason, number in self._messages.items()
        ]
        gaps: dict[tuple[LostReason, str, Address | None], list[Any]] = {}
        for (channel, node), lost in self._lost.items():
            gaps.setdefault((lost.reason, lost.detail, node), []).append(channel)
        reports += [Lost(tuple(names), reason, detail, node=node) for (reason, detail, node), names in gaps.items()]
        ends: dict[Address | None, list[Any]] = {}
        for channel, node in self._ended:
            ends.setdefault(node, []).append(channel)
        return reports + [Resubscribed(tuple(names), node) for node, names in ends.items()]
