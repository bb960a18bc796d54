"""Transactions: MULTI and EXEC as a unit on one slot, with watched keys on a connection of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from math import inf
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import deferLater

from .commands import Command, can_fail_after_writing
from .commands.converters import Convert
from .commands.encoder import Arg, Packed, pack
from .commands.method_support import Key, Text
from .commands.methods import Commands
from .commands.queued import QueuedCommands
from .connection.exclusive_pool import Lease
from .connection.node import NodeConnection
from .errors import ConnectionLost, ReplyError, RoutingError, TransactionRefused, WatchError
from .requests.request import Call, History, Request
from .routing.plan import Scope, plan_command
from .routing.retry_policy import NOT_HERE_OR_NOT_NOW, ends_transaction, proves_not_executed
from .routing.router import Router
from .routing.transaction_outcome import outcome
from .slots import ANY_NODE, THIS_NODE, argument_slot

_T = TypeVar("_T")
_MULTI, _EXEC, _ASKING = Command("MULTI"), Command("EXEC"), Command("ASKING")
_WATCH, _UNWATCH = Command("WATCH"), Command("UNWATCH")
# Before an optimistic function is run again because its slot has moved.
_PAUSE = 0.03
# For how many seconds a node that has refused MULTI is taken to go on refusing it.
_REFUSAL_KEPT = 10.0
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
        self._slot = ANY_NODE if session is None else session.slot
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
        slot, self._slot = self._slot, ANY_NODE if self._session is None else self._session.slot
        if self._session is not None:
            done = self._session.run(calls)
        else:
            unit = _Unit(self._router, calls)
            repeatable = all(command.repeatable for command, _, _ in calls)
            done = self._router.units.run(_EXEC, slot, unit.on_shared, self._timeout, repeatable)
        return done.addCallback(_results, calls, raise_first)

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
        if slot != ANY_NODE:
            if self._slot not in (ANY_NODE, slot):
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
        self._node: NodeConnection | None = None
        self._lease: Lease | None = None
        # Whether the connection holds nothing that its next user would stumble over.
        self._clean = True
        # Whether the keys were on their way here when the watch began, so that every command needs leave.
        self._asking = False
        #: Of the watched keys.
        self.slot = argument_slot(keys[0])
        plan_command(Command("WATCH", key_specs=router.commands["WATCH"].key_specs), ("WATCH", *keys), split=False)

    async def __aenter__(self) -> Self:
        await self._router.units.run(_WATCH, self.slot, self._watch, self._timeout, repeatable=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease, self._lease = self._lease, None
        if lease is None or self._node is None:
            return
        clean = False
        try:
            if self._clean and not lease.connection.pending:
                unwatched = self._router.units.send_on(lease, _UNWATCH, pack(("UNWATCH",)))
                await unwatched.addTimeout(_PATIENCE, self._router.clock)
                clean = True
        except (ReplyError, ConnectionLost, DeferredTimeout):
            # The connection goes, with whatever it watched.
            clean = False
        finally:
            self._node.pool.give_back(lease, clean=clean)

    def transaction(self) -> Transaction[Text]:
        """What is to be executed if no watched key has changed."""
        return Transaction(self._router, self._timeout, self)

    def execute(self, *args: Arg) -> Deferred[Any]:
        """Send any command of this slot, at once."""
        return self._run(args)

    def run(self, calls: list[_Queued]) -> Deferred[Any]:
        """Execute a transaction here.  It ends the watch."""
        history = History()
        return self._router.units.track(self._execute(calls, history), "EXEC", self._timeout, history)

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Deferred[Any]:
        args = tuple(words)
        if not args:
            raise TypeError("there is no command")
        command = self._router.commands[args[0]].resolve(args)
        slot = _slot_of(command, args)
        if slot not in (ANY_NODE, self.slot):
            raise RoutingError(f"{command.name} has a key in slot {slot}, and the watched ones are in {self.slot}")
        history = History()
        done = self._router.units.track(self._send(command, pack(args), history), command.name, self._timeout, history)
        return done if convert is None else done.addCallback(convert)

    async def _watch(self, node: NodeConnection, asking: bool, history: History) -> None:
        lease = await node.pool.lease()
        watched = False
        clean = False
        try:
            words = pack(("WATCH", *self._keys))
            await self._router.units.send_on(lease, _WATCH, words, asking=asking)
            watched = clean = True
        except ReplyError:
            clean = True
            raise
        finally:
            if watched:
                self._node, self._lease, self._clean, self._asking = node, lease, True, asking
            else:
                node.pool.give_back(lease, clean=clean)

    def _leased(self) -> Lease:
        if self._lease is None:
            raise RoutingError("the session is not entered, or has been left")
        return self._lease

    async def _send(self, command: Command, payload: Packed, history: History) -> Any:
        lease = self._leased()
        self._clean, clean = False, False
        try:
            history.written = True
            reply = await self._router.units.send_on(lease, command, payload, asking=self._asking)
            clean = True
            return reply
        except ReplyError as error:
            clean = True
            # A script may have written before it failed; then the watch is not to blame.
            if not can_fail_after_writing(command) or proves_not_executed(error, (self.slot,)):
                _check_watch(error)
            raise
        finally:
            self._clean = clean

    async def _execute(self, calls: list[_Queued], history: History) -> Any:
        lease = self._leased()
        assert self._node is not None
        if self._node.multi_refusal is not None:
            await _ask_for_multi(self._router, self._node)
        if lease.connection.ended:
            raise ConnectionLost(f"{lease.connection.peer}: the connection has ended")
        self._clean, clean = False, False
        try:
            history.written = True
            requests = _send_unit(lease.connection.send, self._router, calls, asking=self._asking)
            replies = await _replies(requests, asking=self._asking)
            clean = not isinstance(replies[-1], ReplyError) or ends_transaction(replies[-1])
        finally:
            self._clean = clean
        try:
            return _outcome_at(self._node, self._router, replies)
        except ReplyError as error:
            _check_watch(error)
            raise


class _Unit:
    """MULTI, the commands and EXEC, as they go to one node."""

    def __init__(self, router: Router, calls: list[_Queued]) -> None:
        self._router = router
        self._calls = calls

    async def on_shared(self, node: NodeConnection, asking: bool, history: History) -> Any:
        """On the connection that all commands share: its requests stand in a row, so nothing comes between them."""
        if node.multi_refusal is not None:
            await _ask_for_multi(self._router, node)
        requests = _send_unit(node.send, self._router, self._calls, asking=asking)
        history.written = True
        try:
            return _outcome_at(node, self._router, await _shielded(_replies(requests, asking=asking)))
        except CancelledError:
            # Once its first word is written the rest has to follow: a MULTI without its EXEC would swallow what others
            # send.  Until then it is taken back as a whole.
            if node.has_unsent(requests[0]):
                history.written = False
                for request in requests:
                    request.cancel()
            raise


def _outcome_at(node: NodeConnection, router: Router, replies: list[Any]) -> list[Any]:
    """What the replies of a node come to; it is remembered if it has refused MULTI."""
    try:
        return outcome(replies)
    except TransactionRefused as error:
        node.multi_refusal = router.clock.seconds(), str(error.__cause__ or error)
        raise


async def _ask_for_multi(router: Router, node: NodeConnection) -> None:
    """Raise TransactionRefused if a node has refused MULTI; once in a while an empty transaction asks it again."""
    now = router.clock.seconds()
    refused_at, why = node.multi_refusal or (now, "")
    if now - refused_at >= _REFUSAL_KEPT:
        multi, executed = await _replies(_send_unit(node.send, router, [], asking=False), asking=False)
        if not isinstance(multi, ReplyError):
            if isinstance(executed, Exception):
                raise executed
            node.multi_refusal = None
            return
        node.multi_refusal = now, str(multi)
    raise TransactionRefused(f"nothing was sent, since {node.address} does not accept MULTI: {why}")


def _send_unit(send: Callable[[Request], None], router: Router, calls: list[_Queued], *, asking: bool) -> list[Call]:
    words: list[tuple[Command, Packed]] = [(_ASKING, pack(("ASKING",)))] if asking else []
    words += [(_MULTI, pack(("MULTI",))), *((command, payload) for command, payload, _ in calls)]
    words.append((_EXEC, pack(("EXEC",))))
    now = router.clock.seconds()
    requests: list[Call] = []
    for command, payload in words:
        request = Call(payload, command, THIS_NODE, now, inf, canceller=router.note_cancel)
        if requests:
            # Only the first may be turned away: later it would be half a transaction.
            request.history = History()
        requests.append(request)
    for request in requests:
        send(request)
    return requests


def _replies(requests: list[Call], *, asking: bool) -> Deferred[list[Any]]:
    """The replies or errors of MULTI, the commands and EXEC."""
    ended: Deferred[Any] = DeferredList(requests, consumeErrors=True)
    return ended.addCallback(lambda pairs: [value if good else value.value for good, value in pairs][asking:])


def _shielded(deferred: Deferred[_T]) -> Deferred[_T]:
    shield: Deferred[_T] = Deferred()

    def pass_on(result: Any) -> None:
        if not shield.called:
            shield.callback(result)

    deferred.addCallback(pass_on)
    return shield


def _check_watch(error: ReplyError) -> None:
    """What was watched may not be here any more; the next try goes where it is."""
    if error.code in NOT_HERE_OR_NOT_NOW:
        raise WatchError(f"the watch is lost: {error}", lost=True) from error


def _results(replies: list[Any], calls: list[_Queued], raise_first: bool) -> list[Any]:
    results: list[Any] = []
    for reply, (_, _, convert) in zip(replies, calls, strict=True):
        failed = isinstance(reply, Exception)
        if failed and raise_first:
            raise reply
        results.append(reply if failed or convert is None else convert(reply))
    return results


def _slot_of(command: Command, args: tuple[Arg, ...]) -> int:
    """Raises RoutingError for a command that is not for one slot."""
    command.check_allowed(args)
    plan = plan_command(command, args, split=False)
    if plan.scope is not Scope.ONE:
        raise RoutingError(f"{command.name} is for several nodes, and a transaction is on one")
    return plan.slot


async def optimistically(
    clock: Any,
    session: Callable[[], WatchSession[Text]],
    function: Callable[[WatchSession[Text]], Awaitable[_T]],
    attempts: int,
) -> _T:
    """Run ``function`` with a fresh session until no watched key has changed meanwhile."""
    for attempt in range(1, attempts + 1):
        try:
            async with session() as watching:
                return await function(watching)
        except WatchError as error:
            if attempt == attempts:
                raise
            if error.lost:
                await deferLater(clock, _PAUSE)
    raise ValueError(f"attempts is {attempts}, below 1")
