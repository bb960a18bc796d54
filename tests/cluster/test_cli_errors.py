"""The messages of commands that fail, also of unexpected errors."""

from __future__ import annotations

from tests.cluster.command_line import CommandLine

# Commands that raise an unexpected error.
BROKEN = """
import sys
from txvalkeycluster.cli import cluster, main, topology

def broken(*_):
    raise KeyError("unexpected")

async def broken_later(*_):
    broken()

cluster._Record.all = broken
topology._show = broken_later
main()
"""
# The module is run as by ``python -m``, in an environment without click.
WITHOUT_CLICK = """
import runpy, sys

sys.modules["click"] = None
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""


class ErrorTests(CommandLine):
    async def test_errors_are_one_message(self) -> None:
        """The message for a user's mistake has no traceback, and the exit status is not 0."""
        for words, text in [
            (("topology", "valkey://127.0.0.1:1"), "refused"),
            (("topology", "http://x"), "the URL does not start with"),
            (("cluster", "stop", "--name=none"), "no cluster named none"),
            (("demo", "--seconds=nan"), "not a valid integer"),
        ]:
            code, out, err = await self.run_command(*words)
            self.assertNotEqual(code, 0)
            self.assertIn(text, err)
            self.assertNotIn("Traceback", out + err)

    async def test_without_the_extra(self) -> None:
        """Without the packages of the extra ``cli``, ``python -m`` prints one line that says what to install."""
        for module in ("txvalkeycluster", "txvalkeycluster.cli"):
            code, out, err = await self.run_python("-c", WITHOUT_CLICK, module, "--help")
            self.assertEqual((code, out), (1, ""))
            self.assertIn("Error: the command line needs the extra 'cli': pip install 'txvalkeycluster[cli]' (", err)
            self.assertEqual(err.count("\n"), 1)

    async def test_an_unexpected_error(self) -> None:
        """An unexpected error prints its type and text.  TXVALKEYCLUSTER_DEBUG=1 adds the traceback."""
        for words in (("topology", "valkey://127.0.0.1:1"), ("cluster", "status")):
            code, out, err = await self.run_python("-c", BROKEN, *words)
            self.assertEqual((code, out), (1, ""))
            self.assertEqual(err, "Error: KeyError: 'unexpected' (set TXVALKEYCLUSTER_DEBUG=1 to see the traceback)\n")
            self.environment["TXVALKEYCLUSTER_DEBUG"] = "1"
            code, out, err = await self.run_python("-c", BROKEN, *words)
            del self.environment["TXVALKEYCLUSTER_DEBUG"]
            self.assertEqual((code, out), (1, ""))
            for text in ("Traceback", "in broken", "Error: KeyError"):
                self.assertIn(text, err)
