"""valkey-benchmark, the C program that comes with the server: for comparison, and not checked by anyone.

It has a connection for each command in flight, where the others share one for each node.
"""

from __future__ import annotations

import csv
import resource
import shutil
import subprocess
from time import perf_counter
from typing import Any

from ..workloads import Sample, Workload, set_and_get

# What it does at the least; it takes a number of requests, no time.
_RATE = 20_000


def measure(addresses: list[tuple[str, int]], ca: str | None, workload: Workload, seconds: float) -> Sample:
    """Run it once."""
    program = shutil.which("valkey-benchmark")
    if program is None:
        raise FileNotFoundError("valkey-benchmark is not installed")
    if workload.name.removeprefix("TLS, ") != set_and_get(workload.in_flight):
        raise NotImplementedError("it does other things")
    count = max(int(_RATE * seconds), workload.in_flight)
    host, port = addresses[0]
    words = [program, "--cluster", "-h", host, "-p", str(port), "-t", "set,get", "-d", "64", "-r", "10000", "--csv"]
    words += ["-c", str(workload.in_flight), "-n", str(count), *(["--tls", "--cacert", ca] if ca is not None else [])]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    ended = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    elapsed, after = perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = ended.stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith('"test"'))
    rows: list[dict[str, Any]] = list(csv.DictReader(lines[first:]))
    # Its own time for the requests, without that for starting.
    spent = sum(count / float(row["rps"]) for row in rows)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = ("p50_latency_ms", "p99_latency_ms", "max_latency_ms")
    p50, p99, most = (max(float(row[figure]) for row in rows) / 1e3 for figure in figures)
    return Sample(count * len(rows), min(spent, elapsed), cpu, (p50, p99, most))
