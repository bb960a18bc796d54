"""Running the reactor for one command of the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from types import FrameType
from typing import Any, NoReturn, cast

from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from .signals import exit_status, leave_at_last, on_signals

#: The work of a command: it takes the reactor and a stack for what must be undone, and returns the exit status.
Main = Callable[[IReactorTime, AsyncExitStack], Coroutine[Any, Any, int | None]]


def run(main: Main) -> NoReturn:
    """Run the reactor until the work of a command has ended, and exit.

    SIGINT and SIGTERM cancel the work.  The stack is undone in any case.

    Args:
        main: The work.

    Raises:
        SystemExit: The work has ended; its status is the result of the work, or 128 and the number of a signal.
        Exception: The error of the work.
    """
    # The import installs the reactor.
    from twisted.internet import reactor

    _Run(cast(ReactorBase, reactor), main).run()


class _Run:
    def __init__(self, reactor: ReactorBase, main: Main) -> None:
        self._reactor = reactor
        self._main = main
        self._work: Deferred[int | None] = Deferred()
        self._result: int | Failure = 0
        self._signal = 0

    def run(self) -> NoReturn:
        on_signals(self._signalled)
        self._reactor.callWhenRunning(self._start)
        self._reactor.run(installSignalHandlers=False)
        if self._signal:
            sys.exit(exit_status(self._signal))
        if isinstance(self._result, Failure):
            self._result.raiseException()
        sys.exit(self._result)

    def _start(self) -> None:
        Deferred.fromCoroutine(self._work_and_undo()).addBoth(self._ended)

    async def _work_and_undo(self) -> int:
        async with AsyncExitStack() as stack:
            # A signal cancels only this Deferred, not the undoing of the stack.
            self._work = Deferred.fromCoroutine(self._main(self._reactor, stack))
            return await self._work or 0

    def _ended(self, result: int | Failure) -> None:
        self._result = result
        self._reactor.stop()

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if not self._signal:
            self._signal = number
            leave_at_last(number)
            self._reactor.callFromThread(lambda: self._work.cancel())
