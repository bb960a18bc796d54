"""The command line: ``python -m benchmarks --help``."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from . import scale
from .cluster import choose, run
from .goals import GOALS
from .report import Results, save_json, save_plot, show

PEERS = "floor ours ours_uvloop valkey_py redis_py coredis_ glide_ txredisapi_ valkey_benchmark"


@click.command()
@click.option("--rounds", default=7, show_default=True, help="How often each client does each workload.")
@click.option("--seconds", default=0.5, show_default=True, help="How long each time.")
@click.option("--clients", default=PEERS, show_default=True, help="Which, separated by spaces.")
@click.option("--workload", default=None, help="Those only whose names hold this text.")
@click.option("--scale/--no-scale", "with_scale", default=True, help="Large maps, many clients, large values.")
@click.option("--json", "json_path", type=Path, default=None, help="Write all figures there.")
@click.option("--plot", "plot_path", type=Path, default=None, help="Draw them there, as PNG.")
def main(
    rounds: int,
    seconds: float,
    clients: str,
    workload: str | None,
    with_scale: bool,
    json_path: Path | None,
    plot_path: Path | None,
) -> None:
    """Measure every client side by side on an embedded cluster."""
    workloads = choose(workload)
    if not workloads:
        raise click.UsageError("no workload has such a name")
    peers = clients.split()
    console = Console()
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")

    async def measure(reactor: IReactorTime) -> None:
        with Progress(*columns, console=console) as progress:
            total = rounds * len(workloads) * len(peers) + (len(scale.MEASUREMENTS) if with_scale else 0)
            task = progress.add_task("starting a cluster", total=total)

            def on(what: str) -> None:
                progress.update(task, description=what, advance=1)

            results = await run(reactor, peers, workloads, rounds, seconds, on)
            measured: scale.Scale | None = None
            failed = ""
            try:
                measured = await deferToThread(scale.measure, on) if with_scale else None
            except subprocess.CalledProcessError as error:
                # What has been measured before is shown all the same.
                failed = f"{' '.join(error.cmd[1:])} failed:\n{error.stderr}"
        show(results, console)
        if measured is not None:
            _show_scale(measured, console)
        goals = _show_goals(results, measured, console)
        if json_path is not None:
            figures = {"workloads": results.as_json(), "scale": asdict(measured) if measured else None, "goals": goals}
            save_json(figures, json_path)
        if plot_path is not None:
            save_plot(results, plot_path)
        if failed:
            raise click.ClickException(failed)

    react(lambda reactor: ensureDeferred(measure(reactor)))


def _show_scale(measured: scale.Scale, console: Console) -> None:
    table = Table(title="scale, ours", title_justify="left")
    for name in ("measurement", "figure", "value"):
        table.add_column(name, justify="right" if name == "value" else "left")
    for measurement, figures in measured.figures.items():
        for name, value in figures.items():
            table.add_row(measurement, name, f"{value:,.2f}")
    console.print(table)


def _show_goals(results: Results, measured: scale.Scale | None, console: Console) -> dict[str, Any]:
    table = Table(title="goals", title_justify="left")
    for name in ("goal", "limit", "this run", ""):
        table.add_column(name, justify="left" if name in ("goal", "") else "right")
    found: dict[str, Any] = {}
    for goal in GOALS:
        value = goal.figure(results, measured)
        limit = f"{'at most' if goal.at_most else 'at least'} {goal.limit:g}"
        reached = None if value is None else goal.reached(value)
        found[goal.name] = {"limit": limit, "value": value, "reached": reached}
        shown = "not measured" if value is None else f"{value:,.2f}"
        table.add_row(goal.name, limit, shown, {None: "", True: "reached", False: "[bold]missed[/bold]"}[reached])
    console.print(table)
    return found


if __name__ == "__main__":
    sys.exit(main())
