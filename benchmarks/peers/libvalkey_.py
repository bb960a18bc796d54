"""libvalkey's asynchronous cluster API: a program in C, which shows how far Python is from C.

The first workload of a run compiles ``libvalkey.c`` together with the library.  The source of the library is in the
sdist of the package ``libvalkey``.  pip downloads the sdist.  To use another copy, set the environment variable
LIBVALKEY_SOURCE to the path of the sdist or of a folder with its content.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..workloads import AT_ONCE, BY_HAND, HASHES, LARGE, MEDIUM, SPLIT, SPREAD, Sample, Workload, set_and_get
from . import Addresses, Unsupported, last_line

_PROGRAM = Path(__file__).with_name("libvalkey.c")
_WORDS = {
    MEDIUM: "get:16384",
    LARGE: "get:1048576",
    BY_HAND: "mget",
    HASHES: "hgetall",
    AT_ONCE: "pipeline",
}
_COMPILERS = ("cc", "gcc", "clang")
# In seconds, for each program that this module runs.
_BUILD_TIMEOUT, _RUN_TIMEOUT = 60.0, 60.0


class NotBuilt(Unsupported):
    """The program could not be compiled on this machine."""

    def __str__(self) -> str:
        return f"not compiled: {self.args[0]}"


def measure(addresses: Addresses, ca: str | None, workload: Workload, seconds: float, folder: Path) -> Sample:
    """Run the program once.

    Raises:
        Unsupported: libvalkey cannot do the workload.
        NotBuilt: There is no compiler or no source, or compiling failed.
    """
    word = _word(workload)
    program = build(folder, with_tls=ca is not None)
    seeds = ",".join(f"{host}:{port}" for host, port in addresses)
    words = [str(program), seeds, word, str(workload.in_flight), str(seconds), *([ca] if ca is not None else [])]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=_RUN_TIMEOUT)
    if ended.returncode:
        raise RuntimeError(last_line(ended.stderr.splitlines(), f"the program ended with status {ended.returncode}"))
    return Sample(**json.loads(ended.stdout))


def _word(workload: Workload) -> str:
    if workload.style is not None:
        raise Unsupported("it has no Deferreds; the first workloads measure its callbacks")
    name = workload.name.removeprefix("TLS, ")
    if name == set_and_get(workload.in_flight):
        return "set-get"
    if name in (SPREAD, SPLIT):
        raise Unsupported("it does not split a command whose keys are in several slots")
    if name not in _WORDS:
        raise Unsupported(f"{_PROGRAM.name} does not do this workload")
    return _WORDS[name]


def build(folder: Path, *, with_tls: bool = False) -> Path:
    """Compile the program, unless an earlier call did so in the same folder.

    Args:
        folder: Where the program, the source and the reason of a failure are kept.
        with_tls: Whether the program can use TLS; it then needs the headers of OpenSSL.

    Returns:
        The path of the program.

    Raises:
        NotBuilt: There is no compiler or no source, or compiling failed.
    """
    program = folder / ("libvalkey-tls" if with_tls else "libvalkey")
    failure = program.with_suffix(".failure")
    if program.exists():
        return program
    if failure.exists():
        raise NotBuilt(failure.read_text())
    try:
        _compile(program, with_tls)
    except NotBuilt as error:
        # Each workload would otherwise wait for pip or the compiler again.
        failure.write_text(error.args[0])
        raise
    return program


def _compile(program: Path, with_tls: bool) -> None:
    compiler = shlex.split(os.environ.get("CC", "")) or [name for name in _COMPILERS if shutil.which(name)][:1]
    if not compiler:
        raise NotBuilt(f"there is no C compiler; install {_COMPILERS[0]} or set CC")
    library = _source(program.parent)
    sources, include = library / "src", library / "include"
    compiler += ["-O3", f"-I{include}", f"-I{include / 'valkey'}", f"-I{sources}"]
    objects = program.parent / "objects"
    if not objects.exists():
        unfinished = program.parent / "unfinished"
        unfinished.mkdir(exist_ok=True)
        files = [str(file) for file in sorted(sources.glob("*.c")) if file.name not in ("rdma.c", "tls.c")]
        _run([*compiler, "-c", *files], "compiling libvalkey failed", unfinished)
        unfinished.rename(objects)
    linked = program.with_suffix(".unfinished")
    words = [*compiler, "-o", str(linked), str(_PROGRAM), *map(str, sorted(objects.glob("*.o")))]
    if with_tls:
        words += ["-DWITH_TLS", str(sources / "tls.c"), "-lssl", "-lcrypto"]
    _run(words, "compiling the program failed")
    linked.rename(program)


def _source(folder: Path) -> Path:
    """Return the folder that contains ``src`` and ``include`` of the library."""
    given = os.environ.get("LIBVALKEY_SOURCE")
    where = Path(given) if given else _download(folder)
    if where.is_file():
        unpacked = folder / "source"
        try:
            with tarfile.open(where) as archive:
                # Python 3.11.3 and older have no filters.
                safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                archive.extractall(unpacked, **safely)
        except (OSError, tarfile.TarError) as error:
            raise NotBuilt(f"{where.name} is no sdist of libvalkey: {error}") from error
        where = unpacked
    for file in sorted(where.resolve().rglob("src/cluster.c")):
        return file.parent.parent
    raise NotBuilt(f"{where.name} does not contain src/cluster.c of libvalkey")


def _download(folder: Path) -> Path:
    target = folder / "sdist"
    words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "1", "download", "--quiet"]
    words += ["--no-deps", "--no-binary", "libvalkey", "--dest", str(target), "libvalkey"]
    _run(words, "pip cannot download the sdist of libvalkey")
    for file in target.glob("libvalkey-*.tar.gz"):
        return file
    raise NotBuilt("pip downloaded no sdist of libvalkey")


def _run(words: Sequence[str], failed: str, folder: Path | None = None) -> None:
    try:
        ended = subprocess.run(words, capture_output=True, text=True, timeout=_BUILD_TIMEOUT, cwd=folder)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotBuilt(f"{failed}: {error}") from error
    if ended.returncode:
        errors = [line for line in ended.stderr.splitlines() if "error" in line.lower()]
        raise NotBuilt(f"{failed}: {errors[0].strip() if errors else last_line(ended.stderr.splitlines())}")
