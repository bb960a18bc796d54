"""Writes docs/command-versions.md: the commands that have a method, with the version of the server that they need.

    python -m gencmd.version_page > docs/command-versions.md

The versions come from the docstrings of the methods, which gencmd has written from the definitions of the server.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from txvalkeycluster.commands import CommandTable
from txvalkeycluster.commands.methods import Commands

_HEAD = """\
# Commands and the versions that have them

Every command with its method and the version of the server that it needs. Options of a command can need a newer server
than the command: the [pages of Valkey](https://valkey.io/commands/) say which. If a server does not know a command, it
answers with an error (`ReplyError`, `ERR unknown command`), and nothing is executed.

The first version of Valkey is 7.2.4. So every version of Valkey has the commands below with lower numbers. **Newer
than 7.2** means that you should look which servers your program must work with. [Commands of modules](modules.md) and
commands that this table does not know can be sent with `execute`.

This page is generated: `python -m gencmd.version_page > docs/command-versions.md`.

"""
_TABLE = "| command | method | since | deprecated since |\n| --- | --- | --- | --- |\n"


@dataclass(frozen=True, slots=True)
class Row:
    """A command."""

    name: str
    method: str
    since: str
    deprecated: str = ""

    def __str__(self) -> str:
        return f"| {self.name} | `{self.method}` | {self.since} | {self.deprecated} |\n"

    @property
    def version(self) -> tuple[int, ...]:
        """The version as numbers, which can be compared."""
        return tuple(map(int, self.since.split(".")))


def rows() -> Iterator[Row]:
    """Yield a row for each method, in the order of the names."""
    table = CommandTable()
    for method, function in sorted(vars(Commands).items()):
        text = inspect.getdoc(function) if inspect.isfunction(function) and not method.startswith("_") else None
        since = re.search(r"\bSince ([\d.]+\d)\.", text or "")
        if text is None or since is None:
            continue
        # The second paragraph is the form of the call.
        first, second, *_ = [*text.split("\n\n")[1].split(), ""]
        deprecated = re.search(r"\bDeprecated since ([\d.]+\d)\.", text)
        name = f"{first} {second}" if second in table[first].subcommands else first
        yield Row(name, method, since[1], deprecated[1] if deprecated else "")


def page() -> str:
    """Return the page."""
    everything = list(rows())
    newer = sorted((row for row in everything if row.version > (7, 2, 4)), key=lambda row: (row.version, row.name))
    return (
        f"{_HEAD}## Newer than 7.2\n\n{_TABLE}{''.join(map(str, newer))}\n"
        f"## All\n\n{_TABLE}{''.join(map(str, everything))}"
    )


if __name__ == "__main__":
    sys.stdout.write(page())
