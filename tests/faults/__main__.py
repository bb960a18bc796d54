"""The command line: ``python -m tests.faults --seed 1 --duration 300``."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any

import click
from rich.console import Console
from twisted.internet.defer import Deferred

from txvalkeycluster.cli.running import run as run_reactor

from .report import show
from .run import FAULTS, Run
from .work import WORK


def _names(known: Iterable[str]) -> Any:
    """A callback of click's that takes names separated by commas."""

    def read(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
        names = tuple(known) if value is None else tuple(filter(None, value.split(",")))
        if not names or not set(names) <= set(known):
            raise click.BadParameter("these are not names that --list gives")
        return names

    return read


@click.command()
@click.option("--seed", default=1, show_default=True, help="Seed of all random choices.")
@click.option("--duration", default=60.0, show_default=True, help="For how many seconds new faults begin.")
@click.option("--faults", callback=_names(FAULTS), help="Only these kinds of faults, separated by commas.")
@click.option("--work", callback=_names(WORK), help="Only these kinds of work, separated by commas.")
@click.option("--list", "lists", is_flag=True, help="List the kinds of faults and work, and exit.")
def main(seed: int, duration: float, faults: tuple[str, ...], work: tuple[str, ...], lists: bool) -> None:
    """Run a cluster under mixed work while faults befall it, and check everything.

    It goes on until each kind of fault has come once.  Exits with 1 if there was a violation.  Ctrl-C lets the present
    fault be the last one; pressed again, it ends everything at once.
    """
    if lists:
        click.echo(f"faults: {', '.join(FAULTS)}\nwork: {', '.join(WORK)}")
        return
    # One line each, however narrow the terminal is.
    console = Console(soft_wrap=True, highlight=False)

    async def start(reactor: Any) -> int:
        run = Run(reactor, seed=seed, duration=duration, faults=faults, work=work, say=lambda line: click.echo(line))
        reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(run.end_at_once()))
        # Not before the reactor runs, which installs a handler of its own.
        reactor.callWhenRunning(_interrupt_gently, reactor, run)
        click.echo(f"seed {seed}; starting a cluster of 3 primaries and 3 replicas")
        findings = await run.run()
        show(findings, console)
        if findings.violations:
            click.echo(f"{len(findings.violations)} violations with seed {seed}", err=True)
            return 1
        click.echo(f"no violation with seed {seed}")
        return 0

    run_reactor(start)


def _interrupt_gently(reactor: Any, run: Run) -> None:
    """Have the first Ctrl-C end the run with all its checks; the second is the reactor's again."""
    usual = signal.getsignal(signal.SIGINT)

    def interrupted(*_: object) -> None:
        signal.signal(signal.SIGINT, usual)
        # A signal handler must not do more than that.
        reactor.callFromThread(run.interrupt)
        click.echo("ending after the present fault; Ctrl-C again ends at once", err=True)

    signal.signal(signal.SIGINT, interrupted)


if __name__ == "__main__":
    main()
