"""The graceful end: a Deferred that fires when every one of some requests has ended, however."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from .request import Outcome, Request


def all_ended(requests: list[Request]) -> Deferred[None]:
    """Fires when the last of these live requests has had its reply or error; at once if there is none."""
    if not requests:
        return succeed(None)
    finished: Deferred[None] = Deferred()
    left = _Left(len(requests), finished)
    for request in requests:
        assert request.outcome is not None
        request.outcome = _Counted(request.outcome, left)
    return finished


class _Left:
    __slots__ = ("count", "finished")

    def __init__(self, count: int, finished: Deferred[None]) -> None:
        self.count = count
        self.finished = finished


class _Counted:
    """Stands in for an outcome, and counts down once when it is fired.

    A command that is cancelled meanwhile still counts until its reply has come or its deadline has passed.
    """

    __slots__ = ("_left", "_outcome", "called")

    def __init__(self, outcome: Outcome, left: _Left) -> None:
        self.called: Any = False
        self._outcome = outcome
        self._left = left

    def callback(self, result: Any) -> None:
        self.called = True
        if not self._outcome.called:
            self._outcome.callback(result)
        self._count_down()

    def errback(self, fail: Any = None) -> None:
        self.called = True
        if not self._outcome.called:
            self._outcome.errback(fail)
        self._count_down()

    def _count_down(self) -> None:
        self._left.count -= 1
        if not self._left.count:
            self._left.finished.callback(None)
