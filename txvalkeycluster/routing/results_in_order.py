"""Passes the results of a stream to a coroutine function, one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..commands import Command
from ..commands.encoder import Arg
from .pipeline_run import PipelineRun
from .router import Router

_STREAM = Command("a stream")


class ResultsInOrder:
    """Calls ``each`` for one result, and awaits it before it calls it for the next one."""

    def __init__(
        self,
        router: Router,
        commands: Iterable[Sequence[Arg]],
        timeout: float | None,
        each: Callable[[int, Any], Awaitable[object]],
    ) -> None:
        """Start to send the commands.

        Args:
            router: Routes the commands.
            commands: The commands.  They are read while earlier ones are pending.
            timeout: The seconds that each command may take; None means no limit.
            each: Called with the number of a command, counted from 0, and its reply or error.
        """
        self._each = each
        self._waiting: deque[tuple[int, Any]] = deque()
        self._working: Deferred[None] | None = None
        # The result of the run: the number of commands, or the Failure.
        self._result: int | Failure | None = None
        self._ended: Deferred[Any] = Deferred(self._cancelled)
        #: Fires with the number of commands when the last ``each`` has ended.
        self.done: Deferred[int] = router.delegate(_STREAM, self._ended)
        self._run: PipelineRun | None = None
        self._run = PipelineRun(router, commands, timeout, self._take, to_the_end=False, backlog=self._waiting)
        self._run.done.addBoth(self._all_came)

    def _take(self, place: int, reply: Any) -> None:
        self._waiting.append((place, reply))
        if self._working is None:
            self._working = working = Deferred.fromCoroutine(self._work())
            working.addBoth(self._worked)

    async def _work(self) -> None:
        while self._waiting:
            await self._each(*self._waiting.popleft())
            if self._run is not None:
                self._run.go_on()

    def _worked(self, result: Failure | None) -> None:
        self._working = None
        if isinstance(result, Failure):
            self._waiting.clear()
            error = result.value
            if self._result is None and self._run is not None and error is not None:
                self._run.give_up(error)
            else:
                self._result = result
        self._check()

    def _all_came(self, result: int | Failure) -> None:
        self._result = result
        self._check()

    def _check(self) -> None:
        if self._result is not None and self._working is None and not self._ended.called:
            self._ended.callback(self._result)

    def _cancelled(self, _: Deferred[Any]) -> None:
        self._waiting.clear()
        if self._run is not None:
            self._run.done.cancel()
        if self._working is not None:
            self._working.cancel()
