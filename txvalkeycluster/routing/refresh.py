"""Keeps the slot map up to date: when to ask for a new one, which nodes to ask, and which replies to accept."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..connection.factory import ClusterFactory
from ..connection.node import NodeConnection
from ..errors import ClientClosed, ClusterUnavailable, ReplyError, TopologyError, ValkeyError
from ..options import Options
from ..requests.deadlines import DeadlineTimer
from ..requests.timer import Timer
from ..slots import SLOT_COUNT
from ..statistics import Statistics
from ..topology.model import Shard, lost_most_nodes, same_view
from ..topology.parsers import SOURCES, as_slots_tell
from .slot_map import Draft, SlotMap

_log = Logger()
_T = TypeVar("_T")

# READONLY asks for an urgent refresh, to which refresh_interval does not apply.  These are the seconds between them.
_URGENT_INTERVAL = 0.05
# The next node is asked when a node fails, or does not answer for this many seconds.
_HEDGE = 0.4
# With more nodes, each refresh has a random delay, so that not all clients of a large cluster ask at the same time.
_LARGE_CLUSTER = 100
# CLUSTER SLOTS repeats the nodes of a shard for each range.  With 1,000 nodes and 16,384 ranges, it sends 4 MB and
# 82,000 lists, and the garbage collector pauses for 12 ms.  CLUSTER SHARDS sends the same in 0.5 MB and 2,500 lists.
# But it costs the server more: 2 ms instead of 0.3 ms for 1,000 nodes with one range each.  So it is used only for maps
# with more ranges than this, and for the first map, whose size is unknown.
_MANY_RANGES = 2048


class Inquiry(Generic[_T]):
    """Asks nodes one after the other until one gives a valid answer."""

    def __init__(
        self, clock: IReactorTime, nodes: Iterable[NodeConnection], ask: Callable[[NodeConnection], Deferred[_T]]
    ) -> None:
        """Ask the first node.

        Args:
            clock: Measures time.
            nodes: The nodes to ask, in this order.
            ask: Asks a node.  Its Deferred fires with the answer, or fails if the answer is not valid.
        """
        #: Fires with the node and its answer.  Fails with ClusterUnavailable if no node gives a valid answer.
        #: Cancelling it cancels all pending questions.
        self.answered: Deferred[tuple[NodeConnection, _T]] = Deferred(lambda _: self._finish())
        self._clock = clock
        self._nodes = iter(nodes)
        self._ask = ask
        self._asked: dict[NodeConnection, Deferred[_T]] = {}
        self._failures: list[tuple[str, str]] = []
        self._hedge = Timer(clock, self._next)
        self._done = False
        self._next()

    def _next(self) -> None:
        node = next(self._nodes, None)
        if node is None:
            if not self._asked and not self._done:
                self._finish()
                self.answered.errback(ClusterUnavailable("no node gave a slot map", self._failures))
            return
        self._hedge.start(_HEDGE)
        asking = self._ask(node)
        self._asked[node] = asking
        asking.addCallbacks(self._good, self._bad, callbackArgs=(node,), errbackArgs=(node,))

    def _good(self, answer: _T, node: NodeConnection) -> None:
        self._asked.pop(node, None)
        if not self._done:
            self._finish()
            self.answered.callback((node, answer))

    def _bad(self, failure: Failure, node: NodeConnection) -> None:
        self._asked.pop(node, None)
        if self._done:
            return
        address = str(node.address)
        reason = str(failure.value)
        if not isinstance(failure.value, ValkeyError):
            # An unexpected exception, caused by the answer or by a bug.  The answer of another node may still be valid.
            _log.failure("cannot use the answer of {address}", failure=failure, address=address)
            reason = f"{type(failure.value).__name__}: {reason}"
        self._failures.append((address, reason.removeprefix(address).lstrip(": ")))
        if self._hedge.running or not self._asked:
            self._hedge.stop()
            self._next()

    def _finish(self) -> None:
        self._done = True
        self._hedge.stop()
        for asking in list(self._asked.values()):
            asking.cancel()
        self._asked.clear()


class TopologyRefresher:
    """Fetches slot maps: one refresh at a time, and at most one per ``refresh_interval``.

    If a refresh is requested while another one runs, one more follows.
    """

    def __init__(
        self,
        clock: IReactorTime,
        options: Options,
        slot_map: SlotMap,
        factory: ClusterFactory,
        statistics: Statistics,
        *,
        install: Callable[[Draft | None], None],
        failed: Callable[[Exception], None],
        needed: Callable[[], bool],
    ) -> None:
        """Make a refresher that is idle until it is triggered.

        Args:
            clock: Measures time.
            options: The options of the client.
            slot_map: The current slot map.
            factory: Knows the nodes.
            statistics: The counters of the client.
            install: Called with each new map, or with None if the map has not changed.
            failed: Called with the reason when a refresh has failed.
            needed: Tells whether a command needs a new map.
        """
        self._clock = clock
        self._options = options
        self._map = slot_map
        self._factory = factory
        self._install = install
        self._failed = failed
        self._needed = needed
        self._statistics = statistics
        #: Whether the client is being closed.  Then a refresh starts only if a command waits for it.
        self.draining = False
        self._running = False
        self._again = False
        self._urgent = False
        self._closed = False
        self._started_at = float("-inf")
        # Drawn once for each refresh.  Drawing again would favour short delays.
        self._jitter = 0.0
        self._refreshing: Deferred[Draft | None] | None = None
        self._timer = DeadlineTimer(clock, self._start)
        self._waiters: list[Deferred[None]] = []

    def trigger(self, *, urgent: bool = False) -> None:
        """Request a refresh, as soon as the rate limit allows.

        Args:
            urgent: Whether to use a much shorter limit than ``refresh_interval``.
        """
        if self._closed:
            return
        if self._running:
            self._again = True
            self._urgent |= urgent
            return
        interval = _URGENT_INTERVAL if urgent else self._options.refresh_interval
        self._schedule(self._started_at + interval + (0.0 if urgent else self._jitter))

    def refresh(self) -> Deferred[None]:
        """Refresh now, or as soon as a running refresh has ended.

        Returns:
            A Deferred that fires with None when the client uses a map that was requested after this call.  It fails
            with ClusterUnavailable, TopologyError or ClientClosed.
        """
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

    def stop(self) -> None:
        """Start no further refresh."""
        self._closed = True
        self._timer.stop()

    def close(self) -> None:
        """Start no further refresh, and cancel a running one."""
        self.stop()
        if self._refreshing is not None:
            self._refreshing.cancel()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(ClientClosed("the client was closed"))

    def _draw_jitter(self) -> float:
        nodes = sum(len(shard.nodes) for shard in self._map.topology.shards)
        return self._options.random.uniform(0, (nodes - _LARGE_CLUSTER) / 100) if nodes > _LARGE_CLUSTER else 0.0

    def _schedule(self, at: float) -> None:
        if at <= self._clock.seconds():
            self._start()
        else:
            self._timer.by(at)

    def _start(self) -> None:
        self._timer.stop()
        if self.draining and not self._waiters and not self._needed():
            return
        self._running = True
        self._again = self._urgent = False
        self._statistics.refreshes += 1
        self._started_at = self._clock.seconds()
        waiters, self._waiters = self._waiters, []
        self._refreshing = refreshing = Deferred.fromCoroutine(self._refresh())
        refreshing.addCallback(self._succeeded).addErrback(self._went_wrong).addBoth(_fire, waiters)

    async def _refresh(self) -> Draft | None:
        node, shards = await self._inquire(self._factory.candidates())
        if lost_most_nodes(self._map.topology.shards, shards):
            await self._second_opinion(node, shards)
        return await self._in_steps(self._map.draft(shards))

    async def _second_opinion(self, teller: NodeConnection, shards: tuple[Shard, ...]) -> None:
        """Check a map that lacks most of the known nodes: another node must have the same map, or none must answer."""
        told = [self._factory.node_at(n.address) for shard in shards for n in shard.nodes if n.address is not None]
        others = [node for node in dict.fromkeys([*told, *self._factory.candidates()]) if node is not teller]
        try:
            other, view = await self._inquire(others)
        except ClusterUnavailable:
            return
        if not same_view(shards, view):
            raise TopologyError(
                f"the slot map of {teller.address} lacks most known nodes, and that of {other.address} is different"
            )

    async def _inquire(self, nodes: Iterable[NodeConnection]) -> tuple[NodeConnection, tuple[Shard, ...]]:
        return await Inquiry(self._clock, nodes, lambda node: Deferred.fromCoroutine(self._ask(node))).answered

    async def _ask(self, node: NodeConnection) -> tuple[Shard, ...]:
        source = self._options.topology_source
        if source == "auto":
            shards = await self._by_shard(node) or await self._ask_for("slots", node, None)
        else:
            shards = await self._ask_for(source, node, self._options.tls)
        # A shard without nodes uses memory too.
        count = sum(max(len(shard.nodes), 1) for shard in shards)
        if count > self._options.max_nodes:
            raise TopologyError(f"{node.address} lists {count} nodes; the limit max_nodes is {self._options.max_nodes}")
        if not any(shard.slots and shard.primary is not None for shard in shards):
            raise TopologyError(f"{node.address} lists no primary with slots; check that the cluster was created")
        return shards

    async def _ask_for(self, source: str, node: NodeConnection, tls: bool | None) -> tuple[Shard, ...]:
        command, read = SOURCES[source]
        return await self._in_steps(read(await node.call(*command), node.address, tls))

    async def _by_shard(self, node: NodeConnection) -> tuple[Shard, ...] | None:
        """Read the map from CLUSTER SHARDS, if it has or may have many ranges.

        Returns None if CLUSTER SLOTS must be asked instead.
        """
        known = self._map.topology
        in_pieces = not known.version or sum(len(shard.slots) for shard in known.shards) > _MANY_RANGES
        if not in_pieces or self._options.protocol == 2 or not _has_reliable_shards(node):
            return None
        # With endpoint_for or address_map, it is unknown whether the TLS port or the plain port leads to the node.
        ours = self._options.endpoint_for is None and self._options.address_map is None
        try:
            shards = await self._ask_for("shards", node, self._options.tls if ours else None)
        except (ReplyError, TopologyError):
            # Not permitted, or not valid: ask CLUSTER SLOTS.
            return None
        served = sum(shard.slot_count for shard in shards if shard.primary is not None)
        return as_slots_tell(shards) if served == SLOT_COUNT and _has_reliable_shards(node) else None

    async def _in_steps(self, work: Generator[None, None, _T]) -> _T:
        """Run a generator, and let the reactor do other work between its steps.

        It does not use a `Cooperator`, for two reasons.  Most maps take one step, which runs at once.  And if the
        refresh is cancelled, the work ends.
        """
        while True:
            try:
                next(work)
            except StopIteration as done:
                result: _T = done.value
                return result
            await deferLater(self._clock, 0)

    def _succeeded(self, draft: Draft | None) -> None:
        self._refreshing = None
        self._install(draft)
        self._ended(self._options.refresh_period)

    def _went_wrong(self, failure: Any) -> Any:
        self._refreshing = None
        if self._closed:
            raise ClientClosed("the client was closed") from failure.value
        self._ended(self._options.refresh_interval if self._needed() else self._options.refresh_period)
        if not failure.check(ValkeyError):
            _log.failure("a refresh of the slot map has failed", failure=failure)
        self._failed(failure.value)
        return failure

    def _ended(self, next_in: float | None) -> None:
        self._running = False
        if self._closed:
            return
        self._jitter = self._draw_jitter()
        if self._again:
            next_in = _URGENT_INTERVAL if self._urgent else self._options.refresh_interval + self._jitter
        if self._waiters:
            self._start()
        elif next_in is not None:
            self._schedule(self._clock.seconds() + next_in * self._options.random.uniform(0.95, 1.05))


def _has_reliable_shards(node: NodeConnection) -> bool:
    """Tell whether CLUSTER SHARDS of a node is reliable.  Before version 8, it could lose slots in a failover.

    See https://github.com/valkey-io/valkey/issues/784
    """
    return node.info is None or node.info.major >= 8


def _fire(result: Any, waiters: list[Deferred[None]]) -> None:
    for waiter in waiters:
        if getattr(result, "check", None) is not None:
            waiter.errback(result)
        else:
            waiter.callback(None)
