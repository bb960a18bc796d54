"""The tables at the end of a run."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .book import Book

_SHOWN = 30


def show(book: Book, console: Console) -> None:
    """Print what a run has seen."""
    console.print(_work(book))
    console.print(_faults(book))
    console.print(
        f"{book.scans} complete scans; the longest recovery took {book.longest_recovery:.2f} s"
        + (f", after {book.longest_recovery_after}" if book.longest_recovery_after else "")
    )
    console.print(f"{book.lost} acknowledged tokens were lost with a primary, which replication allows")
    for text in book.violations[:_SHOWN]:
        console.print(f"VIOLATION {text}", style="red", markup=False, highlight=False)
    if len(book.violations) > _SHOWN:
        console.print(f"... and {len(book.violations) - _SHOWN} more")


def _work(book: Book) -> Table:
    table = Table("work")
    for name in ("operations", "successes"):
        table.add_column(name, justify="right")
    table.add_column("errors")
    for name, count in book.work.items():
        errors = "\n".join(f"{number:,} {kind}" for kind, number in count.errors.most_common())
        table.add_row(name, f"{count.operations:,}", f"{count.successes:,}", errors)
    return table


def _faults(book: Book) -> Table:
    table = Table("fault")
    table.add_column("times", justify="right")
    for name, number in sorted(book.faults.items()):
        table.add_row(name, str(number))
    return table
