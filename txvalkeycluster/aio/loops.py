"""The reactor of an event loop of asyncio: made for the first client, ended with the last one.

A loop gets a reactor of its own, which is not Twisted's global one.  So nothing must be installed before other imports,
and a program may run several event loops, one after the other or in several threads.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.main import installReactor
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

_log = Logger()

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


@implementer(IDelayedCall)
class _LaterCall:
    """A delayed call that is a timer of the event loop."""

    def __init__(self, reactor: _Reactor, delay: float, function: Callable[[], object]) -> None:
        self._reactor = reactor
        self._function = function
        self._time = reactor.seconds() + delay
        self._start(delay)

    def _start(self, delay: float) -> None:
        loop = self._reactor.loop
        self._handle: asyncio.Handle = loop.call_later(delay, self._call) if delay else loop.call_soon(self._call)
        self._reactor.later_calls.add(self)

    def _call(self) -> None:
        self._reactor.later_calls.discard(self)
        try:
            self._function()
        except Exception:
            # The reactors of Twisted do the same.
            _log.failure("a delayed call failed")

    def active(self) -> bool:
        return self in self._reactor.later_calls

    def cancel(self) -> None:
        self._check()
        self._reactor.later_calls.discard(self)
        self._handle.cancel()

    def getTime(self) -> float:
        return self._time

    def reset(self, seconds: float) -> None:
        self._check()
        self._time = self._reactor.seconds() + seconds
        self._handle.cancel()
        self._start(seconds)

    def delay(self, seconds: float) -> None:
        self.reset(self._time + seconds - self._reactor.seconds())

    def _check(self) -> None:
        if not self.active():
            raise AlreadyCancelled if self._handle.cancelled() else AlreadyCalled


class _Reactor(AsyncioSelectorReactor):
    """A reactor that leaves its event loop and the process as they are."""

    # The thread of Twisted's global reactor stays what it is.
    _registerAsIOThread = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.threads = _Threads(loop)
        self.later_calls: set[_LaterCall] = set()
        super().__init__(loop)

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
        """Use the timers of the event loop; those of Twisted on top of them cost 3 us more for each turn."""
        return _LaterCall(self, delay, partial(callable, *args, **kwargs) if args or kwargs else callable)

    def getDelayedCalls(self) -> Any:
        """Return the calls that wait."""
        return list(self.later_calls)

    def addReader(self, reader: Any) -> None:
        """Add a reader without the log context of Twisted, which costs 2 us for each read."""
        known = reader in self._readers
        super().addReader(reader)  # type: ignore[no-untyped-call]
        if not known and reader in self._readers:
            self.loop.add_reader(self._readers[reader], self._readOrWrite, reader, True)

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
