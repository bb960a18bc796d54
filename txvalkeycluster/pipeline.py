"""Pipeline: many commands, one Deferred for the whole, results in the order they were queued."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from inspect import iscoroutinefunction
from typing import Any, Self

from twisted.internet.defer import Deferred

from .commands.converters import Convert, converted
from .commands.encoder import Arg
from .commands.method_support import Text
from .commands.queued import QueuedCommands
from .errors import ProtocolError
from .routing.pipeline_run import PipelineRun
from .routing.results_in_order import ResultsInOrder
from .routing.router import Router


class Pipeline(QueuedCommands[Text]):
    """Commands that are queued by the client's own methods, and go out together.

    They go to their nodes side by side, and are sent in order for each key; one that is redirected or put off may fall
    behind the next.  It is no transaction: other clients' commands may come in between, and one that fails keeps no
    other from being executed.
    """

    def __init__(self, router: Router, timeout: float | None) -> None:
        self._router = router
        self._timeout = timeout
        self._calls: list[Sequence[Arg]] = []
        # By the place of the call.
        self._converts: dict[int, Convert] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __repr__(self) -> str:
        return f"<Pipeline of {len(self._calls)} commands>"

    def add(self, *args: Arg) -> Self:
        """Queue any command."""
        self._calls.append(args)
        return self

    def execute(self, *, raise_first: bool = False) -> Deferred[list[Any]]:
        """Send what is queued, and begin anew; fires with the results in order, errors in their places.

        With ``raise_first`` it fails, when all have ended, with the first error there is.  It fails with ClientClosed
        if the client has been closed before, or is aborted.
        """
        calls, self._calls = self._calls, []
        converts, self._converts = self._converts, {}
        results: list[Any] = [None] * len(calls)
        done = PipelineRun(self._router, calls, self._timeout, results.__setitem__, to_the_end=True).done

        def finish(_: object) -> list[Any]:
            for place, convert in converts.items():
                if not isinstance(results[place], Exception):
                    results[place] = _converted(convert, results[place])
            if raise_first:
                for result in results:
                    if isinstance(result, Exception):
                        raise result
            return results

        return done.addCallback(finish)

    def stream(self, commands: Iterable[Sequence[Arg]], each: Callable[[int, Any], object]) -> Deferred[int]:
        """Send commands as they come out of an iterable, and hand each result, or error, to ``each`` with its number.

        No more of them is held in memory than is on its way.  Results come in the order in which they arrive.  An
        ``each`` that is a coroutine function is awaited before it is told the next.  Fires with how many there were;
        fails with what ``commands`` or ``each`` raises, or with ClientClosed when the client is closed, once those on
        their way have ended.  Of these ``each`` is told, unless it was that which raised.
        """
        if iscoroutinefunction(each):
            return ResultsInOrder(self._router, commands, self._timeout, each).done
        return PipelineRun(self._router, commands, self._timeout, each, to_the_end=False).done

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        if convert is not None:
            self._converts[len(self._calls)] = convert
        self._calls.append(words)
        return self


def _converted(convert: Convert, reply: Any) -> Any:
    try:
        return converted(reply, convert)
    except ProtocolError as error:
        return error
