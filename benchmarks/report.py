"""The results of a run as tables, JSON and a picture: medians, spread, and ratios within the run."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from .peers import name_of
from .workloads import Sample

FLOOR, OURS, C = "floor", "ours", "libvalkey_"
PURE, REACTOR, PURE_REACTOR = "ours_pure", "ours_reactor", "ours_pure_reactor"
LATENCIES = ("p50", "p99", "p99.9")
# No clients for a cluster that a Python program could use instead of ours.
OTHERS = ("txredisapi_", "valkey_benchmark", C)


class Results:
    """Every sample of a run.

    Args:
        peers: The modules of the clients.
        workloads: The names of the workloads.
    """

    def __init__(self, peers: list[str], workloads: list[str]) -> None:
        self.peers = peers
        self.workloads = workloads
        self._samples: dict[tuple[str, str], list[Sample]] = {}
        self._errors: dict[tuple[str, str], str] = {}

    def add(self, peer: str, workload: str, sample: Sample | str) -> None:
        """Add the sample of a round, or the error because of which the client has no figures for the workload."""
        if isinstance(sample, str):
            self._errors[peer, workload] = sample
        else:
            self._samples.setdefault((peer, workload), []).append(sample)

    def error_of(self, peer: str, workload: str) -> str | None:
        """Return why a client has no figures for a workload, or None."""
        return self._errors.get((peer, workload))

    def samples(self, peer: str, workload: str) -> list[Sample]:
        """Return the samples of a client round by round; the list is empty if the client failed."""
        return [] if (peer, workload) in self._errors else self._samples.get((peer, workload), [])

    def median(self, peer: str, workload: str, figure: str) -> float | None:
        """Return the median of a figure over the rounds; ``figure`` is a property of `Sample`."""
        found = [getattr(sample, figure) for sample in self.samples(peer, workload)]
        return median(found) if found else None

    def ratio(self, one: tuple[str, str], other: tuple[str, str], figure: str) -> float | None:
        """Divide figures of the same round, and return the median of the ratios.

        Args:
            one: The client and the workload of the dividend.
            other: The client and the workload of the divisor.
            figure: A property of `Sample`.

        Returns:
            None if one of the two has no samples.
        """
        pairs = list(zip(self.samples(*one), self.samples(*other), strict=False))
        return median(getattr(a, figure) / getattr(b, figure) for a, b in pairs) if pairs else None

    def fastest_peer(self, workload: str) -> str | None:
        """Return the other Python client for clusters with the highest rate."""
        return max(self._others(workload), key=lambda p: self.median(p, workload, "rate") or 0.0, default=None)

    def cheapest_peer(self, workload: str) -> str | None:
        """Return the other Python client for clusters with the least CPU per operation."""
        return min(self._others(workload), key=lambda p: self.median(p, workload, "cpu") or 0.0, default=None)

    def _others(self, workload: str) -> list[str]:
        excluded = (FLOOR, *OTHERS)
        return [p for p in self.peers if p not in excluded and not p.startswith(OURS) and self.samples(p, workload)]

    def as_json(self) -> dict[str, Any]:
        """Return all figures by workload."""
        found: dict[str, Any] = {}
        for workload in self.workloads:
            rows = {peer: self._row(peer, workload) for peer in self.peers if self._takes_part(peer, workload)}
            fastest = self.fastest_peer(workload)
            found[workload] = {
                "clients": rows,
                "cpu_by_floor": self.ratio((OURS, workload), (FLOOR, workload), "cpu"),
                "cpu_by_c": self.ratio((OURS, workload), (C, workload), "cpu"),
                "rate_by_floor": self.ratio((OURS, workload), (FLOOR, workload), "rate"),
                "fastest_peer": fastest,
                "rate_by_fastest_peer": self.ratio((OURS, workload), (fastest, workload), "rate") if fastest else None,
            }
        return found

    def _takes_part(self, peer: str, workload: str) -> bool:
        return (peer, workload) in self._samples or (peer, workload) in self._errors

    def _row(self, peer: str, workload: str) -> dict[str, Any]:
        samples = self.samples(peer, workload)
        if not samples:
            return {"name": name_of(peer), "error": self._errors.get((peer, workload), "not measured")}
        rates, cpus = [s.rate for s in samples], [s.cpu * 1e6 for s in samples]
        return {
            "name": name_of(peer),
            "rate": {"median": median(rates), "least": min(rates), "most": max(rates)},
            "cpu_us": {"median": median(cpus), "least": min(cpus), "most": max(cpus)},
            "latency_ms": {
                name: median(latencies) * 1e3
                for place, name in enumerate(LATENCIES)
                if (latencies := [sample.latencies[place] for sample in samples if sample.latencies is not None])
            },
            "rounds": len(samples),
        }


def show(results: Results, console: Console) -> None:
    """Print a table for each workload, and one that compares Python with C."""
    for workload, figures in results.as_json().items():
        # The table fits a terminal of 80 columns.
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=workload, title_justify="left")
        timed = any(row.get("latency_ms") for row in figures["clients"].values())
        for name in ("client", "ops/s", "spread", "CPU us", *(f"{name} ms" for name in LATENCIES if timed)):
            table.add_column(name, justify="left" if name == "client" else "right", no_wrap=True)
        failed: dict[str, list[str]] = {}
        for row in figures["clients"].values():
            if "error" in row:
                failed.setdefault(row["error"], []).append(row["name"])
                continue
            rate, cpu, latency = row["rate"], row["cpu_us"], row["latency_ms"]
            least, most = (rate[name] / rate["median"] - 1 for name in ("least", "most"))
            spread = f"{least * 100:.0f}% +{most * 100:.0f}%"
            times = [f"{latency[name]:.2f}" for name in LATENCIES if timed]
            table.add_row(row["name"], f"{rate['median']:,.0f}", spread, _microseconds(cpu["median"]), *times)
        if table.row_count:
            console.print(table)
        else:
            console.print(f"{workload}: no client has figures", style="italic", markup=False)
        for error, names in failed.items():
            who = ", ".join(names) if table.row_count else "all clients"
            console.print(f"  {who}: {error}", style="dim", markup=False, soft_wrap=True)
        ours, fastest = name_of(OURS), figures["fastest_peer"]
        for text, value in (
            (f"CPU of {ours} / CPU of {name_of(FLOOR)}", figures["cpu_by_floor"]),
            (f"CPU of {ours} / CPU of {name_of(C)}", figures["cpu_by_c"]),
            (f"rate of {ours} / rate of {name_of(fastest or '')}", figures["rate_by_fastest_peer"]),
        ):
            if value is not None:
                console.print(f"  {text}: {value:.2f}", soft_wrap=True)
        console.print()
    _show_c(results, console)


def _show_c(results: Results, console: Console) -> None:
    """Print how far Python is from C, if the C client was measured."""
    ours = [peer for peer in (OURS, REACTOR, PURE, PURE_REACTOR) if peer in results.peers]
    peers = [peer for peer in (FLOOR, *ours, C) if peer in results.peers]
    measured = [workload for workload in results.workloads if results.samples(C, workload)]
    if not measured:
        return
    title = "CPU us per operation, Python and C"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=title, title_justify="left")
    for name in ("workload", *map(name_of, peers), *(f"{name_of(peer)}: ratio to C" for peer in ours)):
        table.add_column(name, justify="left" if name == "workload" else "right")
    for workload in measured:
        cpus = [results.median(peer, workload, "cpu") for peer in peers]
        ratios = [results.ratio((peer, workload), (C, workload), "cpu") for peer in ours]
        shown = [_microseconds(cpu * 1e6) if cpu is not None else "" for cpu in cpus]
        table.add_row(workload, *shown, *(f"{ratio:.2f}" if ratio is not None else "" for ratio in ratios))
    console.print(table)
    console.print()


def _microseconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}"


def save_json(figures: dict[str, Any], path: Path) -> None:
    """Write all figures to a file."""
    path.write_text(json.dumps(figures, indent=2) + "\n")


def measured_rows(results: Results) -> dict[str, list[dict[str, Any]]]:
    """Return the clients that have figures, by workload, without workloads that no client has done."""
    figures = results.as_json().items()
    found = {workload: [row for row in of["clients"].values() if "rate" in row] for workload, of in figures}
    return {workload: rows for workload, rows in found.items() if rows}


def save_plot(results: Results, path: Path) -> bool:
    """Draw the rate and the CPU per operation of each client as a PNG file, a row of two panels for each workload.

    Returns:
        Whether the file was written.  It is not if no client has figures.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    measured = measured_rows(results)
    if not measured:
        return False
    # A panel is as high as its bars need.
    heights = [0.6 + 0.2 * len(rows) for rows in measured.values()]
    figure, panels = pyplot.subplots(
        len(measured), 2, figsize=(12, 0.6 + sum(heights)), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for (left, right), (workload, rows) in zip(panels, measured.items(), strict=True):
        _draw(left, rows, "rate", "{:,.0f}")
        left.xaxis.set_major_formatter("{x:,.0f}")
        _draw(right, rows, "cpu_us", "{:,.2f}")
        right.set_yticklabels([])
        left.set_title(f"{workload}: operations/s", fontsize=9, loc="left")
        right.set_title("CPU us per operation", fontsize=9, loc="left")
    figure.supxlabel("median over the rounds; the lines go from the least to the most", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110, format="png")
    pyplot.close(figure)
    return True


def _draw(panel: Any, rows: list[dict[str, Any]], figure: str, form: str) -> None:
    """Draw one bar for each client, with its value beside it."""
    medians = [row[figure]["median"] for row in rows]
    errors = [
        [row[figure]["median"] - row[figure]["least"] for row in rows],
        [row[figure]["most"] - row[figure]["median"] for row in rows],
    ]
    bars = panel.barh([row["name"] for row in rows], medians, xerr=errors, color=[_colour(row["name"]) for row in rows])
    panel.bar_label(bars, labels=[form.format(value) for value in medians], padding=4, fontsize=7)
    panel.margins(x=0.15)
    panel.invert_yaxis()
    panel.tick_params(labelsize=7)


def _colour(name: str) -> str:
    if name.startswith(name_of(OURS)):
        return "tab:blue"
    return {name_of(FLOOR): "tab:gray", name_of(C): "tab:green"}.get(name, "tab:orange")
