"""The graceful end: waits for every one of some requests to end, however."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from .request import Onlooker, Outcome, Request


class Farewell:
    """``finished`` fires when the last of these live requests has had its reply or error, or was cancelled."""

    def __init__(self, clock: Any, requests: list[Request]) -> None:
        self.finished: Deferred[None] = Deferred()
        self._clock = clock
        self._looking = False
        self._left: set[_Awaited] = set()
        for request in requests:
            assert request.outcome is not None
            request.outcome = awaited = _Awaited(request.outcome, self)
            self._left.add(awaited)
        self._check()

    def look_again(self) -> None:
        """A command is being cancelled: see, in a moment, whether it is one of these."""
        if self._left and not self._looking:
            self._looking = True
            self._clock.callLater(0, self._look)

    def ended(self, awaited: _Awaited) -> None:
        """One of them has been fired."""
        self._left.discard(awaited)
        self._check()

    def _look(self) -> None:
        self._looking = False
        self._left = {awaited for awaited in self._left if not awaited.called}
        self._check()

    def _check(self) -> None:
        if not self._left and not self.finished.called:
            self.finished.callback(None)


class _Awaited(Onlooker):
    """Tells when it is fired."""

    __slots__ = ("_farewell",)

    def __init__(self, outcome: Outcome, farewell: Farewell) -> None:
        super().__init__(outcome)
        self._farewell = farewell

    def callback(self, result: Any) -> None:
        super().callback(result)
        self._farewell.ended(self)

    def errback(self, fail: Any = None) -> None:
        super().errback(fail)
        self._farewell.ended(self)
