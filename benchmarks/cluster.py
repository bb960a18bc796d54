"""One run: an embedded cluster, a process for each client, and rounds in which the clients take turns."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import Timer

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread

from txvalkeycluster.testing import LocalCluster, NoServer

from . import interpreter
from .peers import FOR_THREADS, OBSERVED, Addresses, last_line, name_of
from .report import Results
from .workloads import IN_FLIGHT, WORKLOADS, AnyWorkload, Sample, Threaded, set_and_get

# In seconds.  After this time a client without a result is killed.  redis-py needs 18 ms per connection over TLS, and
# opens 1,000 connections to each of three nodes.  libvalkey may have to be downloaded and compiled.
_PATIENCE = 180.0
ROOT = Path(__file__).parent.parent


class Peer:
    """The process of a client.  It is started again after it has failed at a workload.

    Args:
        name: The module of the client.
        addresses: The addresses of all nodes.
        ca: The path of the CA certificate; an empty text without TLS.
        folder: For files that the client needs again in the same run.
    """

    def __init__(self, name: str, addresses: Addresses, ca: str, folder: Path) -> None:
        self.name = name
        python = interpreter.choose()
        self._words = [python.path, "-m", "benchmarks.runner", name, json.dumps(addresses), ca, str(folder)]
        self._environment = {**os.environ, **python.environment}
        # Not a pipe: nobody reads it, and a client that writes much would block when the pipe is full.
        self._stderr = TemporaryFile("w+")  # noqa: SIM115
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self._words,
            stdin=pipe,
            stdout=pipe,
            stderr=self._stderr,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env=self._environment,
        )

    def measure(self, workload: AnyWorkload, seconds: float) -> Sample | str:
        """Run a workload once.

        Returns:
            The sample, or the reason why there is none.
        """
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
        # Work that the client left behind must not change the figures of the next workload.
        self._end()
        return str(answer.get("error", f"its process ended, or hung for {_PATIENCE:g} s: {self._last_line()}"))

    def _last_line(self) -> str:
        self._stderr.seek(0)
        return last_line(self._stderr)

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def close(self) -> None:
        """End the process."""
        self._end()
        self._stderr.close()


async def run(
    reactor: IReactorTime,
    peers: list[str],
    workloads: list[AnyWorkload],
    rounds: int,
    seconds: float,
    progress: Callable[[str], None],
) -> Results:
    """Measure every client with every workload on an embedded cluster.

    Args:
        reactor: The Twisted reactor.
        peers: The modules of the clients.
        workloads: The workloads of each round.
        rounds: How often each client does each workload.
        seconds: Duration of one workload in one round.
        progress: Called before each measurement with a text for the user.

    Returns:
        The results.  A client that failed has its error there.
    """
    results = Results(peers, [workload.name for workload in workloads])
    with TemporaryDirectory() as folder:
        for tls in (False, True):
            chosen = [workload for workload in workloads if workload.tls == tls]
            if not chosen:
                continue
            try:
                # With a TLS terminator in front of the cluster, the terminator would be the slowest part.
                cluster = LocalCluster(reactor, replicas=0, tls="server" if tls else False)
            except NoServer as error:
                for workload in chosen:
                    for peer in peers:
                        if applies(peer, workload):
                            results.add(peer, workload.name, str(error))
                continue
            await cluster.start()
            try:
                ca = ""
                if cluster.certificates is not None:
                    ca = str(Path(folder) / "ca.pem")
                    Path(ca).write_bytes(cluster.certificates.authority)
                addresses = [(address.host, address.port) for address in cluster.addresses]
                rounds_done: Deferred[None] = deferToThread(
                    _rounds, results, peers, chosen, rounds, seconds, addresses, ca, Path(folder), progress
                )
                await rounds_done
            finally:
                await cluster.stop()
    return results


def applies(peer: str, workload: AnyWorkload) -> bool:
    """Return whether a client is meant to do a workload."""
    if peer in OBSERVED:
        return workload.name in map(set_and_get, IN_FLIGHT)
    return isinstance(workload, Threaded) == (peer in FOR_THREADS)


def _rounds(
    results: Results,
    names: list[str],
    workloads: list[AnyWorkload],
    rounds: int,
    seconds: float,
    addresses: Addresses,
    ca: str,
    folder: Path,
    progress: Callable[[str], None],
) -> None:
    peers = [Peer(name, addresses, ca, folder) for name in names]
    try:
        for number in range(1, rounds + 1):
            for workload in workloads:
                # The clients take turns.  Other load on the machine then slows all of them down.
                for peer in peers:
                    if applies(peer.name, workload) and results.error_of(peer.name, workload.name) is None:
                        progress(f"round {number} of {rounds}: {workload.name}: {name_of(peer.name)}")
                        results.add(peer.name, workload.name, peer.measure(workload, seconds))
    finally:
        for peer in peers:
            peer.close()


def choose(pattern: str | None) -> list[AnyWorkload]:
    """Return the workloads whose names contain a text, in upper or lower case; without a text, all."""
    return [workload for workload in WORKLOADS if pattern is None or pattern.lower() in workload.name.lower()]
