"""Commands that can block: BLPOP and the like, XREAD BLOCK.

With keys of one slot, the server blocks, on a connection that the client has alone meanwhile.  With keys of several
slots, `several_slots` waits for all of them.  If the client leaves, or the proxy stops, the command is ended at the
server.  An element that it has taken in the same moment, for a client that is gone, is counted as lost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ...commands import Command
from ...errors import ConnectionLost, ValkeyError
from ..replies import error_frame
from .connection import Answer

if TYPE_CHECKING:
    from ..server import ProxyServer
    from ..session import ClientSession

_log = Logger()
# The reply to a command whose time is over, by the version of RESP.  Commands that move an element have another one.
_NOTHING = {2: b"*-1\r\n", 3: b"_\r\n"}
_NO_ELEMENT = {2: b"$-1\r\n", 3: b"_\r\n"}
_MOVING = frozenset(["BLMOVE", "BRPOPLPUSH"])
#: Commands that take elements.  All others leave them, or put them elsewhere, so that nothing is lost.
TAKING = frozenset(["BLPOP", "BRPOP", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP"])
# Replies that hold no element begin with these.
_WITHOUT = (b"*-1\r", b"$-1\r", b"_\r", b"-")
# What the proxy replies if the connection to a node was lost begins with this.
_LOST = b"-CONNLOST "
#: The reply to a command that CLIENT UNBLOCK has ended with an error.
UNBLOCKED = b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"
# Seconds until a server is asked again to end a command that it may not have read yet.
_AGAIN = 0.05


class Endable(Protocol):
    """A call that blocks at a server: `RawBlockingCall`."""

    called: Any

    @property
    def lease(self) -> object:
        """The connection of the call; None if it waits for one."""

    def unblock(self, *, error: bool = False) -> Deferred[int]:
        """Let the server end it."""

    def cancel(self) -> None:
        """Forget it, and close its connection."""

    def addBoth(self, callback: Callable[[Any], object]) -> object:
        """Call a function with the result."""


class Blocked(Protocol):
    """A command of a client that waits."""

    #: Whether the proxy has ended it, so that an empty reply means nothing to the client.
    ended: bool

    def unblock(self, *, error: bool) -> Deferred[int]:
        """End it as CLIENT UNBLOCK does.

        Returns:
            A Deferred that fires with 1; with 0 if it does not wait any more.
        """

    def end(self) -> None:
        """End it because nobody wants the reply, without losing an element if that is possible."""


def is_empty(reply: bytes) -> bool:
    """Tell whether a reply holds no element: it says that there is none, or it is an error."""
    return reply.startswith(_WITHOUT)


def nothing(command: Command, protocol: int) -> bytes:
    """Return the reply to a command whose time is over."""
    return (_NO_ELEMENT if command.name in _MOVING else _NOTHING)[protocol]


def end_safely(call: Endable, delay: Callable[[float], Deferred[None]]) -> None:
    """Begin to end a call that blocks at a server.  If it takes an element meanwhile, its Deferred fires with that.

    Args:
        call: The call.
        delay: Returns a Deferred that fires after some seconds.
    """
    Deferred.fromCoroutine(_end(call, delay)).addErrback(
        lambda failure: _log.failure("a blocked command cannot be ended", failure)
    )


async def _end(call: Endable, delay: Callable[[float], Deferred[None]]) -> None:
    pause: Deferred[None] | None = None

    def over(result: object) -> object:
        if pause is not None:
            pause.cancel()
        return result

    call.addBoth(over)
    while not call.called:
        if call.lease is None:
            # It was not sent.
            call.cancel()
            return
        try:
            if not await call.unblock() and not call.called:
                # The server has not read it yet, or its reply is on the way.
                pause = delay(_AGAIN)
                await pause
        except CancelledError:
            return
        except ValkeyError as reason:
            _log.info("a blocked command is cut, because the server cannot end it: {reason}", reason=str(reason))
            call.cancel()
            return


class _AtOneServer:
    """A command for one slot, which blocks at the server."""

    def __init__(self, call: Endable, delay: Callable[[float], Deferred[None]]) -> None:
        self.ended = False
        self._call = call
        self._delay = delay

    def unblock(self, *, error: bool) -> Deferred[int]:
        """End it as CLIENT UNBLOCK does."""
        return self._call.unblock(error=error)

    def end(self) -> None:
        """End it because nobody wants the reply."""
        if not self.ended:
            self.ended = True
            end_safely(self._call, self._delay)


def block(server: ProxyServer, session: ClientSession, command: Command, words: list[bytes], slot: int) -> Answer:
    """Run a command that can block, whose keys are in one slot."""
    return partial(_at_one_server, server, session, command, words, slot)


async def _at_one_server(
    server: ProxyServer, session: ClientSession, command: Command, words: list[bytes], slot: int
) -> bytes:
    upstream = session.upstream
    assert upstream is not None
    call = upstream.client.submit_blocking(words, slot)
    blocked = _AtOneServer(call, partial(deferLater, server.reactor))
    with session.blocking(blocked):
        try:
            reply: bytes = await call
        except CancelledError:
            return b""
        except ConnectionLost as reason:
            reply = error_frame(reason)
    return received(server, session, command, reply, blocked)


def received(server: ProxyServer, session: ClientSession, command: Command, reply: bytes, blocked: Blocked) -> bytes:
    """Return what the client gets of a reply, and count an element that nobody gets."""
    if reply.startswith(_LOST):
        # Programs that wait survive the end of their connection, as if a server had ended.  Workers of Celery and RQ do
        # not survive an error reply that they do not know.
        session.end_because(f"{command.name} got no reply, because the connection to its node was lost")
        return b""
    empty = is_empty(reply)
    if session.closed and not empty and command.name in TAKING:
        server.counters.elements_lost += 1
        _log.warn("a client has left in the moment when {name} took an element for it: it is lost", name=command.name)
    # If the proxy has ended it, its time is not over.
    return b"" if blocked.ended and empty else reply
