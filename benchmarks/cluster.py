"""One run: an embedded cluster, a process for each client, rounds in turn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from txvalkeycluster.testing import LocalCluster, NoServer

from .report import Results
from .workloads import WORKLOADS, Sample, Workload

# A client that has not answered by then, beside ten times what it was given, hangs.
_PATIENCE = 15.0
ROOT = Path(__file__).parent.parent


class Peer:
    """A client's process."""

    def __init__(self, name: str, addresses: list[Any], ca: str) -> None:
        self.name = name
        self.error: str | None = None
        words = [sys.executable, "-m", "benchmarks.runner", name, json.dumps(addresses), ca]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )

    def measure(self, workload: Workload, seconds: float) -> Sample | str:
        """One round, or why there is none."""
        assert self._process.stdin is not None and self._process.stdout is not None
        overdue = Timer(_PATIENCE + 10 * seconds, self._process.kill)
        overdue.start()
        try:
            self._process.stdin.write(json.dumps({"workload": workload.name, "seconds": seconds}) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline() or "{}")
        except OSError:
            answer = {}
        finally:
            overdue.cancel()
        if "operations" in answer:
            return Sample(**answer)
        if "error" not in answer:
            assert self._process.stderr is not None
            self._process.kill()
            lines = [line for line in self._process.stderr.read().splitlines() if line.strip()]
            answer = {"error": lines[-1] if lines else "it hung, or its process ended"}
        return str(answer["error"])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


async def run(
    reactor: Any,
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
