"""The benchmarks run; what they measure is judged by their goals, in runs of their own."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from benchmarks.cluster import choose, run
from benchmarks.goals import GOALS
from benchmarks.report import FLOOR, OURS, Results, save_json, show
from benchmarks.scale import Scale
from benchmarks.workloads import BY_HAND, SPLIT, Sample, set_and_get


class WorkloadTests(TestCase):
    timeout = 120

    async def test_every_workload(self) -> None:
        """Ours does each, and every reply is what was written."""
        workloads = [workload for workload in choose(None) if not workload.tls]
        results = await run(reactor, [OURS], workloads, rounds=1, seconds=0.02, progress=lambda _: None)
        for workload in workloads:
            self.assertIsNone(results.error_of(OURS, workload.name))
            self.assertGreater(results.samples(OURS, workload.name)[0].operations, 0)

    async def test_who_fails_is_named(self) -> None:
        """With the error, and does the next workload all the same."""
        workloads = [workload for workload in choose(None) if workload.name in (SPLIT, set_and_get(1))]
        workloads.reverse()
        results = await run(reactor, [FLOOR, "nobody"], workloads, rounds=1, seconds=0.02, progress=lambda _: None)
        self.assertEqual(results.error_of(FLOOR, SPLIT), "NotImplementedError: it knows no hash tags")
        self.assertEqual(len(results.samples(FLOOR, set_and_get(1))), 1)
        for workload in workloads:
            self.assertIn("ModuleNotFoundError", results.error_of("nobody", workload.name) or "")


class ReportTests(TestCase):
    def sample(self, rate: float, cpu_us: float) -> Sample:
        return Sample(int(rate), 1.0, rate * cpu_us / 1e6, (0.001, 0.002, 0.003))

    def results(self) -> Results:
        name = set_and_get(50)
        results = Results([FLOOR, OURS, "slow", "fast", "broken", "txredisapi_"], [name, SPLIT, BY_HAND])
        for factor in (1.0, 2.0, 0.5):
            for peer, rate, cpu in ((FLOOR, 100, 5), (OURS, 90, 6), ("slow", 10, 9), ("fast", 30, 8)):
                results.add(peer, name, self.sample(rate * factor, cpu * factor))
            results.add("txredisapi_", name, self.sample(1000, 1))
            for workload, rate in ((SPLIT, 40), (BY_HAND, 50)):
                results.add(OURS, workload, self.sample(rate * factor, 1))
        results.add("broken", name, "OSError: no")
        return results

    def test_ratios_are_of_the_same_round(self) -> None:
        """What slows a round down is not seen in them."""
        results, name = self.results(), set_and_get(50)
        self.assertEqual(results.fastest_peer(name), "fast")
        self.assertAlmostEqual(results.ratio((OURS, name), (FLOOR, name), "cpu") or 0, 1.2)
        figures = results.as_json()[name]
        self.assertAlmostEqual(figures["rate_by_fastest_peer"], 3.0)
        self.assertEqual(figures["clients"]["broken"], {"error": "OSError: no"})
        self.assertEqual(figures["clients"][OURS]["rate"], {"median": 90, "least": 45, "most": 180})

    def test_goals(self) -> None:
        """Each says what it is about, and is judged; what was not measured is not."""
        results = self.results()
        scale = Scale({
            "map": {"changed: longest stall ms": 3.0, "same: longest stall ms": 5.0},
            "waiting": {"bytes each beside its payload": 300.0},
            "large values": {"10 MiB: CPU ms/MiB": 1.0, "100 MiB: CPU ms/MiB": 2.0},
        })  # fmt: skip
        judged: dict[str, Any] = {}
        for goal in GOALS:
            value = goal.figure(results, scale)
            judged[goal.name] = None if value is None else goal.reached(value)
        self.assertEqual(len(judged), len(GOALS))
        self.assertEqual(judged["rate by the fastest other cluster client's, 50 in flight"], False)
        self.assertEqual(judged["CPU by the floor's, 50 in flight"], False)
        self.assertIsNone(judged["CPU by the floor's, 1 in flight"])
        self.assertEqual(judged["MGET of 100 keys on three nodes, time by that of 3 MGETs by hand"], True)
        self.assertEqual(judged["100 MiB, CPU for each byte by that of 10 MiB"], False)

    def test_shown_and_saved(self) -> None:
        """Who failed is named with the error."""
        shown = StringIO()
        results = self.results()
        show(results, Console(file=shown, width=120))
        self.assertIn("broken: OSError: no", shown.getvalue())
        self.assertIn("our CPU by the floor's: 1.20", shown.getvalue())
        path = Path(self.mktemp())
        save_json(results.as_json(), path)
        clients = json.loads(path.read_text())[set_and_get(50)]["clients"]
        self.assertEqual(set(clients), set(results.peers))
        self.assertEqual(clients[FLOOR]["rate"]["median"], 100)
