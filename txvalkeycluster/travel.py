"""What goes out as a whole and is repeated as a whole: a blocking command, a transaction.

A single command's request moves from node to node by itself.  A unit is a coroutine that is run anew at each node, on a
connection that it has to itself or in one go on the shared one; here is what takes it from node to node.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from .commands import Command
from .commands.by_hand import block_time
from .errors import CommandTimeout, ConnectFailed, ConnectionLost, MaybeExecuted, ReplyError
from .node import NodeConnection
from .options import Options
from .pack import Arg, pack
from .pool import Lease
from .request import Request, Trail
from .slots import THIS_NODE

_T = TypeVar("_T")
# The first and the longest pause before a unit is tried again.
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.06
# WAIT on a shared connection holds it up for a millisecond, this often.
_WAIT_PAUSE = 0.01


class Guide(Protocol):
    """Who knows the way: the router."""

    def node_for(self, slot: int) -> NodeConnection | None:
        """The owner of a slot, or any node; None, and a refresh is asked for, if there is none."""

    def redirect(self, node: NodeConnection, error: ReplyError, trail: Trail) -> tuple[NodeConnection | None, bool]:
        """Where a unit goes after an error reply (None: after a pause, where the map says), and whether after ASKING.

        Raises ``error`` if it is the caller's.
        """

    def unreachable(self, node: NodeConnection, reason: Exception) -> None:
        """A unit could not be sent, or lost its replies."""


class Travel:
    """Takes units to where their slot is."""

    def __init__(self, clock: Any, options: Options, guide: Guide) -> None:
        self._clock = clock
        self._options = options
        self._guide = guide

    def run(
        self,
        name: str,
        slot: int,
        unit: Callable[[NodeConnection, bool], Awaitable[_T]],
        timeout: float | None,
        repeatable: bool = False,
    ) -> Deferred[_T]:
        """Run ``unit(node, asking)`` until it is not redirected; it is cancelled when ``timeout`` seconds have passed.

        Fails as a single command does.  ``repeatable`` has it run again after its replies were lost.
        """
        trail = Trail()
        done: Deferred[_T] = Deferred.fromCoroutine(self._run(slot, unit, trail, repeatable))
        return self.limited(done, name, timeout, trail)

    def limited(self, done: Deferred[_T], name: str, timeout: float | None, trail: Trail) -> Deferred[_T]:
        """Cancel it after ``timeout`` seconds, which makes a CommandTimeout of it."""
        if timeout is not None and timeout != inf:
            done.addTimeout(timeout, self._clock, lambda _, __: _timed_out(name, timeout, trail))
        return done

    async def _run(
        self, slot: int, unit: Callable[[NodeConnection, bool], Awaitable[_T]], trail: Trail, repeatable: bool
    ) -> _T:
        node: NodeConnection | None = None
        asking = False
        pause = _FIRST_PAUSE
        while True:
            node = node or self._guide.node_for(slot)
            if node is not None:
                try:
                    return await unit(node, asking)
                except ReplyError as error:
                    trail.attempts += 1
                    trail.last = str(error)
                    node, asking = self._guide.redirect(node, error, trail)
                except (ConnectFailed, ConnectionLost) as error:
                    trail.attempts += 1
                    trail.last = str(error)
                    trail.written |= isinstance(error, MaybeExecuted) and error.maybe_executed
                    self._guide.unreachable(node, error)
                    if trail.written and not repeatable:
                        raise
                    node, asking = None, False
            if node is None:
                await deferLater(self._clock, self._options.random.uniform(pause / 2, pause))
                pause = min(2 * pause, _LONGEST_PAUSE)

    # ---- commands that block

    def block(
        self, command: Command, args: Sequence[Arg], slot: int, timeout: float | None, repeatable: bool
    ) -> Deferred[Any]:
        """Send a command whose reply the server may hold back, on a connection of its own.

        ``timeout`` counts from when the server should have ended it; a command that blocks for ever has none.
        """
        call = _BlockingCall(self._clock, command, tuple(args))
        limit = None if timeout is None or call.seconds == 0 else call.seconds + timeout
        return self.run(command.name, slot, call.send, limit, repeatable)

    def block_on(
        self, node: NodeConnection, command: Command, args: Sequence[Arg], timeout: float | None
    ) -> Deferred[Any]:
        """The same at one node: no redirect, no repetition."""
        call = _BlockingCall(self._clock, command, tuple(args))
        done: Deferred[Any] = Deferred.fromCoroutine(call.send(node, False))
        limit = None if timeout is None or call.seconds == 0 else call.seconds + timeout
        return self.limited(done, command.name, limit, Trail())

    def apart(
        self, node: NodeConnection, command: Command, args: Sequence[Arg], timeout: float | None
    ) -> Deferred[Any]:
        """Send a command to one node past all that is under way there, such as the script that it is to kill."""

        done = Deferred.fromCoroutine(_send_apart(self._clock, node, command, lambda: args))
        return self.limited(done, command.name, timeout, Trail())

    def wait(self, args: Sequence[Arg], nodes: Sequence[NodeConnection]) -> Deferred[Any]:
        """WAIT and WAITAOF: how many replicas have what this client's connections to the nodes have written.

        It counts the writes of the connection it is sent on, so it goes over the shared ones, a millisecond at a time.
        """
        return gatherResults(
            [Deferred.fromCoroutine(self._wait(tuple(args), node)) for node in nodes], consumeErrors=True
        ).addErrback(_first_error).addCallback(_least)

    async def _wait(self, args: tuple[Arg, ...], node: NodeConnection) -> Any:
        name, *wanted, _ = args
        place, unit = block_time("WAIT", args)
        limit = _number(args[place])
        ends_at = inf if limit == 0 else self._clock.seconds() + limit / unit
        while True:
            reply = await node.call(name, *wanted, 1)
            got = reply if isinstance(reply, list) else [reply]
            enough = all(have >= int(want) for have, want in zip(got, wanted, strict=True))
            if enough or self._clock.seconds() >= ends_at:
                return reply
            await deferLater(self._clock, _WAIT_PAUSE)


class _BlockingCall:
    """One blocking command, sent with the time that is left."""

    def __init__(self, clock: Any, command: Command, args: tuple[Arg, ...]) -> None:
        self._clock = clock
        self._command = command
        self._args = args
        self._place, self._unit = block_time(command.name, args)
        #: How long it blocks; 0 is without end, or not a time at all, of which the server complains.
        self.seconds = _number(args[self._place]) / self._unit if self._place < len(args) else 0.0
        self._ends_at = clock.seconds() + self.seconds

    async def send(self, node: NodeConnection, asking: bool) -> Any:
        return await _send_apart(self._clock, node, self._command, self._words, blocked=True, asking=asking)

    def _words(self) -> tuple[Arg, ...]:
        left = max(self._ends_at - self._clock.seconds(), 0.001)
        if not self.seconds or left >= self.seconds:
            return self._args
        time = left if self._unit == 1.0 else max(int(left * self._unit), 1)
        return (*self._args[: self._place], time, *self._args[self._place + 1 :])


async def _send_apart(
    clock: Any,
    node: NodeConnection,
    command: Command,
    words: Callable[[], Sequence[Arg]],
    *,
    blocked: bool = False,
    asking: bool = False,
) -> Any:
    """Send a command on an exclusive connection, as it stands when there is one."""
    lease = await node.pool.lease()
    clean = False
    try:
        lease.blocked = blocked
        reply = await send_on(lease, clock, command, words(), asking=asking)
        clean = True
        return reply
    except ReplyError:
        clean = True
        raise
    finally:
        node.pool.give_back(lease, clean=clean)


def send_on(lease: Lease, clock: Any, command: Command, args: Sequence[Arg], *, asking: bool = False) -> Deferred[Any]:
    """Send a command on an exclusive connection; fires with the reply as the server gave it."""
    deferred: Deferred[Any] = Deferred()
    request = Request(pack(args), deferred, command, THIS_NODE, clock.seconds(), inf)
    if lease.connection.ended:
        deferred.errback(ConnectionLost(f"{lease.connection.peer}: the connection has ended"))
    elif asking:
        lease.connection.ask(request)
    else:
        lease.connection.send(request)
    return deferred


def _timed_out(name: str, timeout: float, trail: Trail) -> Failure:
    text = f"{name} had no reply within {timeout:.2f} s"
    if trail.attempts:
        text += f"; earlier attempts: {trail.attempts}, the last ended with: {trail.last}"
    return Failure(CommandTimeout(text, maybe_executed=True))  # type: ignore[no-untyped-call]


def _number(arg: Arg) -> float:
    try:
        return max(float(arg), 0.0)
    except (TypeError, ValueError):
        return 0.0


def _first_error(failure: Any) -> Any:
    return failure.value.subFailure


def _least(replies: list[Any]) -> Any:
    return [min(column) for column in zip(*replies, strict=True)] if isinstance(replies[0], list) else min(replies)
