"""Proxies that twistd runs, with everything that they leave behind."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError

from tests.cluster.base import ClusterTests
from tests.proxy.programs import HOST, ROOT, PlainClient, pause, until
from txvalkeycluster import ConnectionLost
from txvalkeycluster.testing.processes import ProcessGroup

TWISTD = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from twisted.scripts.twistd import run; run()"
# systemd starts a service with its sockets from descriptor 3 on, and tells that they are for this process.
_SYSTEMD = """
import fcntl, os, sys
descriptors, program = sys.argv[1].split(","), sys.argv[2:]
# First out of the way of those that come.
kept = [fcntl.fcntl(int(each), fcntl.F_DUPFD_CLOEXEC, 100) for each in descriptors]
for place, descriptor in enumerate(kept):
    os.dup2(descriptor, 3 + place)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(kept))}
os.environ["LISTEN_FDNAMES"] = ":".join(["x"] * len(kept))
os.execv(program[0], program)
"""


def twistd(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run twistd to its end."""
    command = [sys.executable, "-c", TWISTD, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def parent_of(number: int) -> int:
    """Return the parent of a process; 0 if there is no such process."""
    try:
        text = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return 0
    state, parent, *_ = text.rpartition(")")[2].split()
    return 0 if state == "Z" else int(parent)


def children_of(number: int) -> list[int]:
    """Return the processes that a process has started."""
    found = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return sorted(each for each in found if parent_of(each) == number)


def is_running(number: int) -> bool:
    """Tell whether there is such a process."""
    return parent_of(number) != 0


async def _connect(endpoint: Any) -> PlainClient:
    connect: Any = connectProtocol
    client: PlainClient = await connect(endpoint, PlainClient())
    return client


class Processes(ProcessGroup):
    """Processes with an environment and descriptors of their own."""

    def launch(self, command: Sequence[str], log: Path, **options: Any) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=self._guardian.pid,
                **options,
            )
        self._processes.append(process)
        return process


