"""``cluster start|stop|status``: clusters that run on this machine in the background.

``start`` leaves a process in the background.  This process, the holder, runs the servers, which end with it.  A file
for each cluster holds the id of this process and the URL; ``stop`` and ``status`` read it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from ..testing import LocalCluster
from .running import run

_PATIENCE = 60.0
# The program of the holder.  It imports the package from the same path as this process does: without the current folder
# on its path, Python would find another one, or none.
_HOLDER = """
import sys
from importlib.util import module_from_spec, spec_from_file_location

spec = spec_from_file_location("txvalkeycluster", sys.argv.pop(1))
sys.modules[spec.name] = package = module_from_spec(spec)
spec.loader.exec_module(package)
from txvalkeycluster.cli import main
main()
"""


@click.group()
def cluster() -> None:
    """Start and stop clusters on this machine. They run in the background."""


_NAME = click.option("--name", default="default", show_default=True, help="Name of the cluster.")


@cluster.command()
@_NAME
@click.option("--primaries", default=3, show_default=True, type=click.IntRange(1, 100), help="How many primaries.")
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(0, 5), help="How many for each primary.")
@click.option(
    "--first-port",
    type=click.IntRange(1, 65000),
    help="Port of the first server; the next has the next port. [default: free ports]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the servers listen on, such as ::1.")
@click.option("--password", help="Password that clients need. [default: none]")
@click.option("--tls", is_flag=True, help="Use TLS, with new certificates. The URL names the file of the authority.")
@click.option("--foreground", is_flag=True, help="Do not go to the background; Ctrl-C stops the cluster.")
def start(name: str, foreground: bool, **options: Any) -> None:
    """Start a cluster and print its URL.

    It runs until "cluster stop".
    """
    record = _Record(name)
    if record.pid is not None:
        raise click.ClickException(
            f"a cluster named {name} is already running; stop it with: txvalkeycluster cluster stop --name={name}"
        )
    if foreground:
        run(lambda reactor, stack: _hold(reactor, stack, record, options))
    given = {key.replace("_", "-"): value for key, value in options.items() if value is not None and value is not False}
    words = [f"--{key}" if value is True else f"--{key}={value}" for key, value in given.items()]
    package = Path(__file__).parents[1] / "__init__.py"
    # With -P, Python imports no module from the current folder.
    command = [sys.executable, "-P", "-c", _HOLDER, str(package), "cluster", "start", "--foreground"]
    with tempfile.TemporaryFile("w+") as said:
        holder = subprocess.Popen(
            [*command, f"--name={name}", *words],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            give_up = time.monotonic() + _PATIENCE
            while record.read() is None and holder.poll() is None and time.monotonic() < give_up:
                time.sleep(0.05)
            if record.read() is None:
                _end(holder)
                said.seek(0)
                raise click.ClickException(f"the cluster did not start:\n{said.read().strip()}")
        except SystemExit:
            # A signal.  The holder is in a session of its own, so it does not get the signal.
            _end(holder)
            raise
    click.echo(record.url)


def _end(holder: subprocess.Popen[bytes]) -> None:
    holder.terminate()
    holder.wait()


@cluster.command()
@_NAME
def stop(name: str) -> None:
    """Stop a cluster and remove its files."""
    record = _Record(name)
    pid = record.pid
    if pid is None:
        raise click.ClickException(f"no cluster named {name} is running; list all with: txvalkeycluster cluster status")
    os.kill(pid, signal.SIGTERM)
    give_up = time.monotonic() + _PATIENCE
    while record.pid is not None:
        if time.monotonic() > give_up:
            raise click.ClickException(f"process {pid} of the cluster {name} did not end within {_PATIENCE:g} s")
        time.sleep(0.05)
    click.echo(f"stopped {name}")


@cluster.command()
def status() -> None:
    """List the running clusters with their URLs."""
    records = [record for record in _Record.all() if record.pid is not None]
    if not records:
        click.echo("no cluster is running")
        return
    for record in records:
        facts = record.read() or {}
        # Not in a table: a table would cut the URL, which users copy.
        click.echo(f"{record.name}: {facts['servers']} servers, process {facts['pid']}\n  {record.url}")


async def _hold(reactor: IReactorTime, stack: AsyncExitStack, record: _Record, options: dict[str, Any]) -> None:
    tls = options.pop("tls")
    held = LocalCluster(reactor, tls="auto" if tls else False, **options)
    stack.push_async_callback(held.stop)
    await held.start()
    stack.callback(record.remove)
    record.write(held)
    click.echo(record.url)
    until_a_signal: Deferred[None] = Deferred()
    await until_a_signal


class _Record:
    """The file of a running cluster."""

    def __init__(self, name: str) -> None:
        if not name or name.startswith(".") or "/" in name:
            raise click.ClickException(
                f"{name!r} cannot be the name of a cluster: it must not be empty, begin with a dot, or hold a slash"
            )
        self.name = name
        self._path = _folder() / f"{name}.json"
        self._authority = _folder() / f"{name}.pem"

    @classmethod
    def all(cls) -> Iterator[_Record]:
        """Iterate over all files, by name."""
        for path in sorted(_folder().glob("*.json")):
            yield cls(path.stem)

    def read(self) -> dict[str, Any] | None:
        """Return the content of the file, or None if there is no cluster of this name."""
        try:
            facts: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        return facts

    @property
    def pid(self) -> int | None:
        """The id of the process that holds the cluster, or None if it has ended."""
        facts = self.read()
        if facts is None:
            return None
        try:
            os.kill(facts["pid"], 0)
        except ProcessLookupError:
            # The process was killed before it could remove the file.
            self.remove()
            return None
        return int(facts["pid"])

    @property
    def url(self) -> str:
        """The URL for clients; empty if there is no cluster of this name."""
        facts = self.read()
        return str(facts["url"]) if facts is not None else ""

    def write(self, held: LocalCluster) -> None:
        """Write the file of a cluster.  Other users cannot read it, and it is complete when it appears."""
        url = held.url
        if held.certificates is not None:
            self._authority.write_bytes(held.certificates.authority)
            url += f"?trust_root={self._authority}"
        facts = {"pid": os.getpid(), "url": url, "servers": len(held.servers)}
        unfinished = self._path.with_suffix(".new")
        unfinished.write_text(json.dumps(facts))
        unfinished.chmod(0o600)
        unfinished.rename(self._path)

    def remove(self) -> None:
        """Remove the file of the cluster, and that of its certificate authority."""
        self._path.unlink(missing_ok=True)
        self._authority.unlink(missing_ok=True)


def _folder() -> Path:
    place = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()).absolute()
    folder = place / f"txvalkeycluster-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise click.ClickException(f"{folder} belongs to another user; set XDG_RUNTIME_DIR to a folder of your own")
    return folder
