"""Units: blocking commands and transactions, which are sent as a whole and repeated as a whole.

A single command's request moves from node to node by itself.  A unit is a coroutine that is run anew at each node, on a
connection that it has to itself or in one go on the shared one; here is what takes it from node to node, and what ends
it with the client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from math import inf
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from ..commands import Command, can_fail_after_writing
from ..commands.encoder import Arg, Packed, pack
from ..commands.overrides import block_time
from ..connection.exclusive_pool import Lease
from ..connection.node import NodeConnection
from ..errors import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    MaybeExecuted,
    ReplyError,
)
from ..options import Options
from ..requests.backoff import Backoff
from ..requests.request import Call, History, timeout_error
from ..slots import THIS_NODE

_T = TypeVar("_T")

#: Does its work at a node, behind ASKING or not, and notes in the history that something was written.
Unit = Callable[[NodeConnection, bool, History], Awaitable[_T]]


class UnitRouting(Protocol):
    """Node look-up and decisions on redirects, as `Recovery` has them."""

    def node_for(self, slot: int) -> NodeConnection | None:
        """The owner of a slot, or any node; None, and a refresh is asked for, if there is none."""

    def redirect(
        self, node: NodeConnection, error: ReplyError, history: History, command: Command, slot: int
    ) -> tuple[NodeConnection | None, bool]:
        """Where a unit goes after an error reply (None: after a pause, where the map says), and whether after ASKING.

        Raises ``error`` if it is the caller's.
        """

    def unreachable(self, node: NodeConnection, reason: Exception) -> None:
        """A unit could not be sent, or lost its replies."""


class UnitRunner:
    """Runs units at the node of their slot, and knows all that are under way."""

    def __init__(
        self, clock: Any, options: Options, routing: UnitRouting, note_cancel: Callable[[Deferred[Any]], None]
    ) -> None:
        self._clock = clock
        self._options = options
        self._routing = routing
        self._note_cancel = note_cancel
        self._under_way: set[Deferred[Any]] = set()
        self._closed = False
        self._aborted = False
        self._when_done: list[Deferred[None]] = []

    def run(
        self, command: Command, slot: int, unit: Unit[_T], timeout: float | None, repeatable: bool = False
    ) -> Deferred[_T]:
        """Run ``unit`` until it is not redirected; it is cancelled when ``timeout`` seconds have passed.

        Fails as a single command does.  ``repeatable`` has it run again after its replies were lost.
        """
        history = History()
        return self.track(self._run(command, slot, unit, history, repeatable), command.name, timeout, history)

    def track(
        self, coroutine: Coroutine[Any, Any, _T], name: str, timeout: float | None, history: History
    ) -> Deferred[_T]:
        """Run a coroutine until it ends, the client ends, or ``timeout`` seconds have passed."""
        if self._closed:
            coroutine.close()
            return fail(ClientClosed("the client is closed"))
        done: Deferred[_T] = Deferred.fromCoroutine(coroutine)
        if timeout is not None and timeout != inf:

            def timed_out(_: Any, __: float) -> Failure:
                return Failure(timeout_error(name, timeout, history))  # type: ignore[no-untyped-call]

            done.addTimeout(timeout, self._clock, timed_out)
        return self.watch(done, history)

    def watch(self, done: Deferred[_T], history: History) -> Deferred[_T]:
        """Have the client's close wait for something, and its abort end it."""
        if not done.called:
            self._under_way.add(done)
        return done.addBoth(self._ended, done, history)

    def close(self) -> Deferred[None]:
        """Take no more; fires when those under way have ended, which are not repeated any more."""
        self._closed = True
        if not self._under_way:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._when_done.append(waiter)
        return waiter

    def abort(self) -> None:
        """End all of them."""
        self._closed = self._aborted = True
        for done in list(self._under_way):
            done.cancel()

    def _ended(self, result: Any, done: Deferred[Any], history: History) -> Any:
        self._under_way.discard(done)
        if not self._under_way:
            waiters, self._when_done = self._when_done, []
            for waiter in waiters:
                waiter.callback(None)
        if self._aborted and isinstance(result, Failure) and isinstance(result.value, CancelledError):
            return Failure(ClientClosed("the client was aborted", maybe_executed=history.written))  # type: ignore[no-untyped-call]
        return result

    async def _run(self, command: Command, slot: int, unit: Unit[_T], history: History, repeatable: bool) -> _T:
        node: NodeConnection | None = None
        asking = False
        # Whether an earlier attempt may have been executed.
        written = False
        backoff = Backoff(self._options.random)
        while True:
            node = node or self._routing.node_for(slot)
            if node is not None:
                try:
                    return await unit(node, asking, history)
                except ReplyError as error:
                    history.attempts += 1
                    history.last = str(error)
                    history.written = written
                    node, asking = self._routing.redirect(node, error, history, command, slot)
                    # A module's command may have written before it failed.
                    history.written = written = written or can_fail_after_writing(command)
                except (ConnectFailed, ConnectionLost) as error:
                    history.attempts += 1
                    history.last = str(error)
                    lost = isinstance(error, MaybeExecuted) and error.maybe_executed
                    history.written = written = written or lost
                    self._routing.unreachable(node, error)
                    if lost and not repeatable:
                        raise
                    node, asking = None, False
                self._check_open(history)
            if node is None:
                await deferLater(self._clock, backoff.next())
                self._check_open(history)

    def _check_open(self, history: History) -> None:
        if self._closed:
            raise ClientClosed("the client was closed", maybe_executed=history.written)

    # ---- single commands that need more than the shared connection

    def block(
        self, command: Command, args: Sequence[Arg], slot: int, timeout: float | None, repeatable: bool
    ) -> Deferred[Any]:
        """Send a command whose reply the server may hold back, on a connection of its own.

        ``timeout`` counts from when the server should have ended it; a command that blocks for ever has none.
        """
        call = _BlockingCall(command, tuple(args), self._clock.seconds())
        unit = partial(self._send_blocking, call)
        return self.run(command, slot, unit, call.limit(timeout), repeatable)

    def block_on(
        self, node: NodeConnection, command: Command, args: Sequence[Arg], timeout: float | None
    ) -> Deferred[Any]:
        """The same at one node: no redirect, no repetition."""
        call, history = _BlockingCall(command, tuple(args), self._clock.seconds()), History()
        return self.track(self._send_blocking(call, node, False, history), command.name, call.limit(timeout), history)

    def apart(
        self, node: NodeConnection, command: Command, args: Sequence[Arg], timeout: float | None
    ) -> Deferred[Any]:
        """Send a command to one node past all that is under way there, such as the script that it is to kill."""
        payload, history = pack(args), History()
        return self.track(self._send_apart(node, command, lambda: payload, history), command.name, timeout, history)

    async def _send_blocking(self, call: _BlockingCall, node: NodeConnection, asking: bool, history: History) -> Any:
        payload = lambda: call.payload(self._clock.seconds())  # noqa: E731
        return await self._send_apart(node, call.command, payload, history, blocked=True, asking=asking)

    async def _send_apart(
        self,
        node: NodeConnection,
        command: Command,
        payload: Callable[[], Packed],
        history: History,
        *,
        blocked: bool = False,
        asking: bool = False,
    ) -> Any:
        """Send a command on an exclusive connection, as it stands when there is one."""
        lease = await node.pool.lease()
        clean = False
        try:
            lease.blocked = blocked
            history.written = True
            reply = await self.send_on(lease, command, payload(), asking=asking)
            clean = True
            return reply
        except ReplyError:
            clean = True
            raise
        finally:
            node.pool.give_back(lease, clean=clean)

    def send_on(self, lease: Lease, command: Command, payload: Packed, *, asking: bool = False) -> Deferred[Any]:
        """Send a command on an exclusive connection; fires with the reply as the server gave it."""
        call = Call(payload, command, THIS_NODE, self._clock.seconds(), inf, canceller=self._note_cancel)
        if lease.connection.ended:
            call.fail(ConnectionLost(f"{lease.connection.peer}: the connection has ended"))
        elif asking:
            lease.connection.ask(call)
        else:
            lease.connection.send(call)
        return call


