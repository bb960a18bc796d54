"""Runs tests of the C extension with AddressSanitizer and UndefinedBehaviorSanitizer, and with a debug build of Python.

``tox -e sanitize`` runs it.  It needs gcc or clang.  The debug build is ``python3.X-dbg`` of Debian, or
``python3.Xd``.  Without one, only the sanitizers are used, and the script says so.  Arguments are the suites to run.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
SUITES = ["acceleration", "requests", "connection", "commands", "routing", "pubsub", "scripted"]
FOLDERS = ["docs", "examples", "extension", "gencmd", "tests", "twisted", "txvalkeycluster"]
FILES = ["CHANGELOG.md", "README.md", "pyproject.toml", "setup.cfg", "setup.py", "tox.ini"]
SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1"


def library(name: str) -> str:
    """Return the path of a library of the compiler."""
    compiler = os.environ.get("CC", "cc").split()
    command = [*compiler, f"-print-file-name={name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def debug_python() -> str | None:
    """Return a debug build of this version of Python, or None."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = next((path for name in (f"{version}-dbg", f"{version}d") if (path := shutil.which(name))), None)
    if hasattr(sys, "gettotalrefcount"):
        return sys.executable
    return found


def run(title: str, python: str, suites: list[str], build: dict[str, str], test: dict[str, str]) -> bool:
    """Compile the extension in a copy of the checkout, and run suites there; return whether all tests have passed."""
    print(f"== {title}", flush=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for each in FOLDERS:
            shutil.copytree(ROOT / each, folder / each, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        for each in FILES:
            shutil.copy(ROOT / each, folder)
        # The packages of this environment, for another build of the same version, too.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([name, *site.getsitepackages()])}
        compile_ = [python, "setup.py", "-q", "build_ext", "--inplace"]
        subprocess.run(compile_, cwd=folder, env={**environment, **build}, check=True)
        if not list(folder.glob("txvalkeycluster/_fast*.so")):
            sys.exit("the extension was not compiled")
        command = [python, "-X", "dev", "-m", "twisted.trial", *(f"tests.{suite}" for suite in suites)]
        return subprocess.run(command, cwd=folder, env={**environment, **test}).returncode == 0


def main() -> int:
    """Return the exit status."""
    suites = sys.argv[1:] or SUITES
    runtime = [library("libasan.so"), library("libubsan.so")]
    # At a verbatim string, hiredis-py 3.5 moves 4 bytes too many, from behind its buffer (createStringObject).
    suppressions = Path(__file__).with_name("sanitize.supp")
    sanitizers = {
        "LD_PRELOAD": " ".join(runtime),
        # Python itself keeps memory until its end.
        "ASAN_OPTIONS": f"detect_leaks=0:suppressions={suppressions}",
        "PYTHONMALLOC": "malloc",
    }
    passed = [run("sanitizers", sys.executable, suites, {"CFLAGS": SANITIZERS, "LDFLAGS": SANITIZERS}, sanitizers)]
    debug = debug_python()
    if debug is None:
        print("== there is no debug build of this version of Python", flush=True)
    else:
        passed.append(run("debug build of Python", debug, suites, {"CFLAGS": "-g -O1 -UNDEBUG"}, {}))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
