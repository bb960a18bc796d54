"""Wait until all given requests have finished, with a reply, an error or by being cancelled."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from .request import Request
from .timer import Timer


class Drain:
    """``finished`` fires when the last of these live requests has had its reply or error, or was cancelled."""

    def __init__(self, clock: IReactorTime, requests: list[Request]) -> None:
        self.finished: Deferred[None] = Deferred()
        self._look_soon = Timer(clock, self._look)
        self._left = set(requests)
        for request in requests:
            request.admit().on_end = self._ended
        self._check()

    def look_again(self) -> None:
        """A command is being cancelled: see, in a moment, whether it is one of these."""
        if self._left:
            self._look_soon.start(0)

    def give_up(self) -> None:
        """Wait for nothing more."""
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
