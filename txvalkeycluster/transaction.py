"""Transactions: MULTI and EXEC on one slot, and sessions that watch keys (WATCH).

Source: https://valkey.io/topics/transactions
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from math import inf
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
# Seconds.  The pause before an optimistic function runs again is random.  Its upper limit doubles from the first to the
# second; it is the second at once if the slot has moved.
_PAUSE, _LONGEST_PAUSE = 0.0005, 0.06
# Seconds that the end of a session waits for the reply to UNWATCH.
_PATIENCE = 1.0

# A command is packed when it is queued: the caller may change its arguments before it is sent.
_Queued = tuple[Command, Packed, Convert | None]


class Transaction(QueuedCommands[Text]):
    """A queue of commands that the server executes as one transaction.

    `ClusterClient.transaction` and `WatchSession.transaction` make one.  It has the methods of the client.  Each
    queues its command and returns the transaction, so calls can be chained.

    The server executes all commands without commands of others in between, or none.  All keys must be in one slot; a
    common ``{hash tag}`` puts them there.  There is no rollback: if a command fails when it is executed, the others are
    executed all the same.

    Example:
        transaction = client.transaction().incr("{cart}items").rpush("{cart}list", "apple")
        items, length = await transaction.execute()
    """

    def __init__(self, router: Router, timeout: float | None, session: WatchSession[Any] | None = None) -> None:
        """Make an empty transaction.

        Args:
            router: The router of the client.
            timeout: Seconds for the whole transaction.  None: no limit.
            session: The session whose connection it uses.  None: the connection that all commands share.
        """
        self._router = router
        self._timeout = timeout
        self._session = session
        # None until a command with a key is queued.
        self._slot = None if session is None else session.slot
        self._calls: list[_Queued] = []

    def __len__(self) -> int:
        return len(self._calls)

    def __repr__(self) -> str:
        return f"<Transaction of {len(self._calls)} commands slot={self._slot}>"

    def add(self, *args: Arg) -> Self:
        """Queue any command; its result is the reply as the server sends it.

        Args:
            *args: The name of the command and its arguments.

        Returns:
            This transaction.

        Raises:
            RoutingError: A key is in another slot than those before, or the command cannot be part of a transaction.
            TypeError: There is no command, or an argument has a type that cannot be sent.
        """
        self._queue(args, None)
        return self

    def execute(self, *, raise_first: bool = False) -> Deferred[list[Any]]:
        """Send MULTI, the queued commands and EXEC.  The transaction is empty afterwards, and can be used again.

        Args:
            raise_first: False puts the error of a command that failed when it was executed into the list of results.
                True makes the Deferred fail with the first error in the list.

        Returns:
            A Deferred that fires with a list of results, one for each command, in the order in which they were queued.
            It fails with the errors below.

        Raises:
            TransactionAborted: The server refused a command when it was queued, or EXEC.  No command was executed.
            TransactionRefused: The server refused MULTI.  ``maybe_executed`` says whether commands ran one by one.
            WatchError: A watched key has changed, or its slot has moved (``lost``).  No command was executed.
            CommandTimeout: The deadline passed.
            ConnectionLost: The connection ended before the reply; ``maybe_executed`` says whether it may have run.
            ProtocolError: The reply cannot be read.
            ReplyError: With ``raise_first``: the error of a command.
            TooManyPending: The node has too many unanswered commands or unsent bytes.  Nothing was sent.
            RoutingError: The watch session has ended.  Nothing was sent.
            ClientClosed: The client is closed or aborted.
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
        if router.observation is not None:
            names = [command.name for command, _, _ in calls]
            router.observation.watch(request.deferred, "MULTI", names, request, len(calls))
        return request.deferred.addCallback(_results, calls, raise_first)

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        self._queue(words, convert)
        return self

    def _queue(self, args: Sequence[Any], convert: Convert | None) -> None:
        args = tuple(args)
        if not args:
            raise TypeError("no command is given")
        command = self._router.commands[args[0]].resolve(args)
        slot = _slot_of(command, args)
        payload = pack(args)
        if slot is not None:
            if self._slot not in (None, slot):
                raise RoutingError(
                    f"{command.name} has a key in slot {slot}, but the transaction has keys in slot {self._slot}; "
                    "a common {hash tag} puts them into one slot"
                )
            self._slot = slot
        self._calls.append((command, payload, convert))


