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

from . import peers, scale
from .cluster import applies, choose, run
from .goals import GOALS
from .interpreter import choose as choose_python
from .report import Results, save_json, save_plot, show


@click.command()
@click.option("--rounds", default=7, show_default=True, help="How often each client does each workload.")
@click.option("--seconds", default=0.5, show_default=True, help="Duration of one workload in one round.")
@click.option(
    "--clients",
    default=" ".join(map(peers.short_name, peers.NAMES)),
    show_default=True,
    help="The clients to measure, separated by spaces.",
)
@click.option("--workload", default=None, help="Measure only the workloads whose names contain this text.")
@click.option(
    "--scale/--no-scale",
    "with_scale",
    default=True,
    help="Measure large slot maps, many clients and large values, too.",
)
@click.option("--json", "json_path", type=Path, default=None, help="Write all figures to this file.")
@click.option("--plot", "plot_path", type=Path, default=None, help="Draw the figures in this PNG file.")
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
        raise click.UsageError(f"no workload has a name that contains {workload!r}")
    try:
        chosen = [peers.find(word) for word in clients.split()]
    except LookupError as error:
        raise click.UsageError(error.args[0]) from None
    console = Console()
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")

    async def measure(reactor: IReactorTime) -> None:
        with Progress(*columns, console=console) as progress:
            pairs = sum(applies(peer, each) for peer in chosen for each in workloads)
            total = rounds * pairs + (len(scale.MEASUREMENTS) if with_scale else 0)
            task = progress.add_task("starting a cluster", total=total)

            def on(what: str) -> None:
                progress.update(task, description=what, advance=1)

            results = await run(reactor, chosen, workloads, rounds, seconds, on)
            measured: scale.Scale | None = None
            failed = ""
            try:
                measured = await deferToThread(scale.measure, on) if with_scale else None
            except subprocess.CalledProcessError as error:
                # Show the figures of the workloads before the command fails.
                failed = f"{' '.join(error.cmd[1:])} failed:\n{error.stderr}"
        console.print(f"The clients ran on {choose_python().described}.")
        console.print("The workload with one command in flight ran on one core.", end="\n\n")
        show(results, console)
        if measured is not None:
            _show_scale(measured, console)
        goals = _show_goals(results, measured, console)
        if json_path is not None:
            figures = {"workloads": results.as_json(), "scale": asdict(measured) if measured else None, "goals": goals}
            save_json(figures, json_path)
        if plot_path is not None and not save_plot(results, plot_path):
            failed = failed or f"{plot_path} was not written: no client has figures for a workload"
        if failed:
            click.echo(f"Error: {failed}", err=True)
            # react() prints no traceback for SystemExit.
            raise SystemExit(1)

    react(lambda reactor: ensureDeferred(measure(reactor)))


def _show_scale(measured: scale.Scale, console: Console) -> None:
    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), title="txvalkeycluster at scale", title_justify="left"
    )
    for name in ("measurement", "figure", "value"):
        table.add_column(name, justify="right" if name == "value" else "left")
    for measurement, figures in measured.figures.items():
        for name, value in figures.items():
            table.add_row(measurement, name, f"{value:,.2f}")
    console.print(table)
    console.print()


def _show_goals(results: Results, measured: scale.Scale | None, console: Console) -> dict[str, Any]:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title="goals", title_justify="left")
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
