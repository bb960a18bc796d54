"""The request record: a command on its way, packed once, until its caller has the result.

At any time a request is in exactly one place: on a connection, in the queue of a node or of the node's exclusive pool,
or in a retry queue.  If it is redirected or repeated, the same record moves to another place.

Nearly every request is a `Call`, which is also the Deferred that the caller holds.  The requests of pipelines and of
commands over many nodes are in `batch`, the requests on exclusive connections in `exclusive`, those of the client
itself in `internal`.  Transactions are in the package `routing`, which interprets their replies.
"""

from __future__ import annotations

from asyncio import _get_running_loop, current_task
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

import hiredis
from twisted.internet.defer import Deferred

from ..commands import Command
from ..commands.encoder import Packed
from ..commands.overrides import SCRIPTS
from ..errors import MaybeExecuted, ReplyError
from ..slots import key_slot
from .fast_deferred import FastDeferred, fast
from .history import History, timeout_error
from .interfaces import Connection, Destination
from .target import THIS_NODE, Target


class Request:
    """One command on its way.  After its end (``called``) it is a tombstone: a reply that still comes is dropped."""

    # Without __slots__: from Python 3.13 on, a Deferred with the slots of another base class has slower attributes.
    # Commands would cost 5% to 8% more.

    #: Whether this is a request of the client itself, which is never refused and never routed by the slot map.
    internal = False
    #: Whether the reply must stay as the server sent it, without decoding.
    raw = False
    #: Whether the caller gets the bytes of the reply, unparsed; only on a `RawProtocol`.
    unparsed = False
    #: Whether the connection must call `written_on`.
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
        #: The slot whose owner gets this request, or another kind of target.
        self.target = target
        #: The time of the call, as reactor.seconds().
        self.since = since
        #: When the request times out, as reactor.seconds().
        self.deadline = deadline
        #: Whether the command may be sent again after a lost connection.
        self.repeatable = repeatable
        self.history: History | None = None

    #: Whether the caller has the result, or has cancelled this request.
    called: Any

    def callback(self, result: Any) -> None:
        """Give the caller the reply, without the hooks of the history.

        Only the fast path of the connection calls this method directly; other code calls `answer`.
        """
        raise NotImplementedError

    def errback(self, fail: Any = None) -> None:
        """Give the caller an error; only `fail` calls this method."""
        raise NotImplementedError

    def __repr__(self) -> str:
        state = "ended" if self.called else "waiting"
        return f"<{type(self).__name__} {self.command.name} to {self.target} {state}>"

    @property
    def is_new(self) -> bool:
        """Whether this is a caller's request that no place has accepted yet, so that a limit may still refuse it."""
        return self.history is None and not self.internal

    def admit(self) -> History:
        """Note that this request was accepted.  From now on no limit applies to it.

        Returns:
            The history of the request.
        """
        if self.history is None:
            self.history = History()
        return self.history

    def give_to(self, destination: Destination) -> None:
        """Give this request to a destination, by the method that fits its kind.

        Raises:
            TooManyPending: The destination has reached a limit; the request was not accepted.
        """
        if self.history is not None and self.history.asking:
            destination.ask(self)
        else:
            self._send_to(destination)

    def _send_to(self, destination: Destination) -> None:
        destination.send(self)

    def written_on(self, connection: Connection) -> None:
        """Handle that the connection is about to write this request.  The payload may still be changed."""

    def refused(self, connection: Connection, error: ReplyError) -> None:
        """Handle an error reply: the connection's owner decides about it."""
        if not self.called:
            connection.owner.reply_failed(connection, self, error)

    def undecodable(self, error: Exception) -> None:
        """Handle a reply that cannot be read or decoded: this request fails."""
        if not self.called:
            self.fail(error)

    def overtaken(self) -> None:
        """Handle that later requests for the same slot may be executed before this one."""

    def failed_attempt(self, reason: object) -> History:
        """Note that an attempt failed.

        Args:
            reason: Why; its text becomes part of the error if the request times out.

        Returns:
            The history of the request.
        """
        history = self.admit()
        history.attempts += 1
        history.last = str(reason)
        return history

    def answer(self, reply: Any) -> None:
        """End this request with a reply, unless it has ended."""
        self._replied()
        self._end(self.callback, reply)

    def _replied(self) -> None:
        history = self.history
        if history is not None and history.on_reply is not None:
            on_reply, history.on_reply = history.on_reply, None
            on_reply()

    def fail(self, error: object) -> None:
        """End this request with an exception or a Failure, unless it has ended."""
        self._end(self.errback, error)

    def fail_unanswered(
        self, kind: type[MaybeExecuted], text: str, *, written: bool = False, cause: Exception | None = None
    ) -> None:
        """End this request without a reply.

        Args:
            kind: The class of the error.
            text: The text of the error.
            written: Whether the last attempt was written.  The error also considers earlier attempts.
            cause: The cause of the error, if there is one.
        """
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
        """End this request because its deadline has passed.

        Args:
            now: The current time, as reactor.seconds().
            where: What the request waited for, for the error.
            written: Whether the last attempt was written.
        """
        error = timeout_error(self.command.name, now - self.since, self.history, where, written=written)
        if self.history is not None and written:
            self.history.attempts += 1
        self.fail(error)


