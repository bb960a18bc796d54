"""The demo on a cluster in memory: the failovers and migrations that it causes, and its report."""

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
    """Return the reply to CLUSTER GETSLOTMIGRATIONS for a migration that has ended."""
    return b"*1\r\n%%2\r\n+state\r\n+%b\r\n+message\r\n+because\r\n" % state


async def run_and_clean_up(one: demo._Demo) -> int:
    async with AsyncExitStack() as stack:
        code: int = await one.run(stack)
    return code


class DemoTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        primary, other, replica = self.nodes
        self.cluster.ranges = [(0, 8191, primary), (8192, 16383, other)]
        self.cluster.replicas = {primary: [replica]}
        #: The replies of the nodes, by the first words of a command, instead of executing it.
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
        """Make the replica the primary of its shard."""
        _, other, replica = self.nodes
        self.cluster.ranges = [(0, 8191, replica), (8192, 16383, other)]
        self.cluster.replicas = {}

    def run_demo(self, *, kill: bool = False, migrate: bool = False, terminal: bool = False) -> tuple[int, str]:
        """Run a demo.  Return its exit status and its output."""
        shown = StringIO()
        console = Console(file=shown, width=200, force_terminal=terminal)
        one = demo._Demo(self.clock, 2, 3, "valkey://node:7000", kill, migrate, console=console)
        running = Deferred.fromCoroutine(run_and_clean_up(one))
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
        return code, shown.getvalue()

    def test_a_primary_that_is_killed_and_slots_that_move(self) -> None:
        """The report names the killed primary and its replica, and the demo removes its keys."""
        code, text = self.run_demo(kill=True, migrate=True)
        self.assertEqual(code, 0)
        for words in ("node:7000 killed, node:7002 took over", "and back", "every value was right"):
            self.assertIn(words, text)
        self.assertEqual(self.cluster.values, {})

    def test_on_a_terminal(self) -> None:
        """On a terminal the demo shows its progress."""
        code, text = self.run_demo(migrate=True, terminal=True)
        self.assertEqual(code, 0)
        self.assertIn("values verified", text)

    def test_without_replicas_and_other_shards(self) -> None:
        """The report says why nothing can be killed and moved, and the demo succeeds."""
        self.cluster.ranges = [(0, 16383, self.nodes[0])]
        self.cluster.replicas = {}
        code, text = self.run_demo(kill=True, migrate=True)
        self.assertEqual(code, 0)
        self.assertIn("not possible: no primary has a replica that can take over", text)
        self.assertIn("not possible: the cluster has only one shard", text)

    def test_a_migration_that_fails(self) -> None:
        self.answers[b"CLUSTER", b"GETSLOTMIGRATIONS"] = finished(b"failed")
        self.assertIn("not possible: the migration failed: because", self.run_demo(migrate=True)[1])

    def test_a_server_that_cannot_migrate(self) -> None:
        self.answers[b"CLUSTER", b"MIGRATESLOTS"] = b"-ERR unknown subcommand\r\n"
        self.assertIn("not possible: ERR unknown subcommand", self.run_demo(migrate=True)[1])

    def test_no_replica_takes_over(self) -> None:
        """The demo waits 30 seconds for a replica to take over, and says that none did."""
        taken_over = self.taken_over
        self.patch(self, "taken_over", lambda: self.clock.callLater(32.0, taken_over))
        self.assertIn("no replica took over from node:7000 within 30 s", self.run_demo(kill=True)[1])

    def test_wrong_values(self) -> None:
        """The report names the keys with wrong values, and the exit status is 1."""
        self.answers[b"GET",] = b"$2\r\n-9\r\n"
        code, text = self.run_demo()
        self.assertEqual(code, 1)
        self.assertIn("wrong values, 0 Deferreds never fired", text)
        self.assertIn("is -9, not", text)
