"""`ProxyService` as a part of an application, and the parts that it is made of."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import threading
from collections import OrderedDict
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from twisted.application.service import Application, IService, MultiService
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, formatEvent
from twisted.web.client import Agent, readBody

from tests.cases import SynchronousTestCase, TestCase
from tests.logs import observe_log
from tests.proxy.operation import OperationTests
from tests.proxy.programs import HOST, until
from txvalkeycluster import ReplyError
from txvalkeycluster.proxy import ProxyService, ProxySettings
from txvalkeycluster.proxy.process.listening import SharedPort, open_ports
from txvalkeycluster.proxy.process.peers import PeerAbsent, PeerError, Peers
from txvalkeycluster.proxy.process.service import SharedRun, allow_open_files, at_next_signal
from txvalkeycluster.proxy.upstream import Upstreams
from txvalkeycluster.statistics import NodeStatistics
from txvalkeycluster.testing.ports import free_ports

URL = "valkey://127.0.0.1:1"


class ApplicationTests(OperationTests):
    def service(self, port: int, **settings: Any) -> ProxyService:
        """Return a proxy that is not started, and that ends with the test."""
        values = {"cluster": self.cluster.url, "listen": (f"tcp:{port}:interface={HOST}",), **settings}
        service = ProxyService(reactor, ProxySettings(**values))
        self.addCleanup(lambda: service.stopService())
        return service

    async def test_under_an_application(self) -> None:
        """It starts and ends with its parents."""
        (port,) = free_ports(HOST, 1)
        application = Application("proxy")  # type: ignore[no-untyped-call]
        parent: Any = MultiService()  # type: ignore[no-untyped-call]
        parent.setServiceParent(application)
        service = self.service(port)
        service.setServiceParent(parent)  # type: ignore[no-untyped-call]
        whole: Any = IService(application)
        whole.privilegedStartService()
        whole.startService()
        self.assertEqual(len(await service.whenListening()), 1)
        client = await self.plain(port)
        self.assertEqual(await client.batch(("SET", "key", 1), ("GET", "key")), [b"OK", b"1"])
        await whole.stopService()
        await client.lost
        self.assertEqual(service.ports, [])

    async def test_start_again(self) -> None:
        """A proxy that has stopped can be started again, with its metrics, and with new numbers."""
        port, metrics = free_ports(HOST, 2)
        service = self.service(port, metrics=f"tcp:{metrics}:interface={HOST}")
        parent: Any = MultiService()  # type: ignore[no-untyped-call]
        parent.startService()
        service.setServiceParent(parent)  # type: ignore[no-untyped-call]
        for number in range(3):
            client = await self.plain(port)
            self.assertEqual(await client.batch(("SET", "key", number), ("GET", "key")), [b"OK", b"%d" % number])
            agent: Any = Agent(reactor)  # type: ignore[no-untyped-call]
            response = await agent.request(b"GET", f"http://{HOST}:{metrics}/metrics".encode())
            text: bytes = await readBody(response)
            self.assertIn(b"valkey_proxy_requests_total 2.0\n", text)
            stopped = service.stopService()
            self.assertRaises(RuntimeError, service.startService)
            await stopped
            await client.lost
            self.assertFalse(service.running)
            service.startService()
            # A second start changes nothing.
            service.startService()

    async def test_a_port_in_use(self) -> None:
        """The start fails and opens nothing.  It succeeds when the port is free."""
        free, taken = free_ports(HOST, 2)
        service = self.service(free, listen=(f"tcp:{free}:interface={HOST}", f"tcp:{taken}:interface={HOST}"))
        events: list[LogEvent] = []
        observe_log(self, events.append)
        with closing(socket.create_server((HOST, taken))):
            for start in (service.privilegedStartService, service.startService):
                self.assertRaises(CannotListenError, start)
        self.assertFalse(service.running)
        self.assertEqual(service.ports, [])
        texts = [str(formatEvent(each)) for each in events]
        self.assertEqual(len([each for each in texts if f"the proxy cannot listen at tcp:{taken}:" in each]), 2)
        with closing(socket.create_server((HOST, free))):
            pass
        service.startService()
        for port in (free, taken):
            client = await self.plain(port)
            self.assertEqual(await client.call("PING"), b"PONG")

    async def test_stop_twice(self) -> None:
        """Everybody who stops it learns when it has ended; also if it was never started."""
        (port,) = free_ports(HOST, 1)
        never = self.service(port)
        await never.stopService()
        service = self.service(port)
        service.startService()
        client = await self.plain(port)
        self.assertEqual(await client.call("PING"), b"PONG")
        first, second = service.stopService(), service.stopService()
        await first
        await second
        await client.lost
        self.assertEqual(service.ports, [])
        await service.stopService()

    async def test_hurry_later(self) -> None:
        """A proxy that does not stop is in no hurry, and the next stop lets requests end."""
        (port,) = free_ports(HOST, 1)
        service = self.service(port)
        service.hurry()
        service.startService()
        service.hurry()
        client = await self.plain(port)
        replies = client.send(("SET", "key", 1), ("DBSIZE",))
        await until(lambda: service.server.sessions and next(iter(service.server.sessions.values())).commands)
        stopped = service.stopService()
        self.assertEqual([await each for each in replies], [b"OK", 1])
        await stopped

    async def test_an_encoding_in_the_url(self) -> None:
        """The clients of the proxy get bytes, whatever the URL says."""
        (port,) = free_ports(HOST, 1)
        service = self.service(port, cluster=f"{self.cluster.url}?encoding=utf-8")
        service.startService()
        client = await self.plain(port)
        self.assertEqual(await client.call("SET", b"\xff", b"\xfe"), b"OK")
        self.assertEqual(await client.call("SCAN", 0), [b"0", [b"\xff"]])
        self.assertEqual(await client.call("CONFIG", "GET", "cluster-enabled"), [b"cluster-enabled", b"no"])


class OpeningTests(SynchronousTestCase):
    def test_a_failure_that_comes_later(self) -> None:
        """The log names the endpoint, and the process ends."""
        memory: Any = MemoryReactorClock()  # type: ignore[no-untyped-call]
        events: list[LogEvent] = []
        observe_log(self, events.append)
        opening: Deferred[Any] = Deferred()
        open_ports(memory, [("pigeon:1", opening)], [])
        opening.errback(OSError("no pigeons"))
        self.assertIn("the proxy cannot listen at pigeon:1: no pigeons", [str(formatEvent(each)) for each in events])
        self.assertEqual(memory.whenRunningHooks, [(memory.stop, (), {})])

    def test_all_or_none(self) -> None:
        """If one fails, the others are closed at once, although the reactor does not run."""
        closed: list[str] = []
        port: Any = SimpleNamespace(stopListening=lambda: closed.append("closed"))
        done: Deferred[Any] = Deferred()
        done.callback(port)
        ports: list[Any] = []
        error = self.assertRaises(OSError, open_ports, None, [("a", done), ("b", fail(OSError("b")))], ports)
        self.assertEqual((str(error), ports, closed), ("b", [], ["closed"]))


class Greeting(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")
        self.transport.loseConnection()


class SharedPortTests(TestCase):
    """A port on a socket of another process."""

    def setUp(self) -> None:
        self.opened = socket.create_server((HOST, 0))
        self.addCleanup(self.opened.close)
        factory: Any = Factory.forProtocol(Greeting)
        self.port = SharedPort(reactor, self.opened.dup(), factory)
        self.addCleanup(self.port.stopListening)
        self.addCleanup(self.port.socket.close)

    async def greeting(self) -> bytes:
        """Connect, and return what is received until the end."""

        def talk() -> bytes:
            with closing(socket.create_connection(self.opened.getsockname(), 10)) as client:
                data = b""
                while more := client.recv(100):
                    data += more
                return data

        return await deferToThread(talk)

    async def test_accept(self) -> None:
        """It accepts clients until it is told not to, and leaves the socket open for others."""
        self.port.startListening()
        self.assertEqual(self.port.getHost().port, self.opened.getsockname()[1])  # type: ignore[attr-defined]
        self.assertEqual([await self.greeting() for _ in range(6)], [b"hello"] * 6)
        self.port.stopReading()
        waiting = Deferred.fromCoroutine(self.greeting())
        self.port.startReading()
        self.assertEqual(await waiting, b"hello")
        await self.port.stopListening()
        await self.port.stopListening()
        self.port.startReading()
        with closing(socket.create_connection(self.opened.getsockname())):
            self.opened.accept()[0].close()

    def failing(self, *errors: int) -> list[int]:
        """Let accept fail; return the list of errors that are left."""
        left = list(errors)

        def accept() -> Any:
            if not left:
                raise BlockingIOError
            raise OSError(left.pop(0), "told to fail")

        self.port.socket = SimpleNamespace(accept=accept, fileno=self.opened.fileno, close=lambda: None)  # type: ignore[assignment]
        return left

    def clocked(self) -> Any:
        """Let the port use a reactor that only the test moves; return it."""
        memory: Any = MemoryReactorClock()  # type: ignore[no-untyped-call]
        self.port._reactor = self.port.reactor = memory
        self.port.startListening()
        return memory

    def test_passing_errors(self) -> None:
        """A client that has gone before it was accepted changes nothing."""
        memory = self.clocked()
        left = self.failing(errno.ECONNABORTED, errno.EPROTO)
        self.port.doRead()
        self.assertEqual((left, memory.getReaders()), ([], [self.port]))

    def test_no_more_descriptors(self) -> None:
        """It is tried again later, instead of in each turn of the reactor; and not after the end."""
        memory = self.clocked()
        self.failing(errno.EMFILE)
        self.port.doRead()
        self.assertEqual(memory.getReaders(), [])
        memory.advance(1.0)
        self.assertEqual(memory.getReaders(), [self.port])
        self.failing(errno.EMFILE)
        self.port.doRead()
        self.port.stopListening()
        memory.advance(10.0)
        self.assertEqual((memory.getReaders(), memory.getDelayedCalls()), ([], []))

    def test_a_socket_that_was_shut_down(self) -> None:
        """The other process has ended it.  It is not read any more."""
        memory = self.clocked()
        self.failing(errno.EINVAL)
        self.port.doRead()
        memory.advance(10.0)
        self.assertEqual(memory.getReaders(), [])

    def test_a_connection_that_cannot_be_used(self) -> None:
        """It is closed, and the next one is accepted."""
        memory = self.clocked()
        problems: list[Exception] = [OSError(errno.ENOTCONN, "gone"), ValueError("broken")]
        adopted: list[int] = []

        def adopt(descriptor: int, *_: object) -> None:
            if problems:
                raise problems.pop(0)
            adopted.append(descriptor)

        memory.adoptStreamConnection = adopt
        for _ in range(3):
            client = socket.create_connection(self.opened.getsockname())
            self.addCleanup(client.close)
        self.port.doRead()
        self.assertEqual((problems, len(adopted)), ([], 1))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.flushLoggedErrors(), [])


class SignalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        self.called: list[str] = []
        self.stopped = 0
        self.reactor = SimpleNamespace(callFromThread=lambda function: function(), stop=self.stop)

    def stop(self) -> None:
        self.stopped += 1
        if self.stopped > 1:
            raise ReactorNotRunning

    def handlers(self) -> list[Any]:
        return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    def test_several_services(self) -> None:
        """All learn of a signal, and the old handlers come back when the last one has ended, in any order."""
        for order in ((0, 1), (1, 0)):
            undo = [at_next_signal(self.reactor, lambda name=name: self.called.append(name)) for name in "ab"]  # type: ignore[misc]
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            self.assertEqual(self.called, ["a", "b"] * 2)
            undo[order[0]]()
            self.called.clear()
            os.kill(os.getpid(), signal.SIGTERM)
            self.assertEqual(self.called, ["b" if order[0] == 0 else "a"])
            undo[order[1]]()
            undo[order[1]]()
            self.assertEqual(self.handlers(), self.before)
            self.called.clear()
        # Each signal has told the reactor to stop: the services may have been stopped for another reason.
        self.assertEqual(self.stopped, 6)

    def test_outside_of_the_main_thread(self) -> None:
        """Only the main thread can have handlers."""
        undo: list[Any] = []
        thread = threading.Thread(target=lambda: undo.append(at_next_signal(self.reactor, self.stop)))
        thread.start()
        thread.join()
        self.assertEqual(self.handlers(), self.before)
        undo[0]()
        self.assertEqual(self.handlers(), self.before)


class SharedRunTests(SynchronousTestCase):
    def test_one_run_for_all(self) -> None:
        """It begins once, everybody waits for its end, and it can begin again."""
        ends: list[Deferred[None]] = []

        async def run() -> None:
            ends.append(Deferred())
            await ends[-1]

        shared = SharedRun(run)
        waiters = [shared.run(), shared.run()]
        self.assertEqual((len(ends), shared.running), (1, True))
        ends[0].callback(None)
        self.assertEqual([self.successResultOf(each) for each in waiters], [None, None])
        self.assertFalse(shared.running)
        last = [shared.run(), shared.run()]
        ends[1].errback(ValueError("failed"))
        for each in last:
            self.failureResultOf(each, ValueError)

    def test_an_end_at_once(self) -> None:
        """A run that ends before it returns has a result, and can begin again."""

        async def run() -> None:
            pass

        shared = SharedRun(run)
        for _ in range(2):
            self.assertIsNone(self.successResultOf(shared.run()))
            self.assertFalse(shared.running)


class OpenFilesTests(SynchronousTestCase):
    def limit(self, soft: int, hard: int, clients: int) -> list[tuple[int, int]]:
        """Return the limits that are set."""
        found: list[tuple[int, int]] = []
        settings = ProxySettings(cluster=URL, max_clients=clients)
        with (
            patch.object(resource, "getrlimit", lambda _: (soft, hard)),
            patch.object(resource, "setrlimit", lambda _, limits: found.append(limits)),
        ):
            allow_open_files(settings)
        return found

    def test_the_limit(self) -> None:
        """It is raised to what the clients need, as far as possible; a warning says if it is too low."""
        events: list[LogEvent] = []
        observe_log(self, events.append)
        unlimited = resource.RLIM_INFINITY
        self.assertEqual(self.limit(1024, 1 << 20, 10_000), [(10_512, 1 << 20)])
        self.assertEqual(self.limit(1024, unlimited, 10_000), [(10_512, unlimited)])
        self.assertEqual(self.limit(1024, 1 << 20, 10), [])
        self.assertEqual(self.limit(unlimited, unlimited, 10_000), [])
        self.assertEqual(events, [])
        self.assertEqual(self.limit(1024, 4096, 10_000), [(4096, 4096)])
        self.assertEqual(self.limit(4096, 4096, 10_000), [])
        texts = [str(formatEvent(each)) for each in events]
        self.assertEqual(texts, ["the system allows 4096 open files, but max_clients needs 10512 (ulimit -n)"] * 2)


class PeerTests(TestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.folder = os.path.relpath(folder)
        self.peers = Peers(reactor, self.folder, 1, timeout=0.0)

    def listen(self, number: int, reply: bytes | None) -> None:
        """Let a worker answer each request with some bytes; None: it closes the connection."""

        class Answering(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                if reply is None:
                    self.transport.loseConnection()
                else:
                    self.transport.write(reply)

        factory: Any = Factory.forProtocol(Answering)
        listening: Any = reactor
        port = listening.listenUNIX(self.peers.socket_of(number), factory)
        self.addCleanup(port.stopListening)

    async def error(self, number: int, patience: float = 5.0) -> Exception:
        try:
            await self.peers.ask(number, "NUMBERS", patience=patience)
        except Exception as error:
            return error
        raise AssertionError("no error")

    async def test_answers(self) -> None:
        """A reply, an error, bytes that are no reply, the end of the connection, silence, and no worker."""
        self.listen(2, b"$2\r\nok\r\n")
        self.listen(3, b"-CLUSTERDOWN no node\r\n")
        self.listen(4, b"what?\r\n")
        self.listen(5, None)
        self.listen(6, b"")
        Path(self.peers.socket_of(7)).write_bytes(b"")
        self.assertEqual(await self.peers.ask(2, "NUMBERS"), b"ok")
        refused = await self.error(3)
        self.assertIsInstance(refused, ReplyError)
        self.assertEqual(str(refused), "CLUSTERDOWN no node")
        for number in (4, 5):
            wrong = await self.error(number)
            self.assertEqual(type(wrong), PeerError)
            self.assertTrue(str(wrong).startswith(f"worker {number} does not answer: "), wrong)
        self.assertEqual(type(await self.error(6, 0.05)), PeerError)
        for number in (7, 8):
            self.assertEqual(type(await self.error(number)), PeerAbsent)
        self.flushLoggedErrors()

    async def test_all(self) -> None:
        """Workers that have no clients are left out; any other that does not answer is an error."""
        self.listen(2, b":2\r\n")
        self.listen(3, b":3\r\n")
        self.listen(5, None)
        self.peers.others = [2, 3, 9]
        self.assertEqual(await self.peers.ask_all("KILL"), [2, 3])
        self.peers.others = []
        self.assertEqual(await self.peers.ask_all("KILL"), [])
        self.peers.others = [2, 5]
        error = await self.assertFailure(Deferred.fromCoroutine(self.peers.ask_all("KILL")), PeerError)
        self.assertIn("worker 5 does not answer", str(error))


class UpstreamsTests(SynchronousTestCase):
    def test_totals_over_closed_clients(self) -> None:
        """What the client of a login has done is not lost when it is closed."""
        closed: list[str] = []
        upstreams = Upstreams(
            MemoryReactorClock(),  # type: ignore[no-untyped-call]
            lambda protocol, user, password: SimpleNamespace(  # type: ignore[arg-type, return-value]
                statistics=NodeStatistics(moved=3, pending=2, errors={"ERR": 1}),
                commands={},
                close=lambda: closed.append(str(user)),
            ),
            lambda: None,
            lambda *_: None,
            1,
        )
        for user in ("a", "b"):
            self.assertIsNot(upstreams.of(2, user, "x"), None)
        self.assertEqual(closed, ["a"])
        expected = NodeStatistics(moved=3, errors={"ERR": 1})
        self.assertEqual(upstreams.ended, expected)
        self.assertIsInstance(upstreams._found, OrderedDict)
