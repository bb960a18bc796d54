"""Retry queues: where commands wait that a server could not serve just now.

If each were sent again after a wait of its own, recovery would either be slow or overload the server.  A queue sends a
few of its commands each tick of 10 to 60 ms.  As soon as one of them succeeds, it sends all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IReactorTime

from ..options import Options
from .backoff import Backoff
from .pending_queue import PendingQueue
from .request import Cancels, MultiRequest, Request
from .timer import Timer

# Tried in one tick: at a tick of 45 ms on average, at most 710 a second for each node and reason.
_TRIED = 32


class RetryQueue(PendingQueue):
    """Commands that wait for one thing.  Without ``ticks`` they wait until they are released."""

    __slots__ = ("_backoff", "_on_enter", "_retry", "_ticks", "_timer", "_what", "detail")

    def __init__(
        self,
        clock: IReactorTime,
        options: Options,
        cancels: Cancels,
        what: str,
        retry: Callable[[Iterable[Request]], None],
        *,
        ticks: bool = True,
        on_enter: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(clock, options, cancels, self._describe)
        self._what = what
        self._retry = retry
        self._on_enter = on_enter
        self._ticks = ticks
        self._backoff = Backoff(options.random)
        self._timer = Timer(clock, self._try_some)
        #: Said of what has been tried, in the error of those that time out here.
        self.detail = ""

    def __repr__(self) -> str:
        return f"<RetryQueue {self._what!r} waiting={len(self)}>"

    def send(self, request: Request) -> None:
        """Take a request.  Raises TooManyPending.  Named as a connection's method: a slot without owner leads here."""
        self.add(request)
        self._entered()

    # Whatever its kind, here it only waits.
    send_mixed = send_exclusive = ask = send

    def send_batch(self, batch: MultiRequest) -> None:
        """Take what it dissolves into.  Raises TooManyPending."""
        self.add_batch(batch)
        self._entered()

    def _entered(self) -> None:
        if self._ticks and not self._timer.running:
            self._timer.start(self._backoff.next())
        if self._on_enter is not None:
            self._on_enter()

    def release(self) -> None:
        """Have every request tried again now."""
        self._retry(self.take_all())

    def take_all(self) -> list[Request]:
        """Hand over every request, and begin anew."""
        self._backoff.reset()
        self._timer.stop()
        return self.take()

    def _try_some(self) -> None:
        tried = self.take(limit=_TRIED)
        for request in tried:
            request.admit().on_reply = self.release
        if self:
            self._timer.start(self._backoff.next())
        self._retry(tried)

    def _describe(self) -> str:
        return f"waiting for {self._what}" + (f" ({self.detail})" if self.detail else "")
