"""The reactor of an event loop of asyncio: made for the first client, ended with the last one.

A loop gets a reactor of its own, which is not Twisted's global one.  So nothing must be installed before other imports,
and a program may run several event loops, one after the other or in several threads.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.posixbase import PosixReactorBase

_uses: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopReactor] = WeakKeyDictionary()


class _Reactor(AsyncioSelectorReactor):
    """A reactor that leaves its event loop and the process as they are."""

    # The thread of Twisted's global reactor stays what it is.
    _registerAsIOThread = False

    def crash(self) -> None:
        """Stop the reactor, but not the event loop."""
        PosixReactorBase.crash(self)


class LoopReactor:
    """A reactor on an event loop, with the number of clients that use it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a reactor on a running loop."""
        #: The reactor.
        self.reactor: Any = _Reactor(loop)
        # The loop runs already.  This starts the threads for host names, and nothing else.
        self.reactor.startRunning(installSignalHandlers=False)
        self.users = 0

    def end(self) -> None:
        """Close what the reactor itself has open."""
        reactor = self.reactor
        # This closes connections that are left, and ends the threads for host names.
        reactor.fireSystemEvent("shutdown")
        for call in reactor.getDelayedCalls():
            call.cancel()
        for internal in list(reactor._internalReaders):
            reactor._internalReaders.remove(internal)
            reactor.removeReader(internal)
            internal.connectionLost(None)


def acquire(loop: asyncio.AbstractEventLoop) -> LoopReactor:
    """Return the reactor of a running loop; make it if there is none.  Each call needs one `release`."""
    use = _uses.get(loop)
    if use is None:
        use = _uses[loop] = LoopReactor(loop)
    use.users += 1
    return use


def release(loop: asyncio.AbstractEventLoop) -> None:
    """Give the reactor of a loop back; the last one ends it."""
    use = _uses[loop]
    use.users -= 1
    if not use.users:
        del _uses[loop]
        use.end()


def install(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Make Twisted's global reactor run on an event loop of asyncio, for programs that use other parts of Twisted.

    Clients of `txvalkeycluster.aio` do not need it.

    Args:
        loop: The loop.  None: the running one, or else the current one of this thread.

    Raises:
        RuntimeError: Another reactor is installed already.
    """
    from twisted.internet import asyncioreactor
    from twisted.internet.error import ReactorAlreadyInstalledError

    try:
        asyncioreactor.install(loop)  # type: ignore[no-untyped-call]
    except ReactorAlreadyInstalledError:
        from twisted.internet import reactor

        name = type(reactor).__name__
        raise RuntimeError(
            f"Twisted's reactor is {name} already: call install() before anything imports twisted.internet.reactor"
        ) from None
