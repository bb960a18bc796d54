"""Commands that wait for a node that cannot serve them now."""

from __future__ import annotations

from tests.memory import MemoryTests
from txvalkeycluster import CommandTimeout
from txvalkeycluster.testing import DEFAULT_REPLY


class DeadlineTests(MemoryTests):
    def test_the_timeout_says_what_the_command_waited_for(self) -> None:
        """The error names the node, the reason and the attempts, and says that the command was not executed.

        If the deadline came during an attempt, the command could have been executed.
        """
        node = self.nodes[0]
        for text in ("CLUSTERDOWN The cluster is down", "TRYAGAIN x"):
            node.script = lambda node, words, _, text=text: (
                f"-{text}\r\n".encode() if words[0] == b"SET" else DEFAULT_REPLY
            )
            client = self.client()
            failing = client.execute("SET", self.key_of(node), "v", timeout=0.3)
            self.advance(0.31)
            error = self.failureResultOf(failing, CommandTimeout).value
            self.assertFalse(error.maybe_executed)
            for part in (str(node.address), "earlier attempts", text):
                self.assertIn(part, str(error))
