"""Proxies in this process or in one of their own, the programs that use them, and a plain client of a single server."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from time import monotonic
from types import SimpleNamespace
from typing import Any

import hiredis
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest

from tests.cases import TestCase
from tests.cluster.base import ClusterTests
from txvalkeycluster import ConnectionLost, ReplyError, TooManyPending, key_slot
from txvalkeycluster.proxy import ProxyService, ProxySettings
from txvalkeycluster.testing import Server
from txvalkeycluster.testing.ports import free_ports
from txvalkeycluster.testing.processes import ProcessGroup, find_server

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
_reactor: Any = reactor
_connect: Any = connectProtocol
# The codes of errors of a proxy about commands that may have been executed.
IN_DOUBT = ("CONNLOST ", "TIMEOUT ")
# What libraries say about a connection that has ended.
_DISCONNECTED = ("Lost connection", "Socket closed unexpectedly", "Connection is closed")
#: The error of a pipelined request that a server refused, while it executed a later one of the same pipeline.
REFUSED_IN_A_PIPELINE = "CLUSTERDOWN The cluster is down"
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+:\d+")
_MAYBE = "; it may have been executed"
_TWISTD = "import sys; sys.path.insert(0, {!r}); from twisted.scripts.twistd import run; run()"


def program(name: str) -> str:
    """Return the path of a program; skip the test if it is not installed."""
    path = shutil.which(name)
    if path is None:
        raise SkipTest(f"{name} is not in PATH; it is in the package valkey-tools")
    return path


def pause(seconds: float = 0.01) -> Deferred[Any]:
    """Let the reactor run."""
    return deferLater(_reactor, seconds)


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds.  The test's timeout ends it otherwise."""
    while not condition():
        await pause()


class Progress:
    """A program that works until it is told to stop, with what it has seen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rounds = 0
        self.errors: list[str] = []
        self.longest = 0.0
        self.stopping = threading.Event()
        self.ended: Any = None

    def took(self, begun: float) -> None:
        """Note the end of a round."""
        self.rounds += 1
        self.longest = max(self.longest, monotonic() - begun)

    async def stop(self) -> None:
        """Stop, after the present round."""
        self.stopping.set()
        await self.ended


def note(name: str, change: str, errors: Iterable[str], longest: float) -> Counter[str]:
    """Count error texts without their addresses; with TXVALKEYCLUSTER_PROXY_SEEN=FILE, append them as a table row."""
    seen = Counter(_ADDRESS.sub("HOST:PORT", each).strip() for each in errors)
    file = os.environ.get("TXVALKEYCLUSTER_PROXY_SEEN")
    if file:
        texts = "<br>".join(f"{count} times `{text}`" for text, count in seen.items()) or "none"
        with Path(file).open("a") as out:
            out.write(f"| {name} | {change} | {texts} | {longest * 1000:.0f} ms |\n")
    return seen


def in_doubt(text: str) -> bool:
    """Whether an error that a program has seen says that a command got no reply.

    A blocking command without a reply ends the connection of the client.
    """
    return any(code in text for code in (*IN_DOUBT, *_DISCONNECTED))


def tags_in(slots: set[int]) -> Iterator[str]:
    """Return hash tags in some slots."""
    return (tag for tag in map(str, range(1_000_000)) if key_slot(tag) in slots)


class PlainClient(Protocol):
    """A client of one server, which knows nothing of clusters: it pairs replies with requests by their order."""

    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()
        self.open = False
        #: How many replies have come.
        self.replies = 0
        #: Replies that came without a request.
        self.unexpected: list[Any] = []
        self._reader = hiredis.Reader()
        self._waiting: deque[Deferred[Any]] = deque()

    def connectionMade(self) -> None:
        self.open = True

    def send(self, *commands: Sequence[Any]) -> list[Deferred[Any]]:
        """Send commands in one write; an error reply is the result of its Deferred."""
        made: list[Deferred[Any]] = [Deferred() for _ in commands]
        if not self.open:
            for each in made:
                each.errback(ConnectionLost("the proxy has closed the connection", maybe_executed=False))
            return made
        self._waiting += made
        assert self.transport is not None
        self.transport.write(b"".join(map(hiredis.pack_command, map(tuple, commands))))
        return made

    def call(self, *words: Any) -> Deferred[Any]:
        """Send a command."""
        return self.send(words)[0]

    async def batch(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands in one write; return their replies."""
        found: Any = await gatherResults(self.send(*commands), consumeErrors=True)
        return list(found)

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self.replies += 1
            if self._waiting:
                self._waiting.popleft().callback(reply)
            else:
                self.unexpected.append(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.open = False
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            each.errback(ConnectionLost("the proxy has closed the connection", maybe_executed=True))
        self.lost.callback(None)

    def close(self) -> None:
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]


