"""Wait until all given requests have ended: with a reply, with an error, or because they were cancelled."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from .request import Request
from .timer import Timer


class Drain:
    """Waits for the end of the given requests, none of which has ended yet."""

    def __init__(self, clock: IReactorTime, requests: list[Request]) -> None:
        #: Fires with None when the last request has ended.
        self.finished: Deferred[None] = Deferred()
        self._look_soon = Timer(clock, self._look)
        self._left = set(requests)
        for request in requests:
            request.admit().on_end = self._ended
        self._check()

    def look_again(self) -> None:
        """Check in the next turn which requests have ended; called when any command is being cancelled."""
        if self._left:
            self._look_soon.start(0)

    def give_up(self) -> None:
        """Stop waiting; `finished` fires."""
        self._left.clear()
        self._check()

    def _ended(self, request: Request) -> None:
        self._left.discard(request)
        self._check()

    def _look(self) -> None:
        self._left = {request for request in self._left if not request.called}
        self._check()

    def _check(self) -> None:
        if not self._left:
            self._look_soon.stop()
            if not self.finished.called:
                self.finished.callback(None)
