"""The command line: ``python -m benchmarks --help``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from .cluster import choose, run
from .report import save_json, save_plot, show

PEERS = "floor ours ours_uvloop valkey_py redis_py coredis_ glide_ txredisapi_"


@click.command()
@click.option("--rounds", default=7, show_default=True, help="How often each client does each workload.")
@click.option("--seconds", default=0.5, show_default=True, help="How long each time.")
@click.option("--clients", default=PEERS, show_default=True, help="Which, separated by spaces.")
@click.option("--workload", default=None, help="Those only whose names hold this text.")
@click.option("--json", "json_path", type=Path, default=None, help="Write all figures there.")
@click.option("--plot", "plot_path", type=Path, default=None, help="Draw them there, as PNG.")
def main(
    rounds: int, seconds: float, clients: str, workload: str | None, json_path: Path | None, plot_path: Path | None
) -> None:
    """Measure every client side by side on an embedded cluster."""
    workloads = choose(workload)
    if not workloads:
        raise click.UsageError("no workload has such a name")
    console = Console()

    async def measure(reactor: Any) -> None:
        with console.status("starting a cluster") as status:
            results = await run(reactor, clients.split(), workloads, rounds, seconds, status.update)
        show(results, console)
        if json_path is not None:
            save_json(results, json_path)
        if plot_path is not None:
            save_plot(results, plot_path)

    react(lambda reactor: ensureDeferred(measure(reactor)))


if __name__ == "__main__":
    sys.exit(main())