class WorkloadClient:
    """Gives replies and errors of a `PlainClient` in the way that `txvalkeycluster.testing.Workload` wants them."""

    def __init__(self, plain: PlainClient, timeout: float = 10.0) -> None:
        self.options = SimpleNamespace(random=Random(), timeout=timeout)
        #: The texts of all error replies, without addresses.
        self.texts: Counter[str] = Counter()
        self._plain = plain

    def execute(self, *words: Any) -> Deferred[Any]:
        return self._plain.call(*map(str, words)).addCallback(self._checked)

    def _checked(self, reply: Any) -> Any:
        if not isinstance(reply, hiredis.ReplyError):
            return reply
        text = str(reply)
        self.texts[text] += 1
        raise error_of(text)


def error_of(text: str) -> Exception:
    """Return what an error of a proxy means: whether the command may have been executed."""
    if text.startswith(IN_DOUBT):
        return ConnectionLost(text, maybe_executed=_MAYBE in text)
    return TooManyPending(text) if text.startswith("BUSY ") else ReplyError(text)


class Program(ProcessProtocol):
    """A program that runs."""

    def __init__(self, words: Sequence[str]) -> None:
        self.out = b""
        self.err = b""
        #: Fires with the exit status, or minus the signal.
        self.ended: Deferred[int] = Deferred()
        self.running = True
        #: Called when it has written something.
        self.received: Callable[[], object] = lambda: None
        _reactor.spawnProcess(self, words[0], words, env=os.environ)

    def outReceived(self, data: bytes) -> None:
        self.out += data
        self.received()

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def processEnded(self, reason: Failure) -> None:
        self.running = False
        value: Any = reason.value
        self.ended.callback(value.exitCode if value.exitCode is not None else -value.signal)

    def write(self, data: bytes) -> None:
        """Write to its standard input."""
        assert self.transport is not None
        self.transport.write(data)

    def end_input(self) -> None:
        assert self.transport is not None
        self.transport.closeStdin()

    def kill(self) -> None:
        if self.running:
            assert self.transport is not None
            self.transport.signalProcess("KILL")

    @property
    def lines(self) -> list[str]:
        """The complete lines of its output so far."""
        return self.out.decode("utf-8", "replace").split("\n")[:-1]