class WatchSession(Commands[Text], Generic[Text]):
    """Watches keys on a connection of its own.  `ClusterClient.watch` makes one.

    It is an asynchronous context manager: ``async with`` watches the keys, and ends the watch.  Its methods send a
    command at once, for keys of the same slot.  `transaction` makes a transaction that the server executes only if no
    watched key has changed.  The transaction ends the watch.

    ``async with`` fails with CommandTimeout, ConnectionLost, ReplyError, ProtocolError, TooManyPending or ClientClosed
    if the keys cannot be watched.

    Example:
        async with client.watch("stock") as session:
            left = int(await session.get("stock"))
            await session.transaction().set("stock", left - 1).execute()
    """

    def __init__(self, router: Router, keys: tuple[Key, ...], timeout: float | None) -> None:
        """Make a session; nothing is sent yet.

        Args:
            router: The router of the client.
            keys: The keys to watch.
            timeout: Seconds for each command.  None: no limit.

        Raises:
            ValueError: There is no key.
            RoutingError: The keys are in several slots.
        """
        if not keys:
            raise ValueError("there are no keys to watch")
        self._router = router
        self._keys = keys
        self._timeout = timeout
        self._lease: Lease | None = None
        # Whether WATCH was redirected with ASK: then every command needs ASKING before it.
        self._asking = False
        #: The slot of the watched keys.
        self.slot = argument_slot(keys[0])
        self._check(keys)

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
            # Closing the connection ends the watch.
            lease.connection.abort(ConnectionLost(f"UNWATCH failed: {failed}"))
        finally:
            lease.give_back()

    def transaction(self) -> Transaction[Text]:
        """Return a queue of commands that the server executes only if no watched key has changed.

        Returns:
            A `Transaction` on the connection of this session.
        """
        return Transaction(self._router, self._timeout, self)

    def watch(self, *keys: Key) -> Deferred[Any]:
        """Watch more keys of the same slot.

        Args:
            *keys: The keys.

        Returns:
            A Deferred that fires when they are watched, too.  It fails as that of `execute`.

        Raises:
            RoutingError: At the call: a key is in another slot.
        """
        self._check((*self._keys, *keys))
        return self._call(("WATCH", *keys), _WATCH)

    def _check(self, keys: tuple[Key, ...]) -> None:
        specs = self._router.commands["WATCH"].key_specs
        plan_command(Command("WATCH", key_specs=specs), ("WATCH", *keys), split=False)

    def execute(self, *args: Arg) -> Deferred[Any]:
        """Send any command for keys of this slot, and return the reply as the server sent it.

        Args:
            *args: The name of the command and its arguments.

        Returns:
            A Deferred that fires with the reply, or fails with WatchError or an error that `ClusterClient.execute`
            lists.

        Raises:
            RoutingError: At the call: a key is in another slot, or the command is refused.
            TypeError: At the call: there is no command, or an argument has a type that cannot be sent.
        """
        return self._run(args)

    def send(self, request: TransactionRequest) -> None:
        """Send a transaction on the connection of this session.  Only `Transaction.execute` calls this.

        Args:
            request: The transaction.
        """

        def give() -> None:
            # It is called later if the node is asked first; the session may have ended by then.
            self._give(request, request.give_to)

        self._give(request, lambda lease: request.give_to_node(lease.node, give))
        request.deferred.addErrback(self._explain, request.command)

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Deferred[Any]:
        args = tuple(words)
        if not args:
            raise TypeError("no command is given")
        router = self._router
        command = router.commands[args[0]].resolve(args)
        slot = _slot_of(command, args)
        if slot not in (None, self.slot):
            raise RoutingError(f"{command.name} has a key in slot {slot}, but the watched keys are in slot {self.slot}")
        call = self._call(args, command)
        return call if convert is None else call.addCallback(converted, convert)

    def _call(self, args: tuple[Any, ...], command: Command) -> Deferred[Any]:
        router = self._router
        now, deadline = router.clock.seconds(), router.deadline_of(self._timeout)
        call = Call(pack(args), command, THIS_NODE, now, deadline, canceller=router.note_cancel)
        self._give(call, call.give_to)
        if router.observation is not None:
            router.observation.watch_call(call, command.name, self._lease.node.address if self._lease else None)
        return call.addErrback(self._explain, command)

    def _give(self, request: Request, give: Callable[[Lease], None]) -> None:
        request.admit().asking = self._asking

        def give_to_lease() -> None:
            if self._lease is None:
                raise RoutingError("the watch session is not active: use it inside of 'async with'")
            give(self._lease)

        self._router.give(request, give_to_lease)

    def _explain(self, failure: Failure, command: Command) -> Failure:
        """Turn a redirect, or an error that means "not now", into a WatchError: the next attempt watches again."""
        error = failure.value
        if not isinstance(error, ReplyError) or error.code not in NOT_HERE_OR_NOT_NOW:
            return failure
        # A script can write and then fail with such an error.  Then the caller gets the error itself.
        if can_fail_after_writing(command) and not proves_not_executed(error, (self.slot,)):
            return failure
        raise WatchError(f"the watch has ended; watch the keys again: {error}", lost=True) from error


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
    """Return the slot of a command's keys, or None.  Raises RoutingError if the command is not for one slot."""
    command.check_allowed(args)
    plan = plan_command(command, args, split=False)
    if plan.scope is not Scope.ONE:
        raise RoutingError(f"{command.name} is for several nodes; a transaction or a watch session uses only one")
    return plan.target if isinstance(plan.target, int) else None


