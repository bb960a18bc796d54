"""Compares the proxy with direct access to the cluster, and with nutcracker in front of single servers.

``python -m benchmarks.proxy`` needs valkey-benchmark of Valkey 9 or later, for its option ``--rps``, and nutcracker
(Debian's package ``nutcracker``, a proxy in C).
The three take turns in every round.  CPU is that of the process of the proxy, per request.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from txvalkeycluster.testing import LocalCluster
from txvalkeycluster.testing.processes import find_server

from . import interpreter

ROOT = Path(__file__).parent.parent
PROXY, NUTCRACKER, DIRECT = "proxy", "nutcracker", "direct"
ONE, PIPELINED, MGET = (
    "SET/GET 64 B, 50 connections",
    "the same in pipelines of 16",
    "MGET of 10 keys in pipelines of 16",
)
_TICKS = os.sysconf("SC_CLK_TCK")
# Requests per second at which the latency is measured, and the connections of this measurement.
_RATE, _CONNECTIONS = 20_000, 50
_IDLE = 10_000


@dataclass
class Target:
    """Something that answers requests."""

    name: str
    host: str
    port: int
    #: The process whose CPU time is measured; None if there is none.
    process: int | None = None
    options: tuple[str, ...] = ()

    def cpu(self) -> float:
        """Return the CPU seconds of the process so far."""
        if self.process is None:
            return 0.0
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@dataclass
class Figures:
    """What one target did in all rounds: requests per second, and CPU microseconds per request."""

    rates: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    #: The 99th percentile of the latency at a fixed rate, in seconds.
    p99: list[float] = field(default_factory=list)


def _benchmark_of(target: Target) -> list[str]:
    return ["valkey-benchmark", "-h", target.host, "-p", str(target.port), "--csv", *target.options]


def _rows(words: list[str]) -> list[dict[str, Any]]:
    """Run valkey-benchmark, and return the rows of its table."""
    ended = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    lines = ended.stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith('"test"'))
    return list(csv.DictReader(lines[first:]))


def benchmark(target: Target, workload: str, seconds: float) -> tuple[float, float]:
    """Run valkey-benchmark once.

    Returns:
        Requests per second, and CPU microseconds per request.
    """
    pipeline = 1 if workload == ONE else 16
    # Roughly the rate of each target, so that a run takes about as long as it should.
    guess = {ONE: 40_000, PIPELINED: 200_000, MGET: 15_000}[workload]
    count = max(int(guess * seconds), 1000)
    words = [*_benchmark_of(target), "-c", "50", "-P", str(pipeline), "-r", "100000", "-n", str(count), "-d", "64"]
    words += ["MGET", *["key:__rand_int__"] * 10] if workload == MGET else ["-t", "set,get"]
    before = target.cpu()
    rows = _rows(words)
    used = target.cpu() - before
    spent = sum(count / float(row["rps"]) for row in rows)
    total = count * len(rows)
    return total / spent, used / total * 1e6


def latency(target: Target, seconds: float) -> float:
    """Send GETs at a fixed rate, and return the 99th percentile of the latency in seconds.

    The load must come from a program in C: one in Python needs a whole core at this rate, and measures itself.
    """
    words = [*_benchmark_of(target), "-c", str(_CONNECTIONS), "--rps", str(_RATE), "-n", str(int(_RATE * seconds))]
    row = _rows([*words, "-d", "64", "-t", "get"])[0]
    return float(row["p99_latency_ms"]) / 1e3


def memory_of_idle(target: Target) -> float:
    """Return how many KB the process of a target needs for an idle client."""

    def resident() -> int:
        status = Path(f"/proc/{target.process}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found is not None
        return int(found[1])

    before = resident()
    connections = [socket.create_connection((target.host, target.port)) for _ in range(_IDLE)]
    for connection in connections:
        connection.sendall(b"PING\r\n")
        assert connection.recv(64) == b"+PONG\r\n"
    used = (resident() - before) / _IDLE
    for connection in connections:
        connection.close()
    return used


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port: int = opened.getsockname()[1]
        return port


@contextmanager
def started(words: list[str], port: int, folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """Start a program, wait until it listens, and end it afterwards; gives the number of its process."""
    with (folder / f"{port}.log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, **(environment or {})})
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if process.poll() is not None:
                    break
                sleep(0.05)
        else:
            raise click.ClickException(f"{words[0]} does not listen")
        if process.poll() is not None:
            raise click.ClickException(f"{words[0]} has ended: {(folder / f'{port}.log').read_text()[-500:]}")
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def targets(url: str, folder: Path, reactor: str) -> Iterator[list[Target]]:
    """Start the proxy, and nutcracker with three servers."""
    host, _, port = url.partition("://")[2].partition(",")[0].rpartition(":")
    with ExitStack() as stack:
        own = free_port()
        program = "from twisted.scripts.twistd import run; run()"
        python = interpreter.choose()
        command = [python.path, "-c", program, "-n", "--pidfile=", f"--reactor={reactor}"]
        command += ["valkey-proxy", "--cluster", url]
        command += ["--listen", f"tcp:{own}:interface=127.0.0.1:backlog=511"]
        settings = folder / "proxy.toml"
        settings.write_text("max_clients = 20000\n")
        command += ["--config", str(settings)]
        process = stack.enter_context(started(command, own, folder, python.environment))
        servers = [free_port() for _ in range(3)]
        for server in servers:
            words = [find_server(), "--port", str(server), "--save", "", "--dir", str(folder)]
            stack.enter_context(started(words, server, folder))
        theirs = free_port()
        listed = "".join(f"   - 127.0.0.1:{server}:1\n" for server in servers)
        config = folder / "nutcracker.yml"
        config.write_text(
            f"alpha:\n  listen: 127.0.0.1:{theirs}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n"
            f"  servers:\n{listed}"
        )
        words = ["nutcracker", "-c", str(config), "-p", str(folder / "nutcracker.pid"), "-s", str(free_port())]
        nutcracker = stack.enter_context(started(words, theirs, folder))
        yield [
            Target(PROXY, "127.0.0.1", own, process),
            Target(NUTCRACKER, "127.0.0.1", theirs, nutcracker),
            Target(DIRECT, host, int(port), options=("--cluster",)),
        ]


def compare(url: str, rounds: int, seconds: float, reactor: str) -> tuple[dict[str, Figures], float]:
    """Let the targets take turns; return the figures by target, and the KB of an idle client of the proxy."""
    with TemporaryDirectory() as folder, targets(url, Path(folder), reactor) as compared:
        figures = {target.name: Figures() for target in compared}
        for number in range(rounds + 1):
            for workload in (ONE, PIPELINED, MGET):
                for target in compared:
                    if workload == MGET and target.name == DIRECT:
                        continue
                    rate, cpu = benchmark(target, workload, seconds)
                    # The first round fills the keys and warms up.
                    if number:
                        figures[target.name].rates.setdefault(workload, []).append(rate)
                        figures[target.name].cpu.setdefault(workload, []).append(cpu)
            for target in compared[:2]:
                if number:
                    figures[target.name].p99.append(latency(target, seconds))
        return figures, memory_of_idle(compared[0])


def ratio(figures: dict[str, Figures], take: Callable[[Figures], list[float]], one: str, other: str) -> float:
    """Return the median of the ratios of two targets, round by round."""
    return median(a / b for a, b in zip(take(figures[one]), take(figures[other]), strict=True))


def show(figures: dict[str, Figures], idle: float) -> bool:
    """Print all figures and the goals; return whether the goals are reached."""
    console = Console(width=100)
    table = Table("workload", *figures, title="requests/s (CPU us per request)")
    for workload in (ONE, PIPELINED, MGET):
        cells = []
        for each in figures.values():
            rates, cpu = each.rates.get(workload, []), each.cpu.get(workload, [])
            cells.append(f"{median(rates):,.0f} ({median(cpu):.2f})" if rates else "")
        table.add_row(workload, *cells)
    cells = [f"{median(each.p99) * 1e3:.2f} ms" if each.p99 else "" for each in figures.values()]
    table.add_row(f"p99 at {_RATE:,} requests/s", *cells)
    console.print(table)
    by_rate: dict[str, Callable[[Figures], list[float]]] = {
        ONE: lambda each: each.rates[ONE],
        PIPELINED: lambda each: each.rates[PIPELINED],
        MGET: lambda each: each.rates[MGET],
    }
    goals = [
        (f"rate / direct rate, {ONE}", ratio(figures, by_rate[ONE], PROXY, DIRECT), 0.38, False),
        (f"rate / direct rate, {PIPELINED}", ratio(figures, by_rate[PIPELINED], PROXY, DIRECT), 0.28, False),
        ("CPU / nutcracker's, 16", ratio(figures, lambda each: each.cpu[PIPELINED], PROXY, NUTCRACKER), 1.0, True),
        ("p99 / nutcracker's", ratio(figures, lambda each: each.p99, PROXY, NUTCRACKER), 1.5, True),
        (f"rate / nutcracker's, {MGET}", ratio(figures, by_rate[MGET], PROXY, NUTCRACKER), 0.5, False),
        (f"KB per idle client, {_IDLE:,} clients", idle, 5.0, True),
    ]
    table = Table("goal", "limit", "this run", "")
    reached = True
    for name, value, limit, at_most in goals:
        good = value <= limit if at_most else value >= limit
        reached = reached and good
        border = f"at {'most' if at_most else 'least'} {limit:g}"
        table.add_row(name, border, f"{value:.2f}", "reached" if good else "missed")
    console.print(table)
    return reached


@click.command()
@click.option("--rounds", default=7, show_default=True, help="How often each target does each workload.")
@click.option("--seconds", default=1.0, show_default=True, help="Duration of one workload in one round.")
@click.option("--reactor", "proxy_reactor", default="valkey-epoll", show_default=True, help="The reactor of the proxy.")
def main(rounds: int, seconds: float, proxy_reactor: str) -> None:
    """Compare the proxy with direct access and with nutcracker."""
    for program in ("valkey-benchmark", "nutcracker"):
        if shutil.which(program) is None:
            raise click.ClickException(f"{program} is not installed")

    async def run(reactor: Any) -> None:
        cluster = LocalCluster(reactor, replicas=0)
        await cluster.start()
        try:
            figures, idle = await deferToThread(compare, cluster.url, rounds, seconds, proxy_reactor)
        finally:
            await cluster.stop()
        show(figures, idle)

    react(lambda reactor: ensureDeferred(run(reactor)))


if __name__ == "__main__":
    main()
