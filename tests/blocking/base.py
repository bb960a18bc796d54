"""What the tests of the blocking client share: one cluster for the whole process, and threads."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

from tests.cases import SynchronousTestCase
from txvalkeycluster import blocking

ROOT = Path(__file__).parents[2]
# Seconds after which a thread or a process counts as hanging.
PATIENCE = 30.0
# The cluster runs until its standard input ends.
_CLUSTER = """
import sys
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from txvalkeycluster.testing import LocalCluster

async def main(reactor):
    cluster = LocalCluster(reactor)
    try:
        await cluster.start()
        print(cluster.url, flush=True)
        await deferToThread(sys.stdin.read)
    finally:
        await cluster.stop()

react(lambda reactor: ensureDeferred(main(reactor)))
"""


@cache
def url() -> str:
    """Return the URL of a cluster, which runs until the end of this process."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", _CLUSTER], stdin=pipe, stdout=pipe, text=True)
    atexit.register(process.communicate)
    assert process.stdout is not None
    return process.stdout.readline().strip()


def in_threads(work: Callable[[int], Any], count: int = 1) -> list[Thread]:
    """Start threads that call a function with their number."""
    threads = [Thread(target=work, args=(number,), name=f"test-{number}", daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


class Interrupt(Exception):
    """Raised in a thread at any moment."""


class BlockingTests(SynchronousTestCase):
    """Tests in the main thread.  Trial's reactor does not run, so the client runs one of its own."""

    def client(self, **options: Any) -> blocking.BlockingClient[str]:
        """Return a client, which is aborted at the end of the test."""
        client: blocking.BlockingClient[str] = blocking.connect(url(), encoding="utf-8", **options)
        self.addCleanup(client.abort)
        return client

    def join(self, threads: list[Thread]) -> None:
        """Wait for threads; fail if one hangs."""
        for thread in threads:
            thread.join(PATIENCE)
        self.assertEqual([thread.name for thread in threads if thread.is_alive()], [])

    def run_program(self, program: str, *words: str, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
        """Run a Python program with the URL and words as arguments.

        Returns:
            Its exit status, output and error output.
        """
        command = [sys.executable, *options, "-c", program, url(), *words]
        # Coverage does not recover from KeyboardInterrupt in its own functions.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        environment["PYTHONPATH"] = str(ROOT)
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
        return done.returncode, done.stdout, done.stderr
