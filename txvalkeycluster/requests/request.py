"""The request record: a command on its way, packed once, which ends when its caller is told.

It is in exactly one place at any time: the queue of a connection, of a node being dialled, or a retry queue.  When it
is redirected or repeated, the same record moves on.

Nearly every request is a `Call`, which is also the Deferred that the caller holds; those of pipelines and of commands
over many nodes are in `batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

import hiredis
from twisted.internet.defer import Deferred

from ..commands import Command
from ..commands.encoder import Arg, Packed, pack
from ..commands.overrides import SCRIPTS
from ..errors import CommandTimeout, MaybeExecuted
from ..slots import THIS_NODE, UNROUTED, key_slot
from .fast_deferred import FastDeferred


class History:
    """What a request has been through, made only when something has gone other than straight."""

    __slots__ = ("asking", "attempts", "last", "on_end", "on_reply", "redirects", "written")

    def __init__(self) -> None:
        #: Attempts that ended in a redirect, an error or a lost connection.
        self.attempts = 0
        self.redirects = 0
        #: Why the last attempt ended.
        self.last = ""
        #: Whether the next node must be told ASKING first.
        self.asking = False
        #: Whether an earlier attempt may have been executed: it was written and its reply lost, or its error proves
        #: nothing.
        self.written = False
        #: Called when a reply has come, before the caller is told: there are others that wait for the same.
        self.on_reply: Callable[[], None] | None = None
        #: Called when the caller has been told, unless it was the caller who cancelled.
        self.on_end: Callable[[Request], None] | None = None


class Request:
    """One command on its way.  Once ``called`` it is a tombstone: its reply, if one comes, will be thrown away."""

    __slots__ = ("command", "deadline", "history", "payload", "repeatable", "since", "slot")

    def __init__(
        self,
        payload: Packed,
        command: Command | None,
        slot: int,
        since: float,
        deadline: float,
        repeatable: bool = False,
    ) -> None:
        self.payload = payload
        #: None for what the client asks on its own behalf.
        self.command = command
        self.slot = slot
        #: When it was issued and when it ends, as reactor.seconds().
        self.since = since
        self.deadline = deadline
        self.repeatable = repeatable
        self.history: History | None = None

    #: Whether the caller has been told, or has cancelled it.
    called: Any

    def callback(self, result: Any) -> None:
        """Tell the caller the reply.  The fast path, which skips the hooks of the history; all others use `answer`."""
        raise NotImplementedError

    def errback(self, fail: Any = None) -> None:
        """Tell the caller an error; for `fail`."""
        raise NotImplementedError

    def __repr__(self) -> str:
        name = self.command.name if self.command is not None else "internal"
        state = "ended" if self.called else "waiting"
        return f"<Request {name} slot={self.slot} {state}>"

    @property
    def is_new(self) -> bool:
        """Whether it is a caller's and has been nowhere yet, so that it may still be turned away."""
        return self.history is None and self.command is not None

    def failed_attempt(self, reason: object) -> History:
        """Note that an attempt came to nothing."""
        if self.history is None:
            self.history = History()
        self.history.attempts += 1
        self.history.last = str(reason)
        return self.history

    def answer(self, reply: Any) -> None:
        """End it with a reply, unless it has ended."""
        history = self.history
        if history is not None and history.on_reply is not None:
            on_reply, history.on_reply = history.on_reply, None
            on_reply()
        self._end(self.callback, reply)

    def fail(self, error: object) -> None:
        """End it with an error, or a Failure, unless it has ended."""
        self._end(self.errback, error)

    def fail_unanswered(
        self, kind: type[MaybeExecuted], text: str, *, written: bool = False, cause: Exception | None = None
    ) -> None:
        """End it without a reply.  ``written`` is said of the last attempt; earlier ones count too."""
        error = kind(text, maybe_executed=written or (self.history is not None and self.history.written))
        error.__cause__ = cause
        self.fail(error)

    def _end(self, tell: Callable[[Any], object], result: object) -> None:
        self.payload = b""
        if not self.called:
            tell(result)
            self._ended()

    def _ended(self) -> None:
        if self.called and self.history is not None and self.history.on_end is not None:
            on_end, self.history.on_end = self.history.on_end, None
            on_end(self)

    def time_out(self, now: float, where: str, *, written: bool) -> None:
        """End it because its deadline has passed while it was ``where``."""
        name = self.command.name if self.command is not None else "a request of the client's own"
        self.fail(timeout_error(name, now - self.since, self.history, where, written=written))


