"""The request record: a command on its way, packed once, which ends when its caller is told.

It is in exactly one place at any time: the queue of a connection, of a node or its exclusive pool, or a retry queue.
When it is redirected or repeated, the same record moves on.

Nearly every request is a `Call`, which is also the Deferred that the caller holds; those of pipelines and of commands
over many nodes are in `batch`, those that have a connection to themselves in `exclusive`, and transactions in the
package `routing`, which knows what their replies mean.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import hiredis
from twisted.internet.defer import Deferred

from ..commands import Command
from ..commands.encoder import Arg, Packed, pack
from ..commands.overrides import SCRIPTS
from ..errors import MaybeExecuted
from ..slots import key_slot
from .fast_deferred import FastDeferred
from .history import History, timeout_error
from .target import THIS_NODE, Target


class Destination(Protocol):
    """What takes requests: a node, its connection, or a queue where they wait."""

    def send(self, request: Request) -> None:
        """Take a command.  Raises TooManyPending, as the others do."""

    def send_mixed(self, request: Request) -> None:
        """Take one that is not simply a caller's command."""

    def send_batch(self, batch: MultiRequest) -> None:
        """Take one that is owed several replies."""

    def send_exclusive(self, request: Request) -> None:
        """Take one that needs a connection to itself."""

    def ask(self, request: Request) -> None:
        """Take one that must stand behind an ASKING."""


class Request:
    """One command on its way.  Once ``called`` it is a tombstone: its reply, if one comes, will be thrown away."""

    __slots__ = ("command", "deadline", "history", "payload", "repeatable", "since", "target")

    #: Whether the client asks it on its own behalf: it is never turned away, and no map decides about it.
    internal = False
    #: Whether its reply is wanted as the server gave it, not decoded.
    raw = False
    #: Whether `written_on` is to be called.
    notes_write = False

    def __init__(
        self,
        payload: Packed,
        command: Command,
        target: Target,
        since: float,
        deadline: float,
        repeatable: bool = False,
    ) -> None:
        self.payload = payload
        self.command = command
        #: The slot whose owner it is for, or another kind of target.
        self.target = target
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
        state = "ended" if self.called else "waiting"
        return f"<{type(self).__name__} {self.command.name} to {self.target} {state}>"

    @property
    def is_new(self) -> bool:
        """Whether it is a caller's and has been nowhere yet, so that it may still be turned away."""
        return self.history is None and not self.internal

    def admit(self) -> History:
        """Note that it was taken: from now on no limit applies to it."""
        if self.history is None:
            self.history = History()
        return self.history

    def give_to(self, destination: Destination) -> None:
        """Have a destination take it, in the way that its kind needs.  Raises TooManyPending."""
        if self.history is not None and self.history.asking:
            destination.ask(self)
        else:
            destination.send(self)

    def written_on(self, connection: Connection) -> None:
        """It is about to be written; its payload may still be changed."""

    def refused(self, connection: Connection, error: Any) -> None:
        """An error reply has come to it."""
        if not self.called:
            connection.owner.reply_failed(connection, self, error)

    def undecodable(self, error: Exception) -> None:
        """Its reply cannot be read, or is not text of the encoding."""
        if not self.called:
            self.fail(error)

    def failed_attempt(self, reason: object) -> History:
        """Note that an attempt came to nothing."""
        history = self.admit()
        history.attempts += 1
        history.last = str(reason)
        return history

    def answer(self, reply: Any) -> None:
        """End it with a reply, unless it has ended."""
        self._replied()
        self._end(self.callback, reply)

    def _replied(self) -> None:
        history = self.history
        if history is not None and history.on_reply is not None:
            on_reply, history.on_reply = history.on_reply, None
            on_reply()

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
        self.fail(timeout_error(self.command.name, now - self.since, self.history, where, written=written))


_R = TypeVar("_R", bound=Request)


