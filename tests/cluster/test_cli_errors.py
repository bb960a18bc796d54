"""What a user is told when a command fails, also if nobody has thought of it."""

from __future__ import annotations

from tests.cluster.command_line import CommandLine

# A command in which something fails as nothing should.
BROKEN = """
import sys
from txvalkeycluster.cli import cluster, main, topology

def broken(*_):
    raise KeyError("nobody thought of this")

async def broken_later(*_):
    broken()

cluster._Record.all = broken
topology._show = broken_later
main()
"""


class ErrorTests(CommandLine):
    async def test_errors_are_one_message(self) -> None:
        """What a user got wrong is told without a traceback, and the exit is not zero."""
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

    async def test_an_unexpected_error(self) -> None:
        """Its kind and text, with the reactor and without; where it comes from, if asked for."""
        for words in (("topology", "valkey://127.0.0.1:1"), ("cluster", "status")):
            code, out, err = await self.run_python("-c", BROKEN, *words)
            self.assertEqual((code, out), (1, ""))
            self.assertEqual(err, "Error: KeyError: 'nobody thought of this' (TXVALKEYCLUSTER_DEBUG=1 shows where)\n")
            self.environment["TXVALKEYCLUSTER_DEBUG"] = "1"
            code, out, err = await self.run_python("-c", BROKEN, *words)
            del self.environment["TXVALKEYCLUSTER_DEBUG"]
            self.assertEqual((code, out), (1, ""))
            for text in ("Traceback", "in broken", "Error: KeyError"):
                self.assertIn(text, err)