class TwistdProxy:
    """A proxy that twistd runs.  It does not outlive this process."""

    def __init__(
        self, group: Processes, words: Sequence[str], sockets: Sequence[socket.socket] = (), name: str = "proxy"
    ) -> None:
        self.folder = group.folder / name
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir(parents=True)
        self._log = self.folder / "log"
        command = [sys.executable, "-c", TWISTD, *words]
        descriptors = [each.fileno() for each in sockets]
        if sockets:
            command = [sys.executable, "-c", _SYSTEMD, ",".join(map(str, descriptors)), *command]
        environment = {**os.environ, "TMPDIR": str(self.temporary), "PYTHONPATH": str(ROOT)}
        self.process = group.launch(command, self._log, cwd=self.folder, env=environment, pass_fds=descriptors)

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text(errors="replace")

    @property
    def workers(self) -> list[int]:
        """Its worker processes."""
        return children_of(self.process.pid)

    @property
    def left(self) -> list[str]:
        """The files that it has now in the folder for temporary files."""
        return sorted(str(each.relative_to(self.temporary)) for each in self.temporary.rglob("*"))

    def kill(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; return its exit status."""
        await until(lambda: self.process.poll() is not None)
        assert self.process.returncode is not None
        return self.process.returncode

    async def has_logged(self, pattern: str, times: int = 1) -> None:
        """Wait until it has logged something."""
        await until(lambda: len(re.findall(pattern, self.log)) >= times or self.process.poll() is not None)
        found = re.findall(pattern, self.log)
        if len(found) < times:
            raise AssertionError(f"{pattern!r} is not in the log:\n{self.log}")


class Reconnecting:
    """A client that writes and reads one key, and that connects again when the proxy closes the connection."""

    def __init__(self, port: int, key: str) -> None:
        #: The pairs of SET and GET that were right, and how often the connection was closed.
        self.rounds = self.losses = 0
        #: What must not happen: refused connections, wrong values, and errors.
        self.bad: list[str] = []
        self._port = port
        self._key = key
        self._value = 0
        self._possible: set[bytes | None] = {None}
        self._stopping = False
        self._ended = Deferred.fromCoroutine(self._run())

    def stop(self) -> Deferred[None]:
        """Stop after the present round."""
        self._stopping = True
        return self._ended

    async def _run(self) -> None:
        while not self._stopping:
            try:
                client = await _connect(TCP4ClientEndpoint(reactor, HOST, self._port))
            except ConnectError as reason:
                self.bad.append(repr(reason))
                await pause()
                continue
            try:
                while not self._stopping:
                    await self._round(client)
            except ConnectionLost:
                self.losses += 1
            finally:
                client.close()

    async def _round(self, client: PlainClient) -> None:
        self._value += 1
        value = b"%d" % self._value
        self._possible.add(value)
        reply = await client.call("SET", self._key, value)
        if reply == b"OK":
            self._possible = {value}
        else:
            self.bad.append(f"SET got {reply!r}")
        found = await client.call("GET", self._key)
        if found not in self._possible:
            self.bad.append(f"GET got {found!r}, not one of {self._possible}")
        self._possible = {found}
        self.rounds += 1


class OperationTests(ClusterTests):
    """Each test has a cluster of three primaries, and starts proxies as an administrator does."""

    options: ClassVar[dict[str, Any]] = {"replicas": 0}

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.group = Processes()
        self.addCleanup(self.group.close)
        self._started = 0

    def start(
        self, *words: str, daemon: Sequence[str] = ("-n", "--pidfile="), sockets: Sequence[socket.socket] = ()
    ) -> TwistdProxy:
        """Start a proxy of the cluster.

        Args:
            *words: Its options.
            daemon: The options of twistd.
            sockets: The open sockets that it gets, as from systemd.
        """
        self._started += 1
        command = [*daemon, "valkey-proxy", "--cluster", self.cluster.url, *words]
        return TwistdProxy(self.group, command, sockets, f"proxy{self._started}")

    async def ready(self, proxy: TwistdProxy, port: int, workers: int = 0) -> None:
        """Wait until a proxy uses the cluster, and until all of its workers accept clients."""
        while True:
            if proxy.process.poll() is not None:
                raise AssertionError(f"the proxy has ended:\n{proxy.log}")
            try:
                client = await self.plain(port)
            except ConnectError:
                await pause(0.02)
                continue
            self.assertIsInstance(await client.call("DBSIZE"), int)
            client.close()
            await client.lost
            break
        await until(lambda: len(self.sockets_of(proxy)) == workers)

    def sockets_of(self, proxy: TwistdProxy) -> list[str]:
        """Return the sockets of the workers.  A worker accepts clients when it has one."""
        return [each for each in proxy.left if each.endswith(".sock")]

    async def reconnecting(self, port: int, count: int = 5) -> list[Reconnecting]:
        """Start clients that write and read, and that connect again.  They work already."""
        clients = [Reconnecting(port, f"key{number}") for number in range(count)]
        for each in clients:
            self.addCleanup(each.stop)
        await self.advance(clients)
        return clients

    async def advance(self, clients: Sequence[Reconnecting]) -> None:
        """Wait until each client has done more."""
        goals = [each.rounds + 20 for each in clients]
        await until(lambda: all(each.rounds >= goal for each, goal in zip(clients, goals, strict=True)))

    async def plain(self, port: int) -> PlainClient:
        """Return a plain client of a port."""
        return await self.plain_at(TCP4ClientEndpoint(reactor, HOST, port))

    async def plain_at(self, endpoint: Any) -> PlainClient:
        """Return a plain client of an endpoint."""
        client = await _connect(endpoint)

        async def close() -> None:
            if client.open:
                client.close()
            await client.lost

        self.addCleanup(lambda: Deferred.fromCoroutine(close()))
        return client
