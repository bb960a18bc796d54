"""WAIT and WAITAOF for a whole client: how many replicas have every write since the last wait that succeeded.

A server counts for the connection that asks.  So each node is asked on the shared connection, which carried the writes,
for a millisecond at a time.  What was written on a connection that has been replaced can never be confirmed: the next
wait fails.
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
from ..requests.request import MarkedCall
from .retry_policy import is_from_demoted

# How long a node is left alone before it is asked again.
_PAUSE = 0.01
# Several callers may share the client, and the lost writes may be those of any of them.  So after the first wait that
# failed, every wait fails that begins within this many seconds.
_TOLD_FOR = 1.0
# Addresses of which losses are kept apart.
_MAX_LOST = 1000


class ReplicaWait:
    """Asks for the writes that can be confirmed, and fails for those that can not."""

    def __init__(
        self,
        clock: IReactorTime,
        options: Options,
        primaries: Callable[[], list[NodeConnection]],
        carriers: Callable[[], list[NodeConnection]],
        noticed: Callable[[NodeConnection, ReplyError], None],
    ) -> None:
        """``carriers`` gives the nodes whose connections carry unconfirmed writes; ``noticed`` is told of errors."""
        #: Whether the client ends, so that waits under way give what they have.
        self.closed = False
        self._clock = clock
        self._options = options
        self._primaries = primaries
        self._carriers = carriers
        self._noticed = noticed
        # Why writes there cannot be confirmed, and until when waits fail for it (infinity: none has failed yet).
        self._lost: dict[Address, tuple[str, float]] = {}

    def writes_lost(self, address: Address, why: str) -> None:
        """Note that a connection carried commands whose effect no wait can confirm any more."""
        self._lost.pop(address, None)
        self._lost[address] = (why, inf)
        if len(self._lost) > _MAX_LOST:
            del self._lost[next(iter(self._lost))]

    async def wait(self, args: tuple[Arg, ...], only: NodeConnection | None = None) -> Any:
        """The least that any primary says, or what ``only`` says.

        Raises WritesUnconfirmed; ReplyError; CommandTimeout, ConnectionLost or ConnectFailed for a node that does not
        answer.
        """
        now = self._clock.seconds()
        seconds = _count(args[-1]) / 1000 if len(args) > 1 else 0.0
        ends_at = now + seconds if seconds else inf
        # A wait without end does not wait without end for a node that cannot be asked.
        patience = min(ends_at, now + (self._options.timeout or inf))
        backoff = Backoff(self._options.random)
        while True:
            self._check(only)
            try:
                return await self._ask_all(args, only, ends_at)
            except (ConnectFailed, ConnectionLost, ReplyError) as error:
                self._check(only)
                # The node carried no writes.  Its successor is asked as soon as the slot map shows it.
                passing = only is None and (not isinstance(error, ReplyError) or is_from_demoted(error))
                if not passing or self.closed or self._clock.seconds() >= patience:
                    raise
            await deferLater(self._clock, backoff.next())

    async def _ask_all(self, args: tuple[Arg, ...], only: NodeConnection | None, ends_at: float) -> Any:
        nodes = [only] if only is not None else list(dict.fromkeys([*self._primaries(), *self._carriers()]))
        asking = [Deferred.fromCoroutine(self._ask(args, node, only, ends_at)) for node in nodes]
        try:
            calls = await gatherResults(asking, consumeErrors=True)
        except FirstError as first:
            first.subFailure.raiseException()
        finally:
            # When one has failed the others are not asked any more.
            for each in asking:
                each.cancel()
        self._check(only)
        replies = [reply for reply, _ in calls]
        # Waiting for no replica confirms nothing.
        wants_any = any(_count(arg) > 0 for arg in args[1:-1])
        for reply, call in calls:
            if wants_any and _is_enough(reply, args):
                call.confirm()
        return [min(column) for column in zip(*replies, strict=True)] if isinstance(replies[0], list) else min(replies)

    async def _ask(
        self, args: tuple[Arg, ...], node: NodeConnection, only: NodeConnection | None, ends_at: float
    ) -> tuple[Any, MarkedCall]:
        """Ask one node until it says enough, or the time is up."""
        numbers = [_count(arg) for arg in args[1:]]
        # With other numbers the server says what is wrong with them, and does not block.
        words = (*args[:-1], 1) if len(numbers) > 1 and min(numbers) >= 0 else args
        while True:
            self._check(only)
            call = node.marked_call(*words)
            try:
                reply = await call
            except ReplyError as error:
                self._noticed(node, error)
                if is_from_demoted(error) and node.give_up_unconfirmed():
                    self.writes_lost(node.address, "the node that carried commands is no primary any more")
                raise
            if not _is_answer(reply, args):
                raise ProtocolError(f"{node.address} answered with something else than numbers of replicas")
            if _is_enough(reply, args) or self._clock.seconds() >= ends_at or self.closed:
                return reply, call
            await deferLater(self._clock, _PAUSE)

    def _check(self, only: NodeConnection | None) -> None:
        """Raise WritesUnconfirmed if there are writes that cannot be confirmed."""
        now = self._clock.seconds()
        self._lost = {address: lost for address, lost in self._lost.items() if now < lost[1]}
        found = {a: why for a, (why, _) in self._lost.items() if only is None or only.address == a}
        if not found:
            return
        self._lost |= {address: (why, min(self._lost[address][1], now + _TOLD_FOR)) for address, why in found.items()}
        reasons = "; ".join(f"{address}: {why}" for address, why in found.items())
        raise WritesUnconfirmed(
            f"not all writes since the last wait that succeeded can be confirmed: {reasons}. "
            f"Every wait fails for {_TOLD_FOR:g} s from now on, then later writes are counted",
            maybe_executed=True,
        )


def _is_answer(reply: Any, args: tuple[Arg, ...]) -> bool:
    """Whether a reply has a number for each that was asked for."""
    got = reply if isinstance(reply, list) else [reply]
    return len(got) == len(args[1:-1]) and all(type(number) is int for number in got)


def _is_enough(reply: Any, args: tuple[Arg, ...]) -> bool:
    """Whether a node has told as much as was asked for."""
    got = reply if isinstance(reply, list) else [reply]
    return all(have >= _count(want) for have, want in zip(got, args[1:-1], strict=True))


def _count(arg: Arg) -> int:
    """A number of the caller's, or -1."""
    try:
        return int(arg)
    except (TypeError, ValueError):
        return -1
