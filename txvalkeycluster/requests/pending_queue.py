"""Requests that wait off the wire: for a connection, for an owner of their slot, for a server to recover."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from ..errors import TooManyPending
from ..options import Options
from .deadlines import DeadlineTimer, not_too_soon, split_expired
from .request import Cancels, MultiRequest, Request, live, size


class PendingQueue:
    """A bounded queue in which every request ends at its deadline.

    ``where`` says what is waited for; it goes into the error of a request that times out or is turned away.
    """

    __slots__ = ("_bytes", "_cancels", "_cancels_seen", "_clock", "_deadline_timer", "_options", "_requests", "_where")

    def __init__(self, clock: IReactorTime, options: Options, cancels: Cancels, where: Callable[[], str]) -> None:
        self._clock = clock
        self._options = options
        self._cancels = cancels
        self._cancels_seen = cancels.count
        self._where = where
        self._requests: list[Request] = []
        self._bytes = 0
        self._deadline_timer = DeadlineTimer(clock, self._sweep)

    def __len__(self) -> int:
        return len(self._requests)

    def everything(self) -> list[Request]:
        """Every request in it."""
        return list(self._requests)

    def add(self, request: Request) -> None:
        """Take a request.  Raises TooManyPending, unless it was taken somewhere before or is the client's own."""
        if request.is_new:
            self._admit()
        self._requests.append(request)
        self._bytes += size(request)
        self._deadline_timer.by(request.deadline)

    def add_batch(self, batch: MultiRequest) -> None:
        """Take what a request with several replies dissolves into.  Raises TooManyPending, and then has taken none."""
        if batch.is_new:
            self._admit()
        for part in batch.dissolve():
            # The whole batch was admitted: none of its commands is refused now.
            part.admit()
            self.add(part)

    def drop_cancelled(self) -> None:
        """Keep only those that somebody still waits for."""
        if self._cancels_seen != self._cancels.count:
            self._cancels_seen = self._cancels.count
            self._keep(live(self._requests))

    def take(self, limit: int | None = None) -> list[Request]:
        """Hand over the oldest requests, all unless there is a ``limit``."""
        taken = self._requests[:limit]
        # A retry queue takes a few of very many each tick: those that stay are not measured again.
        self._keep(self._requests[len(taken) :], self._bytes - sum(map(size, taken)))
        return _admitted(taken)

    def take_where(self, wanted: Callable[[Request], bool]) -> list[Request]:
        """Hand over the requests that are ``wanted``."""
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
            raise TooManyPending(f"{len(self)} commands of {self._bytes} bytes are already {self._where()}")

    def _keep(self, requests: list[Request], total: int | None = None) -> None:
        self._requests = requests
        self._bytes = sum(map(size, requests)) if total is None else total
        if not requests:
            self._deadline_timer.stop()

    def _sweep(self) -> None:
        now = self._clock.seconds()
        where = self._where()
        late, alive, earliest = split_expired(self._requests, now)
        self._keep(alive)
        self._deadline_timer.by(not_too_soon(earliest, now, len(alive)))
        for request in late:
            request.time_out(now, where, written=False)


def _admitted(requests: list[Request]) -> list[Request]:
    """Those that somebody still waits for; having been taken once, they are not turned away elsewhere."""
    alive = live(requests)
    for request in alive:
        request.admit()
    return alive
