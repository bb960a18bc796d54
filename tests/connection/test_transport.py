"""What connections do with their transport: TLS handshakes, unexpected bytes, slow peers, lost connections."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec, module_from_spec
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import INegotiated
from zope.interface import directlyProvides

from tests.connection.wire import Base, Transport
from tests.memory import MemoryTests
from txvalkeycluster import ConnectFailed
from txvalkeycluster.connection import handshake as handshake_module
from txvalkeycluster.connection.protocol import RESPProtocol
from txvalkeycluster.connection.write_scheduler import WriteScheduler
from txvalkeycluster.errors import AuthenticationFailed, ClientClosed, ConnectionLost, ProtocolError
from txvalkeycluster.statistics import NodeStatistics
from txvalkeycluster.testing import DEFAULT_REPLY


class TLSTests(Base):
    """The TLS handshake of the connection is not finished."""

    def connect(self, **options: Any) -> None:
        super().connect(**options)
        self.connection = RESPProtocol(self.clock, self.options, WriteScheduler(self.clock), "h:1", NodeStatistics())
        self.transport = Transport()
        directlyProvides(self.transport, INegotiated)
        self.connection.makeConnection(self.transport)  # type: ignore[no-untyped-call]

    def test_ready_after_the_tls_handshake(self) -> None:
        """With RESP2 and no password nothing is sent, and the connection is ready when the TLS handshake is done."""
        self.connect(protocol=2)
        done = self.shake_hands()
        self.assertNoResult(done)
        self.connection.handshakeCompleted()
        self.assertEqual(self.successResultOf(done).protocol, 2)
        self.successResultOf(self.connection.when_secured())
        self.lose()
        self.failureResultOf(self.connection.when_secured(), ConnectionLost)

    def test_lost_during_the_tls_handshake(self) -> None:
        self.connect(protocol=2)
        done = self.shake_hands()
        self.lose()
        self.failureResultOf(done, ConnectionLost)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class UnexpectedBytesTests(Base):
    def test_an_unexpected_error_reply(self) -> None:
        """A server with too many clients sends an error without a command, and the connection ends."""
        self.connect()
        self.receive(b"-ERR max number of clients reached\r\n")
        self.assertTrue(self.connection.ended)
        call = self.connection.call("PING")
        self.failureResultOf(call, ConnectionLost)

    def test_bytes_after_the_end(self) -> None:
        """Bytes that come after the connection has ended are ignored."""
        self.connect()
        waiting = self.send("1")
        self.clock.advance(0)
        self.receive(b"no protocol\r\n")
        self.failureResultOf(waiting, ConnectionLost, ProtocolError)
        self.receive(b"+more\r\n")
        self.assertEqual(self.transport.aborted, [True])

    def test_a_push_without_a_listener(self) -> None:
        """A push is not the reply of a command."""
        self.connect()
        waiting = self.send("1")
        self.clock.advance(0)
        self.receive(b">2\r\n+invalidate\r\n*0\r\n+1\r\n")
        self.assertEqual(self.successResultOf(waiting), b"1")

    def test_a_callback_that_ends_the_connection(self) -> None:
        """The rest of the read is ignored."""
        self.connect()
        first, second = self.send("1"), self.send("2")
        first.addCallback(lambda _: self.connection.abort(ClientClosed("aborted")))
        self.clock.advance(0)
        self.receive(b"+1\r\n+2\r\n")
        self.failureResultOf(second, ConnectionLost, ClientClosed)


class SlowPeerTests(Base):
    def test_a_peer_that_reads_slowly(self) -> None:
        """The connection stays open as long as the peer reads, and ends when the peer stops."""
        self.connect(unresponsive_after=1.0)
        self.transport.offset = self.transport._tempDataLen = 0
        self.transport.dataBuffer = b"x" * 5
        waiting = self.send("1", timeout=100.0)
        self.clock.advance(0)
        self.connection.pauseProducing()
        for left in (4, 3, 2, 1):
            self.transport.dataBuffer = b"x" * left
            self.clock.pump([0.25] * 5)
            self.assertNoResult(waiting)
        self.clock.pump([0.25] * 10)
        self.assertTrue(self.failureResultOf(waiting, ConnectionLost).value.maybe_executed)
        self.assertEqual(self.transport.aborted, [True])


class HandshakeTests(Base):
    def answered(self, *replies: bytes, **options: Any) -> Any:
        """Run a handshake whose writes are answered one after the other; return its Deferred."""
        self.connect(**options)
        done = self.shake_hands()
        for reply in replies:
            self.clock.advance(0)
            self.receive(reply)
        return done

    def test_client_name(self) -> None:
        done = self.answered(b"%1\r\n+proto\r\n:3\r\n" + b"+OK\r\n" * 3, client_name="mine")
        self.successResultOf(done)
        self.assertIn(b"SETNAME\r\n$4\r\nmine", self.transport.value())

    def test_a_wrong_password_over_resp2(self) -> None:
        done = self.answered(b"-WRONGPASS no\r\n", protocol=2, password="secret")
        error = self.failureResultOf(done, AuthenticationFailed).value
        self.assertNotIn("secret", str(error))

    def test_a_missing_database(self) -> None:
        done = self.answered(b"-ERR DB index is out of range\r\n", protocol=2, db=5)
        error = self.failureResultOf(done, ConnectFailed).value
        self.assertIn("SELECT 5", str(error))

    def test_a_package_that_is_not_installed(self) -> None:
        """The client sends the version 0 to the server, because only an installed package has a version."""

        def not_installed(_: str) -> str:
            raise metadata.PackageNotFoundError

        self.patch(metadata, "version", not_installed)
        spec = find_spec(handshake_module.__name__)
        assert spec is not None and spec.loader is not None
        module: Any = module_from_spec(spec)
        self.patch(__import__("sys"), "modules", {**__import__("sys").modules, spec.name: module})
        spec.loader.exec_module(module)
        self.assertIn(("CLIENT", "SETINFO", "LIB-VER", "0"), module._courtesies())


class ClosedConnectionTests(MemoryTests):
    def test_an_endpoint_that_returns_a_closed_connection(self) -> None:
        """The attempt counts as failed, and the next attempt succeeds."""

        class Late:
            def __init__(inner, host: str, port: int) -> None:
                inner.wrapped = self.network.endpoint_for(host, port)

            def connect(inner, factory: Any) -> Any:
                def hand_over(connection: Any) -> Any:
                    if not ended:
                        ended.append(connection)
                        self.network.cut(self.nodes[0])
                        self.network.settle()
                    return connection

                return inner.wrapped.connect(factory).addCallback(hand_over)

        for protocol in (2, 3):
            ended: list[Any] = []
            client = self.lazy_client(protocol=protocol, endpoint_for=Late, seeds=str(self.nodes[0].address))
            waiting = client.execute("PING")
            self.advance(2.0)
            self.assertEqual(self.successResultOf(waiting), b"PONG")
            self.result_of(client.abort())
            self.assertEqual(self.clock.getDelayedCalls(), [])


class ExclusiveConnectionTests(MemoryTests):
    def test_idle_connections_that_the_server_closed(self) -> None:
        """A connection that the server closed is not lent again."""
        node = self.nodes[0]
        key = self.key_of(node)
        value = b"*2\r\n$1\r\nl\r\n$1\r\nv\r\n"
        node.script = lambda node, words, _: value if words[0] == b"BLPOP" else DEFAULT_REPLY
        client = self.client()
        for _ in range(2):
            self.assertEqual(self.result_of(client.blpop(key, 0)), (b"l", b"v"))
            self.network.cut(node)
            self.network.settle()
        self.advance(40.0, step=1.0)
        self.result_of(client.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_idle_connection_beside_a_used_one(self) -> None:
        """The idle connection is closed after a while, though the other one is in constant use."""
        node = self.nodes[0]
        key = self.key_of(node)
        value = b"*2\r\n$1\r\nl\r\n$1\r\nv\r\n"
        node.script = lambda node, words, _: value if words[0] == b"BLPOP" else DEFAULT_REPLY
        client = self.client()
        for waiting in [client.blpop(key, 0), client.blpop(key, 0)]:
            self.assertEqual(self.result_of(waiting), (b"l", b"v"))
        before = len(node.connections)
        for _ in range(50):
            self.advance(1.0, step=1.0)
            self.assertEqual(self.result_of(client.blpop(key, 0)), (b"l", b"v"))
        self.assertEqual(len(node.connections), before - 1)
        self.result_of(client.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_several_failed_attempts(self) -> None:
        """After failures there is one attempt at a time. All commands are served when the node is reachable again."""
        node = self.nodes[0]
        key = self.key_of(node)
        value = b"*2\r\n$1\r\nl\r\n$1\r\nv\r\n"
        node.script = lambda node, words, _: value if words[0] == b"BLPOP" else DEFAULT_REPLY
        client = self.client(refresh_period=None)
        dials: list[Deferred[Any]] = []

        def dial() -> Deferred[Any]:
            dials.append(Deferred())
            return dials[-1]

        self.network.instead[node.address] = dial
        waiting = [client.blpop(key, 0) for _ in range(3)]
        self.network.settle()
        self.assertEqual(len(dials), 3)
        for each in dials[:3]:
            each.errback(ConnectionRefusedError())
        self.advance(0.2)
        self.assertLessEqual(len([each for each in dials if not each.called]), 1)
        del self.network.instead[node.address]
        dials[-1].errback(ConnectionRefusedError())
        self.advance(3.0)
        self.assertEqual([self.successResultOf(each) for each in waiting], [(b"l", b"v")] * 3)
        self.result_of(client.abort())
        self.assertEqual(self.clock.getDelayedCalls(), [])
