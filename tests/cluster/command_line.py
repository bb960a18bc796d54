"""Commands as a user runs them, in an environment of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

ROOT = Path(__file__).parents[2]
COMMAND = ("-m", "txvalkeycluster.cli")


class Running:
    """A command that runs; what it says is read from files, so that no pipe fills up."""

    def __init__(self, words: list[str], environment: dict[str, str], folder: Path) -> None:
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, preexec_fn=_hears_signals
            )

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """What it has complained of so far."""
        return self._err.read_text()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition, while it runs."""
        await pause()
        while not condition():
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}:\n{self.out}\n{self.err}")
            await pause()

    async def until_says(self, text: str) -> None:
        """Wait until it has printed a text."""
        await self.until(lambda: text in self.out)

    async def ended(self) -> int:
        """Wait for its end; return its exit status."""
        while (status := self.process.poll()) is None:
            await pause()
        return status

    def finish(self) -> None:
        """End it if it still runs."""
        self.process.kill()
        self.process.wait()


class CommandLine(TestCase):
    timeout = 120

    def setUp(self) -> None:
        # Records of running clusters of the user's own are not ours to see.
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
        return await self.run_python(*COMMAND, *words)

    async def run_python(self, *words: str, path: Path | None = None) -> tuple[int, str, str]:
        out, err, code = await getProcessOutputAndValue(
            sys.executable, words, env=self.environment, path=None if path is None else str(path)
        )
        return code, out.decode(), err.decode()

    async def succeed(self, *words: str) -> str:
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
        """The folders of clusters that run, or have left something behind."""
        return list(self.temporary.glob("txvalkeycluster-*"))

    def ports(self) -> list[int]:
        """The ports of the servers that have been started."""
        texts = [path.read_text() for path in self.temporary.glob("txvalkeycluster-*/*/valkey.conf")]
        return [int(port) for text in texts for port in re.findall(r'^port "(\d+)"$', text, re.M)]


def pause() -> Deferred[Any]:
    return deferLater(reactor, 0.02)  # type: ignore[arg-type]


def _hears_signals() -> None:
    # Jobs that a shell runs in the background inherit deaf ears.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
