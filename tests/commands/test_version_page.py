"""docs/command-versions.md: it is what gencmd.version_page writes, and has every method."""

from __future__ import annotations

import inspect
from pathlib import Path

from gencmd.version_page import page, rows
from tests.cases import SynchronousTestCase
from txvalkeycluster.commands import CommandTable
from txvalkeycluster.commands.methods import Commands

PAGE = Path(__file__).parents[2] / "docs" / "command-versions.md"


class PageTests(SynchronousTestCase):
    def test_the_page(self) -> None:
        """If this fails: python -m gencmd.version_page > docs/command-versions.md."""
        self.assertEqual(PAGE.read_text(), page())

    def test_every_method_is_there(self) -> None:
        """Each method of a command has a row with the name of a command, except aliases."""
        methods = {name for name, each in vars(Commands).items() if inspect.isfunction(each) and name[0] != "_"}
        self.assertEqual({row.method for row in rows()}, methods)
        table = CommandTable()
        known = {sub.name for name in table for sub in (table[name].subcommands.values() or [table[name]])}
        self.assertEqual({row.name for row in rows()} - known - set(table), set())

    def test_rows(self) -> None:
        """Commands of one and of two words, and a deprecated one."""
        found = {row.name: str(row) for row in rows()}
        self.assertEqual(found["GETDEL"], "| GETDEL | `getdel` | 6.2.0 |  |\n")
        self.assertEqual(found["SCRIPT SHOW"], "| SCRIPT SHOW | `script_show` | 8.0.0 |  |\n")
        self.assertEqual(found["SLAVEOF"], "| SLAVEOF | `slaveof` | 1.0.0 | 5.0.0 |\n")
