"""The request record: a command on its way, packed once, owning the one Deferred its caller holds.

It is in exactly one place at any time: the queue of a connection, of a node being dialled, or a waiting room.  When it
is redirected or repeated, the same record moves on.  To end it, take ``outcome`` away first, then fire it.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred

from .commands import Command
from .errors import CommandTimeout
from .pack import Arg, Packed, pack
from .slots import THIS_NODE


class Outcome(Protocol):
    """What a request fires: its caller's Deferred, or something that looks on as it is fired."""

    @property
    def called(self) -> Any:
        """Whether it has been fired or cancelled."""

    def callback(self, result: Any) -> None:
        """End the request with a reply."""

    def errback(self, fail: Any = None) -> None:
        """End the request with an error."""


class Onlooker:
    """Stands in for an outcome; a subclass does something more as it is fired."""

    __slots__ = ("_outcome",)

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    @property
    def called(self) -> Any:
        return self._outcome.called

    def callback(self, result: Any) -> None:
        if not self._outcome.called:
            self._outcome.callback(result)

    def errback(self, fail: Any = None) -> None:
        if not self._outcome.called:
            self._outcome.errback(fail)


class Trail:
    """What a request has been through, made only when something has gone other than straight."""

    __slots__ = ("asking", "attempts", "last", "redirects", "written")

    def __init__(self) -> None:
        #: Attempts that ended in a redirect, an error or a lost connection.
        self.attempts = 0
        self.redirects = 0
        #: Why the last attempt ended.
        self.last = ""
        #: Whether the next node must be told ASKING first.
        self.asking = False
        #: Whether an attempt was lost after it was written, so that the server may have executed it.
        self.written = False


class Request:
    """One command on its way.  A request without an outcome is a tombstone: its reply will be thrown away."""

    __slots__ = ("command", "deadline", "outcome", "payload", "repeatable", "since", "slot", "trail")

    def __init__(
        self,
        payload: Packed,
        outcome: Outcome | None,
        command: Command | None,
        slot: int,
        since: float,
        deadline: float,
        repeatable: bool = False,
    ) -> None:
        self.payload = payload
        self.outcome = outcome
        #: None for what the client asks on its own behalf.
        self.command = command
        self.slot = slot
        #: When it was issued and when it ends, as reactor.seconds().
        self.since = since
        self.deadline = deadline
        self.repeatable = repeatable
        self.trail: Trail | None = None

    def __repr__(self) -> str:
        name = self.command.name if self.command is not None else "internal"
        state = "tombstone" if self.outcome is None else "cancelled" if self.outcome.called else "waiting"
        return f"<Request {name} slot={self.slot} {state}>"

    @property
    def is_new(self) -> bool:
        """Whether it is a caller's and has been nowhere yet, so that it may still be turned away."""
        return self.trail is None and self.command is not None

    def failed_attempt(self, reason: object) -> Trail:
        """Note that an attempt came to nothing."""
        if self.trail is None:
            self.trail = Trail()
        self.trail.attempts += 1
        self.trail.last = str(reason)
        return self.trail

    def fail(self, error: Exception) -> None:
        """End it with an error, unless it has ended."""
        outcome, self.outcome = self.outcome, None
        self.payload = b""
        if outcome is not None and not outcome.called:
            outcome.errback(error)

    def abandon(self) -> None:
        """Have it passed over, wherever it is: nobody waits for it."""
        outcome = self.outcome
        if isinstance(outcome, Deferred):
            outcome.cancel()

    def time_out(self, now: float, where: str, *, written: bool) -> None:
        """End it because its deadline has passed while it was ``where``."""
        name = self.command.name if self.command is not None else "a request of the client's own"
        text = f"{name} had no reply within {now - self.since:.2f} s: {where}"
        if self.trail is not None:
            text += f"; earlier attempts: {self.trail.attempts}, the last ended with: {self.trail.last}"
            written = written or self.trail.written
        self.fail(CommandTimeout(text, maybe_executed=written))


def size(request: Request) -> int:
    """Bytes of its payload."""
    payload = request.payload
    return len(payload) if isinstance(payload, bytes) else sum(map(len, payload))


def live(requests: list[Request]) -> list[Request]:
    """Those that somebody still waits for."""
    return [request for request in requests if request.outcome is not None and not request.outcome.called]


class Cancels:
    """How many commands have been cancelled: queues are searched for them only when that has grown."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def note(self, _: Deferred[Any]) -> None:
        """Canceller of every command's Deferred: its request is passed over, wherever it is."""
        self.count += 1


def internal_request(args: tuple[Arg, ...], now: float, timeout: float) -> tuple[Request, Deferred[Any]]:
    """A request of the client's own, for one node only: no redirect, no repetition."""
    deferred: Deferred[Any] = Deferred()
    return Request(pack(args), deferred, None, THIS_NODE, now, now + timeout), deferred


ASKING = Request(pack(("ASKING",)), None, None, THIS_NODE, 0.0, float("inf"))