async def optimistically(
    clock: IReactorTime,
    random: Random,
    session: Callable[[], WatchSession[Text]],
    function: Callable[[WatchSession[Text]], Awaitable[_T]],
    attempts: int | None,
    patience: float | None,
) -> _T:
    """Run a function with a new session until it does not fail with WatchError.

    Args:
        clock: The reactor.
        random: The source of the random pauses.
        session: Makes a new session.
        function: Called with the session of each attempt.
        attempts: How many times to run the function at most.  None: no limit.
        patience: Seconds after which no new attempt begins.  None: no limit.

    Returns:
        What the function returns.

    Raises:
        WatchError: Every attempt failed with it.
        ValueError: ``attempts`` is below 1.
    """
    left = Attempts(clock.seconds, random, attempts, patience)
    while True:
        try:
            async with session() as watching:
                return await function(watching)
        except WatchError as error:
            pause = left.pause_after(error)
        await deferLater(clock, pause)


class Attempts:
    """Decides whether a function with a watch session runs again after a WatchError, and when."""

    def __init__(
        self, seconds: Callable[[], float], random: Random, attempts: int | None, patience: float | None
    ) -> None:
        """Allow attempts from now on.

        Args:
            seconds: Returns the time.
            random: The source of the random pauses.
            attempts: How many attempts there may be.  None: no limit.
            patience: Seconds after which no new attempt begins.  None: no limit.

        Raises:
            ValueError: ``attempts`` is below 1.
        """
        if attempts is not None and attempts < 1:
            raise ValueError(f"attempts is {attempts}; it must be at least 1")
        self._seconds = seconds
        self._random = random
        self._most = attempts
        self._give_up = seconds() + (inf if patience is None else patience)
        self._count = 0

    def pause_after(self, error: WatchError) -> float:
        """Return the seconds until the next attempt; raise the error if there is none."""
        self._count += 1
        # If many clients tried again at the same moment, only one of them would succeed.
        longest = _LONGEST_PAUSE if error.lost else min(_LONGEST_PAUSE, _PAUSE * 2.0 ** min(self._count, 10))
        pause = self._random.uniform(0.0, longest)
        if self._count == self._most or self._seconds() + pause >= self._give_up:
            raise error
        return pause
