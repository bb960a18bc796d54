"""The queue for unsent requests that wait: for a connection, for an owner of their slot, or for a server."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from ..errors import TooManyPending
from ..options import Options
from ..statistics import NodeStatistics
from .deadlines import DeadlineTimer, not_too_soon, split_expired
from .request import MultiRequest, Request, count_commands, live, size
from .waits import LongWait, Waits


class PendingQueue:
    """A queue with a limited size, in which every request ends at its deadline.

    What the requests wait for is part of the error of a request that times out or is refused.
    """

    __slots__ = (
        "_bytes",
        "_cancels_seen",
        "_clock",
        "_counters",
        "_deadline_timer",
        "_options",
        "_requests",
        "_waits",
        "_where",
    )

    def __init__(
        self,
        clock: IReactorTime,
        options: Options,
        waits: Waits,
        counters: NodeStatistics,
        where: Callable[[], str],
    ) -> None:
        """Make an empty queue.

        Args:
            clock: Measures time.
            options: The options of the client.
            waits: What all queues of the client share.
            counters: Counts the commands that time out.
            where: Says what the requests wait for, such as "waiting for host:port".
        """
        self._clock = clock
        self._options = options
        self._waits = waits
        self._cancels_seen = waits.cancels.count
        self._counters = counters
        self._where = where
        self._requests: list[Request] = []
        self._bytes = 0
        self._deadline_timer = DeadlineTimer(clock, self._sweep)

    def __len__(self) -> int:
        return len(self._requests)

    def everything(self) -> list[Request]:
        """Return every request in the queue."""
        return list(self._requests)

    def add(self, request: Request) -> None:
        """Accept a request.

        Raises:
            TooManyPending: The queue is full.  A request that was accepted before, and one of the client itself, is
                never refused.
        """
        if request.is_new:
            self._admit()
        if not self._requests:
            self._waits.entered(self)
        self._requests.append(request)
        self._bytes += size(request)
        self._deadline_timer.by(request.deadline)

    def add_batch(self, batch: MultiRequest) -> None:
        """Accept the single requests of a request with several replies.

        Raises:
            TooManyPending: The queue is full; no part of the batch was accepted.
        """
        if batch.is_new:
            self._admit()
        for part in batch.dissolve():
            # The whole batch was admitted, so none of its commands is refused.
            part.admit()
            self.add(part)

    def drop_cancelled(self) -> None:
        """Remove the requests that were cancelled."""
        if self._cancels_seen != self._waits.cancels.count:
            self._cancels_seen = self._waits.cancels.count
            self._keep(live(self._requests))

    def longest_wait(self) -> LongWait | None:
        """Return the wait of the oldest command, which is nearly always the first; None if there is none."""
        oldest = next((request for request in self._requests if not request.called), None)
        if oldest is None:
            return None
        return LongWait(len(self), self._clock.seconds() - oldest.since, self._where())

    def take(self, limit: int | None = None) -> list[Request]:
        """Remove and return the oldest requests.

        Args:
            limit: The most requests to remove; None is all.

        Returns:
            The removed requests without those that have ended.
        """
        taken = self._requests[:limit]
        # A retry queue takes a few of very many requests in each tick.  The others must not be measured again.
        self._keep(self._requests[len(taken) :], self._bytes - sum(map(size, taken)))
        return _admitted(taken)

    def take_where(self, wanted: Callable[[Request], bool]) -> list[Request]:
        """Remove and return the requests for which ``wanted`` returns true, without those that have ended."""
        taken: list[Request] = []
        kept: list[Request] = []
        for request in self._requests:
            (taken if wanted(request) else kept).append(request)
        self._keep(kept)
        return _admitted(taken)

    def _full(self) -> bool:
        return len(self._requests) >= self._options.max_pending or self._bytes >= self._options.max_unsent_bytes

    def _admit(self) -> None:
        if self._full():
            self.drop_cancelled()
        if self._full():
            count, most, most_bytes = len(self), self._options.max_pending, self._options.max_unsent_bytes
            limits = f"the limits are {most} (max_pending) and {most_bytes} bytes (max_unsent_bytes)"
            raise TooManyPending(f"{count} commands of {self._bytes} bytes are {self._where()}; {limits}")

    def _keep(self, requests: list[Request], total: int | None = None) -> None:
        self._requests = requests
        self._bytes = sum(map(size, requests)) if total is None else total
        if not requests:
            self._deadline_timer.stop()
            self._waits.left(self)

    def _sweep(self) -> None:
        now = self._clock.seconds()
        where = self._where()
        late, alive, earliest = split_expired(self._requests, now)
        self._keep(alive)
        self._deadline_timer.by(not_too_soon(earliest, now, len(alive)))
        self._counters.timeouts += count_commands(late)
        for request in late:
            request.time_out(now, where, written=False)


def _admitted(requests: list[Request]) -> list[Request]:
    """Return the requests that have not ended.  They were accepted once, so no other queue may refuse them."""
    alive = live(requests)
    for request in alive:
        request.admit()
    return alive
