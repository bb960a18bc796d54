"""One run: an embedded cluster, a process for each client, rounds in turn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import Timer
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread

from txvalkeycluster.testing import LocalCluster, NoServer

from .report import Results
from .workloads import WORKLOADS, Sample, Workload

# A client that has not answered by then hangs.  redis-py takes 18 ms for each connection over TLS, and opens 1,000 to
# each of three nodes.
_PATIENCE = 120.0
ROOT = Path(__file__).parent.parent


class Peer:
    """A client's process, and another when it has ended."""

    def __init__(self, name: str, addresses: list[Any], ca: str) -> None:
        self.name = name
        self._words = [sys.executable, "-m", "benchmarks.runner", name, json.dumps(addresses), ca]
        # A pipe that nobody reads would fill up, and a client that complains much would hang.
        self._complaints = TemporaryFile("w+")  # noqa: SIM115
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self._words, stdin=pipe, stdout=pipe, stderr=self._complaints, text=True, bufsize=1, cwd=ROOT
        )

    def measure(self, workload: Workload, seconds: float) -> Sample | str:
        """One round, or why there is none."""
        if self._process.poll() is not None:
            self._end()
            self._process = self._start()
        assert self._process.stdin is not None and self._process.stdout is not None
        overdue = Timer(_PATIENCE, self._process.kill)
        overdue.start()
        try:
            self._process.stdin.write(json.dumps({"workload": workload.name, "seconds": seconds}) + "\n")
            answer = json.loads(self._process.stdout.readline() or "{}")
        except OSError:
            answer = {}
        finally:
            overdue.cancel()
        if "operations" in answer:
            return Sample(**answer)
        # What it is left with is not to spoil the next workload.
        self._end()
        return str(answer.get("error", f"it hung, or its process ended: {self._last_complaint()}"))

    def _last_complaint(self) -> str:
        self._complaints.seek(0)
        lines = [line for line in self._complaints if line.strip()]
        return lines[-1].strip() if lines else "it said nothing"

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def close(self) -> None:
        """End the process."""
        self._end()
        self._complaints.close()


async def run(
    reactor: IReactorTime,
    peers: list[str],
    workloads: list[Workload],
    rounds: int,
    seconds: float,
    progress: Callable[[str], None],
) -> Results:
    """Measure every client at every workload, round by round; ``progress`` is told before each of these."""
    results = Results(peers, [workload.name for workload in workloads])
    for tls in (False, True):
        chosen = [workload for workload in workloads if workload.tls == tls]
        if not chosen:
            continue
        try:
            # Behind a terminator it would be that which is measured.
            cluster = LocalCluster(reactor, replicas=0, tls="server" if tls else False)
        except NoServer as error:
            for workload in chosen:
                for peer in peers:
                    results.add(peer, workload.name, str(error))
            continue
        await cluster.start()
        try:
            with TemporaryDirectory() as folder:
                ca = ""
                if cluster.certificates is not None:
                    ca = str(Path(folder) / "ca.pem")
                    Path(ca).write_bytes(cluster.certificates.authority)
                addresses = [list(address) for address in cluster.addresses]
                rounds_done: Deferred[None] = deferToThread(
                    _rounds, results, peers, chosen, rounds, seconds, addresses, ca, progress
                )
                await rounds_done
        finally:
            await cluster.stop()
    return results


def _rounds(
    results: Results,
    names: list[str],
    workloads: list[Workload],
    rounds: int,
    seconds: float,
    addresses: list[Any],
    ca: str,
    progress: Callable[[str], None],
) -> None:
    peers = [Peer(name, addresses, ca) for name in names]
    try:
        for number in range(1, rounds + 1):
            for workload in workloads:
                # In turn, so that whatever slows the machine down hits all alike.
                for peer in peers:
                    if results.error_of(peer.name, workload.name) is None:
                        progress(f"round {number} of {rounds}: {workload.name}: {peer.name}")
                        results.add(peer.name, workload.name, peer.measure(workload, seconds))
    finally:
        for peer in peers:
            peer.close()


def choose(pattern: str | None) -> list[Workload]:
    """The workloads whose names hold a text."""
    return [workload for workload in WORKLOADS if pattern is None or pattern.lower() in workload.name.lower()]
