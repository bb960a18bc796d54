"""Servers that answer "not now", silent servers, and connections that are lost."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.memory import MemoryTests
from tests.scripted.base import ScriptedTests
from txvalkeycluster import (
    ClusterUnavailable,
    CommandTimeout,
    ConnectionLost,
    NodeDisconnected,
    ProtocolError,
    ReplyError,
    TooManyPending,
)
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode
from txvalkeycluster.testing.scripted import Connection


class NotNowTests(ScriptedTests):
    async def check_recovery(self, text: bytes) -> None:
        """Send 500 commands to a node that answers ``text`` for a while: few are tried meanwhile, and all succeed."""
        node = self.nodes[0]
        keys = self.cluster.keys_of(node, 500)
        refusing = [True]
        node.script = lambda node, words, _: text if words[0] == b"SET" and refusing else DEFAULT_REPLY
        client = await self.client()
        waiting = [client.execute("SET", key, "v") for key in keys]
        await self.until(lambda: node.count(b"SET") >= 700)
        self.assertFalse(any(deferred.called for deferred in waiting))
        other = await client.execute("SET", self.key_of(self.nodes[1]), "v")
        self.assertEqual(other, b"OK")
        refusing.clear()
        self.assertEqual(await gatherResults(waiting), [b"OK"] * 500)
        self.assertLess(self.cluster.count(b"CLUSTER", b"SLOTS"), 40)

    async def test_loading(self) -> None:
        await self.check_recovery(b"-LOADING Valkey is loading the dataset in memory\r\n")

    async def test_tryagain(self) -> None:
        await self.check_recovery(b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n")

    async def test_clusterdown(self) -> None:
        await self.check_recovery(b"-CLUSTERDOWN The cluster is down\r\n")

    async def test_masterdown(self) -> None:
        await self.check_recovery(b"-MASTERDOWN Link with MASTER is down\r\n")

    async def test_readonly(self) -> None:
        await self.check_recovery(b"-READONLY You can't write against a read only replica.\r\n")

    async def test_readonly_causes_a_refresh_at_once(self) -> None:
        """READONLY of a former primary causes a refresh without regard to refresh_interval."""
        old, new = self.nodes[:2]
        key = self.key_of(old)
        client = await self.client(refresh_interval=60.0)
        old.script = lambda node, words, _: b"-READONLY no\r\n" if words[0] == b"SET" else DEFAULT_REPLY
        self.cluster.ranges = [(0, 10922, new), (10923, 16383, self.nodes[2])]
        self.assertEqual(await client.execute("SET", key, "v"), b"OK")
        self.assertEqual(new.count(b"SET"), 1)

    async def test_disconnect_before_a_reply_is_not_clean(self) -> None:
        """NodeDisconnected is not clean if a reply was missing, even the reply to a cancelled command."""
        events: list[Any] = []
        client = await self.client()
        client.add_listener(events.append)
        node = self.nodes[0]
        await client.execute("GET", self.key_of(self.nodes[1]))
        node.script = lambda node, words, _: SILENCE if words[0] == b"SET" else DEFAULT_REPLY
        setting = client.execute("SET", self.key_of(node), "v")
        await self.until(lambda: node.count(b"SET"))
        setting.cancel()
        await self.assertFailure(setting, CancelledError)
        await client.close()
        clean = {event.address: event.clean for event in events if isinstance(event, NodeDisconnected)}
        self.assertFalse(clean.pop(node.address))
        self.assertEqual(set(clean.values()), {True})

    async def test_other_errors_are_not_retried(self) -> None:
        """The caller gets an error that is neither a redirect nor "not now", and the command is sent once."""
        node = self.nodes[0]
        node.script = lambda node, words, _: b"-OOM command not allowed\r\n" if words[0] == b"SET" else DEFAULT_REPLY
        client = await self.client()
        error = await self.assertFailure(client.execute("SET", self.key_of(node), "v"), ReplyError)
        self.assertEqual(error.code, "OOM")
        self.assertEqual(node.count(b"SET"), 1)

    async def test_execute_on_tries_once(self) -> None:
        """execute_on() does not follow redirects, and does not retry."""
        node = self.nodes[0]
        for text in (b"-MOVED 1 127.0.0.1:1\r\n", b"-LOADING wait\r\n", b"-CLUSTERDOWN no\r\n"):
            node.script = lambda node, words, _, text=text: text if words[0] == b"PING" else DEFAULT_REPLY
            client = await self.client()
            await self.assertFailure(client.execute_on(node.address, "PING"), ReplyError)


class LossTests(ScriptedTests):
    def lose_once(self, name: bytes, *, after_executing: bool) -> ScriptedNode:
        """Make the first node close the connection at the first command of a name.  Return the node."""
        node = self.nodes[0]
        left = [True]

        def script(node: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
            if words[0] != name or not left:
                return DEFAULT_REPLY
            left.clear()
            if after_executing:
                node.usual(words, asking=False)
            return CLOSE

        node.script = script
        return node

    async def test_a_write_is_not_repeated(self) -> None:
        """INCR that lost its reply is not sent again, and its error says that it may have been executed."""
        node = self.lose_once(b"INCR", after_executing=True)
        client = await self.client()
        key = self.key_of(node)
        error = await self.assertFailure(client.execute("INCR", key), ConnectionLost)
        self.assertTrue(error.maybe_executed)
        self.assertEqual(await client.execute("GET", key), b"1")
        self.assertEqual(node.count(b"INCR"), 1)

    async def test_a_repeatable_write_is_repeated(self) -> None:
        node = self.lose_once(b"SET", after_executing=True)
        client = await self.client()
        self.assertEqual(await client.execute("SET", self.key_of(node), "v", repeatable=True), b"OK")
        self.assertEqual(node.count(b"SET"), 2)

    async def test_a_read_is_repeated(self) -> None:
        node = self.lose_once(b"GET", after_executing=False)
        client = await self.client()
        key = self.key_of(node)
        await client.execute("SET", key, "v")
        self.assertEqual(await client.execute("GET", key), b"v")
        self.assertEqual(node.count(b"GET"), 2)

    async def test_a_malformed_reply(self) -> None:
        """A reply that is not RESP fails its command and ends that connection.  Other reads there are sent again."""
        node, other = self.nodes[:2]
        left = [True]
        key = self.key_of(node)

        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            if words[0] == b"GET" and left:
                left.clear()
                return b"?what\r\n"
            return DEFAULT_REPLY

        node.script = script
        client = await self.client()
        await client.execute("SET", key, "v")
        await client.execute("SET", self.key_of(other), "v")
        unreadable, repeated = client.execute("GET", key), client.execute("GET", key)
        error = await self.assertFailure(unreadable, ProtocolError)
        self.assertTrue(error.maybe_executed)
        self.assertEqual(await repeated, b"v")
        self.assertEqual((node.accepted, other.accepted <= 1), (2, True))
        self.assertEqual(node.count(b"GET"), 3)


class SilenceTests(MemoryTests):
    def test_a_silent_node(self) -> None:
        """Commands of a silent node end at their deadlines.  Others are served, and no more than max_pending wait."""
        silent, other = self.nodes[:2]
        silent.script = lambda node, words, _: SILENCE if words[0] in (b"GET", b"SET") else DEFAULT_REPLY
        client = self.client(max_pending=100)
        key = self.key_of(silent)
        waiting = [client.execute("GET", key, timeout=0.3) for _ in range(100)]
        self.error_of(client.execute("GET", key), TooManyPending)
        self.assertEqual(self.result_of(client.execute("SET", self.key_of(other), "v")), b"OK")
        self.advance(0.31)
        for deferred in waiting:
            self.failureResultOf(deferred, CommandTimeout)

    def test_a_silent_connection_is_cut(self) -> None:
        """The client replaces a connection that is silent for unresponsive_after, and sends reads again."""
        node = self.nodes[0]
        client = self.client(unresponsive_after=2.0)
        silent: list[int] = []

        def script(node: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
            if words[0] == b"GET" and not silent:
                silent.append(connection.number)
            return SILENCE if words[0] == b"GET" and connection.number in silent else DEFAULT_REPLY

        node.script = script
        key = self.key_of(node)
        reading = client.execute("GET", key)
        self.advance(1.9)
        self.assertNoResult(reading)
        self.advance(0.5)
        self.assertIsNone(self.result_of(reading))
        self.assertEqual(self.result_of(client.execute("SET", key, "v")), b"OK")
        self.assertEqual(node.count(b"GET"), 2)


class AvailableAgainTests(MemoryTests):
    """Commands after a node, or the cluster, is available again."""

    def test_writes_that_were_not_sent_wait(self) -> None:
        """Writes that start while the node cannot be reached are sent when it can be reached again."""
        node = self.nodes[0]
        key = self.key_of(node)
        client = self.client()
        self.result_of(client.execute("SET", key, 0))
        self.network.refuse(node)
        self.network.settle()
        waiting = [client.execute("INCR", key) for _ in range(50)]
        self.advance(0.5)
        self.assertEqual([deferred for deferred in waiting if deferred.called], [])
        self.network.instead.clear()
        self.assertEqual(self.result_of(gatherResults(waiting)), list(range(1, 51)))

    def test_reason_of_a_failed_refresh(self) -> None:
        """A CommandTimeout does not name the reason of a failed refresh after a later refresh has succeeded."""
        self.cluster.ranges = [(0, 100, self.nodes[1])]
        for node in self.nodes:
            node.script = lambda node, words, _: b"-ERR not yet\r\n" if words[0] == b"CLUSTER" else DEFAULT_REPLY
        client = self.lazy_client()
        self.error_of(client.refresh_topology(), ClusterUnavailable)
        for node in self.nodes:
            node.script = None
        self.result_of(client.refresh_topology())
        error = self.error_of(client.execute("SET", "a", "v", timeout=0.1), CommandTimeout)
        self.assertNotIn("not yet", str(error))

    def test_reason_of_a_failed_connection(self) -> None:
        """A CommandTimeout does not name the reason of a failed connection after a later connection has succeeded."""
        client = self.client()
        node = self.nodes[0]
        key = self.key_of(node)
        self.network.refuse(node)
        self.network.settle()
        error = self.error_of(client.execute("SET", key, "v", timeout=0.2), CommandTimeout)
        self.assertIn("refused", str(error))
        self.network.instead.clear()
        self.assertEqual(self.result_of(client.execute("SET", key, "v")), b"OK")
        node.script = lambda node, words, _: SILENCE if words[0] in (b"SET", b"HELLO") else DEFAULT_REPLY
        self.network.cut(node)
        self.network.settle()
        error = self.error_of(client.execute("SET", key, "v", timeout=0.1), CommandTimeout)
        self.assertNotIn("refused", str(error))


class FullSocketTests(ScriptedTests):
    async def test_unsent_bytes_are_bounded(self) -> None:
        """Commands for a node that stops reading fail with TooManyPending when max_unsent_bytes wait for it."""
        node = self.nodes[0]
        client = await self.client(max_unsent_bytes=1_000_000)
        key = self.key_of(node)
        await client.execute("SET", key, "v")
        transport: Any = node.connections[-1].transport
        transport.pauseProducing()
        accepted: list[Deferred[Any]] = []
        refused: list[Failure] = []
        value = b"x" * 100_000
        while not refused:
            accepted.append(client.execute("SET", key, value).addErrback(refused.append))
            await deferLater(reactor, 0)
        # The limit allows 10 values.  The buffers of the two sockets hold a few MB more.
        self.assertLess(len(accepted), 150)
        transport.resumeProducing()
        await gatherResults(accepted)
        self.assertEqual([failure.type for failure in refused], [TooManyPending])
