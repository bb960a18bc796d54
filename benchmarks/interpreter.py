"""Chooses the Python that the clients run on: the fastest build of this version that is installed.

A build without the compiler's profile-guided optimization is up to a third slower.  Such a build would compare badly
with C, and with clients that are written in C or Rust.  A build does not say for certain how it was compiled, so this
module measures.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Calls, attributes, dictionaries and integers.  Prints the seconds of the fastest of five runs.
_LOOP = """
from time import perf_counter
class Item:
    def __init__(self, number): self.number = number
    def add(self, table): table[self.number & 255] = table.get(self.number & 255, 0) + self.number
def run():
    table = {}
    for number in range(60_000): Item(number).add(table)
times = []
for _ in range(5):
    begun = perf_counter(); run(); times.append(perf_counter() - begun)
print(min(times))
"""
# How often each build is measured.
_ROUNDS = 3
# Another build must save at least this share of the time.
_ENOUGH = 0.05
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Interpreter:
    """A Python, and how it finds the packages of this environment."""

    path: str
    environment: dict[str, str]
    #: For readers.
    described: str


def _seconds(path: str) -> float | None:
    """Return how long a build takes for the loop; None if it is of another version, or does not run."""
    version = "import sys; print(sys.version_info[:2])\n"
    try:
        ended = subprocess.run([path, "-I", "-c", version + _LOOP], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = ended.stdout.split("\n")
    return float(lines[1]) if ended.returncode == 0 and lines[0] == str(sys.version_info[:2]) else None


@cache
def choose() -> Interpreter:
    """Return the fastest build of this version of Python."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/local/bin", "/usr/bin"]
    found = {os.path.realpath(path): path for folder in folders if (path := shutil.which(name, path=folder))}
    fastest: dict[str, float] = {}
    # The builds take turns.  Other load on the machine then slows all of them down.
    for path in [sys.executable, *found.values()] * _ROUNDS:
        seconds = _seconds(path)
        if seconds is not None:
            fastest[path] = min(seconds, fastest.get(path, seconds))
    own = fastest[sys.executable]
    best = min(fastest, key=lambda path: fastest[path])
    if fastest[best] >= own * (1 - _ENOUGH):
        return Interpreter(sys.executable, {}, f"{name} of this environment")
    packages = os.pathsep.join([str(_ROOT), *site.getsitepackages()])
    described = f"another build of {name}, which is {own / fastest[best]:.2f} times as fast as that of this environment"
    return Interpreter(best, {"PYTHONPATH": packages}, described)
