"""Runs every suite with trial, each under its reactors, two at a time; or those that are named.

Ends with the branch coverage of all suites together, and one line that adds the tests up.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

# As many as the smallest machine has cores; the servers of a suite wait most of the time.
AT_ONCE = 2
EVERYWHERE = ("default", "select", "asyncio", "uvloop")
# Each file of the real-cluster tests is a suite of its own, since they take the longest.
CLUSTER = sorted(f"tests.cluster.{file.stem}" for file in Path(__file__).parent.glob("cluster/test_*.py"))
# Modules that know nothing of Twisted: values, parsers and decisions.
WITHOUT_TWISTED = ",".join(
    f"txvalkeycluster/{name}"
    for name in ("commands/*", "topology/*", "address.py", "errors.py", "events.py", "slots.py", "statistics.py")
) + "".join(
    f",txvalkeycluster/routing/{name}.py" for name in ("plan", "response_policy", "retry_policy", "transaction_outcome")
)
# Branch coverage, in percent, below which the run fails.
LEAST, LEAST_WITHOUT_TWISTED = 95, 100
# Without servers, a folder for each package of ours.
FOLDERS = ("cli", "commands", "connection", "fuzz", "public", "requests", "routing", "topology")
PACKAGES = [f"tests.{name}" for name in FOLDERS]
SUITES = {
    **dict.fromkeys(CLUSTER, ("default",)),
    "tests.cluster.test_failover": EVERYWHERE,
    "tests.faults": ("default",),
    "tests.scripted": EVERYWHERE,
    **dict.fromkeys(PACKAGES, ("default",)),
}
# It measures time itself.
UNMEASURED = ("tests.cluster.test_benchmarks",)
_TRIAL = "from twisted.scripts.trial import run; run()"
# trial knows no uvloop; a reactor that is installed before it starts stays.
_UVLOOP = "import uvloop; from twisted.internet import asyncioreactor as a; a.install(uvloop.new_event_loop()); "


def run(suite: str, reactor: str, coverage: Path) -> tuple[int, int, int]:
    """Run one suite; return how many tests passed, failed and were skipped.  ``coverage`` gets what it measures."""
    program = _UVLOOP + _TRIAL if reactor == "uvloop" else _TRIAL
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "error::ResourceWarning"]
        if reactor == "default" and suite not in UNMEASURED:
            # By -m, so that the tests are found in the current folder.
            command += ["-m", "coverage", "run", "--parallel-mode", f"--data-file={coverage}", "-m", "twisted.trial"]
        else:
            command += ["-c", program]
        command += ["--reporter=text", f"--temp-directory={Path(folder) / 'trial'}"]
        if reactor not in ("default", "uvloop"):
            command.append(f"--reactor={reactor}")
        ended = subprocess.run([*command, suite], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(f"== {suite} under the {reactor} reactor\n{ended.stdout}", flush=True)
    last = [line for line in ended.stdout.splitlines() if re.match(r"(PASSED|FAILED)\b", line)]
    counts = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", last[-1] if last else "")}
    passed = counts.get("successes", 0) + counts.get("expectedFailures", 0)
    failed = counts.get("failures", 0) + counts.get("errors", 0) + counts.get("unexpectedSuccesses", 0)
    if passed == 0 or (ended.returncode and not failed):
        failed += 1  # a suite that ran nothing, or ended badly, is a failure of its own
    return passed, failed, counts.get("skips", 0)


def report(coverage: Path) -> bool:
    """Print the branch coverage of all suites together; return whether it is enough."""

    def ask(*words: str) -> bool:
        environment = {**os.environ, "COVERAGE_FILE": str(coverage)}
        return subprocess.run([sys.executable, "-m", "coverage", *words], env=environment).returncode == 0

    print("== branch coverage: all, and what knows nothing of Twisted", flush=True)
    return all(
        [
            ask("combine", "--quiet"),
            ask("report", "--show-missing", f"--fail-under={LEAST}"),
            ask("report", f"--fail-under={LEAST_WITHOUT_TWISTED}", f"--include={WITHOUT_TWISTED}"),
        ]
    )


def main() -> int:
    """Run them all."""
    with TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as workers:
        coverage = Path(folder) / "coverage"
        named = dict.fromkeys(sys.argv[1:], ("default",))
        runs = [
            workers.submit(run, suite, reactor, coverage)
            for suite, reactors in (named or SUITES).items()
            for reactor in reactors
        ]
        results = [each.result() for each in runs]
        covered = bool(named) or report(coverage)
    passed, failed, skipped = (sum(column) for column in zip(*results, strict=True))
    if not covered:
        failed += 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
