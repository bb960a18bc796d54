"""ioredis and node-redis use a proxy as a single server, through a graceful failover and a SIGKILL.

They are not on PyPI: run ``npm install ioredis redis`` in a folder, and name it in TXVALKEYCLUSTER_NODE.  Without it,
these tests are skipped.  With TXVALKEYCLUSTER_PROXY_SEEN=FILE, what each program has seen is appended to a file, as
rows of the table in docs/proxy.md.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SkipTest

from tests.cases import SynchronousTestCase, TestCase
from tests.proxy.programs import Program, ProxyTests, in_doubt, note, single_server, tags_in, until

LIBRARIES = ("ioredis", "redis")
_SCRIPT = Path(__file__).parent / "node_clients.cjs"
# Workers that do something while the primary of their program stands still.
_ELSEWHERE = ("many", "values", "pipeline")


def folder_with(*libraries: str) -> str:
    """Return the folder with the libraries; skip the test if there is none."""
    folder = os.environ.get("TXVALKEYCLUSTER_NODE", "")
    missing = [each for each in libraries if not (Path(folder) / "node_modules" / each).is_dir()]
    if missing or shutil.which("node") is None:
        what = " ".join(missing or ["node"])
        raise SkipTest(f"missing: {what}. Run `npm install {' '.join(libraries)}` in $TXVALKEYCLUSTER_NODE")
    return folder


class NodeProgram(Program):
    """The script of one library."""

    def __init__(self, folder: str, library: str, port: int, tags: Sequence[str]) -> None:
        self.name = {"redis": "node-redis"}.get(library, library)
        self.errors: list[str] = []
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.longest = 0.0
        self.end: Any = None
        self._taken = 0
        super().__init__([shutil.which("node") or "node", str(_SCRIPT), folder, library, str(port), *tags])
        self.received = self._received

    def reached(self, goal: Mapping[str, int]) -> bool:
        """Whether all workers have done so many rounds."""
        return all(self.counts[name] >= count for name, count in goal.items())

    def _received(self) -> None:
        for line in self.lines[self._taken :]:
            self._taken += 1
            told = json.loads(line)
            self.errors += [told[kind] for kind in ("error",) if kind in told]
            self.wrong += [told[kind] for kind in ("wrong",) if kind in told]
            self.counts.update({name: count - self.counts[name] for name, count in told.get("rounds", {}).items()})
            self.longest = max(self.longest, told.get("longest", 0) / 1000)
            self.end = told.get("end", self.end)


class SkipTests(SynchronousTestCase):
    def test_without_libraries(self) -> None:
        """Where the libraries are not installed, the tests are skipped, and say what to do."""
        with patch.dict(os.environ, {"TXVALKEYCLUSTER_NODE": self.mktemp()}):
            error = self.assertRaises(SkipTest, folder_with, *LIBRARIES)
        self.assertEqual(str(error), "missing: ioredis redis. Run `npm install ioredis redis` in $TXVALKEYCLUSTER_NODE")


class Programs(TestCase):
    """Starts and stops the programs, and checks what they have seen."""

    timeout = 180

    def setUp(self) -> Any:
        self.folder = folder_with(*LIBRARIES)
        return super().setUp()

    def started(self, port: int, tags: Sequence[str]) -> list[NodeProgram]:
        """Start a program for each library."""
        programs = [NodeProgram(self.folder, library, port, tags) for library in LIBRARIES]
        for each in programs:
            self.addCleanup(each.kill)
        return programs

    async def worked(self, programs: Sequence[NodeProgram], rounds: int = 50) -> None:
        """Wait until each worker has done some more rounds, or something was wrong."""
        await until(lambda: all(len(each.counts) == 10 or not each.running for each in programs))
        goals = [{name: count + rounds for name, count in each.counts.items()} for each in programs]
        for each, goal in zip(programs, goals, strict=True):
            await until(lambda e=each, g=goal: not e.running or e.wrong or e.reached(g))  # type: ignore[misc]
            self.assertEqual((each.wrong, each.running), ([], True), f"{each.name}: {each.err!r}")

    async def stopped(self, programs: Sequence[NodeProgram]) -> None:
        """Let the programs check what they have seen, and end."""
        for each in programs:
            each.end_input()
        for each in programs:
            status = await each.ended
            self.assertEqual((each.wrong, status), ([], 0), f"{each.name}: {each.err!r}")
            self.assertEqual([kind for kind, count in each.end["taken"].items() if not count], [])
            self.assertTrue(all(each.end["messages"]), each.end)

    def seen(self, programs: Sequence[NodeProgram], change: str) -> list[str]:
        """Note what the programs have seen; return the texts of their errors."""
        found: list[str] = []
        for each in programs:
            gaps = f"; {each.end['gaps']} times subscribed anew" if each.end else ""
            found += note(each.name + gaps, change, each.errors, each.longest)
            each.errors, each.longest = [], 0.0
        return found


class SingleServerTests(Programs):
    """The programs themselves are right."""

    async def test_single_server(self) -> None:
        """A single server shows them no error and nothing wrong."""
        programs = self.started(await single_server(self), ("one", "two", "three"))
        await self.worked(programs)
        await self.stopped(programs)
        self.assertEqual(self.seen(programs, "none"), [])


class FaultTests(Programs, ProxyTests):
    """A failover shows the programs no error, and a SIGKILL only what was under way."""

    timeout = 180

    async def test_failover_and_sigkill(self) -> None:
        """Nothing is lost or done twice, unless an error has said that it may be so."""
        port = (await self.proxy_process()).port
        first, *others = await self.cluster.primaries()
        programs = self.started(port, [next(tags_in(await self.slots_of(each))) for each in (first, *others)])
        await self.worked(programs)
        [replica] = await self.cluster.replicas_of(first)
        await self.cluster.failover(replica)
        await self.cluster.wait_until_whole()
        await self.worked(programs)
        self.assertEqual(self.seen(programs, "failover"), [])
        await self.lossless_kill(replica, lambda: [_still(each.counts) for each in programs])
        await self.worked(programs)
        self.assertEqual([text for text in self.seen(programs, "SIGKILL") if not in_doubt(text)], [])
        await self.end_subscriptions()
        await self.worked(programs)
        self.assertEqual(self.seen(programs, "CLIENT KILL TYPE PUBSUB"), [])
        await self.stopped(programs)
        self.assertEqual(self.seen(programs, "the end"), [])
        self.assertTrue(all(each.end["gaps"] for each in programs))


def _still(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(each for each in counts.items() if each[0] not in _ELSEWHERE)
