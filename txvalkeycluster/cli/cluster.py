"""``cluster start|stop|status``: clusters on this machine that run in the background, each under a name.

``start`` leaves a process behind that holds the servers, so that they end with it; a file tells the others of it.
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
# Runs the package of this process, also if Python would find no or another one without the current folder.
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
    """Run clusters on this machine, in the background."""


_NAME = click.option("--name", default="default", show_default=True, help="What to call the cluster.")


@cluster.command()
@_NAME
@click.option("--primaries", default=3, show_default=True, type=click.IntRange(1, 100))
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(0, 5), help="Of each primary.")
@click.option("--first-port", type=click.IntRange(1, 65000), help="Consecutive ports from here; else free ones.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, such as ::1.")
@click.option("--password", help="What clients must say to be let in.")
@click.option("--tls", is_flag=True, help="TLS, with certificates made on the fly.")
@click.option("--foreground", is_flag=True, help="Stay until interrupted.")
def start(name: str, foreground: bool, **options: Any) -> None:
    """Start a cluster and print its URL."""
    record = _Record(name)
    if record.pid is not None:
        raise click.ClickException(f"a cluster named {name} is running already")
    if foreground:
        run(lambda reactor, stack: _hold(reactor, stack, record, options))
    given = {key.replace("_", "-"): value for key, value in options.items() if value is not None and value is not False}
    words = [f"--{key}" if value is True else f"--{key}={value}" for key, value in given.items()]
    package = Path(__file__).parents[1] / "__init__.py"
    # With -P, no module is taken from the current folder.
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
            # A signal, of which a process in a session of its own hears nothing.
            _end(holder)
            raise
    click.echo(record.url)


def _end(holder: subprocess.Popen[bytes]) -> None:
    holder.terminate()
    holder.wait()


@cluster.command()
@_NAME
def stop(name: str) -> None:
    """Stop a cluster and remove what it wrote."""
    record = _Record(name)
    pid = record.pid
    if pid is None:
        raise click.ClickException(f"no cluster named {name} is running")
    os.kill(pid, signal.SIGTERM)
    give_up = time.monotonic() + _PATIENCE
    while record.pid is not None:
        if time.monotonic() > give_up:
            raise click.ClickException(f"process {pid} of the cluster {name} does not end")
        time.sleep(0.05)
    click.echo(f"stopped {name}")


@cluster.command()
def status() -> None:
    """List the clusters that run."""
    records = [record for record in _Record.all() if record.pid is not None]
    if not records:
        click.echo("no cluster is running")
        return
    for record in records:
        facts = record.read() or {}
        # Not as a table, which would cut what is there to be copied.
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
    """The file that tells of a running cluster."""

    def __init__(self, name: str) -> None:
        if not name or name.startswith(".") or "/" in name:
            raise click.ClickException(f"{name!r} is no name for a cluster")
        self.name = name
        self._path = _folder() / f"{name}.json"
        self._authority = _folder() / f"{name}.pem"

    @classmethod
    def all(cls) -> Iterator[_Record]:
        """Every record there is, by name."""
        for path in sorted(_folder().glob("*.json")):
            yield cls(path.stem)

    def read(self) -> dict[str, Any] | None:
        """What it says, or None if there is no cluster of this name."""
        try:
            facts: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        return facts

    @property
    def pid(self) -> int | None:
        """The process that holds the cluster, if it lives."""
        facts = self.read()
        if facts is None:
            return None
        try:
            os.kill(facts["pid"], 0)
        except ProcessLookupError:
            # It was killed, and could not tidy up.
            self.remove()
            return None
        return int(facts["pid"])

    @property
    def url(self) -> str:
        """What clients need."""
        facts = self.read()
        return str(facts["url"]) if facts is not None else ""

    def write(self, held: LocalCluster) -> None:
        """Tell of a cluster; the file is complete when it appears, and nobody else's to read."""
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
        """Tell of it no more."""
        self._path.unlink(missing_ok=True)
        self._authority.unlink(missing_ok=True)


def _folder() -> Path:
    place = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()).absolute()
    folder = place / f"txvalkeycluster-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise click.ClickException(f"{folder} is another user's")
    return folder
