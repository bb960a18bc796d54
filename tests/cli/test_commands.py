"""The commands of the command line, without servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from click.testing import CliRunner, Result
from twisted.internet.defer import Deferred

from tests.cases import SynchronousTestCase
from txvalkeycluster import Options, cli
from txvalkeycluster.cli import cluster as cluster_module
from txvalkeycluster.cli import running
from txvalkeycluster.cli.group import group
from txvalkeycluster.testing import Certificates


class ClusterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.runtime = Path(self.mktemp()).absolute()
        self.runtime.mkdir()
        self.set_variable("XDG_RUNTIME_DIR", str(self.runtime))

    def set_variable(self, name: str, value: str) -> None:
        """Set an environment variable for this process and its children."""
        before = os.environ.get(name)
        os.environ[name] = value
        self.addCleanup(os.environ.pop, name)
        if before is not None:
            self.addCleanup(os.environ.update, {name: before})

    def output(self, *words: str, code: int = 0) -> str:
        """Run ``txvalkeycluster cluster``, check its exit status, and return its output."""
        result: Result = CliRunner().invoke(group, ["cluster", *words])
        self.assertEqual(result.exit_code, code, result.output)
        return result.output

    def recorded(self, pid: int) -> cluster_module._Record:
        """Write the record of a cluster that a process holds."""
        record = cluster_module._Record("one")
        self.patch(os, "getpid", lambda: pid)
        certificates = Certificates.make("127.0.0.1")
        cluster: Any = SimpleNamespace(url="valkeys://127.0.0.1:7000", certificates=certificates, servers=[1, 2])
        record.write(cluster)
        return record

    def test_a_record(self) -> None:
        """The URL of a record has all options of a client, and only the user can read the record."""
        record = self.recorded(os.getpid())
        options = Options.from_url(record.url)
        self.assertTrue(options.tls)
        self.assertIn(b"BEGIN CERTIFICATE", Path(options.trust_root).read_bytes())
        self.assertIn(f"one: 2 servers, process {os.getpid()}", self.output("status"))
        (file,) = self.runtime.glob("*/one.json")
        self.assertEqual(file.stat().st_mode & 0o077, 0)
        self.assertIn("one is already running", self.output("start", "--name=one", code=1))
        record.remove()
        self.assertEqual(record.url, "")
        self.assertEqual(list(self.runtime.glob("*/*")), [])

    def test_a_holder_that_was_killed(self) -> None:
        """The record of a process that has ended is removed."""
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        self.recorded(ended.pid)
        self.assertEqual(self.output("status"), "no cluster is running\n")
        self.assertEqual(list(self.runtime.glob("*/*")), [])

    def test_a_holder_that_does_not_end(self) -> None:
        self.recorded(os.getpid())
        self.patch(os, "kill", lambda *_: None)
        self.patch(cluster_module, "_PATIENCE", -1.0)
        self.assertIn("of the cluster one did not end", self.output("stop", "--name=one", code=1))

    def test_invalid_names(self) -> None:
        """Names that could lead out of the folder of records are refused."""
        for name in ("", ".hidden", "../one"):
            self.assertIn("cannot be the name of a cluster", self.output("stop", f"--name={name}", code=1))

    def test_a_folder_of_another_user(self) -> None:
        """A folder of records that belongs to another user is refused."""
        user = os.getuid()
        self.patch(os, "getuid", lambda: user + 1)
        self.assertIn("belongs to another user", self.output("status", code=1))

    def test_a_cluster_that_does_not_start(self) -> None:
        """The message says why the cluster did not start."""
        self.set_variable("VALKEY_SERVER", "/bin/false")
        text = self.output("start", code=1)
        self.assertIn("the cluster did not start:", text)
        self.assertIn("ended", text)
        self.assertEqual(list(self.runtime.glob("*/*")), [])

    def test_a_record_is_json(self) -> None:
        record = self.recorded(os.getpid())
        (file,) = self.runtime.glob("*/one.*n")
        self.assertEqual(json.loads(file.read_text())["pid"], record.pid)


class Reactor:
    """A reactor that runs its function, and then what the test does meanwhile."""

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
        self.reactor: Any = Reactor()
        self.undone: list[str] = []
        self.alarms: list[int] = []
        # The tests must not change the signal handlers of this process.
        self.patch(running, "on_signals", lambda handler: setattr(self, "signalled", handler))
        self.patch(running, "leave_at_last", self.alarms.append)

    def run_with(self, coroutine: Coroutine[Any, Any, int | None]) -> Any:
        """Run a command, and return its exit status."""

        async def main(_: Any, stack: AsyncExitStack) -> Any:
            stack.callback(self.undone.append, "undone")
            return await coroutine

        return self.assertRaises(SystemExit, running._Run(self.reactor, main).run).code

    def test_a_result(self) -> None:
        """The exit status is the result of the command, and None means 0."""

        async def fine() -> int | None:
            return code

        for code in (None, 0, 3):
            self.assertEqual(self.run_with(fine()), code or 0)
        self.assertEqual(self.undone, ["undone"] * 3)

    def test_a_signal(self) -> None:
        """The exit status is that of the first signal, and the clean-up of the command runs."""

        async def waiting() -> None:
            await Deferred()

        def signals() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                self.signalled(number, None)  # type: ignore[attr-defined]

        self.reactor.meanwhile = signals
        self.assertEqual(self.run_with(waiting()), 143)
        self.assertEqual((self.undone, self.alarms), (["undone"], [signal.SIGTERM]))

    def test_an_error(self) -> None:
        """An exception of the command is raised, and the clean-up of the command runs."""

        async def failing(_: Any, stack: AsyncExitStack) -> int:
            stack.callback(self.undone.append, "undone")
            raise KeyError("error")

        self.assertRaises(KeyError, running._Run(self.reactor, failing).run)
        self.assertEqual(self.undone, ["undone"])

    def test_without_the_extra(self) -> None:
        """Without the packages of the extra ``cli`` the message says what to install."""
        self.patch(cli, "on_signals", lambda _: None)
        for name, module in (("click", None), ("txvalkeycluster.cli.group", None)):
            self.addCleanup(sys.modules.__setitem__, name, sys.modules[name])
            sys.modules[name] = module  # type: ignore[assignment]
        self.assertIn("pip install 'txvalkeycluster[cli]'", str(self.assertRaises(SystemExit, cli.main)))
