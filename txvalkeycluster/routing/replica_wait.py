"""WAIT and WAITAOF for the whole client: how many replicas have all writes since the last successful wait.

A server counts the writes of the connection that asks (https://valkey.io/commands/wait/).  So each node is asked on the
shared connection, which sent the writes, with a timeout of one millisecond each time.  Writes on a connection that was
replaced can no longer be confirmed: the next wait fails.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from ..address import Address
from ..commands.encoder import Arg
from ..connection.node import NodeConnection
from ..errors import ConnectFailed, ConnectionLost, ProtocolError, ReplyError, WritesUnconfirmed
from ..options import Options
from ..requests.backoff import Backoff
from ..requests.internal import MarkedCall
from .retry_policy import is_from_demoted

# Seconds between two questions to the same node.
_PAUSE = 0.01
# Several callers can share the client, and each of them may have lost writes.  So after the first failed wait, all
# waits fail that start within this many seconds.
_TOLD_FOR = 1.0
# The most addresses for which a loss is remembered.
_MAX_LOST = 1000


class ReplicaWait:
    """Asks the nodes how many replicas have the writes, and fails if writes cannot be confirmed."""

    def __init__(
        self,
        clock: IReactorTime,
        options: Options,
        primaries: Callable[[], list[NodeConnection]],
        carriers: Callable[[], list[NodeConnection]],
        noticed: Callable[[NodeConnection, ReplyError], None],
    ) -> None:
        """Make it without lost writes.

        Args:
            clock: Measures time.
            options: The options of the client.
            primaries: Returns the primaries.
            carriers: Returns the nodes whose connections have unconfirmed writes.
            noticed: Called with a node and its error reply.
        """
        #: Whether the client is being closed.  Then pending waits return what they have.
        self.closed = False
        self._clock = clock
        self._options = options
        self._primaries = primaries
        self._carriers = carriers
        self._noticed = noticed
        # By node: why its writes cannot be confirmed, and until when waits fail (infinity: no wait has failed yet).
        self._lost: dict[Address, tuple[str, float]] = {}

    def writes_lost(self, address: Address, why: str) -> None:
        """Remember that writes on a connection can no longer be confirmed.

        Args:
            address: The node of the connection.
            why: The reason, for the error text.
        """
        self._lost.pop(address, None)
        self._lost[address] = (why, inf)
        if len(self._lost) > _MAX_LOST:
            del self._lost[next(iter(self._lost))]

    async def wait(self, args: tuple[Arg, ...], only: NodeConnection | None = None) -> int | list[int]:
        """Send WAIT or WAITAOF.

        Args:
            args: The name of the command and its arguments.
            only: The node to ask; None means all primaries.

        Returns:
            The smallest number that a node answered.  For WAITAOF, a list of the two smallest numbers.

        Raises:
            WritesUnconfirmed: Some writes can no longer be confirmed.
            ReplyError: A node answered with an error.
            CommandTimeout: A node did not answer.
            ConnectionLost: The connection to a node ended.
            ConnectFailed: A node could not be reached.
            ProtocolError: A reply is not valid.
        """
        now = self._clock.seconds()
        seconds = _count(args[-1]) / 1000 if len(args) > 1 else 0.0
        ends_at = now + seconds if seconds else inf
        # Even a wait without a timeout does not wait forever for a node that cannot be reached.
        patience = min(ends_at, now + (self._options.timeout or inf))
        backoff = Backoff(self._options.random)
        while True:
            self._check(only)
            try:
                return await self._ask_all(args, only, ends_at)
            except (ConnectFailed, ConnectionLost, ReplyError) as error:
                self._check(only)
                # The node has no unconfirmed writes.  The new primary is asked as soon as the slot map has it.
                passing = only is None and (not isinstance(error, ReplyError) or is_from_demoted(error))
                if not passing or self.closed or self._clock.seconds() >= patience:
                    raise
            await deferLater(self._clock, backoff.next())

    async def _ask_all(self, args: tuple[Arg, ...], only: NodeConnection | None, ends_at: float) -> int | list[int]:
        nodes = [only] if only is not None else list(dict.fromkeys([*self._primaries(), *self._carriers()]))
        asking = [Deferred.fromCoroutine(self._ask(args, node, only, ends_at)) for node in nodes]
        try:
            calls = await gatherResults(asking, consumeErrors=True)
        except FirstError as first:
            first.subFailure.raiseException()
        finally:
            # After a failure, do not ask the other nodes any more.
            for each in asking:
                each.cancel()
        self._check(only)
        replies = [reply for reply, _ in calls]
        # A wait for 0 replicas confirms nothing.
        wants_any = any(_count(arg) > 0 for arg in args[1:-1])
        for reply, call in calls:
            if wants_any and _is_enough(reply, args):
                call.confirm()
        return [min(column) for column in zip(*replies, strict=True)] if isinstance(replies[0], list) else min(replies)

    async def _ask(
        self, args: tuple[Arg, ...], node: NodeConnection, only: NodeConnection | None, ends_at: float
    ) -> tuple[Any, MarkedCall]:
        """Ask one node until enough replicas have the writes, or the time is up."""
        numbers = [_count(arg) for arg in args[1:]]
        # For invalid arguments, the server answers with an error and does not block.
        words = (*args[:-1], 1) if len(numbers) > 1 and min(numbers) >= 0 else args
        while True:
            self._check(only)
            call = node.marked_call(*words)
            try:
                reply = await call
            except ReplyError as error:
                self._noticed(node, error)
                if is_from_demoted(error) and node.give_up_unconfirmed():
                    self.writes_lost(node.address, "the node is no longer a primary")
                raise
            if not _is_answer(reply, args):
                raise ProtocolError(f"the reply of {node.address} does not have the form of this command's replies")
            if _is_enough(reply, args) or self._clock.seconds() >= ends_at or self.closed:
                return reply, call
            await deferLater(self._clock, _PAUSE)

    def _check(self, only: NodeConnection | None) -> None:
        """Raise WritesUnconfirmed if some writes cannot be confirmed."""
        now = self._clock.seconds()
        self._lost = {address: lost for address, lost in self._lost.items() if now < lost[1]}
        found = {a: why for a, (why, _) in self._lost.items() if only is None or only.address == a}
        if not found:
            return
        self._lost |= {address: (why, min(self._lost[address][1], now + _TOLD_FOR)) for address, why in found.items()}
        reasons = "; ".join(f"{address}: {why}" for address, why in found.items())
        raise WritesUnconfirmed(
            f"some writes since the last successful wait cannot be confirmed: {reasons}. "
            f"All waits fail for the next {_TOLD_FOR:g} s, and after that only later writes count",
            maybe_executed=True,
        )


def _is_answer(reply: Any, args: tuple[Arg, ...]) -> bool:
    """Tell whether a reply has one number for each number of replicas in the arguments."""
    got = reply if isinstance(reply, list) else [reply]
    return len(got) == len(args[1:-1]) and all(type(number) is int for number in got)


def _is_enough(reply: Any, args: tuple[Arg, ...]) -> bool:
    """Tell whether the numbers in a reply reach those in the arguments."""
    got = reply if isinstance(reply, list) else [reply]
    return all(have >= _count(want) for have, want in zip(got, args[1:-1], strict=True))


def _count(arg: Arg) -> int:
    """Return an argument as a number; -1 if it is not one."""
    try:
        return int(arg)
    except (TypeError, ValueError):
        return -1
