"""valkey-benchmark, the C program that comes with the server.

It opens a connection for each command in flight, and it does not check the replies.
"""

from __future__ import annotations

import csv
import resource
import shutil
import subprocess
from pathlib import Path
from time import perf_counter
from typing import Any

from ..workloads import Sample, Workload, set_and_get
from . import Addresses, Unsupported

# The program takes a number of requests and no duration.  This rate, in requests per second, gives the number.
_RATE = 20_000


def measure(addresses: Addresses, ca: str | None, workload: Workload, seconds: float, folder: Path) -> Sample:
    """Run the program once.

    Raises:
        Unsupported: The program is not installed, or it does not do the workload.
    """
    program = shutil.which("valkey-benchmark")
    if program is None:
        raise Unsupported("it is not installed")
    if workload.name.removeprefix("TLS, ") != set_and_get(workload.in_flight):
        raise Unsupported("it does not do this workload")
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
    # The program reports its rate without the time that it needs to start.
    spent = sum(count / float(row["rps"]) for row in rows)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = ("p50_latency_ms", "p99_latency_ms", "max_latency_ms")
    p50, p99, most = (max(float(row[figure]) for row in rows) / 1e3 for figure in figures)
    return Sample(count * len(rows), min(spent, elapsed), cpu, (p50, p99, most))
