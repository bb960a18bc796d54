"""Runs commands as a user does, in an environment of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue

from tests.cases import TestCase
from txvalkeycluster.testing.ports import free_ports

ROOT = Path(__file__).parents[2]
COMMAND = ("-m", "txvalkeycluster")


class Running:
    """A running command.  Its output goes to files, so that no pipe fills up."""

    def __init__(self, words: list[str], environment: dict[str, str], folder: Path) -> None:
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, preexec_fn=_accept_signals
            )

    @property
    def out(self) -> str:
        """What it has written to stdout so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """What it has written to stderr so far."""
        return self._err.read_text()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition.  Raises AssertionError if the command ends first."""
        await pause()
        while not condition():
            if self.process.poll() is not None:
                raise AssertionError(f"the command ended with {self.process.returncode}:\n{self.out}\n{self.err}")
            await pause()

    async def until_printed(self, text: str) -> None:
        """Wait until the command has printed a text."""
        await self.until(lambda: text in self.out)

    async def ended(self) -> int:
        """Wait for the end of the command.  Return its exit status."""
        while (status := self.process.poll()) is None:
            await pause()
        return status

    def finish(self) -> None:
        """Kill the command if it still runs."""
        self.process.kill()
        self.process.wait()


class CommandLine(TestCase):
    """Each test has folders of its own for records of clusters and for files of servers."""

    timeout = 120

    def setUp(self) -> None:
        # The tests must not see the records of clusters that the user runs.
        self.runtime, self.temporary = (Path(self.mktemp()).absolute() for _ in range(2))
        for folder in (self.runtime, self.temporary):
            folder.mkdir()
        self.environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(self.runtime),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "160",
        }

    async def run_command(self, *words: str) -> tuple[int, str, str]:
        """Run ``txvalkeycluster`` to its end.  Return its exit status, stdout and stderr."""
        return await self.run_python(*COMMAND, *words)

    async def run_python(self, *words: str, path: Path | None = None) -> tuple[int, str, str]:
        """Run Python to its end, in a folder.  Return its exit status, stdout and stderr."""
        out, err, code = await output_of(words, self.environment, path)
        return code, out, err

    async def succeed(self, *words: str) -> str:
        """Run ``txvalkeycluster``, check that it succeeds, and return its stdout."""
        code, out, err = await self.run_command(*words)
        self.assertEqual(code, 0, out + err)
        return out

    def start_python(self, *words: str) -> Running:
        folder = Path(self.mktemp())
        folder.mkdir()
        running = Running([sys.executable, *words], self.environment, folder)
        self.addCleanup(running.finish)
        return running

    def start_command(self, *words: str) -> Running:
        return self.start_python(*COMMAND, *words)

    def folders(self) -> list[Path]:
        """Return the folders of clusters that run, or that have not removed their folders."""
        return list(self.temporary.glob("txvalkeycluster-*"))

    def ports(self) -> list[int]:
        """Return the ports of the servers that have been started."""
        texts = [path.read_text() for path in self.temporary.glob("txvalkeycluster-*/*/valkey.conf")]
        return [int(port) for text in texts for port in re.findall(r'^port "(\d+)"$', text, re.M)]


async def output_of(
    words: Sequence[str], environment: Mapping[str, str], path: Path | None = None
) -> tuple[str, str, int]:
    """Run Python to its end.  Return its stdout, stderr and exit status."""
    folder = None if path is None else str(path)
    running = getProcessOutputAndValue(sys.executable, words, environment, folder)  # type: ignore[no-untyped-call]
    out, err, status = await running
    return out.decode(), err.decode(), status


def accepts(port: int) -> bool:
    """Return whether a server listens on a port."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def first_of_six() -> int:
    """Return a port that is free together with the five ports behind it."""
    for port in range(17000, 32000, 6):
        try:
            free_ports("127.0.0.1", 0, range(port, port + 6))
        except RuntimeError:
            continue
        return port
    raise AssertionError("there are no six free ports in a row")


def pause() -> Deferred[Any]:
    return deferLater(reactor, 0.02)


def _accept_signals() -> None:
    # Background jobs of a shell ignore SIGINT, and their children inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
