"""The demo on a cluster of one's own, in memory: what it upsets, and what it reports."""

from __future__ import annotations

from contextlib import AsyncExitStack
from io import StringIO
from random import Random
from typing import Any

from rich.console import Console
from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from txvalkeycluster.cli import demo
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, ScriptedNode


def finished(state: bytes) -> bytes:
    """CLUSTER GETSLOTMIGRATIONS."""
    return b"*1\r\n%%2\r\n+state\r\n+%b\r\n+message\r\n+because\r\n" % state


async def run_and_undo(one: Any) -> int:
    async with AsyncExitStack() as stack:
        code: int = await one.run(stack)
    return code


class DemoTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        primary, other, replica = self.nodes
        self.cluster.ranges = [(0, 8191, primary), (8192, 16383, other)]
        self.cluster.replicas = {primary: [replica]}
        #: What the nodes answer to a command in place of executing it.
        self.answers: dict[tuple[bytes, ...], Any] = {
            (b"CLUSTER", b"MIGRATESLOTS"): b"+OK\r\n",
            (b"CLUSTER", b"GETSLOTMIGRATIONS"): finished(b"success"),
        }
        for node in self.nodes:
            node.script = self.script
        self.patch(demo, "ClusterClient", lambda *_: self.lazy_client(timeout=2.0))

    def script(self, node: ScriptedNode, words: list[bytes], _: Any) -> Any:
        if words[0] == b"SHUTDOWN":
            self.network.refuse(node)
            self.taken_over()
            return CLOSE
        return next(
            (answer for name, answer in self.answers.items() if tuple(words[: len(name)]) == name), DEFAULT_REPLY
        )

    def taken_over(self) -> None:
        _, other, replica = self.nodes
        self.cluster.ranges = [(0, 8191, replica), (8192, 16383, other)]
        self.cluster.replicas = {}

    def told(self, *, kill: bool = False, migrate: bool = False, terminal: bool = False) -> tuple[int, str]:
        """The exit code, and what it has shown."""
        console = Console(file=StringIO(), width=200, force_terminal=terminal)
        one = demo._Demo(self.clock, 2, 3, "valkey://node:7000", kill, migrate, console=console)
        running = Deferred.fromCoroutine(run_and_undo(one))
        random = Random(1)
        for _ in range(2000):
            if running.called:
                break
            self.clock.advance(0.02)
            for _ in range(3):
                self.network.trickle(random, 1.0)
        code = self.successResultOf(running)
        self.network.settle()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return code, console.file.getvalue()  # type: ignore[attr-defined]

    def test_a_primary_that_is_killed_and_slots_that_move(self) -> None:
        code, text = self.told(kill=True, migrate=True)
        self.assertEqual(code, 0)
        for words in ("node:7000 killed, node:7002 took over", "and back", "every value was right"):
            self.assertIn(words, text)
        self.assertEqual(self.cluster.values, {})

    def test_on_a_terminal(self) -> None:
        """A view of what is under way."""
        code, text = self.told(migrate=True, terminal=True)
        self.assertEqual(code, 0)
        self.assertIn("values verified", text)

    def test_what_is_not_possible(self) -> None:
        """It is said why, and the rest goes on."""
        self.cluster.ranges = [(0, 16383, self.nodes[0])]
        self.cluster.replicas = {}
        code, text = self.told(kill=True, migrate=True)
        self.assertEqual(code, 0)
        self.assertIn("not possible: no primary has a replica to take over", text)
        self.assertIn("not possible: there is but one shard", text)

    def test_a_migration_that_fails(self) -> None:
        self.answers[b"CLUSTER", b"GETSLOTMIGRATIONS"] = finished(b"failed")
        self.assertIn("not possible: the migration failed: because", self.told(migrate=True)[1])

    def test_a_server_that_cannot_migrate(self) -> None:
        self.answers[b"CLUSTER", b"MIGRATESLOTS"] = b"-ERR unknown subcommand\r\n"
        self.assertIn("not possible: ERR unknown subcommand", self.told(migrate=True)[1])

    def test_nobody_takes_over(self) -> None:
        """In time: it is not waited for for ever."""
        taken_over = self.taken_over
        self.patch(self, "taken_over", lambda: self.clock.callLater(32.0, taken_over))
        self.assertIn("no replica took over from node:7000 within 30 s", self.told(kill=True)[1])

    def test_wrong_values(self) -> None:
        """They are told by their keys, and the exit says so."""
        self.answers[b"GET",] = b"$2\r\n-9\r\n"
        code, text = self.told()
        self.assertEqual(code, 1)
        self.assertIn("wrong values, 0 Deferreds never fired", text)
        self.assertIn("is -9, not", text)
