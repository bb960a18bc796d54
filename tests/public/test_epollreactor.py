"""The reactor of the package: what it does in place of Twisted's.  tests.scripted runs under it, too."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from select import EPOLLIN
from typing import Any

from twisted.internet import protocol
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python import context, log
from twisted.python.failure import Failure

from tests.cases import SynchronousTestCase
from txvalkeycluster.epollreactor import ValkeyEPollReactor

PROGRAM = """
from txvalkeycluster import epollreactor
epollreactor.install()
from twisted.internet import reactor
print(type(reactor).__name__)
epollreactor.install()
"""


# Timed calls of every kind, calls from threads, errors, and the end: in this reactor, in this reactor with an unknown
# Twisted, and in Twisted's.
LOOP = """
import sys
from threading import Thread
from twisted.internet import epollreactor as twisted
from twisted.logger import globalLogBeginner
from txvalkeycluster import epollreactor

if sys.argv[1] == "unknown":
    epollreactor._TIMED_CALLS = ("no such name",)
(twisted if sys.argv[1] == "twisted" else epollreactor).install()
from twisted.internet import reactor

def logged(event):
    if "log_failure" in event:
        print("logged", event["log_failure"].value)

globalLogBeginner.beginLoggingTo([logged], redirectStandardIO=False)
reactor.addSystemEventTrigger("before", "startup", print, "startup")
reactor.addSystemEventTrigger("before", "shutdown", print, "shutdown")

def fail(text):
    raise ValueError(text)

def from_a_thread():
    print("called from a thread")
    for _ in range(60):
        reactor.callLater(60, print, "never").cancel()
    reactor.callLater(0, fail, "a timed call")
    late = reactor.callLater(0.01, reset)
    late.delay(0.02)

def reset():
    print("delayed;", len(reactor.getDelayedCalls()), "calls are left")
    soon = reactor.callLater(60, print, "reset")
    soon.reset(0.01)
    reactor.callLater(0.05, break_down)

def break_down():
    poll = reactor.doPoll
    def broken(wait):
        reactor.doPoll = reactor.doIteration = poll
        raise ValueError("the wait")
    reactor.doPoll = reactor.doIteration = broken
    reactor.callLater(0, reactor.stop)

def begin():
    print("running")
    Thread(target=lambda: reactor.callFromThread(from_a_thread)).start()

