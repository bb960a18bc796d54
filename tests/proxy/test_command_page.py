"""docs/proxy-commands.md: it is what gencmd.proxy_page writes, and what the proxy does."""

from __future__ import annotations

import subprocess
import sys
from unittest.mock import patch

from gencmd import proxy_page
from gencmd.proxy_page import DIFFERENT, NoText, page, row_of, rows
from tests.cases import SynchronousTestCase
from tests.proxy.base import request
from tests.proxy.memory import ClientEnd, MemoryProxyTests
from tests.proxy.programs import ROOT
from txvalkeycluster.commands import Command, CommandTable
from txvalkeycluster.proxy.commands.dispatch import REFUSED
from txvalkeycluster.testing import DEFAULT_REPLY

_STATS = b"*4\r\n$14\r\nrunning_script\r\n$-1\r\n$7\r\nengines\r\n*0\r\n"
PAGE = ROOT / "docs" / "proxy-commands.md"


def all_commands() -> list[Command]:
    """Return every command, or its subcommands."""
    table = CommandTable()
    return [each for name in table for each in (table[name].subcommands.values() or [table[name]])]


class PageTests(SynchronousTestCase):
    def test_the_page(self) -> None:
        """If this fails: python -m gencmd.proxy_page > docs/proxy-commands.md."""
        self.assertEqual(PAGE.read_text(), page())

    def test_the_program(self) -> None:
        command = [sys.executable, "-m", "gencmd.proxy_page"]
        written = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        self.assertEqual(written, page())

    def test_every_command_is_there(self) -> None:
        """Each command has at least one row, and no text is about a command that does not exist or is refused."""
        names = {row.name.partition(" ")[0].rstrip(",") for row in rows()}
        self.assertEqual(names, set(CommandTable()))
        there = {each.name: row_of(each).verdict for each in all_commands()}
        self.assertEqual({name: there.get(name) for name in DIFFERENT}, dict.fromkeys(DIFFERENT, "different"))
        self.assertEqual({name for name in REFUSED if name not in names}, set())

    def test_a_new_command_of_the_proxy(self) -> None:
        """A command that the proxy begins to answer, or to send to several nodes, needs a text."""
        for name in ("TIME", "DBSIZE"):
            texts = {each: text for each, text in DIFFERENT.items() if each != name}
            with patch.object(proxy_page, "DIFFERENT", texts):
                self.assertRaises(NoText, row_of, CommandTable()[name])


class TruthTests(MemoryProxyTests):
    def reply_to(self, command: Command) -> bytes:
        """Return the reply to a call with the right number of arguments."""
        for node in self.nodes:
            node.script = lambda node, words, connection: _STATS if words[-1] == b"STATS" else DEFAULT_REPLY
        client = ClientEnd(self.proxy())
        words = [*command.name.split(), *["1"] * abs(command.arity)][: abs(command.arity)]
        client.send(request(*words))
        self.network.settle()
        return bytes(client.received)

    def test_refused_commands(self) -> None:
        """Each command that the page calls refused gets an error with this reason."""
        count = 0
        for command in all_commands():
            row = row_of(command)
            if row.verdict == "refused":
                count += 1
                reply = self.reply_to(command)
                self.assertTrue(reply.startswith(b"-ERR "), f"{command.name}: {reply!r}")
        self.assertGreater(count, 60)

    def test_other_commands(self) -> None:
        """No other command gets such an error."""
        count = 0
        for command in all_commands():
            if row_of(command).verdict != "refused":
                count += 1
                reply = self.reply_to(command)
                for text in (b"is not available", b"is not supported", b"acts on one server", b"is for one server"):
                    self.assertNotIn(text, reply, command.name)
        self.assertGreater(count, 200)
