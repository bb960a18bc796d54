"""The reactor of an event loop of asyncio: made for the first client, ended with the last one.

A loop gets a reactor of its own, which is not Twisted's global one.  So nothing must be installed before other imports,
and a program may run several event loops, one after the other or in several threads.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.main import installReactor
from twisted.internet.posixbase import PosixReactorBase
from twisted.python.failure import Failure

# Each client counts in the entry of its loop.  Loops in several threads use it.
_uses: dict[asyncio.AbstractEventLoop, LoopReactor] = {}
_lock = Lock()
# The most host names that one loop looks up at the same time, as with a reactor of Twisted.
_THREADS = 10


class _Threads:
    """The threads of a reactor, in place of those of Twisted, which the end of the interpreter would wait for forever.

    A program can end its event loop without closing its clients.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # It makes no thread before the first function.
        self._executor = ThreadPoolExecutor(_THREADS, "txvalkeycluster")

    def callInThread(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        self.callInThreadWithCallback(None, function, *args, **kwargs)

    def callInThreadWithCallback(
        self, ended: Callable[[bool, Any], object] | None, function: Callable[..., object], *args: Any, **kwargs: Any
    ) -> None:
        def run() -> tuple[bool, Any]:
            try:
                return True, function(*args, **kwargs)
            except BaseException:
                return False, Failure()  # type: ignore[no-untyped-call]

        running = self._loop.run_in_executor(self._executor, run)
        if ended is not None:
            running.add_done_callback(lambda done: done.cancelled() or ended(*done.result()))

    def end(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


class _Reactor(AsyncioSelectorReactor):
    """A reactor that leaves its event loop and the process as they are."""

    # The thread of Twisted's global reactor stays what it is.
    _registerAsIOThread = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.threads = _Threads(loop)
        super().__init__(loop)

    def getThreadPool(self) -> Any:
        """Return what runs functions in threads: the look-ups of host names."""
        return self.threads

    def crash(self) -> None:
        """Stop the reactor, but not the event loop."""
        PosixReactorBase.crash(self)


class _GlobalReactor(_Reactor):
    """The same as Twisted's global reactor."""

    _registerAsIOThread = True


class LoopReactor:
    """A reactor on an event loop, with the number of clients that use it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a reactor on a running loop."""
        #: The reactor.
        self.reactor: Any = _Reactor(loop)
        # The loop runs already.  This only marks the reactor as running.
        self.reactor.startRunning(installSignalHandlers=False)
        #: The number of clients.
        self.users = 0

    def end(self) -> None:
        """Close what the reactor itself has open."""
        reactor = self.reactor
        # This closes connections that are left.
        reactor.fireSystemEvent("shutdown")
        for call in reactor.getDelayedCalls():
            call.cancel()
        if reactor._timerHandle is not None:
            reactor._timerHandle.cancel()
        for internal in list(reactor._internalReaders):
            reactor.removeReader(internal)
        self.forget()

    def forget(self) -> None:
        """Close what only the reactor knows; for a loop that is closed."""
        reactor = self.reactor
        for internal in list(reactor._internalReaders):
            reactor._internalReaders.remove(internal)
            internal.connectionLost(None)
        reactor.threads.end()


def acquire(loop: asyncio.AbstractEventLoop) -> LoopReactor:
    """Return the reactor of a running loop; make it if there is none.  Each call needs one `release`."""
    with _lock:
        # Loops that were closed before their clients.
        for closed in [each for each in _uses if each.is_closed()]:
            _uses.pop(closed).forget()
        use = _uses.get(loop)
        if use is None:
            use = _uses[loop] = LoopReactor(loop)
        use.users += 1
        return use


def release(loop: asyncio.AbstractEventLoop) -> None:
    """Give the reactor of a loop back; the last one ends it."""
    with _lock:
        use = _uses[loop]
        use.users -= 1
        if use.users:
            return
        del _uses[loop]
    use.end()


def install(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Make Twisted's global reactor run on an event loop of asyncio, for programs that use other parts of Twisted.

    Clients of `txvalkeycluster.aio` do not need it.  If the loop runs, the reactor runs from now on too; otherwise
    ``reactor.run()`` runs both.

    Args:
        loop: The loop.  None: the running one, or else a new one.

    Raises:
        RuntimeError: Another reactor is installed already.
    """
    if "twisted.internet.reactor" in sys.modules:
        name = type(sys.modules["twisted.internet.reactor"]).__name__
        raise RuntimeError(
            f"Twisted's reactor is {name} already: call install() before anything imports twisted.internet.reactor"
        )
    if loop is None:
        running = asyncio._get_running_loop()
        loop = asyncio.new_event_loop() if running is None else running
    if not loop.is_running():
        # For asyncio.ensure_future() before the loop runs, as in reactor.callWhenRunning.
        asyncio.set_event_loop(loop)
    reactor: Any = _GlobalReactor(loop) if loop.is_running() else AsyncioSelectorReactor(loop)
    installReactor(reactor)  # type: ignore[no-untyped-call]
    if loop.is_running():
        reactor.startRunning(installSignalHandlers=False)