class ProxyProcess:
    """A proxy in a process of its own, started with twistd.  It ends with this process."""

    def __init__(self, url: str, **settings: Any) -> None:
        self._group = ProcessGroup()
        self.port = free_ports(HOST, 1)[0]
        values = {"cluster": url, "listen": [f"tcp:{self.port}:interface={HOST}:backlog=1024"], **settings}
        file = self._group.folder / "proxy.toml"
        file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
        words = [sys.executable, "-c", _TWISTD.format(str(ROOT)), "-n", "--pidfile=", "valkey-proxy"]
        self.process = self._group.start([*words, "--config", str(file)], self._group.folder)

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self._group.folder / "log").read_text(errors="replace")

    @property
    def memory(self) -> int:
        """Its resident memory, in bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
        raise AssertionError("the proxy has ended")

    def stop(self) -> None:
        self._group.close()

    async def ended(self) -> int:
        """Wait for its end; return its exit status."""
        while (status := self.process.poll()) is None:
            await pause()
        return status


async def single_server(test: TestCase) -> int:
    """Start a server without a cluster, which ends with the test; return its port."""
    group = ProcessGroup()
    test.addCleanup(group.close)
    port = free_ports(HOST, 1)[0]
    group.start([find_server(), "--port", str(port), "--bind", HOST, "--save", ""], group.folder)
    while True:
        try:
            client: PlainClient = await _connect(TCP4ClientEndpoint(_reactor, HOST, port), PlainClient())
        except ConnectError:
            await pause()
        else:
            client.close()
            await client.lost
            return port


class ProxyTests(ClusterTests):
    """Tests of proxies in front of a real cluster."""

    async def proxy(self, **settings: Any) -> ProxyService:
        """Return a proxy in this process."""
        listen = (f"tcp:0:interface={HOST}:backlog=1024",)
        service = ProxyService(reactor, ProxySettings(cluster=self.cluster.url, listen=listen, **settings))
        service.privilegedStartService()
        service.startService()
        self.addCleanup(service.stopService)
        await service.whenListening()
        await self.ready(self.port_of(service))
        return service

    def port_of(self, service: ProxyService) -> int:
        port: Any = service.ports[0]
        return int(port.getHost().port)

    async def proxy_process(self, url: str | None = None, **settings: Any) -> ProxyProcess:
        """Return a proxy in a process of its own."""
        proxy = ProxyProcess(url or self.cluster.url, **settings)
        self.addCleanup(proxy.stop)
        while True:
            if proxy.process.poll() is not None:
                raise AssertionError(f"the proxy has ended:\n{proxy.log}")
            try:
                await self.ready(proxy.port)
                return proxy
            except ConnectError:
                await pause(0.05)

    async def ready(self, port: int) -> None:
        """Wait until a proxy reaches the cluster."""
        client = await self.plain(port)
        self.assertIsInstance(await client.call("DBSIZE"), int)
        client.close()
        await client.lost

    async def plain(self, port: int) -> PlainClient:
        """Return a plain client of a proxy."""
        client: PlainClient = await _connect(TCP4ClientEndpoint(_reactor, HOST, port), PlainClient())
        self.addCleanup(self._closed, client)
        return client

    def _closed(self, client: PlainClient) -> Deferred[None]:
        if client.open:
            client.close()
        return client.lost

    def run_program(self, *words: str) -> Program:
        """Start a program, which does not outlive the test."""
        started = Program([program(words[0]), *words[1:]])

        async def finish() -> None:
            started.kill()
            await until(lambda: not started.running)

        self.addCleanup(lambda: Deferred.fromCoroutine(finish()))
        return started

    async def failover(self) -> None:
        """A failover without losses."""
        await self.cluster.failover(await self._replica_of_a_primary())
        await self.cluster.wait_until_whole()

    async def _replica_of_a_primary(self) -> Server:
        for primary in await self.cluster.primaries():
            for replica in await self.cluster.replicas_of(primary):
                return replica
        raise AssertionError("no primary has a replica")

    async def sigkill(self, before: Callable[[Server], Awaitable[object]] | None = None) -> Server:
        """Kill a primary that has a replica, wait until the replica has taken over, and return the primary."""
        replica = await self._replica_of_a_primary()
        for victim in await self.cluster.primaries():
            if replica in await self.cluster.replicas_of(victim):
                if before is not None:
                    await before(victim)
                await self.cluster.kill(victim)
                await self.cluster.wait_for_takeover(victim)
                return victim
        raise AssertionError("no primary has a replica")

    async def lossless_kill(self, victim: Server, progress: Callable[[], object]) -> None:
        """Kill a primary while programs wait for it and its replica has everything that it has acknowledged.

        So nothing is lost that was acknowledged, and checks can be exact.

        Args:
            victim: The primary.
            progress: Returns something that does not change while the programs wait for the primary.
        """
        await self.cluster.ask(victim, "CLIENT", "PAUSE", 60_000, "ALL")
        same, before = 0, None
        while same < 10:
            now = progress()
            same, before = same + 1 if now == before else 0, now
            await pause(0.05)
        await self.cluster.kill(victim)
        await self.cluster.wait_for_takeover(victim)

    async def end_subscriptions(self) -> None:
        """End the connections of all subscriptions at all servers."""
        for server in self.cluster.servers:
            if server.alive:
                await self.cluster.ask(server, "CLIENT", "KILL", "TYPE", "PUBSUB")

    async def slots_of(self, server: Server) -> set[int]:
        """Return the slots of a primary."""
        return {slot for owned in await self.cluster.ranges_of(server) for slot in owned}
