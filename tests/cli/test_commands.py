"""The commands of the command line, but for the servers that they start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from click.testing import CliRunner, Result
from rich.console import Console
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.memory import MemoryTests
from txvalkeycluster import Options, cli
from txvalkeycluster.cli import cluster as cluster_module
from txvalkeycluster.cli import running
from txvalkeycluster.cli import topology as topology_module
from txvalkeycluster.cli.group import group
from txvalkeycluster.testing import DEFAULT_REPLY, Certificates


class ClusterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.runtime = Path(self.mktemp()).absolute()
        self.runtime.mkdir()
        self.set_variable("XDG_RUNTIME_DIR", str(self.runtime))

    def set_variable(self, name: str, value: str) -> None:
        """For us and for processes that we start."""
        before = os.environ.get(name)
        os.environ[name] = value
        self.addCleanup(os.environ.pop, name)
        if before is not None:
            self.addCleanup(os.environ.update, {name: before})

    def said(self, *words: str, code: int = 0) -> str:
        result: Result = CliRunner().invoke(group, ["cluster", *words])
        self.assertEqual(result.exit_code, code, result.output)
        return result.output

    def recorded(self, pid: int) -> Any:
        record = cluster_module._Record("one")
        self.patch(os, "getpid", lambda: pid)
        certificates = Certificates.make("127.0.0.1")
        record.write(SimpleNamespace(url="valkeys://127.0.0.1:7000", certificates=certificates, servers=[1, 2]))
        return record

    def test_a_record(self) -> None:
        """Its URL is all that a client needs; it is nobody else's to read."""
        record = self.recorded(os.getpid())
        options = Options.from_url(record.url)
        self.assertTrue(options.tls)
        self.assertIn(b"BEGIN CERTIFICATE", Path(options.trust_root).read_bytes())
        self.assertIn(f"one: 2 servers, process {os.getpid()}", self.said("status"))
        (file,) = self.runtime.glob("*/one.json")
        self.assertEqual(file.stat().st_mode & 0o077, 0)
        self.assertIn("one is running already", self.said("start", "--name=one", code=1))
        record.remove()
        self.assertEqual(record.url, "")
        self.assertEqual(list(self.runtime.glob("*/*")), [])

    def test_a_holder_that_was_killed(self) -> None:
        """What it left is removed."""
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        self.recorded(ended.pid)
        self.assertEqual(self.said("status"), "no cluster is running\n")
        self.assertEqual(list(self.runtime.glob("*/*")), [])

    def test_a_holder_that_does_not_end(self) -> None:
        self.recorded(os.getpid())
        self.patch(os, "kill", lambda *_: None)
        self.patch(cluster_module, "_PATIENCE", -1.0)
        self.assertIn("of the cluster one does not end", self.said("stop", "--name=one", code=1))

    def test_names_that_are_none(self) -> None:
        """They would lead out of the folder."""
        for name in ("", ".hidden", "../one"):
            self.assertIn("is no name for a cluster", self.said("stop", f"--name={name}", code=1))

    def test_a_folder_of_another_user(self) -> None:
        """Whoever made it could have us read anything."""
        user = os.getuid()
        self.patch(os, "getuid", lambda: user + 1)
        self.assertIn("is another user's", self.said("status", code=1))

    def test_a_cluster_that_does_not_start(self) -> None:
        """It is said why."""
        self.set_variable("VALKEY_SERVER", "/bin/false")
        text = self.said("start", code=1)
        self.assertIn("the cluster did not start:", text)
        self.assertIn("ended", text)
        self.assertEqual(list(self.runtime.glob("*/*")), [])

    def test_a_record_is_complete_when_it_appears(self) -> None:
        record = self.recorded(os.getpid())
        (file,) = self.runtime.glob("*/one.*n")
        self.assertEqual(json.loads(file.read_text())["pid"], record.pid)


class Reactor:
    """One that does what it is told, and may be sent a signal once it runs."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None
        self.stopped = False

    def callWhenRunning(self, start: Callable[[], object]) -> None:
        self._start = start

    def run(self, *, installSignalHandlers: bool) -> None:
        self._start()
        self.meanwhile()
        assert self.stopped and not installSignalHandlers

    def callFromThread(self, function: Callable[[], object]) -> None:
        function()

    def stop(self) -> None:
        self.stopped = True


class RunningTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.undone: list[str] = []
        self.alarms: list[int] = []
        # The signals of this process are not ours to change.
        self.patch(running, "on_signals", lambda handler: setattr(self, "signalled", handler))
        self.patch(running, "leave_at_last", self.alarms.append)

    def run_with(self, coroutine: Any) -> Any:
        """The exit code of a command."""

        async def main(_: Any, stack: AsyncExitStack) -> Any:
            stack.callback(self.undone.append, "undone")
            return await coroutine

        return self.assertRaises(SystemExit, running._Run(self.reactor, main).run).code

    def test_a_result(self) -> None:
        async def fine() -> int | None:
            return code

        for code in (None, 0, 3):
            self.assertEqual(self.run_with(fine()), code or 0)
        self.assertEqual(self.undone, ["undone"] * 3)

    def test_a_signal(self) -> None:
        """The first one counts; what is to be undone is."""

        async def waiting() -> None:
            await Deferred()

        def signals() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                self.signalled(number, None)  # type: ignore[attr-defined]

        self.reactor.meanwhile = signals
        self.assertEqual(self.run_with(waiting()), 143)
        self.assertEqual((self.undone, self.alarms), (["undone"], [signal.SIGTERM]))

    def test_an_error(self) -> None:
        """It is the caller's."""

        async def failing(_: Any, stack: AsyncExitStack) -> int:
            stack.callback(self.undone.append, "undone")
            raise KeyError("defect")

        self.assertRaises(KeyError, running._Run(self.reactor, failing).run)
        self.assertEqual(self.undone, ["undone"])

    def test_without_the_extra(self) -> None:
        """It is said what to install."""
        self.patch(cli, "on_signals", lambda _: None)
        for name, module in (("click", None), ("txvalkeycluster.cli.group", None)):
            self.addCleanup(sys.modules.__setitem__, name, sys.modules[name])
            sys.modules[name] = module  # type: ignore[assignment]
        self.assertIn("pip install 'txvalkeycluster[cli]'", str(self.assertRaises(SystemExit, cli.main)))


class TopologyTests(MemoryTests):
    async def show(self) -> int:
        async with AsyncExitStack() as stack:
            code = await topology_module._show(self.clock, stack, "")
        return code

    def test_a_table(self) -> None:
        """What goes wrong at one node is told in its row."""
        said = Console(file=StringIO(), width=200)
        self.patch(topology_module, "Console", lambda: said)
        self.patch(topology_module, "connect", lambda *_: succeed(client))
        answers = {0: b"$20\r\nvalkey_version:9.1.2\r\n", 1: b"-NOPERM no\r\n", 2: b"$4\r\nnone\r\n"}
        for node in self.nodes:
            node.script = lambda node, words, _: answers[node.index] if words[0] == b"INFO" else DEFAULT_REPLY
        client = self.client()
        self.assertEqual(self.result_of(Deferred.fromCoroutine(self.show())), 0)
        text = said.file.getvalue()  # type: ignore[attr-defined]
        for words in ("3 shards, 3 nodes, 16384 slots, no TLS", "9.1.2", "NOPERM no", "unknown", "5461 (0-5460)"):
            self.assertIn(words, text)
        self.assertEqual(self.clock.getDelayedCalls(), [])
