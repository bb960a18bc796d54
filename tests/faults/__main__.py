"""The command line: ``python -m tests.faults --seed 1 --duration 300``."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

import click
from rich.console import Console

from txvalkeycluster.cli.running import run as run_reactor

from .findings import HEALTHY
from .report import show
from .run import FAULTS, Run
from .work import WORK


def _names(known: Iterable[str]) -> Callable[[click.Context, click.Parameter, str | None], tuple[str, ...]]:
    """Return a callback for click that reads names separated by commas."""

    def read(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
        names = tuple(known) if value is None else tuple(filter(None, value.split(",")))
        if not names or not set(names) <= set(known):
            raise click.BadParameter("use names that --list prints")
        return names

    return read


@click.command()
@click.option("--seed", default=1, show_default=True, help="The seed of all random choices.")
@click.option("--duration", default=60.0, show_default=True, help="For how many seconds new faults start.")
@click.option("--healthy", default=HEALTHY, show_default=True, help="The limit for a recovery, in seconds.")
@click.option("--faults", callback=_names(FAULTS), help="Only these kinds of faults, separated by commas.")
@click.option("--work", callback=_names(WORK), help="Only these kinds of work, separated by commas.")
@click.option("--list", "lists", is_flag=True, help="List the kinds of faults and work, and exit.")
def main(
    seed: int, duration: float, healthy: float, faults: tuple[str, ...], work: tuple[str, ...], lists: bool
) -> None:
    """Run a cluster with mixed work and faults, and check all results.

    The run goes on until each kind of fault has happened once.  The exit status is 1 if there was a violation.  After
    Ctrl-C the current fault is the last one.  A second Ctrl-C ends the run at once.
    """
    if lists:
        click.echo(f"faults: {', '.join(FAULTS)}\nwork: {', '.join(WORK)}")
        return
    # Each message is one line, even on a narrow terminal.
    console = Console(soft_wrap=True, highlight=False)

    async def start(reactor: Any, stack: AsyncExitStack) -> int:
        run = Run(
            reactor,
            seed=seed,
            duration=duration,
            healthy=healthy,
            faults=faults,
            work=work,
            say=lambda line: click.echo(line),
        )
        stack.push_async_callback(run.end_at_once)
        _interrupt_gently(reactor, run)
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
    """Make the first Ctrl-C end the run with all its checks, and the second one end it at once."""
    usual = signal.getsignal(signal.SIGINT)

    def interrupted(*_: object) -> None:
        signal.signal(signal.SIGINT, usual)
        # callFromThread is all that a signal handler may call.
        reactor.callFromThread(run.interrupt)
        click.echo("the current fault is the last one; press Ctrl-C again to end at once", err=True)

    signal.signal(signal.SIGINT, interrupted)


if __name__ == "__main__":
    main()
