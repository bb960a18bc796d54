"""Retry queues: commands wait here that a server cannot serve at the moment.

If each command had its own pause before it is sent again, recovery would be slow or would overload the server.  A retry
queue sends a few of its commands in each tick of 5 to 60 ms.  As soon as one of them succeeds, the queue sends all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IReactorTime

from ..options import Options
from ..statistics import NodeStatistics
from .backoff import Backoff
from .pending_queue import PendingQueue
from .request import MultiRequest, Request
from .timer import Timer
from .waits import Waits

# Commands in one tick.  A tick is 45 ms on average: at most 710 commands a second for each node and reason.
_TRIED = 32


class RetryQueue(PendingQueue):
    """Commands that wait for the same reason.

    With ``ticks``, some of them are tried in each tick.  Without, they wait until `release` or `take_all`.

    With ``in_order``, commands that were tried in vain stay before the others.  Without, they go to the end, because
    others may succeed.
    """

    __slots__ = ("_backoff", "_in_order", "_on_enter", "_retry", "_returned", "_ticks", "_timer", "_what", "detail")

    def __init__(
        self,
        clock: IReactorTime,
        options: Options,
        waits: Waits,
        counters: NodeStatistics,
        what: str,
        retry: Callable[[Iterable[Request]], None],
        *,
        ticks: bool = True,
        in_order: bool = False,
        on_enter: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(clock, options, waits, counters, self._describe)
        self._what = what
        self._retry = retry
        self._on_enter = on_enter
        self._ticks = ticks
        self._in_order = in_order
        # How many commands have come back since the last tick.
        self._returned = 0
        self._backoff = Backoff(options.random)
        self._timer = Timer(clock, self._try_some)
        #: A text about the last attempts, for the errors of requests that time out here.
        self.detail = ""

    def __repr__(self) -> str:
        return f"<RetryQueue {self._what!r} waiting={len(self)}>"

    def add(self, request: Request) -> None:
        """Accept a request; see `PendingQueue.add`."""
        super().add(request)
        if self._in_order and request.history is not None and request.history.on_reply == self.release:
            self._requests.insert(self._returned, self._requests.pop())
            self._returned += 1

    def send(self, request: Request) -> None:
        """Accept a request.

        The name is that of a connection's method, because this queue is the destination of slots without an owner.

        Raises:
            TooManyPending: The queue is full; the request was not accepted.
        """
        self.add(request)
        self._entered()

    # Requests of every kind wait in the same way.
    send_mixed = send_exclusive = send_subscription = ask = send

    def send_batch(self, batch: MultiRequest) -> None:
        """Accept the single requests of a request with several replies.

        Raises:
            TooManyPending: The queue is full; no part of the batch was accepted.
        """
        self.add_batch(batch)
        self._entered()

    def _entered(self) -> None:
        if self._ticks and not self._timer.running:
            self._timer.start(self._backoff.next())
        if self._on_enter is not None:
            self._on_enter()

    def release(self) -> None:
        """Send every request again now."""
        self._retry(self.take_all())

    def take_all(self) -> list[Request]:
        """Remove and return every request, and start again with the shortest pause."""
        self._backoff.reset()
        self._timer.stop()
        self._returned = 0
        return self.take()

    def _try_some(self) -> None:
        tried = self.take(limit=_TRIED)
        self._returned = 0
        for request in tried:
            request.admit().on_reply = self.release
        if self:
            self._timer.start(self._backoff.next())
        self._retry(tried)

    def _describe(self) -> str:
        return f"waiting for {self._what}" + (f" ({self.detail})" if self.detail else "")
