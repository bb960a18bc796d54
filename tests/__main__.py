"""Runs every suite with trial, each under its reactors, and ends with one line that adds them up."""

from __future__ import annotations

import re
import subprocess
import sys

EVERYWHERE = ("default", "select", "asyncio", "uvloop")
SUITES = {
    "tests.pure": ("default",),
    "tests.memory": ("default",),
    "tests.scripted": EVERYWHERE,
    "tests.cluster": ("default",),
    "tests.cluster.test_failover": EVERYWHERE[1:],
    "tests.faults": ("default",),
}
_TRIAL = "from twisted.scripts.trial import run; run()"
# trial knows no uvloop; a reactor that is installed before it starts stays.
_UVLOOP = "import uvloop; from twisted.internet import asyncioreactor as a; a.install(uvloop.new_event_loop()); "


def run(suite: str, reactor: str) -> tuple[int, int, int]:
    """Run one suite; return how many tests passed, failed and were skipped."""
    print(f"== {suite} under the {reactor} reactor", flush=True)
    program = _UVLOOP + _TRIAL if reactor == "uvloop" else _TRIAL
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", program, "--reporter=text"]
    if reactor not in ("default", "uvloop"):
        command.append(f"--reactor={reactor}")
    process = subprocess.Popen([*command, suite], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        if re.match(r"(PASSED|FAILED)\b", line):
            last = line
    code = process.wait()
    counts = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", last)}
    passed = counts.get("successes", 0) + counts.get("expectedFailures", 0)
    failed = counts.get("failures", 0) + counts.get("errors", 0) + counts.get("unexpectedSuccesses", 0)
    if passed == 0 or (code and not failed):
        failed += 1  # a suite that ran nothing, or ended badly, is a failure of its own
    return passed, failed, counts.get("skips", 0)


def main() -> int:
    """Run them all."""
    results = [run(suite, reactor) for suite, reactors in SUITES.items() for reactor in reactors]
    passed, failed, skipped = (sum(column) for column in zip(*results, strict=True))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