class Call(FastDeferred[Any], Request):
    """A request that is the Deferred of its own reply: two records would cost 0.1 us more, of 2.5."""

    __slots__ = ()

    def __init__(
        self,
        payload: Packed,
        command: Command | None,
        slot: int,
        since: float,
        deadline: float,
        repeatable: bool = False,
        canceller: Callable[[Deferred[Any]], None] | None = None,
    ) -> None:
        Deferred.__init__(self, canceller)
        # As Request.__init__, whose call would cost the half of it.
        self.payload = payload
        self.command = command
        self.slot = slot
        self.since = since
        self.deadline = deadline
        self.repeatable = repeatable
        self.history = None


def timeout_error(
    name: str, seconds: float, history: History | None, where: str = "", *, written: bool = False
) -> CommandTimeout:
    """The error of a command whose deadline has passed: where it was, and what became of earlier attempts."""
    text = f"{name} had no reply within {seconds:.2f} s" + (f": {where}" if where else "")
    if history is not None:
        written = written or history.written
        if history.attempts:
            text += f"; earlier attempts: {history.attempts}, the last ended with: {history.last}"
    return CommandTimeout(text, maybe_executed=written)


def own_slots(request: Request) -> Collection[int]:
    """The slots that a redirect may name: that of the keys, or of every argument if the keys are not known."""
    command = request.command
    if request.slot >= 0:
        return (request.slot,)
    if command is None or command.key_specs or command.name in SCRIPTS:
        return ()
    reader = hiredis.Reader()
    reader.feed(request.payload if isinstance(request.payload, bytes) else b"".join(request.payload))
    return {key_slot(word) for word in reader.gets()[1:]}


class UnroutedCall(Call):
    """A command that cannot be routed yet: without a map, or without knowing what it means."""

    __slots__ = ("args", "begun")

    def __init__(
        self,
        args: tuple[Arg, ...],
        command: Command,
        now: float,
        deadline: float,
        repeatable: bool,
        canceller: Callable[[Any], None],
    ) -> None:
        super().__init__(pack(args), command, UNROUTED, now, deadline, repeatable, canceller)
        self.args = args
        #: What became of it once it could.
        self.begun: Deferred[Any] | None = None


class MarkedCall(Call):
    """A request that knows on which connection it was written, and behind which of the callers' commands."""

    __slots__ = ("_position", "connection")

    def written_on(self, connection: WriteCounter) -> None:
        """Note where it stands, as it is written."""
        self.connection = connection
        self._position = connection.carried()

    def confirm(self) -> None:
        """Its reply says that the commands before it are safe.  Only for one that was answered."""
        self.connection.confirmed = max(self.connection.confirmed, self._position)


class WriteCounter(Protocol):
    """A connection, as far as the counting of its writes goes."""

    #: What `carried` gave when all was confirmed.
    confirmed: int

    def carried(self) -> int:
        """Grows from one question to the next if callers' commands were written in between."""


def size(request: Request) -> int:
    """Bytes of its payload."""
    payload = request.payload
    return len(payload) if isinstance(payload, bytes) else sum(map(len, payload))


def live(requests: list[Request]) -> list[Request]:
    """Those that somebody still waits for."""
    return [request for request in requests if not request.called]


class Cancels:
    """How many commands have been cancelled: queues are searched for them only when that has grown."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def note(self, _: Deferred[Any]) -> None:
        """Canceller of every command's Deferred: its request is passed over, wherever it is."""
        self.count += 1


def internal_call(args: tuple[Arg, ...], now: float, timeout: float) -> Call:
    """A request of the client's own, for one node only: no redirect, no repetition."""
    return Call(pack(args), None, THIS_NODE, now, now + timeout)


def marked_call(args: tuple[Arg, ...], now: float, timeout: float) -> MarkedCall:
    """The same, that knows which commands it was written behind."""
    return MarkedCall(pack(args), None, THIS_NODE, now, now + timeout)


ASKING = internal_call(("ASKING",), 0.0, float("inf"))
# Nobody waits for its reply.
ASKING.callback(None)
