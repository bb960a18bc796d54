"""Run every suite with trial, under each of its reactors, three suites at a time; or only those named as arguments.

The reactor "pure" is the default reactor without the C extension.  ``tox -e pure`` runs all suites without it.

Prints the branch coverage of all suites together, and then one line with the total numbers of tests.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from txvalkeycluster.acceleration import SWITCH

# One more than the cores of the smallest machine: a suite waits for its servers half of the time.
AT_ONCE = 3
EVERYWHERE = ("default", "asyncio", "uvloop", "valkey-epoll", "pure")
# The default reactor, with the C extension and without it.
BOTH = ("default", "pure")
# Each file of the real-cluster tests is a suite of its own, since they take the longest.
CLUSTER = sorted(f"tests.cluster.{file.stem}" for file in Path(__file__).parent.glob("cluster/test_*.py"))
# The proxy has real clusters, too.
PROXY = sorted(f"tests.proxy.{file.stem}" for file in Path(__file__).parent.glob("proxy/test_*.py"))
# Modules that run without a reactor: values, parsers and decisions.
WITHOUT_TWISTED = ",".join(
    f"txvalkeycluster/{name}"
    for name in (
        "commands/*",
        "topology/*",
        "address.py",
        "errors.py",
        "credentials.py",
        "events.py",
        "slots.py",
        "statistics.py",
    )
) + "".join(
    f",txvalkeycluster/routing/{name}.py" for name in ("plan", "response_policy", "retry_policy", "transaction_outcome")
)
# The run fails below these percentages of branch coverage.
LEAST, LEAST_WITHOUT_TWISTED = 95, 100
# Suites without servers: one folder for each package of txvalkeycluster.
FOLDERS = ("cli", "commands", "connection", "fuzz", "public", "pubsub", "requests", "routing", "topology")
PACKAGES = [f"tests.{name}" for name in FOLDERS]
# The packages whose work the C extension does.
IN_C = [f"tests.{name}" for name in ("commands", "connection", "pubsub", "requests", "routing")]
SUITES = {
    **dict.fromkeys([*CLUSTER, *PROXY], ("default",)),
    "tests.cluster.test_failover": ("default", "uvloop"),
    "tests.blocking": ("default",),
    "tests.aio": ("default",),
    "tests.examples": ("default",),
    "tests.faults": ("default",),
    "tests.scripted": EVERYWHERE,
    **{name: BOTH if name in IN_C else ("default",) for name in PACKAGES},
    "tests.acceleration": ("default",),
}
# These suites are not measured, because coverage takes more than half of their CPU time.  They repeat what other suites
# test: with real servers, at random, or under load.
UNMEASURED = (
    *(suite for suite in CLUSTER if "test_cli" not in suite),
    *("tests.acceleration", "tests.examples", "tests.faults", "tests.fuzz"),
    *("tests.proxy.test_abuse", "tests.proxy.test_client_libraries", "tests.proxy.test_fuzz"),
    *("tests.proxy.test_programs", "tests.proxy.test_special_mode_chaos", "tests.proxy.test_workload"),
)
# These take more than 90 s.  They begin first, so that none of them is left alone at the end.
SLOWEST = (
    *("tests.aio", "tests.examples", "tests.public"),
    *("tests.cluster.test_four_clusters", "tests.cluster.test_pubsub", "tests.cluster.test_scans"),
    *("tests.proxy.test_operation_stop", "tests.proxy.test_operation_workers", "tests.proxy.test_programs"),
)
_TRIAL = "from twisted.scripts.trial import run; run()"
# trial has no name for the uvloop reactor, but it keeps a reactor that is already installed.
_UVLOOP = "import uvloop; from twisted.internet import asyncioreactor as a; a.install(uvloop.new_event_loop()); "


def run(suite: str, reactor: str, coverage: Path) -> tuple[int, int, int]:
    """Run one suite; return the numbers of passed, failed and skipped tests. ``coverage`` is the data file to write."""
    program = _UVLOOP + _TRIAL if reactor == "uvloop" else _TRIAL
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "error::ResourceWarning"]
        if reactor in BOTH and suite not in UNMEASURED:
            # With -m Python searches the current folder too, where the tests are.
            command += ["-m", "coverage", "run", "--parallel-mode", f"--data-file={coverage}", "-m", "twisted.trial"]
        else:
            command += ["-c", program]
        command += ["--reporter=text", f"--temp-directory={Path(folder) / 'trial'}"]
        if reactor not in (*BOTH, "uvloop"):
            command.append(f"--reactor={reactor}")
        environment = {**os.environ, SWITCH: "1"} if reactor == "pure" else None
        ended = subprocess.run(
            [*command, suite], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    print(f"== {suite} under the {reactor} reactor\n{ended.stdout}", flush=True)
    last = [line for line in ended.stdout.splitlines() if re.match(r"(PASSED|FAILED)\b", line)]
    counts = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", last[-1] if last else "")}
    passed = counts.get("successes", 0) + counts.get("expectedFailures", 0)
    failed = counts.get("failures", 0) + counts.get("errors", 0) + counts.get("unexpectedSuccesses", 0)
    skipped = counts.get("skips", 0)
    if passed + failed + skipped == 0 or (ended.returncode and not failed):
        failed += 1  # A suite that has no test, or that ended with an error outside its tests, is one failure.
    return passed, failed, skipped


def report(coverage: Path) -> bool:
    """Print the branch coverage of all suites together; return whether it is high enough."""

    def ask(*words: str) -> bool:
        environment = {**os.environ, "COVERAGE_FILE": str(coverage)}
        return subprocess.run([sys.executable, "-m", "coverage", *words], env=environment).returncode == 0

    print("== branch coverage: all modules, then the modules that run without a reactor", flush=True)
    return all(
        [
            ask("combine", "--quiet"),
            ask("report", "--show-missing", f"--fail-under={LEAST}"),
            ask("report", f"--fail-under={LEAST_WITHOUT_TWISTED}", f"--include={WITHOUT_TWISTED}"),
        ]
    )


def main() -> int:
    """Run the suites; return the exit status."""
    with TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as workers:
        coverage = Path(folder) / "coverage"
        named = dict.fromkeys(sys.argv[1:], ("default",))
        suites = sorted((named or SUITES).items(), key=lambda item: item[0] not in SLOWEST)
        runs = [workers.submit(run, suite, reactor, coverage) for suite, reactors in suites for reactor in reactors]
        results = [each.result() for each in runs]
        covered = bool(named) or report(coverage)
    passed, failed, skipped = (sum(column) for column in zip(*results, strict=True))
    if not covered:
        failed += 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
