"""The commands of the command line, but for the servers that they start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import redirect_stderr
from importlib.util import find_spec, module_from_spec
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from click.testing import CliRunner, Result
from rich.console import Console
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.memory import MemoryTests
from txvalkeycluster import Options
from txvalkeycluster.cli import cluster as cluster_command
from txvalkeycluster.cli import main, running, topology
from txvalkeycluster.testing import DEFAULT_REPLY, Certificates

# `txvalkeycluster.cli.cluster` is the command; its module has the same name.
cluster_module: Any = sys.modules["txvalkeycluster.cli.cluster"]
topology_module: Any = sys.modules["txvalkeycluster.cli.topology"]


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
        result: Result = CliRunner().invoke(main, ["cluster", *words])
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
        self.assertIs(cluster_command, main.commands["cluster"])


class RunningTests(SynchronousTestCase):
    def run_with(self, coroutine: Any, ended_by: int | None = 0) -> int:
        """The exit code of a command."""

        def react(start: Any) -> None:
            start(Clock())
            raise SystemExit(ended_by)

        self.patch(running, "react", react)
        return self.assertRaises(SystemExit, running.run, lambda _: coroutine).code  # type: ignore[return-value]

    def test_a_result(self) -> None:
        async def fine() -> int | None:
            return code

        for code in (None, 0, 3):
            self.assertEqual(self.run_with(fine()), code or 0)

    def test_a_signal(self) -> None:
        """The coroutine has given no result."""

        async def waiting() -> int:
            await Deferred()
            return 0

        self.assertEqual(self.run_with(waiting(), 0), 130)
        self.assertEqual(self.run_with(waiting(), 143), 143)

    def test_errors(self) -> None:
        """Those that users can do something about are one line, the others a traceback."""

        async def failing(error: Exception) -> int:
            raise error

        for error, expected in ((ValueError("wrong"), "Error: wrong"), (KeyError("defect"), "Traceback")):
            said = StringIO()
            with redirect_stderr(said):
                self.assertEqual(self.run_with(failing(error)), 1)
            self.assertTrue(said.getvalue().startswith(expected), said.getvalue())

    def test_without_the_extra(self) -> None:
        """It is said what to install."""
        spec = find_spec("txvalkeycluster.cli")
        assert spec is not None and spec.loader is not None
        self.addCleanup(sys.modules.__setitem__, "click", sys.modules["click"])
        sys.modules["click"] = None  # type: ignore[assignment]
        exit_ = self.assertRaises(SystemExit, spec.loader.exec_module, module_from_spec(spec))
        self.assertIn("pip install 'txvalkeycluster[cli]'", str(exit_))


class TopologyTests(MemoryTests):
    def test_a_table(self) -> None:
        """What goes wrong at one node is told in its row."""
        said = Console(file=StringIO(), width=200)
        self.patch(topology_module, "Console", lambda: said)
        self.patch(topology_module, "connect", lambda *_: succeed(client))
        answers = {0: b"$20\r\nvalkey_version:9.1.2\r\n", 1: b"-NOPERM no\r\n", 2: b"$4\r\nnone\r\n"}
        for node in self.nodes:
            node.script = lambda node, words, _: answers[node.index] if words[0] == b"INFO" else DEFAULT_REPLY
        client = self.client()
        self.assertEqual(self.result_of(Deferred.fromCoroutine(topology_module._show(self.clock, ""))), 0)
        text = said.file.getvalue()  # type: ignore[attr-defined]
        for words in ("3 shards, 3 nodes, 16384 slots, no TLS", "9.1.2", "NOPERM no", "unknown", "5461 (0-5460)"):
            self.assertIn(words, text)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIs(topology, main.commands["topology"])
