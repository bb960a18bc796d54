"""Keeping the slot map fresh: when to ask, whom to ask, and what to believe."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from .errors import ClientClosed, ClusterUnavailable, ReplyError, TopologyError, ValkeyError
from .node import NodeConnection
from .options import Options
from .reading import SOURCES, as_slots_tell
from .statistics import Statistics
from .topology import Shard, lost_most_nodes, same, same_view

_log = Logger()
_T = TypeVar("_T")

# A demoted primary asks for a refresh outside of the rate limit: this is the limit of those.
_URGENT_INTERVAL = 0.05
# The next node is asked when this one has failed, or has not answered for this long.
_HEDGE = 0.4
# Above this many nodes a refresh starts late by chance, so that a fleet does not ask at once.
_LARGE_CLUSTER = 100
# CLUSTER SLOTS repeats the nodes of a shard for each of its ranges.  Of 1,000 nodes, 16,384 ranges are 4 MB and 82,000
# lists, which have the garbage collector stop everything for 12 ms; CLUSTER SHARDS says it in 0.5 MB and 2,500 lists.
_MANY_RANGES = 2048


class Inquiry:
    """Asks nodes one after the other until one gives an answer that can be used."""

    def __init__(
        self, clock: Any, nodes: Iterable[NodeConnection], ask: Callable[[NodeConnection], Deferred[Any]]
    ) -> None:
        self.answered: Deferred[tuple[NodeConnection, Any]] = Deferred()
        self._clock = clock
        self._nodes = iter(nodes)
        self._ask = ask
        self._asked: dict[NodeConnection, Deferred[Any]] = {}
        self._failures: list[tuple[str, str]] = []
        self._timer: IDelayedCall | None = None
        self._done = False
        self._next()

    def stop(self) -> None:
        """Ask nobody any more."""
        if not self._done:
            self._finish()
            self.answered.errback(ClientClosed("the client was closed"))

    def _next(self) -> None:
        node = next(self._nodes, None)
        if node is None:
            if not self._asked and not self._done:
                self._finish()
                self.answered.errback(ClusterUnavailable("no node gave a slot map", self._failures))
            return
        self._timer = self._clock.callLater(_HEDGE, self._overdue)
        asking = self._ask(node)
        self._asked[node] = asking
        asking.addCallbacks(self._good, self._bad, callbackArgs=(node,), errbackArgs=(node,))

    def _overdue(self) -> None:
        self._timer = None
        self._next()

    def _good(self, answer: Any, node: NodeConnection) -> None:
        self._asked.pop(node, None)
        if not self._done:
            self._finish()
            self.answered.callback((node, answer))

    def _bad(self, failure: Any, node: NodeConnection) -> None:
        self._asked.pop(node, None)
        if self._done:
            return
        if not failure.check(ValkeyError):
            self._finish()
            self.answered.errback(failure)
            return
        address = str(node.address)
        reason = str(failure.value)
        self._failures.append((address, reason.removeprefix(address).lstrip(": ")))
        if self._timer is not None:
            timer, self._timer = self._timer, None
            timer.cancel()
            self._next()
        elif not self._asked:
            self._next()

    def _finish(self) -> None:
        self._done = True
        if self._timer is not None:
            timer, self._timer = self._timer, None
            timer.cancel()
        for asking in list(self._asked.values()):
            asking.cancel()
        self._asked.clear()


class TopologyRefresher:
    """Runs one refresh at a time, at most one in ``refresh_interval``, and one more if asked meanwhile."""

    def __init__(
        self,
        clock: Any,
        options: Options,
        *,
        candidates: Callable[[], list[NodeConnection]],
        node_at: Callable[[Any], NodeConnection],
        current: Callable[[], tuple[Shard, ...]],
        install: Callable[[tuple[Shard, ...]], None],
        failed: Callable[[Exception], None],
        needed: Callable[[], bool],
        statistics: Statistics,
    ) -> None:
        self._clock = clock
        self._options = options
        self._candidates = candidates
        self._node_at = node_at
        self._current = current
        self._install = install
        self._failed = failed
        self._needed = needed
        self._statistics = statistics
        # Whether a server has refused CLUSTER SHARDS.
        self._without_shards = False
        self._running = False
        self._again = False
        self._closed = False
        self._started_at = float("-inf")
        self._inquiry: Inquiry | None = None
        self._timer: IDelayedCall | None = None
        self._timer_at = float("inf")
        self._waiters: list[Deferred[None]] = []

    def trigger(self, *, urgent: bool = False) -> None:
        """Ask for a refresh, within the rate limit or, if urgent, nearly at once."""
        if self._closed:
            return
        if self._running:
            self._again = True
            return
        interval = _URGENT_INTERVAL if urgent else self._options.refresh_interval
        self._schedule(self._started_at + interval + (0.0 if urgent else self._jitter()))

    def refresh(self) -> Deferred[None]:
        """Refresh now; fire when a map asked for from now on is in force, or fail with why there is none."""
        waiter: Deferred[None] = Deferred()
        if self._closed:
            waiter.errback(ClientClosed("the client is closed"))
            return waiter
        self._waiters.append(waiter)
        if self._running:
            self._again = True
        else:
            self._start()
        return waiter

    def close(self) -> None:
        """Ask nobody any more."""
        self._closed = True
        self._cancel_timer()
        inquiry, self._inquiry = self._inquiry, None
        if inquiry is not None:
            inquiry.stop()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(ClientClosed("the client was closed"))

    def _jitter(self) -> float:
        nodes = sum(len(shard.nodes) for shard in self._current())
        return self._options.random.uniform(0, (nodes - _LARGE_CLUSTER) / 100) if nodes > _LARGE_CLUSTER else 0.0

    def _schedule(self, at: float) -> None:
        if at >= self._timer_at:
            return
        self._cancel_timer()
        delay = at - self._clock.seconds()
        if delay <= 0:
            self._start()
        else:
            self._timer_at = at
            self._timer = self._clock.callLater(delay, self._start)

    def _cancel_timer(self) -> None:
        self._timer_at = float("inf")
        if self._timer is not None:
            timer, self._timer = self._timer, None
            if timer.active():
                timer.cancel()

    def _start(self) -> None:
        self._cancel_timer()
        self._running = True
        self._again = False
        self._statistics.refreshes += 1
        self._started_at = self._clock.seconds()
        waiters, self._waiters = self._waiters, []
        refreshed = Deferred.fromCoroutine(self._refresh())
        refreshed.addCallback(self._succeeded)
        refreshed.addErrback(self._went_wrong)
        refreshed.addBoth(_fire, waiters)

    async def _refresh(self) -> tuple[Shard, ...]:
        node, shards = await self._inquire(self._candidates())
        known = self._current()
        if await self._in_steps(same(known, shards)):
            return known
        if lost_most_nodes(known, shards):
            await self._second_opinion(node, shards)
        return shards

    async def _second_opinion(self, teller: NodeConnection, shards: tuple[Shard, ...]) -> None:
        """Believe a map that lost most known nodes only if another node says the same, or nobody else says a thing."""
        told = [self._node_at(n.address) for shard in shards for n in shard.nodes if n.address is not None]
        others = [node for node in dict.fromkeys([*told, *self._candidates()]) if node is not teller]
        try:
            other, view = await self._inquire(others)
        except ClusterUnavailable:
            return
        if not same_view(shards, view):
            raise TopologyError(
                f"{teller.address} tells of a cluster without most of the known nodes, and {other.address} of another"
            )

    async def _inquire(self, nodes: Iterable[NodeConnection]) -> tuple[NodeConnection, tuple[Shard, ...]]:
        inquiry = Inquiry(self._clock, nodes, lambda node: Deferred.fromCoroutine(self._ask(node)))
        self._inquiry = inquiry
        return await inquiry.answered

    async def _ask(self, node: NodeConnection) -> tuple[Shard, ...]:
        source = self._options.topology_source
        if source == "auto":
            shards = await self._by_shard(node) or await self._ask_for("slots", node)
        else:
            shards = await self._ask_for(source, node)
        if not any(shard.slots for shard in shards):
            raise TopologyError(f"{node.address} knows no node that serves a slot; is the cluster formed?")
        return shards

    async def _ask_for(self, source: str, node: NodeConnection) -> tuple[Shard, ...]:
        command, read = SOURCES[source]
        return await self._in_steps(read(await node.call(*command), node.address, self._options.tls))

    async def _by_shard(self, node: NodeConnection) -> tuple[Shard, ...] | None:
        """A map in many pieces as CLUSTER SHARDS tells it; None if that is no help, or not to be had."""
        in_pieces = sum(len(shard.slots) for shard in self._current()) > _MANY_RANGES
        # It names a port for TLS and one without; which of them an endpoint of the application's takes, we cannot tell.
        if not in_pieces or self._without_shards or self._options.endpoint_for is not None:
            return None
        try:
            return as_slots_tell(await self._ask_for("shards", node))
        except TopologyError:
            return None
        except ReplyError as error:
            if error.code not in ("ERR", "NOPERM"):
                raise
            # It is older than 7.0, or we may not ask that.
            self._without_shards = True
            return None

    async def _in_steps(self, work: Generator[None, None, _T]) -> _T:
        """Do some work, and let others do something between its steps."""
        while True:
            try:
                next(work)
            except StopIteration as done:
                result: _T = done.value
                return result
            await deferLater(self._clock, 0)

    def _succeeded(self, shards: tuple[Shard, ...]) -> None:
        if not self._closed:
            self._install(shards)
        self._ended(self._options.refresh_period)

    def _went_wrong(self, failure: Any) -> Any:
        if self._closed:
            return failure
        self._ended(self._options.refresh_interval if self._needed() else self._options.refresh_period)
        if not failure.check(ValkeyError):
            _log.failure("a refresh of the slot map went wrong", failure=failure)
        self._failed(failure.value)
        return failure

    def _ended(self, next_in: float | None) -> None:
        self._inquiry = None
        self._running = False
        if self._closed:
            return
        if self._again:
            next_in = self._options.refresh_interval
        if self._waiters:
            self._start()
        elif next_in is not None:
            self._schedule(self._clock.seconds() + next_in * self._options.random.uniform(0.95, 1.05))


def _fire(result: Any, waiters: list[Deferred[None]]) -> None:
    for waiter in waiters:
        if getattr(result, "check", None) is not None:
            waiter.errback(result)
        else:
            waiter.callback(None)