_R = TypeVar("_R", bound=Request)


class MultiRequest(Request):
    """A request with several replies.  The queue of a connection has one entry of it for each expected reply."""

    __slots__ = ()

    def __len__(self) -> int:
        """Return the number of replies."""
        raise NotImplementedError

    def _send_to(self, destination: Destination) -> None:
        destination.send_batch(self)

    def hand_over(self) -> None:
        """Pass on the replies that have come, if this kind of request can do that before the last reply."""

    def dissolve(self) -> Sequence[Request]:
        """Split this request, which cannot continue as a whole.  The caller places the parts, then calls `settle`.

        Returns:
            The requests that continue instead of this one.
        """
        raise NotImplementedError

    def settle(self) -> None:
        """If no more replies are expected, pass on the last ones and end this request."""


class Call(FastDeferred[Any], Request):
    """A request that is also the Deferred of its reply.

    Two separate objects would cost 0.1 us more; a command costs 2.5 us.
    """

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
        # The same as Request.__init__, whose call would take half of the time of this method.
        self.payload = payload
        self.command = command
        self.target = target
        self.since = since
        self.deadline = deadline
        self.repeatable = repeatable
        self.history = None

    def __repr__(self) -> str:
        text = Request.__repr__(self)
        # asyncio prints it in "Task got bad yield".
        in_a_task = _get_running_loop() is not None and current_task() is not None
        return f"{text[:-1]}; a Deferred, which asyncio cannot await: use txvalkeycluster.aio>" if in_a_task else text


def _ignore(_: Deferred[Any]) -> None:
    """Do nothing: a canceller for one comparison."""


#: Whether Deferred.__init__ does only what `Router.execute` does in its place.
PLAIN = fast is not None or vars(Deferred(_ignore)) == {"_callbacks": [], "_canceller": _ignore}


def own_slots(request: Request) -> Collection[int]:
    """Return the slots that a redirect of a request may name.

    Returns:
        The slot of the keys.  If the positions of the keys are unknown: the slot of each argument.
    """
    command = request.command
    if isinstance(request.target, int):
        return (request.target,)
    if command.key_specs or command.name in SCRIPTS:
        return ()
    reader = hiredis.Reader()
    reader.feed(request.payload if isinstance(request.payload, bytes) else b"".join(request.payload))
    return {key_slot(word) for word in reader.gets()[1:]}


def for_each(requests: Iterable[_R], act: Callable[[_R], object]) -> None:
    """Call a function with each request.  A request for which the function raises an error fails with this error.

    All calls are made before the first request fails, because a callback may do anything, even close the client.

    Args:
        requests: The requests.
        act: The function.
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
    """Return the number of bytes in the payload of a request."""
    payload = request.payload
    return len(payload) if isinstance(payload, bytes) else sum(map(len, payload))


def count_commands(requests: Iterable[Request]) -> int:
    """Return the number of commands of callers in requests."""
    return sum(len(r) if isinstance(r, MultiRequest) else 1 for r in requests if not r.internal)


def live(requests: list[Request]) -> list[Request]:
    """Return the requests that have not ended."""
    return [request for request in requests if not request.called]


class Cancels:
    """Counts cancelled commands.  A queue searches for cancelled commands only if the count has grown."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def note(self, _: Deferred[Any]) -> None:
        """Count one more.  This is the canceller of every command's Deferred; the request stays as a tombstone."""
        self.count += 1


async def _wait_for(call: Call) -> None:
    await call


def lay_out(call: Call) -> None:
    """Run the first call of a class from its start to its end, so that CPython sees all of its attributes early.

    CPython chooses the layout of a class's attributes from its first instances.  If these are many calls that have not
    ended, the layout has no room for the attributes that are set at the end, and every later command costs 7% more.
    """
    waiting = Deferred.fromCoroutine(_wait_for(call))
    call.callback(None)
    waiting.addErrback(lambda _: None)


lay_out(Call(b"", Command("the first command"), THIS_NODE, 0.0, 0.0))
