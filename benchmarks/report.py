"""What came out: medians and spread, ratios within the run, as tables, JSON and a picture."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from .workloads import Sample

FLOOR, OURS = "floor", "ours"
# They are no clients of a cluster that a Python program could use in our place.
OTHERS = ("txredisapi_", "valkey_benchmark")


class Results:
    """Every sample of a run."""

    def __init__(self, peers: list[str], workloads: list[str]) -> None:
        self.peers = peers
        self.workloads = workloads
        self._samples: dict[tuple[str, str], list[Sample]] = {}
        self._errors: dict[tuple[str, str], str] = {}

    def add(self, peer: str, workload: str, sample: Sample | str) -> None:
        """Take a round's sample, or the error that ends this client at this workload."""
        if isinstance(sample, str):
            self._errors[peer, workload] = sample
        else:
            self._samples.setdefault((peer, workload), []).append(sample)

    def error_of(self, peer: str, workload: str) -> str | None:
        """Why a client has no figures."""
        return self._errors.get((peer, workload))

    def samples(self, peer: str, workload: str) -> list[Sample]:
        """Of one client, round by round; none if it failed."""
        return [] if (peer, workload) in self._errors else self._samples.get((peer, workload), [])

    def median(self, peer: str, workload: str, figure: str) -> float | None:
        """Of one figure over the rounds."""
        found = [getattr(sample, figure) for sample in self.samples(peer, workload)]
        return median(found) if found else None

    def ratio(self, one: tuple[str, str], other: tuple[str, str], figure: str) -> float | None:
        """Median over the rounds of a figure by another of the same round, each of a client at a workload."""
        pairs = list(zip(self.samples(*one), self.samples(*other), strict=False))
        return median(getattr(a, figure) / getattr(b, figure) for a, b in pairs) if pairs else None

    def fastest_peer(self, workload: str) -> str | None:
        """Of the other Python clients for clusters, by operations per second."""
        excluded = (FLOOR, *OTHERS)
        others = [p for p in self.peers if p not in excluded and not p.startswith(OURS) and self.samples(p, workload)]
        return max(others, key=lambda p: self.median(p, workload, "rate") or 0.0, default=None)

    def as_json(self) -> dict[str, Any]:
        """All figures, by workload."""
        found: dict[str, Any] = {}
        for workload in self.workloads:
            rows = {peer: self._row(peer, workload) for peer in self.peers}
            fastest = self.fastest_peer(workload)
            found[workload] = {
                "clients": rows,
                "cpu_by_floor": self.ratio((OURS, workload), (FLOOR, workload), "cpu"),
                "rate_by_floor": self.ratio((OURS, workload), (FLOOR, workload), "rate"),
                "fastest_peer": fastest,
                "rate_by_fastest_peer": self.ratio((OURS, workload), (fastest, workload), "rate") if fastest else None,
            }
        return found

    def _row(self, peer: str, workload: str) -> dict[str, Any]:
        samples = self.samples(peer, workload)
        if not samples:
            return {"error": self._errors.get((peer, workload), "not measured")}
        rates, cpus = [s.rate for s in samples], [s.cpu * 1e6 for s in samples]
        return {
            "rate": {"median": median(rates), "least": min(rates), "most": max(rates)},
            "cpu_us": {"median": median(cpus), "least": min(cpus), "most": max(cpus)},
            "latency_ms": {
                name: median(s.latencies[place] for s in samples) * 1e3
                for place, name in enumerate(("p50", "p99", "p99.9"))
            },
            "rounds": len(samples),
        }


def show(results: Results, console: Console) -> None:
    """Print a table for each workload."""
    for workload, figures in results.as_json().items():
        table = Table(title=workload, title_justify="left")
        for name in ("client", "operations/s", "spread", "CPU us each", "p50 ms", "p99 ms", "p99.9 ms"):
            table.add_column(name, justify="left" if name == "client" else "right", no_wrap=True)
        refused = []
        for peer, row in figures["clients"].items():
            if "error" in row:
                refused.append(f"  {peer}: {row['error']}")
                continue
            rate, cpu, latency = row["rate"], row["cpu_us"], row["latency_ms"]
            spread = f"{rate['least']:,.0f}-{rate['most']:,.0f}"
            times = [f"{latency[name]:.2f}" for name in ("p50", "p99", "p99.9")]
            table.add_row(peer, f"{rate['median']:,.0f}", spread, f"{cpu['median']:.1f}", *times)
        console.print(table)
        for line in refused:
            console.print(line, style="dim", markup=False)
        for text, value in (
            ("our CPU by the floor's", figures["cpu_by_floor"]),
            (f"our rate by {figures['fastest_peer']}'s", figures["rate_by_fastest_peer"]),
        ):
            if value is not None:
                console.print(f"  {text}: {value:.2f}")


def save_json(figures: dict[str, Any], path: Path) -> None:
    """Write all figures."""
    path.write_text(json.dumps(figures, indent=2) + "\n")


def save_plot(results: Results, path: Path) -> None:
    """Draw operations per second, a panel for each workload."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figures = results.as_json()
    columns = 2
    rows = (len(figures) + columns - 1) // columns
    figure, panels = pyplot.subplots(rows, columns, figsize=(12, 2.6 * rows), squeeze=False)
    for panel in panels.flat[len(figures) :]:
        panel.set_visible(False)
    for panel, (workload, of) in zip(panels.flat, figures.items(), strict=False):
        clients = {peer: row["rate"] for peer, row in of["clients"].items() if "rate" in row}
        medians = [rate["median"] for rate in clients.values()]
        errors = [
            [rate["median"] - rate["least"] for rate in clients.values()],
            [rate["most"] - rate["median"] for rate in clients.values()],
        ]
        colours = ["tab:gray" if p == FLOOR else "tab:blue" if p.startswith(OURS) else "tab:orange" for p in clients]
        panel.barh(list(clients), medians, xerr=errors, color=colours)
        panel.invert_yaxis()
        panel.set_title(workload, fontsize=9)
        panel.tick_params(labelsize=7)
    figure.supxlabel("operations per second, median and spread")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
