"""Compares the interfaces of the client with the same interface of redis-py, side by side on one cluster.

``python -m benchmarks.interfaces`` prints the rates, the CPU time per command, and the goals.  Each client has a
process of its own, and the clients take turns in every round.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from threading import Thread
from time import perf_counter, process_time
from typing import Any

import click
from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from txvalkeycluster import blocking
from txvalkeycluster.testing import LocalCluster

from .workloads import KEYS, PIPELINE, SMALL, WrongReply

ROOT = Path(__file__).parent.parent
# Enough for every thread of redis-py at every node.
_CONNECTIONS = 200


@dataclass(frozen=True)
class Figures:
    """What one client did in one round."""

    operations: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Commands per second."""
        return self.operations / self.seconds

    @property
    def cpu(self) -> float:
        """CPU microseconds per command, of all threads."""
        return self.cpu_seconds / self.operations * 1e6


#: Does a workload for some seconds.
Measure = Callable[[Any, float], Figures]


def _connect_blocking(address: str) -> Any:
    return blocking.connect(f"valkey://{address}")


def _connect_redis_py(address: str) -> Any:
    from redis.cluster import RedisCluster

    host, _, port = address.rpartition(":")
    return RedisCluster(host=host, port=int(port), max_connections=_CONNECTIONS)


#: Makes each client, by its name.  An interface to asyncio needs a connect function and measurements of its own.
CLIENTS: dict[str, Callable[[str], Any]] = {"blocking": _connect_blocking, "redis-py": _connect_redis_py}


def _in_threads(count: int) -> Measure:
    """Return a measurement of SET and GET in threads."""

    def measure(client: Any, seconds: float) -> Figures:
        done = [0] * count
        errors: list[Exception] = []
        begun, cpu = perf_counter(), process_time()

        def work(thread: int) -> None:
            number = thread * 7919
            try:
                while perf_counter() - begun < seconds:
                    key = KEYS[number % len(KEYS)]
                    client.set(key, SMALL)
                    if client.get(key) != SMALL:
                        raise WrongReply(f"GET {key} did not give the value that was written")
                    number += 1
                    done[thread] += 2
            except Exception as error:
                errors.append(error)

        threads = [Thread(target=work, args=(thread,)) for thread in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return Figures(sum(done), perf_counter() - begun, process_time() - cpu)

    return measure


def _pipelines(client: Any, seconds: float) -> Figures:
    """Measure pipelines of 10,000 commands in one thread."""
    begun, cpu, done = perf_counter(), process_time(), 0
    while perf_counter() - begun < seconds:
        pipeline = client.pipeline()
        for words in PIPELINE:
            if len(words) == 3:
                pipeline.set(words[1], words[2])
            else:
                pipeline.get(words[1])
        if len(pipeline.execute()) != len(PIPELINE):
            raise WrongReply("a pipeline did not give the values that were written")
        done += len(PIPELINE)
    return Figures(done, perf_counter() - begun, process_time() - cpu)


WORKLOADS: dict[str, Measure] = {
    "1 thread": _in_threads(1),
    "32 threads": _in_threads(32),
    "pipelines of 10,000": _pipelines,
}

#: How many times the rate of another client a client must reach at least: client, other client, workload, factor.
GOALS = [
    ("blocking", "redis-py", "1 thread", 1.0),
    ("blocking", "redis-py", "32 threads", 1.5),
    ("blocking", "redis-py", "pipelines of 10,000", 5.0),
]


class Process:
    """The process of one client."""

    def __init__(self, client: str, address: str) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "benchmarks.interfaces", "--serve", client, "--address", address]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)

    def measure(self, workload: str, seconds: float) -> Figures:
        """Do a workload once."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([workload, seconds]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise click.ClickException("the process of a client has ended; its error is above")
        return Figures(**json.loads(line))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve(client: str, address: str) -> None:
    """Do the workloads that standard input names, until it ends."""
    made = CLIENTS[client](address)
    for line in sys.stdin:
        workload, seconds = json.loads(line)
        WORKLOADS[workload](made, seconds / 5)
        print(json.dumps(asdict(WORKLOADS[workload](made, seconds))), flush=True)
    made.close()


def compare(address: str, rounds: int, seconds: float) -> dict[str, dict[str, list[Figures]]]:
    """Let the clients take turns; return the figures of each round by workload and client."""
    processes = {client: Process(client, address) for client in CLIENTS}
    found: dict[str, dict[str, list[Figures]]] = {name: {client: [] for client in CLIENTS} for name in WORKLOADS}
    try:
        for _ in range(rounds):
            for workload in WORKLOADS:
                for client, process in processes.items():
                    found[workload][client].append(process.measure(workload, seconds))
    finally:
        for process in processes.values():
            process.close()
    return found


def ratio(figures: dict[str, list[Figures]], client: str, other: str) -> float:
    """Return the median of the ratios of the rates, round by round."""
    return median(a.rate / b.rate for a, b in zip(figures[client], figures[other], strict=True))


def show(found: dict[str, dict[str, list[Figures]]]) -> bool:
    """Print all figures and the goals; return whether the goals are reached."""
    for workload, figures in found.items():
        print(workload)
        for client, rounds in figures.items():
            rate, cpu = median(each.rate for each in rounds), median(each.cpu for each in rounds)
            print(f"  {client:10} {rate:10,.0f} commands/s  {cpu:7.1f} us CPU")
    reached = True
    for client, other, workload, factor in GOALS:
        value = ratio(found[workload], client, other)
        reached = reached and value >= factor
        print(f"{client} / {other}, {workload}: {value:.2f}, at least {factor:g}{'' if value >= factor else ' MISSED'}")
    return reached


@click.command()
@click.option("--rounds", default=7, show_default=True, help="How often each client does each workload.")
@click.option("--seconds", default=1.0, show_default=True, help="Duration of one workload in one round.")
@click.option("--serve", "served", default=None, hidden=True)
@click.option("--address", default="", hidden=True)
def main(rounds: int, seconds: float, served: str | None, address: str) -> None:
    """Compare the interfaces for threads on an embedded cluster."""
    if served is not None:
        serve(served, address)
        return

    async def measure(reactor: IReactorTime) -> None:
        cluster = LocalCluster(reactor)
        try:
            await cluster.start()
            found = await deferToThread(compare, str(cluster.addresses[0]), rounds, seconds)
        finally:
            await cluster.stop()
        if not show(found):
            raise SystemExit(1)

    react(lambda reactor: ensureDeferred(measure(reactor)))


if __name__ == "__main__":
    main()
