"""The tables at the end of a run."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .findings import Findings

_SHOWN = 30


def show(findings: Findings, console: Console) -> None:
    """Print the results of a run."""
    console.print(_work(findings))
    console.print(_faults(findings))
    console.print(
        f"{findings.scans} complete scans; the longest recovery took {findings.longest_recovery:.2f} s"
        + (f", after {findings.longest_recovery_after}" if findings.longest_recovery_after else "")
    )
    if findings.messages:
        gaps = ", ".join(f"{number:,} {reason.name}" for reason, number in findings.gaps.most_common())
        console.print(f"{findings.messages:,} messages; gaps of channels: {gaps or 'none'}")
        console.print(f"{findings.unheard:,} messages were published at a node without subscribers during faults")
    console.print(f"{findings.lost} acknowledged tokens were lost with a primary, which replication allows")
    for text in findings.violations[:_SHOWN]:
        console.print(f"VIOLATION {text}", style="red", markup=False, highlight=False)
    if len(findings.violations) > _SHOWN:
        console.print(f"... and {len(findings.violations) - _SHOWN} more")


def _work(findings: Findings) -> Table:
    table = Table("work")
    for name in ("operations", "successes"):
        table.add_column(name, justify="right")
    table.add_column("errors")
    for name, count in findings.work.items():
        errors = "\n".join(f"{number:,} {kind}" for kind, number in count.errors.most_common())
        table.add_row(name, f"{count.operations:,}", f"{count.successes:,}", errors)
    return table


def _faults(findings: Findings) -> Table:
    table = Table("fault")
    table.add_column("times", justify="right")
    for name, number in sorted(findings.faults.items()):
        table.add_row(name, str(number))
    return table
