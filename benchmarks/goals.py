"""The performance goals of the project, as ratios within one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .report import FLOOR, OURS, PURE, PURE_REACTOR, REACTOR, C, Results
from .scale import Scale
from .workloads import (
    AT_ONCE,
    BY_HAND,
    HASHES,
    LARGE,
    ONE_CHANNEL,
    ONE_THREAD,
    SHARDED,
    SPLIT,
    SPREAD,
    THREAD_AT_ONCE,
    THREADS,
    TLS,
    set_and_get,
)

ASYNCIO, METRICS, REDIS, GLIDE = "ours_asyncio", "ours_metrics", "redis_py", "glide_"
OURS_THREADS, REDIS_THREADS = "ours_threads", "redis_py_threads"


@dataclass(frozen=True)
class Goal:
    """A figure of a run and its limit."""

    name: str
    limit: float
    #: Returns the figure, or None if the run did not measure it.
    figure: Callable[[Results, Scale | None], float | None]
    #: Whether the limit is an upper one.
    at_most: bool = True

    def reached(self, value: float) -> bool:
        """Return whether a figure is within the limit."""
        return value <= self.limit if self.at_most else value >= self.limit


def _cpu(workload: str) -> Callable[[Results, Scale | None], float | None]:
    return lambda results, _: results.ratio((OURS, workload), (FLOOR, workload), "cpu")


def _rate(workload: str) -> Callable[[Results, Scale | None], float | None]:
    def ratio(results: Results, _: Scale | None) -> float | None:
        fastest = results.fastest_peer(workload)
        return results.ratio((OURS, workload), (fastest, workload), "rate") if fastest is not None else None

    return ratio


def _cpu_of_peer(workload: str) -> Callable[[Results, Scale | None], float | None]:
    def ratio(results: Results, _: Scale | None) -> float | None:
        peer = results.cheapest_peer(workload)
        return results.ratio((peer, workload), (OURS, workload), "cpu") if peer is not None else None

    return ratio


def _round_trips(results: Results, scale: Scale | None) -> float | None:
    round_trip = results.median(FLOOR, set_and_get(1), "seconds_each")
    return scale.stall / round_trip if scale is not None and round_trip is not None else None


def _interface(one: str, other: str, workload: str, figure: str) -> Callable[[Results, Scale | None], float | None]:
    return lambda results, _: results.ratio((one, workload), (other, workload), figure)


_MESSAGES = {"one channel": ONE_CHANNEL, "1,000 sharded channels": SHARDED}

GOALS = [
    *(
        Goal(
            f"rate / rate of the fastest other cluster client, {count} in flight",
            limit,
            _rate(set_and_get(count)),
            at_most=False,
        )
        for count, limit in ((1, 2.0), (50, 6.0), (1000, 8.0))
    ),
    *(
        Goal(f"CPU per command / CPU of the bare Twisted loop, {count} in flight", limit, _cpu(set_and_get(count)))
        for count, limit in ((1, 1.1), (50, 1.15), (1000, 1.25))
    ),
    *(
        Goal(
            f"{name}: CPU per command / CPU of libvalkey in C, {workload}", limit, _interface(peer, C, workload, "cpu")
        )
        for peer, name, limits in (
            (OURS, "with the extension", {1: 2.5, 50: 2.5, 1000: 3.0}),
            (REACTOR, "with the extension and the reactor", {1: 2.5, 50: 2.5, 1000: 3.0}),
            (PURE, "only Python", {1: 3.3, 50: 3.3, 1000: 6.0}),
            (PURE_REACTOR, "only Python, with the reactor", {1: 3.3, 50: 3.3, 1000: 6.0}),
        )
        for workload, limit in ((set_and_get(count), limit) for count, limit in limits.items())
    ),
    *(
        Goal(
            f"with metrics: CPU per command / CPU without them, {count} in flight",
            1.15,
            _interface(METRICS, OURS, set_and_get(count), "cpu"),
        )
        for count in (50, 1000)
    ),
    Goal("pipeline of 10,000: CPU / CPU of libvalkey in C", 2.0, _interface(OURS, C, AT_ONCE, "cpu")),
    *(
        Goal(f"rate / rate of valkey-glide, {workload}", 2.0, _interface(OURS, GLIDE, workload, "rate"), at_most=False)
        for workload in (SPREAD, SPLIT, BY_HAND, HASHES)
    ),
    Goal(
        "rate over TLS / rate over TCP, 1000 in flight",
        0.65,
        lambda results, _: results.ratio((OURS, TLS), (OURS, set_and_get(1000)), "rate"),
        at_most=False,
    ),
    Goal("rate over TLS / rate of the fastest other cluster client, 1000 in flight", 3.0, _rate(TLS), at_most=False),
    Goal(
        "MGET of 100 keys in 3 slots, time / time of 3 MGETs by hand",
        1.5,
        lambda results, _: results.ratio((OURS, SPLIT), (OURS, BY_HAND), "seconds_each"),
    ),
    Goal(
        "rate in a pipeline of 10,000 / rate of 1000 awaited commands",
        2.0,
        lambda results, _: results.ratio((OURS, AT_ONCE), (OURS, set_and_get(1000)), "rate"),
        at_most=False,
    ),
    Goal(
        "GET of 1 MiB, rate / rate of the bare Twisted loop",
        0.7,
        lambda results, _: results.ratio((OURS, LARGE), (FLOOR, LARGE), "rate"),
        at_most=False,
    ),
    *(
        Goal(f"CPU per message / CPU of the bare Twisted loop, {name}", 1.25, _cpu(workload))
        for name, workload in _MESSAGES.items()
    ),
    *(
        Goal(
            f"CPU of the cheapest other cluster client / CPU per message, {name}",
            3.0,
            _cpu_of_peer(workload),
            at_most=False,
        )
        for name, workload in _MESSAGES.items()
    ),
    Goal(
        "asyncio: rate / rate of redis-py's cluster client on asyncio, 50 in flight",
        4.0,
        _interface(ASYNCIO, REDIS, set_and_get(50), "rate"),
        at_most=False,
    ),
    Goal(
        "asyncio: CPU per command / CPU with Deferreds, 50 in flight",
        1.4,
        _interface(ASYNCIO, OURS, set_and_get(50), "cpu"),
    ),
    Goal(
        "asyncio: rate / rate of redis-py's cluster client on asyncio, pipeline of 10,000",
        5.0,
        _interface(ASYNCIO, REDIS, AT_ONCE, "rate"),
        at_most=False,
    ),
    *(
        Goal(
            f"threads: rate / rate of redis-py's cluster client for threads, {workload}",
            limit,
            _interface(OURS_THREADS, REDIS_THREADS, workload, "rate"),
            at_most=False,
        )
        for workload, limit in ((ONE_THREAD, 1.0), (THREADS, 1.5), (THREAD_AT_ONCE, 5.0))
    ),
    Goal(
        "slot map of 1,000 nodes and 16,384 ranges, longest stall in round trips of the bare Twisted loop",
        80,
        _round_trips,
    ),
    Goal(
        "pending command, bytes without its payload",
        1200,
        lambda _, scale: scale.waiting if scale else None,
    ),
    Goal(
        "value of 100 MiB, CPU per byte / CPU per byte of 10 MiB",
        1.5,
        lambda _, scale: scale.cost_100_mib if scale else None,
    ),
]