class _BlockingCall:
    """One blocking command, and how long it blocks."""

    def __init__(self, command: Command, args: tuple[Arg, ...], now: float) -> None:
        self.command = command
        self._args = args
        place = block_time(command.name, args)
        self._place, self._unit = place if place is not None and place[0] < len(args) else (0, 1.0)
        # 0 is without end, or not a time at all, of which the server complains.
        self._seconds = _number(args[self._place]) / self._unit if self._place else 0.0
        self._ends_at = now + self._seconds
        # Raises for what has no wire form.
        self._payload = pack(args)

    def limit(self, timeout: float | None) -> float | None:
        """How long to wait for its reply."""
        if timeout is None or (self._place and not self._seconds):
            return None
        return self._seconds + timeout

    def payload(self, now: float) -> Packed:
        """The command's bytes, with the time that is left."""
        left = max(self._ends_at - now, 0.001)
        # What is left after the few milliseconds that a connection takes is as good as all.
        if not self._seconds or left >= self._seconds - 0.05:
            return self._payload
        time = left if self._unit == 1.0 else max(int(left * self._unit), 1)
        return pack((*self._args[: self._place], time, *self._args[self._place + 1 :]))


def _number(arg: Arg) -> float:
    try:
        return max(float(arg), 0.0)
    except (TypeError, ValueError):
        return 0.0
