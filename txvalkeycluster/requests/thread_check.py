"""ThreadCheck: notices that a client is used in another thread than that of its reactor."""

from __future__ import annotations

from _thread import get_ident

from ..errors import WrongThread


class ThreadCheck:
    """Knows the thread of the reactor as soon as the reactor has called the client once."""

    __slots__ = ("_ident",)

    def __init__(self) -> None:
        self._ident = 0

    def note(self) -> None:
        """Note that the reactor runs in this thread."""
        self._ident = get_ident()

    def check(self) -> None:
        """Check that this is the thread of the reactor.

        Raises:
            WrongThread: It is another one.
        """
        if self._ident and get_ident() != self._ident:
            raise WrongThread(
                "the client was used in another thread than that of its reactor; nothing was sent: "
                "use txvalkeycluster.blocking, or reactor.callFromThread"
            )