class MultiRequest(Request):
    """A request that is owed several replies: in the queue of a connection it stands once for each."""

    __slots__ = ()

    def __len__(self) -> int:
        """How many replies."""
        raise NotImplementedError

    def give_to(self, destination: Destination) -> None:
        if self.history is not None and self.history.asking:
            destination.ask(self)
        else:
            destination.send_batch(self)

    def hand_over(self) -> None:
        """Pass on the replies that have come, if that can be done before the last one has."""

    def dissolve(self) -> Sequence[Request]:
        """What goes on by itself when this cannot go on as a whole; `settle` when that is where it goes."""
        raise NotImplementedError

    def settle(self) -> None:
        """If no more replies are to come, pass on those that have."""


class Call(FastDeferred[Any], Request):
    """A request that is the Deferred of its own reply: two records would cost 0.1 us more, of 2.5."""

    __slots__ = ()

    def __init__(
        self,
        payload: Packed,
        command: Command,
        target: Target,
        since: float,
        deadline: float,
        repeatable: bool = False,
        canceller: Callable[[Deferred[Any]], None] | None = None,
    ) -> None:
        Deferred.__init__(self, canceller)
        # As Request.__init__, whose call would cost the half of it.
        self.payload = payload
        self.command = command
        self.target = target
        self.since = since
        self.deadline = deadline
        self.repeatable = repeatable
        self.history = None


def own_slots(request: Request) -> Collection[int]:
    """The slots that a redirect may name: that of the keys, or of every argument if the keys are not known."""
    command = request.command
    if isinstance(request.target, int):
        return (request.target,)
    if command.key_specs or command.name in SCRIPTS:
        return ()
    reader = hiredis.Reader()
    reader.feed(request.payload if isinstance(request.payload, bytes) else b"".join(request.payload))
    return {key_slot(word) for word in reader.gets()[1:]}


class InternalCall(Call):
    """A request of the client's own, for one node only: no redirect, no repetition, no limit."""

    __slots__ = ()

    internal = True
    raw = True

    def __init__(self, args: tuple[Arg, ...], now: float, timeout: float) -> None:
        super().__init__(pack(args), _INTERNAL, THIS_NODE, now, now + timeout)

    def give_to(self, destination: Destination) -> None:
        destination.send_mixed(self)

    def refused(self, connection: Connection, error: Any) -> None:
        if not self.called:
            self.fail(error)


class MarkedCall(InternalCall):
    """One that knows on which connection it was written, and behind which of the callers' commands."""

    __slots__ = ("_connection", "_position")

    notes_write = True

    def written_on(self, connection: Connection) -> None:
        self._connection = connection
        self._position = connection.carried()

    def confirm(self) -> None:
        """Its reply says that the commands before it are safe.  Only for one that was answered."""
        self._connection.confirmed = max(self._connection.confirmed, self._position)


class Connection(Protocol):
    """A connection, as far as requests know it."""

    #: Who decides about error replies.
    owner: Any
    #: What time it is.
    seconds: Callable[[], float]

    def decoded(self, reply: Any) -> Any:
        """A reply as text, if the client has an encoding.  Raises what the codec raises."""

    #: What `carried` gave when all was confirmed.
    confirmed: int

    def carried(self) -> int:
        """Grows from one question to the next if callers' commands were written in between."""

    def abort(self, reason: Exception) -> None:
        """End it at once."""


def for_each(requests: Iterable[_R], act: Callable[[_R], object]) -> None:
    """Do something with each of some requests; one with which it cannot be done fails, and keeps no other from it.

    They fail last, since their callbacks may do anything, even close the client.
    """
    failed: list[tuple[Request, Exception]] = []
    for request in requests:
        try:
            act(request)
        except Exception as error:
            failed.append((request, error))
    for each, reason in failed:
        each.fail(reason)


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


_INTERNAL = Command("a request of the client's own")


async def _wait_for(call: Call) -> None:
    await call


def _lay_out() -> None:
    """Have one call live through it all.

    CPython lays out the attributes of a class by its first instances.  If these are a burst of calls that have not
    ended, it finds no room for what is set at their end, and every later command costs 7% more.
    """
    call = Call(b"", _INTERNAL, THIS_NODE, 0.0, 0.0)
    waiting = Deferred.fromCoroutine(_wait_for(call))
    call.callback(None)
    waiting.addErrback(lambda _: None)


_lay_out()
ASKING = InternalCall(("ASKING",), 0.0, float("inf"))
# Nobody waits for its reply.
ASKING.callback(None)
