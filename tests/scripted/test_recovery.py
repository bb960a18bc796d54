"""Servers that cannot serve just now, and connections that are lost."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.task import deferLater

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


class NotJustNowTests(ScriptedTests):
    async def recovers(self, text: bytes) -> None:
        """A shoal of commands waits while the node answers ``text``, few are tried meanwhile, and all succeed."""
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
        await self.recovers(b"-LOADING Valkey is loading the dataset in memory\r\n")

    async def test_tryagain(self) -> None:
        await self.recovers(b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n")

    async def test_clusterdown(self) -> None:
        await self.recovers(b"-CLUSTERDOWN The cluster is down\r\n")

    async def test_masterdown(self) -> None:
        await self.recovers(b"-MASTERDOWN Link with MASTER is down\r\n")

    async def test_readonly(self) -> None:
        await self.recovers(b"-READONLY You can't write against a read only replica.\r\n")

    async def test_readonly_asks_for_a_map_at_once(self) -> None:
        """A demoted primary: the refresh does not wait for the rate limit, and the successor is found."""
        old, new = self.nodes[:2]
        key = self.key_of(old)
        client = await self.client(refresh_interval=60.0)
        old.script = lambda node, words, _: b"-READONLY no\r\n" if words[0] == b"SET" else DEFAULT_REPLY
        self.cluster.ranges = [(0, 10922, new), (10923, 16383, self.nodes[2])]
        self.assertEqual(await client.execute("SET", key, "v"), b"OK")
        self.assertEqual(new.count(b"SET"), 1)

    async def test_a_reason_that_has_ended_is_not_named(self) -> None:
        """Neither why there was no map, once there is one, nor why a node could not be dialled, once it could."""
        self.cluster.ranges = [(0, 100, self.nodes[1])]
        for node in self.nodes:
            node.script = lambda node, words, _: b"-ERR not yet\r\n" if words[0] == b"CLUSTER" else DEFAULT_REPLY
        client = self.lazy_client()
        await self.assertFailure(client.refresh_topology(), ClusterUnavailable)
        for node in self.nodes:
            node.script = None
        await client.refresh_topology()
        error = await self.assertFailure(client.execute("SET", "a", "v", timeout=0.1), CommandTimeout)
        self.assertNotIn("not yet", str(error))
        node = self.nodes[1]
        key = self.key_of(node)
        port = node.address.port
        await node.stop()
        await self.assertFailure(client.execute("SET", key, "v", timeout=0.2), CommandTimeout)
        await node.listen(self.cluster.reactor, port)
        self.assertEqual(await client.execute("SET", key, "v"), b"OK")
        node.script = lambda node, words, _: SILENCE if words[0] in (b"SET", b"HELLO") else DEFAULT_REPLY
        for connection in node.connections:
            connection.close()
        await self.until(lambda: not node.connections)
        error = await self.assertFailure(client.execute("SET", key, "v", timeout=0.1), CommandTimeout)
        self.assertNotIn("refused", str(error))

    async def test_a_close_that_left_a_reply_behind_is_not_clean(self) -> None:
        """Even if nobody waited for the reply any more."""
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

    async def test_any_other_error_is_the_callers(self) -> None:
        node = self.nodes[0]
        node.script = lambda node, words, _: b"-OOM command not allowed\r\n" if words[0] == b"SET" else DEFAULT_REPLY
        client = await self.client()
        error = await self.assertFailure(client.execute("SET", self.key_of(node), "v"), ReplyError)
        self.assertEqual(error.code, "OOM")
        self.assertEqual(node.count(b"SET"), 1)

    async def test_one_node_means_one_try(self) -> None:
        """execute_on neither follows a redirect nor waits."""
        node = self.nodes[0]
        for text in (b"-MOVED 1 127.0.0.1:1\r\n", b"-LOADING wait\r\n", b"-CLUSTERDOWN no\r\n"):
            node.script = lambda node, words, _, text=text: text if words[0] == b"PING" else DEFAULT_REPLY
            client = await self.client()
            await self.assertFailure(client.execute_on(node.address, "PING"), ReplyError)


class LossTests(ScriptedTests):
    def lose_once(self, name: bytes, *, after_executing: bool) -> ScriptedNode:
        """Have the first node cut the connection under the first command of a name."""
        node = self.nodes[0]
        left = [True]

        def script(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            if words[0] != name or not left:
                return DEFAULT_REPLY
            left.clear()
            if after_executing:
                node.usual(words, asking=False)
            return CLOSE

        node.script = script
        return node

    async def test_a_write_is_not_repeated(self) -> None:
        """INCR whose reply is lost: executed once, and the caller is told that it may have been."""
        node = self.lose_once(b"INCR", after_executing=True)
        client = await self.client()
        key = self.key_of(node)
        error = await self.assertFailure(client.execute("INCR", key), ConnectionLost)
        self.assertTrue(error.maybe_executed)
        self.assertEqual(await client.execute("GET", key), b"1")
        self.assertEqual(node.count(b"INCR"), 1)

    async def test_a_write_declared_repeatable_is(self) -> None:
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

    async def test_what_was_not_written_waits(self) -> None:
        """Writes issued while the node is away are sent once it is back."""
        node = self.nodes[0]
        events: list[Any] = []
        client = await self.client()
        client.add_listener(events.append)
        await client.execute("SET", self.key_of(node), 0)
        port = node.address.port
        await node.stop()
        await self.until(lambda: any(isinstance(event, NodeDisconnected) for event in events))
        waiting = [client.execute("INCR", self.key_of(node)) for _ in range(50)]
        await node.listen(self.cluster.reactor, port)
        self.assertEqual(await gatherResults(waiting), list(range(1, 51)))

    async def test_broken_bytes_cost_one_connection(self) -> None:
        """A reply that is no RESP is told to its caller, and ends that connection alone; other reads are repeated."""
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


class SilenceTests(ScriptedTests):
    async def test_a_silent_node(self) -> None:
        """Its commands end at their deadlines, others are served meanwhile, and what may wait is bounded."""
        silent, other = self.nodes[:2]
        silent.script = lambda node, words, _: SILENCE if words[0] in (b"GET", b"SET") else DEFAULT_REPLY
        client = await self.client(max_pending=100)
        key = self.key_of(silent)
        waiting = [client.execute("GET", key, timeout=0.3) for _ in range(100)]
        await self.assertFailure(client.execute("GET", key), TooManyPending)
        self.assertEqual(await client.execute("SET", self.key_of(other), "v"), b"OK")
        for deferred in waiting:
            await self.assertFailure(deferred, CommandTimeout)

    async def test_it_is_cut_off(self) -> None:
        """After ``unresponsive_after`` a new connection is made, and reads are repeated on it."""
        node = self.nodes[0]
        client = await self.client(unresponsive_after=0.2)
        old: list[int] = []

        def script(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            if words[0] == b"GET" and not old:
                old.append(connection.number)
            return SILENCE if words[0] == b"GET" and connection.number in old else DEFAULT_REPLY

        node.script = script
        self.assertEqual(await client.execute("GET", self.key_of(node)), None)
        write = client.execute("SET", self.key_of(node), "v")
        self.assertEqual(await write, b"OK")
        self.assertEqual(node.count(b"GET"), 2)

    async def test_it_takes_no_more_bytes_than_it_may(self) -> None:
        """A node that stops reading: unsent bytes are bounded, then TooManyPending."""
        node = self.nodes[0]
        client = await self.client(max_unsent_bytes=1_000_000)
        key = self.key_of(node)
        await client.execute("SET", key, "v")
        node.connections[-1].transport.pauseProducing()  # type: ignore[union-attr]
        accepted: list[Any] = []
        refused: list[Any] = []
        value = b"x" * 100_000

        async def fill() -> None:
            while not refused:
                deferred = client.execute("SET", key, value, timeout=1.0)
                accepted.append(deferred)
                deferred.addErrback(lambda failure: refused.append(failure) if failure.check(TooManyPending) else None)
                await deferLater(reactor, 0)  # type: ignore[arg-type]

        await fill()
        # Beyond the limit only what the two sockets hold, a few MB at most.
        self.assertLess(len(accepted), 150)
        node.connections[-1].transport.resumeProducing()  # type: ignore[union-attr]
        await gatherResults(accepted)
        self.assertEqual(len(refused), 1)
