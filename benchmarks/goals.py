"""What the project wants to reach, as ratios within one run, and how close a run came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .report import FLOOR, OURS, Results
from .scale import Scale
from .workloads import AT_ONCE, BY_HAND, LARGE, SPLIT, TLS, set_and_get


@dataclass(frozen=True)
class Goal:
    """``figure`` is None where a run did not measure it."""

    name: str
    limit: float
    figure: Callable[[Results, Scale | None], float | None]
    #: Whether less is better.
    at_most: bool = True

    def reached(self, value: float) -> bool:
        """Whether a figure is on the right side of the limit."""
        return value <= self.limit if self.at_most else value >= self.limit


def _cpu(count: int) -> Callable[[Results, Scale | None], float | None]:
    return lambda results, _: results.ratio((OURS, set_and_get(count)), (FLOOR, set_and_get(count)), "cpu")


def _rate(workload: str) -> Callable[[Results, Scale | None], float | None]:
    def ratio(results: Results, _: Scale | None) -> float | None:
        fastest = results.fastest_peer(workload)
        return results.ratio((OURS, workload), (fastest, workload), "rate") if fastest is not None else None

    return ratio


def _round_trips(results: Results, scale: Scale | None) -> float | None:
    round_trip = results.median(FLOOR, set_and_get(1), "seconds_each")
    return scale.stall / round_trip if scale is not None and round_trip is not None else None


GOALS = [
    *(
        Goal(f"rate by the fastest other cluster client's, {count} in flight", limit, _rate(set_and_get(count)), False)
        for count, limit in ((1, 1.2), (50, 4.0), (1000, 5.0))
    ),
    *(
        Goal(f"CPU by the floor's, {count} in flight", limit, _cpu(count))
        for count, limit in ((1, 1.1), (50, 1.15), (1000, 1.25))
    ),
    Goal(
        "TLS, rate by that of plain TCP, 1000 in flight",
        0.65,
        lambda results, _: results.ratio((OURS, TLS), (OURS, set_and_get(1000)), "rate"),
        False,
    ),
    Goal("TLS, rate by the fastest other cluster client's, 1000 in flight", 3.0, _rate(TLS), False),
    Goal(
        "MGET of 100 keys on three nodes, time by that of 3 MGETs by hand",
        1.5,
        lambda results, _: results.ratio((OURS, SPLIT), (OURS, BY_HAND), "seconds_each"),
    ),
    Goal(
        "pipeline of 10,000, rate by that of 1000 awaited",
        2.0,
        lambda results, _: results.ratio((OURS, AT_ONCE), (OURS, set_and_get(1000)), "rate"),
        False,
    ),
    Goal(
        "GET of 1 MiB, rate by the floor's",
        0.7,
        lambda results, _: results.ratio((OURS, LARGE), (FLOOR, LARGE), "rate"),
        False,
    ),
    Goal("map of 1,000 nodes in 16,384 ranges, longest stall in round trips of the floor", 80, _round_trips),
    Goal("a waiting command, bytes beside its payload", 1200, lambda _, scale: scale.waiting if scale else None),
    Goal(
        "100 MiB, CPU for each byte by that of 10 MiB",
        1.5,
        lambda _, scale: scale.cost_100_mib if scale else None,
    ),
]
