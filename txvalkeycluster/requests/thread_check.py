"""ThreadCheck: notices that a client is used in another thread than that of its reactor."""

from __future__ import annotations

import sys
from _thread import get_ident
from asyncio import _get_running_loop
from functools import partial
from typing import Any
from weakref import WeakMethod

from twisted.python import threadable

from ..errors import WrongThread


class ThreadCheck:
    """Knows the thread of a reactor as soon as the reactor runs."""

    __slots__ = ("__weakref__", "_ident", "_reactor")

    def __init__(self, reactor: Any) -> None:
        """Find out the thread of a reactor.

        Args:
            reactor: The reactor.  A clock of a test has no thread, and is never checked.
        """
        self._ident = 0
        self._reactor = reactor
        ask = getattr(reactor, "callFromThread", None)
        if ask is not None:
            # A reactor that never runs must not keep the client alive.
            ask(partial(_call, WeakMethod(self._note)))

    def check(self) -> None:
        """Check that this is the thread of the reactor.

        Raises:
            WrongThread: It is another one.
        """
        if self._ident and get_ident() != self._ident and not self._has_moved():
            raise WrongThread(
                "the client was used in another thread than that of its reactor; nothing was sent: "
                "use txvalkeycluster.blocking, or reactor.callFromThread"
            )

    def forget(self) -> None:
        """Allow every thread, because this process was forked and may run the reactor in another one."""
        self._ident = 0

    def _note(self) -> None:
        self._ident = get_ident()

    def _has_moved(self) -> bool:
        """Return whether the reactor does not run any more in the thread where it ran before."""
        if not getattr(self._reactor, "running", True):
            return True
        loop = getattr(self._reactor, "_asyncioEventloop", None)
        if loop is not None:
            moved = _get_running_loop() is loop
        else:
            is_global = sys.modules.get("twisted.internet.reactor") is self._reactor
            moved = is_global and threadable.ioThread == get_ident()
        if moved:
            self._note()
        return moved


def _call(weak: WeakMethod[Any]) -> None:
    function = weak()
    if function is not None:
        function()