reactor.callWhenRunning(begin)
reactor.run()
print("ended")
"""


def system() -> Any:
    """Return what text logs show as the source of a line now."""
    return (context.get(log.ILogContext) or {}).get("system")  # type: ignore[no-untyped-call]


class Peer(protocol.Protocol):
    """Notes what it gets."""

    transport: Any

    def __init__(self, handle: Callable[[Any, bytes], object] = lambda peer, data: None) -> None:
        self.got: list[bytes] = []
        self.lost: Any = None
        self.systems: list[Any] = []
        self._handle = handle

    def dataReceived(self, data: bytes) -> None:
        self.got.append(data)
        self.systems.append(system())
        self._handle(self, data)

    def end(self) -> None:
        if self.lost is None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self.lost = reason.value


class Poller:
    """Reports the given events, or raises the given error."""

    def __init__(self, events: Any, real: Any) -> None:
        self._events = events
        self.modify, self.register, self.unregister = real.modify, real.register, real.unregister

    def poll(self, timeout: float, most: int) -> Any:
        if isinstance(self._events, OSError):
            raise self._events
        return self._events


class ReactorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = ValkeyEPollReactor()
        self.peers: list[Peer] = []
        self.ports: list[Any] = []
        self.addCleanup(self.close)

    def close(self) -> None:
        """Close everything that the reactor has open."""
        for peer in self.peers:
            peer.end()
        for port in self.ports:
            port.stopListening()
        self.until(lambda: all(peer.lost for peer in self.peers) and not self.reactor.getDelayedCalls())
        for selectable in self.reactor.removeAll() + list(self.reactor._internalReaders):
            selectable.connectionLost(None)
        self.reactor._poller.close()

    def pair(self, handle: Callable[[Any, bytes], object]) -> tuple[Peer, Peer]:
        """Connect a client, whose received data ``handle`` gets, to a server."""
        server, client = Peer(), Peer(handle)
        accepting: Any = protocol.Factory.forProtocol(lambda: server)
        connecting: Any = protocol.ClientFactory.forProtocol(lambda: client)
        port = self.reactor.listenTCP(0, accepting, interface="127.0.0.1")
        self.ports.append(port)
        self.reactor.connectTCP("127.0.0.1", port.getHost().port, connecting)
        self.until(lambda: server.transport is not None and client.transport is not None)
        self.peers += (server, client)
        return server, client

    def until(self, holds: Callable[[], object]) -> None:
        """Run the reactor until something is true."""
        for _ in range(500):
            if holds():
                return
            self.reactor.runUntilCurrent()
            self.reactor.doIteration(0.02)
        raise AssertionError("it did not become true")

    def test_bytes_come_without_a_logging_context(self) -> None:
        server, client = self.pair(lambda peer, data: None)
        server.transport.write(b"bytes")
        self.until(lambda: client.got)
        self.assertEqual((client.got, client.systems), ([b"bytes"], [system()]))

    def test_another_descriptor(self) -> None:
        """It is read without a context if it says so, and ends if it fails."""
        systems: list[Any] = []

        class Reading:
            def __init__(self, opened: socket.socket, needs_no_context: bool) -> None:
                self.needs_no_context = needs_no_context
                self.fileno, self.opened = opened.fileno, opened
                self.lost: Any = None

            def logPrefix(self) -> str:
                return "Reading"

            def doRead(self) -> None:
                systems.append(system())
                if self.opened.recv(1) == b"!":
                    raise ValueError("it fails")

            def connectionLost(self, reason: Failure) -> None:
                self.lost = reason.value

        for needs_no_context, expected in ((True, system()), (False, "Reading")):
            near, far = socket.socketpair()
            with near, far:
                reading = Reading(near, needs_no_context)
                self.reactor.addReader(reading)
                far.send(b".")
                self.until(lambda: systems)
                self.assertEqual(systems, [expected])
                far.send(b"!")
                self.until(partial(getattr, reading, "lost"))
                self.assertIsInstance(reading.lost, ValueError)
                self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
            systems.clear()

    def test_much_data(self) -> None:
        """Bytes that can be read and written at once go through Twisted's code."""
        server, client = self.pair(lambda peer, data: peer.transport.write(data))
        server.transport.write(b"x" * 3_000_000)
        self.until(lambda: sum(map(len, server.got)) == 3_000_000)
        self.assertEqual(sum(map(len, client.got)), 3_000_000)

    def test_a_clean_end(self) -> None:
        server, client = self.pair(lambda peer, data: None)
        server.transport.write(b"last")
        server.transport.loseConnection()
        self.until(lambda: client.lost and server.lost)
        self.assertEqual(client.got, [b"last"])
        self.assertIsInstance(client.lost, ConnectionDone)

    def test_a_reset(self) -> None:
        server, client = self.pair(lambda peer, data: None)
        server.transport.abortConnection()
        self.until(lambda: client.lost)
        self.assertIsInstance(client.lost, ConnectionLost)

    def test_a_protocol_that_raises(self) -> None:
        """The error is logged, and ends the connection, as with Twisted's reactors."""

        def broken(peer: Any, data: bytes) -> None:
            raise ZeroDivisionError("broken")

        server, client = self.pair(broken)
        server.transport.write(b"x")
        self.until(lambda: client.lost and server.lost)
        self.assertIsInstance(client.lost, ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_connection_that_another_event_closes(self) -> None:
        """Its own event, which came at the same time, is ignored."""
        pairs = [self.pair(lambda peer, data: second.transport.abortConnection()) for _ in range(2)]
        (_, first), (_, second) = pairs
        for server, _ in pairs:
            server.transport.write(b"x")
        # Both have been written before the clients read.
        for server, _ in pairs:
            server.transport.doWrite()
        events = [(peer.transport.fileno(), EPOLLIN) for peer in (first, second)]
        self.patch(self.reactor, "_poller", Poller(events, self.reactor._poller))
        self.reactor.doIteration(0)
        self.assertEqual((first.got, second.got), ([b"x"], []))

    def test_an_interrupted_wait(self) -> None:
        for number in (errno.EINTR, errno.EBADF):
            self.patch(self.reactor, "_poller", Poller(OSError(number, "interrupted"), self.reactor._poller))
            if number == errno.EINTR:
                self.reactor.doIteration(None)
            else:
                self.assertRaises(OSError, self.reactor.doIteration, 0)

    def test_install(self) -> None:
        ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
        self.assertEqual(ended.stdout, "ValkeyEPollReactor\n")
        self.assertIn("ReactorAlreadyInstalledError", ended.stderr)

    def test_the_loop(self) -> None:
        """Timed calls, calls from threads, errors and the end are as in Twisted's loop."""
        for loop in ("own", "unknown", "twisted"):
            ended = subprocess.run([sys.executable, "-c", LOOP, loop], capture_output=True, text=True, timeout=60)
            self.assertEqual(ended.stderr, "")
            self.assertEqual(
                ended.stdout.splitlines(),
                [
                    *("startup", "running", "called from a thread", "logged a timed call", "delayed; 0 calls are left"),
                    *("reset", "logged the wait", "shutdown", "ended"),
                ],
            )
