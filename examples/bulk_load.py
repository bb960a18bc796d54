"""Load rows into a Valkey cluster, one hash for each row, with a progress bar.

    VALKEY_URL=valkey://10.0.0.1:7000 python examples/bulk_load.py people.csv --key=id --prefix=person:
    VALKEY_URL=valkey://10.0.0.1:7000 python examples/bulk_load.py people.jsonl --key=id
    VALKEY_URL=valkey://10.0.0.1:7000 python examples/bulk_load.py --generate=1000000

The first line of a CSV file has the names of the columns.  Each line of any other file is a JSON object.  The file is
read only as fast as the cluster takes the rows, so its size does not matter.  Errors are printed with the number of the
row, counted from 1.  The exit status is 1 if a row was not loaded.  It does no harm to load a file again.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, react

from txvalkeycluster import ValkeyError, connect

# Further errors are only counted.
MOST_ERRORS = 20


def rows_of(file: BinaryIO, *, is_csv: bool) -> Iterator[Any]:
    """Read a file.  A row that cannot be read is an exception in its place."""
    # Bytes that are not UTF-8 become text that the client refuses, so that only their row fails.
    lines = (line.decode("utf-8", "surrogateescape") for line in file)
    rows: Iterator[Any] = csv.DictReader(lines) if is_csv else map(json.loads, lines)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except (csv.Error, ValueError, RecursionError) as error:
            row = error
        yield row


class Loader:
    """Makes a command of each row, and notes which rows failed."""

    def __init__(self, console: Console, prefix: str, key: str) -> None:
        self.loaded = self.failed = 0
        self.complete = False
        self._console, self._prefix, self._key = console, prefix, key
        # The rows of the commands that have no reply yet.
        self._rows: dict[int, int] = {}

    def commands(self, rows: Iterable[Any]) -> Iterator[list[Any]]:
        """Give the commands, as the client takes them."""
        index = 0
        for number, row in enumerate(rows, 1):
            try:
                command = self._command(row)
            except ValueError as error:
                self._fail(number, error)
            else:
                self._rows[index] = number
                index += 1
                yield command

    def _command(self, row: Any) -> list[Any]:
        if isinstance(row, Exception):
            raise ValueError(f"it cannot be read: {row}")
        if not isinstance(row, dict) or None in row or None in row.values():
            raise ValueError("it is not an object, or has not as many columns as the first line")
        if self._key not in row:
            raise ValueError(f"it has no {self._key!r}")
        words: list[Any] = ["HSET", f"{self._prefix}{row[self._key]}"]
        for name, value in row.items():
            words += (name, value if isinstance(value, str) else json.dumps(value))
        return words

    def each(self, index: int, result: Any) -> None:
        """Note what became of a command."""
        number = self._rows.pop(index)
        if isinstance(result, Exception):
            self._fail(number, result)
        else:
            self.loaded += 1

    def _fail(self, number: int, error: Exception) -> None:
        self.failed += 1
        if self.failed <= MOST_ERRORS:
            self.print(f"row {number}: {error}")

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


async def load(
    reactor: IReactorTime, url: str, loader: Loader, file: BinaryIO | None, count: int, bar: Progress
) -> None:
    """Load all rows, and move the bar ten times in a second."""
    generated = ({"id": number, "name": f"name {number}"} for number in range(1, count + 1))
    rows = generated if file is None else rows_of(file, is_csv=file.name.endswith(".csv"))
    size = count if file is None else os.fstat(file.fileno()).st_size
    task = bar.add_task("load", total=size or 1, rows=0)

    def move() -> None:
        bar.update(task, completed=loader.loaded + loader.failed if file is None else file.tell(), rows=loader.loaded)
        bar.refresh()

    moving = LoopingCall(move)
    moving.clock = reactor
    try:
        async with await connect(reactor, url) as client:
            moving.start(0.1)
            await client.stream(loader.commands(rows), loader.each)
            loader.complete = True
            moving.stop()
            move()
    except (ValkeyError, OSError) as error:
        loader.print(f"cannot load the rows: {error}")


@click.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--url", envvar="VALKEY_URL", required=True, help="URL of the cluster; better in VALKEY_URL.")
@click.option("--key", default="id", show_default=True, help="Column whose value makes the name of the hash.")
@click.option("--prefix", default="row:", show_default=True, help="What the names of the hashes begin with.")
@click.option(
    "--generate", "count", default=0, type=click.IntRange(0), help="Load this many made-up rows, and no file."
)
def main(file: BinaryIO | None, url: str, key: str, prefix: str, count: int) -> None:
    """Load a CSV file, or a file of JSON lines."""
    if (file is None) == (count == 0):
        raise click.UsageError("give a file, or --generate")
    console = Console(stderr=True)
    loader = Loader(console, prefix, key)
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]} rows"), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, auto_refresh=False) as bar:
            react(load, (url, loader, file, count, bar))
    finally:
        click.echo(f"{loader.loaded} rows loaded, {loader.failed} failed")
        if not loader.complete:
            click.echo("the end of the rows was not reached", err=True)
        if loader.failed or not loader.complete:
            sys.exit(1)


if __name__ == "__main__":
    main()
