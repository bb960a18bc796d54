"""The reactor of the blocking clients: the one that runs in another thread, or one that this module runs.

A reactor of this module is not Twisted's global one, runs in a daemon thread, and stops when the last client is closed
or the interpreter ends.
"""

from __future__ import annotations

import atexit
import os
from functools import partial
from threading import Event, RLock, Thread, enumerate, get_ident
from typing import Any
from weakref import finalize

from twisted.python import threadable

from .bridge import Bridge, global_reactor

# Seconds that `end` waits for the reactor.
_PATIENCE = 2.0


class Background:
    """A running reactor with the number of clients that use it."""

    def __init__(self) -> None:
        """Find a running reactor, or start one.

        Raises:
            RuntimeError: The reactor could not be started.
        """
        self.users = 0
        #: Leads to the reactor.
        self.bridge: Bridge
        self._thread: Thread | None = None
        self._trigger: Any = None
        installed = _shared_reactor()
        if installed is not None:
            self.bridge = Bridge(installed, threadable.ioThread or 0, lambda: installed.running)
            installed.callFromThread(self._share)
        else:
            started = Event()
            self._thread = Thread(target=self._run, args=(started,), name="txvalkeycluster", daemon=True)
            self._thread.start()
            started.wait()
            if not self.running:
                raise RuntimeError("the reactor could not be started; its thread has printed why")

    @property
    def running(self) -> bool:
        """Whether the reactor runs."""
        return not self.bridge.ended

    def end(self) -> None:
        """Stop the reactor, if this module has started it.  Any thread may call this, also the reactor's."""
        bridge, thread = self.bridge, self._thread
        if thread is None:
            bridge.post(self._unshare)
            bridge.end()
        elif thread.ident == get_ident():
            self._stop()
        else:
            bridge.post(self._stop)
            thread.join(_PATIENCE)
            bridge.end()

    def _stop(self) -> None:
        if not self.bridge.ended:
            self.bridge.end()
            self.bridge.reactor.stop()

    def _share(self) -> None:
        # Not during the shutdown: then the reactor waits for its threads, which may be waiting here.
        if not self.bridge.ended:
            self._trigger = self.bridge.reactor.addSystemEventTrigger("before", "shutdown", self.bridge.end)

    def _unshare(self) -> None:
        if self._trigger is not None:
            self.bridge.reactor.removeSystemEventTrigger(self._trigger)
            self._trigger = None

    def _run(self, started: Event) -> None:
        reactor = None
        try:
            reactor = _make_reactor()
            thread = self._thread
            assert thread is not None
            self.bridge = Bridge(reactor, get_ident(), thread.is_alive)
            reactor.callWhenRunning(started.set)
            reactor.run(installSignalHandlers=False)
        finally:
            if reactor is not None:
                self.bridge.end()
                _close(reactor)
            started.set()


_lock = RLock()
_current: Background | None = None
# Whether this process was forked, so that the thread of the global reactor may not exist.
_is_child = False


def acquire() -> Background:
    """Return the reactor of this process; start one if there is none.  Each call needs one `release`."""
    global _current
    with _lock:
        if _current is None or not _current.running:
            _current = Background()
        _current.users += 1
        return _current


def release(background: Background) -> None:
    """Give a reactor back; the last one stops it."""
    global _current
    with _lock:
        background.users -= 1
        last = not background.users
        if last and background is _current:
            _current = None
    if last:
        background.end()


def _shared_reactor() -> Any:
    """Return Twisted's global reactor if it runs in another thread of this process, else None."""
    reactor = global_reactor()
    if reactor is None or (_is_child and threadable.ioThread not in {thread.ident for thread in enumerate()}):
        return None
    return reactor


def _make_reactor() -> Any:
    """Return a reactor of the best kind of this system, which is not installed."""
    kinds = (("epollreactor", "EPollReactor"), ("kqreactor", "KQueueReactor"), ("selectreactor", "SelectReactor"))
    for module, name in kinds:
        try:
            kind: Any = getattr(__import__(f"twisted.internet.{module}", fromlist=[name]), name)
        except ImportError:
            continue
        # The thread of Twisted's global reactor stays what it is.
        reactor = type(name, (kind,), {"_registerAsIOThread": False})()
        # Threads that look up host names must not keep the interpreter from ending.
        reactor.getThreadPool().threadFactory = partial(Thread, daemon=True)
        return reactor
    raise RuntimeError("Twisted has no reactor for this system")


class _NoWaker:
    """Stands in for the waker of a reactor that has ended."""

    def wakeUp(self) -> None:
        """Do nothing."""


def _close(reactor: Any) -> None:
    """Close what a reactor itself has open; Twisted leaves that open for the rest of the process."""
    waker, reactor.waker = reactor.waker, _NoWaker()
    for reader in list(reactor._internalReaders):
        reactor._internalReaders.remove(reader)
        reactor.removeReader(reader)
        # Another thread may be about to write to the waker: its descriptors must not be closed before that.
        if reader is waker:
            # The function refers to the waker: it would live until a garbage collection.
            vars(waker).pop("fileno", None)
            finalize(waker, _close_descriptors, waker.i, waker.o).atexit = False
        else:
            reader.connectionLost(None)
    poller = getattr(reactor, "_poller", None)
    if poller is not None:
        poller.close()


def _close_descriptors(*descriptors: Any) -> None:
    for each in descriptors:
        if isinstance(each, int):
            os.close(each)
        else:
            # The waker of Windows has sockets.
            each.close()


def _at_exit() -> None:
    if _current is not None:
        # Daemon threads that wait would print the error.
        _current.bridge.freeze()
        _current.end()


def _in_child() -> None:
    """Forget the reactor of the parent process, whose thread does not exist here."""
    global _current, _lock, _is_child
    _lock = RLock()
    _current = None
    _is_child = True


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
