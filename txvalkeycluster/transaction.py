"""Transactions: MULTI and EXEC on one slot, with watched keys on a connection of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from random import Random
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from .commands import Command, can_fail_after_writing
from .commands.converters import Convert, converted
from .commands.encoder import Arg, Packed, pack
from .commands.method_support import Key, Text
from .commands.methods import Commands
from .commands.queued import QueuedCommands
from .connection.exclusive_pool import Lease
from .errors import CommandTimeout, ConnectionLost, ProtocolError, ReplyError, RoutingError, WatchError
from .requests.exclusive import ExclusiveCall
from .requests.request import Call, Request
from .requests.target import ANY_NODE, THIS_NODE
from .routing.plan import Scope, plan_command
from .routing.retry_policy import NOT_HERE_OR_NOT_NOW, proves_not_executed
from .routing.router import Router
from .routing.transaction_request import TransactionRequest
from .slots import argument_slot

_T = TypeVar("_T")
_WATCH = Command("WATCH")
# Before an optimistic function is run again: at first, and at most, or because its slot has moved.
_PAUSE, _LONGEST_PAUSE = 0.0005, 0.06
# How long the end of a session waits for the server to forget what was watched.
_PATIENCE = 1.0

# Packed when it is queued: what it was made of may change until it is sent.
_Queued = tuple[Command, Packed, Convert | None]


class Transaction(QueuedCommands[Text]):
    """Commands that are queued by the client's own methods, and are executed at once: all or none, none between.

    All keys must be of one slot.  Nothing is undone: a command that fails when it is executed leaves the others done.
    """

    def __init__(self, router: Router, timeout: float | None, session: WatchSession[Any] | None = None) -> None:
        self._router = router
        self._timeout = timeout
        self._session = session
        # None as long as no command has a key.
        self._slot = None if session is None else session.slot
        self._calls: list[_Queued] = []

    def __len__(self) -> int:
        return len(self._calls)

    def __repr__(self) -> str:
        return f"<Transaction of {len(self._calls)} commands slot={self._slot}>"

    def add(self, *args: Arg) -> Self:
        """Queue any command.  Raises RoutingError for one that does not fit in."""
        self._queue(args, None)
        return self

    def execute(self, *, raise_first: bool = False) -> Deferred[list[Any]]:
        """Have it executed, and begin anew; fires with the results in order, errors of execution in their places.

        Fails with TransactionAborted if the server refused a command, so that none was executed; with
        TransactionRefused if it refused MULTI, so that each may have been executed by itself; with WatchError if a
        watched key has changed; else as a single command does.  With ``raise_first`` it fails with the first error of
        a command, too.
        """
        calls, self._calls = self._calls, []
        slot, self._slot = self._slot, None if self._session is None else self._session.slot
        router = self._router
        request = TransactionRequest(
            [payload for _, payload, _ in calls],
            THIS_NODE if self._session is not None else ANY_NODE if slot is None else slot,
            router.clock.seconds,
            router.deadline_of(self._timeout),
            all(command.repeatable for command, _, _ in calls),
            router.note_cancel,
        )
        if self._session is not None:
            self._session.send(request)
        else:
            router.send(request)
        return request.deferred.addCallback(_results, calls, raise_first)

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        self._queue(words, convert)
        return self

    def _queue(self, args: Sequence[Any], convert: Convert | None) -> None:
        args = tuple(args)
        if not args:
            raise TypeError("there is no command")
        command = self._router.commands[args[0]].resolve(args)
        slot = _slot_of(command, args)
        payload = pack(args)
        if slot is not None:
            if self._slot not in (None, slot):
                raise RoutingError(
                    f"{command.name} has a key in slot {slot}, and the transaction has others in {self._slot}: "
                    "a common {hash tag} would bring them together"
                )
            self._slot = slot
        self._calls.append((command, payload, convert))


class WatchSession(Commands[Text], Generic[Text]):
    """Keys under watch, on a connection of their own: an asynchronous context manager.

    Its methods execute at once.  `transaction` queues what is to be executed only if no watched key has changed.
    """

    def __init__(self, router: Router, keys: tuple[Key, ...], timeout: float | None) -> None:
        if not keys:
            raise ValueError("no keys to watch")
        self._router = router
        self._keys = keys
        self._timeout = timeout
        self._lease: Lease | None = None
        # Whether the keys were on their way here when the watch began, so that every command needs leave.
        self._asking = False
        #: Of the watched keys.
        self.slot = argument_slot(keys[0])
        plan_command(Command("WATCH", key_specs=router.commands["WATCH"].key_specs), ("WATCH", *keys), split=False)

    async def __aenter__(self) -> Self:
        router = self._router
        call = ExclusiveCall(
            pack(("WATCH", *self._keys)),
            _WATCH,
            self.slot,
            router.clock.seconds(),
            router.deadline_of(self._timeout),
            True,
            router.note_cancel,
            keeps_lease=True,
        )
        await router.send(call)
        assert isinstance(call.lease, Lease)
        self._lease = call.lease
        self._asking = call.admit().asking
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            if not lease.connection.pending:
                await lease.connection.call("UNWATCH").addTimeout(_PATIENCE, self._router.clock)
        except (ReplyError, ConnectionLost, CommandTimeout, DeferredTimeout) as failed:
            # The connection goes, with whatever it watched.
            lease.connection.abort(ConnectionLost(f"UNWATCH failed: {failed}"))
        finally:
            lease.give_back()

    def transaction(self) -> Transaction[Text]:
        """What is to be executed if no watched key has changed."""
        return Transaction(self._router, self._timeout, self)

    def execute(self, *args: Arg) -> Deferred[Any]:
        """Send any command of this slot, at once."""
        return self._run(args)

    def send(self, request: TransactionRequest) -> None:
        """Have a transaction executed here.  It ends the watch."""

        def give() -> None:
            # The session may have been left until then.
            self._give(request, request.give_to)

        self._give(request, lambda lease: request.give_to_node(lease.node, give))
        request.deferred.addErrback(self._explain, request.command)

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Deferred[Any]:
        args = tuple(words)
        if not args:
            raise TypeError("there is no command")
        router = self._router
        command = router.commands[args[0]].resolve(args)
        slot = _slot_of(command, args)
        if slot not in (None, self.slot):
            raise RoutingError(f"{command.name} has a key in slot {slot}, and the watched ones are in {self.slot}")
        now, deadline = router.clock.seconds(), router.deadline_of(self._timeout)
        call = Call(pack(args), command, THIS_NODE, now, deadline, canceller=router.note_cancel)
        self._give(call, call.give_to)
        call.addErrback(self._explain, command)
        return call if convert is None else call.addCallback(converted, convert)

    def _give(self, request: Request, give: Callable[[Lease], None]) -> None:
        request.admit().asking = self._asking

        def give_to_lease() -> None:
            if self._lease is None:
                raise RoutingError("the session is not entered, or has been left")
            give(self._lease)

        self._router.give(request, give_to_lease)

    def _explain(self, failure: Failure, command: Command) -> Failure:
        """What was watched may not be here any more; the next try goes where it is."""
        error = failure.value
        if not isinstance(error, ReplyError) or error.code not in NOT_HERE_OR_NOT_NOW:
            return failure
        # A script may have written before it failed; then the watch is not to blame.
        if can_fail_after_writing(command) and not proves_not_executed(error, (self.slot,)):
            return failure
        raise WatchError(f"the watch is lost: {error}", lost=True) from error


def _results(replies: list[Any], calls: list[_Queued], raise_first: bool) -> list[Any]:
    results: list[Any] = []
    for reply, (_, _, convert) in zip(replies, calls, strict=True):
        result = reply
        if convert is not None and not isinstance(reply, Exception):
            try:
                result = converted(reply, convert)
            except ProtocolError as error:
                result = error
        if raise_first and isinstance(result, Exception):
            raise result
        results.append(result)
    return results


def _slot_of(command: Command, args: tuple[Arg, ...]) -> int | None:
    """The slot of its keys, if it has any.  Raises RoutingError for a command that is not for one slot."""
    command.check_allowed(args)
    plan = plan_command(command, args, split=False)
    if plan.scope is not Scope.ONE:
        raise RoutingError(f"{command.name} is for several nodes, and a transaction is on one")
    return plan.target if isinstance(plan.target, int) else None


async def optimistically(
    clock: IReactorTime,
    random: Random,
    session: Callable[[], WatchSession[Text]],
    function: Callable[[WatchSession[Text]], Awaitable[_T]],
    attempts: int | None,
    patience: float,
) -> _T:
    """Run ``function`` with a fresh session until no watched key has changed meanwhile."""
    if attempts is not None and attempts < 1:
        raise ValueError(f"attempts is {attempts}, below 1")
    give_up = clock.seconds() + patience
    for attempt in count(1):
        try:
            async with session() as watching:
                return await function(watching)
        except WatchError as error:
            # Of many that begin again at the same time all but one meet the next.
            longest = _LONGEST_PAUSE if error.lost else min(_LONGEST_PAUSE, _PAUSE * 2.0 ** min(attempt, 10))
            pause = random.uniform(0.0, longest)
            if attempt == attempts or clock.seconds() + pause >= give_up:
                raise
        await deferLater(clock, pause)
    raise AssertionError("count ends never")
