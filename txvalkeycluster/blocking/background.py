"""The reactor of the blocking clients: the one that runs in another thread, or one that this module runs.

A reactor of this module is not Twisted's global one, runs in a daemon thread, and stops when the last client is closed
or the interpreter ends.
"""

from __future__ import annotations

import atexit
import os
import sys
from threading import Event, Lock, Thread
from typing import Any

from twisted.python import threadable

from .bridge import Bridge

# Seconds that the end of the interpreter waits for the reactor.
_PATIENCE = 2.0


class Background:
    """A running reactor with the number of clients that use it."""

    def __init__(self) -> None:
        """Find a running reactor, or start one."""
        installed: Any = sys.modules.get("twisted.internet.reactor")
        self.users = 0
        self._thread: Thread | None = None
        if installed is not None and getattr(installed, "running", False):
            self.bridge = Bridge(installed, threadable.ioThread or 0)
            installed.callFromThread(installed.addSystemEventTrigger, "during", "shutdown", self.bridge.end)
        else:
            reactor = _make_reactor()
            started = Event()
            self._thread = Thread(target=_run, args=(reactor, started), name="txvalkeycluster", daemon=True)
            self._thread.start()
            started.wait()
            assert self._thread.ident is not None
            self.bridge = Bridge(reactor, self._thread.ident)

    @property
    def running(self) -> bool:
        """Whether the reactor runs."""
        return not self.bridge.ended

    def end(self) -> None:
        """Stop the reactor, if this module has started it."""
        if self._thread is not None and self._thread.is_alive():
            self.bridge.reactor.callFromThread(self.bridge.reactor.stop)
            self._thread.join(_PATIENCE)
        self.bridge.end()


_lock = Lock()
_current: Background | None = None


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


def _run(reactor: Any, started: Event) -> None:
    reactor.callWhenRunning(started.set)
    reactor.run(installSignalHandlers=False)


def _make_reactor() -> Any:
    """Return a reactor of the best kind of this system, which is not installed."""
    kinds = (("epollreactor", "EPollReactor"), ("kqreactor", "KQueueReactor"), ("selectreactor", "SelectReactor"))
    for module, name in kinds:
        try:
            kind: Any = getattr(__import__(f"twisted.internet.{module}", fromlist=[name]), name)
        except ImportError:
            continue
        # The thread of Twisted's global reactor stays what it is.
        return type(name, (kind,), {"_registerAsIOThread": False})()
    raise RuntimeError("Twisted has no reactor for this system")


def _at_exit() -> None:
    if _current is not None:
        _current.end()


def _in_child() -> None:
    """Forget the reactor of the parent process, whose thread does not exist here."""
    global _current, _lock
    _lock = Lock()
    _current = None


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
