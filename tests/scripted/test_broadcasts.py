"""Commands for every primary, while primaries change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from tests.scripted.base import ScriptedTests
from txvalkeycluster import (
    ClusterClient,
    ConnectionLost,
    Node,
    PartialFailure,
    ReplyError,
    TransactionRefused,
    WatchError,
)
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, ScriptedNode

READONLY = b"-READONLY You can't write against a read only replica.\r\n"


class TwoShards(ScriptedTests):
    """Node 0 alone, and node 1 with node 2 as its replica, until they change places."""

    async def setUp(self) -> None:
        await super().setUp()
        self.lead(1, 2)

    def lead(self, primary: int, replica: int) -> None:
        """Have the second shard led by one of its nodes."""
        one, leads, follows = self.nodes[0], self.nodes[primary], self.nodes[replica]
        self.cluster.ranges = [(0, 8191, one), (8192, 16383, leads)]
        self.cluster.replicas = {leads: [follows]}


class BroadcastTests(TwoShards):
    async def test_one_that_steps_down(self) -> None:
        """READONLY shows that the map is old; its successor gets the command, each of the others has it once."""
        client = await self.client(refresh_interval=60.0)
        self.nodes[1].script = lambda node, words, _: READONLY if words[0] == b"FLUSHALL" else DEFAULT_REPLY
        self.lead(2, 1)
        self.assertEqual(await client.flushall(), b"OK")
        self.assertEqual([node.count(b"FLUSHALL") for node in (self.nodes[0], self.nodes[2])], [1, 1])

    async def test_a_successor_that_no_map_listed(self) -> None:
        """Its replica was away when the map was made; the new one lists the old primary behind it."""
        self.cluster.replicas = {}
        client = await self.client(refresh_interval=60.0, timeout=2.0)
        self.nodes[1].script = lambda node, words, _: READONLY if words[0] == b"FLUSHALL" else DEFAULT_REPLY
        self.lead(2, 1)
        self.assertEqual(await client.flushall(), b"OK")

    async def test_one_that_is_gone(self) -> None:
        """What was not sent goes to the successor, once the map shows it."""
        client = await self.client()
        await self.nodes[1].stop()
        self.nodes[2].script = lambda node, words, _: b"$1\r\nf\r\n" if words[0] == b"FUNCTION" else DEFAULT_REPLY
        self.nodes[0].script = self.nodes[2].script
        loading = client.function_load("code")
        await self.until(lambda: self.nodes[0].count(b"FUNCTION"))
        self.lead(2, 1)
        self.assertEqual(await loading, b"f")
        self.assertEqual([node.count(b"FUNCTION") for node in self.nodes], [1, 0, 1])

    async def test_one_that_loads(self) -> None:
        """It is waited for."""
        client = await self.client()
        busy = [True]
        loading = b"-LOADING Valkey is loading the dataset in memory\r\n"
        self.nodes[1].script = lambda node, words, _: loading if words[0] == b"FLUSHALL" and busy else DEFAULT_REPLY
        flushing = client.flushall()
        await self.until(lambda: self.nodes[1].count(b"FLUSHALL") > 3)
        busy.clear()
        self.assertEqual(await flushing, b"OK")

    async def test_a_lost_reply(self) -> None:
        """A write is not sent again, a read is."""
        client = await self.client()
        self.nodes[1].script = lambda node, words, _: CLOSE if words[0] == b"FLUSHALL" else DEFAULT_REPLY
        error = await self.assertFailure(client.flushall(), PartialFailure)
        outcomes = dict(error.outcomes)
        self.assertEqual(outcomes[str(self.nodes[0].address)], b"OK")
        lost: Any = outcomes[str(self.nodes[1].address)]
        self.assertIsInstance(lost, ConnectionLost)
        self.assertTrue(lost.maybe_executed)
        closed: list[int] = []

        def once(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            if words[0] != b"DBSIZE":
                return DEFAULT_REPLY
            if node is self.nodes[1] and not closed:
                closed.append(1)
                return CLOSE
            return b":5\r\n"

        for node in self.nodes:
            node.script = once
        self.assertEqual(await client.dbsize(), 10)


class OldMapTests(TwoShards):
    """An error that shows that the map is old asks for a new one at once, on whichever path it comes."""

    async def asks(self, refused: bytes, call: Callable[[ClusterClient, Node, str], Any]) -> None:
        client = await self.client(refresh_interval=60.0, timeout=1.0)
        node = client.topology.node(self.nodes[1].id)
        assert node is not None

        def script(_: ScriptedNode, words: list[bytes], __: Any) -> Any:
            if words[0] == refused:
                return READONLY
            return b"+QUEUED\r\n" if refused == b"EXEC" and words[0] == b"SET" else DEFAULT_REPLY

        self.nodes[1].script = script
        self.lead(2, 1)
        failing = call(client, node, self.key_of(self.nodes[2]))
        await self.assertFailure(failing, ReplyError, PartialFailure, WatchError, TransactionRefused)
        await self.until(lambda: client.topology.owner(16383).id == self.nodes[2].id)

    async def test_one_node(self) -> None:
        await self.asks(b"SET", lambda client, node, key: client.execute_on(node, "SET", key, "v"))

    async def test_one_node_on_an_exclusive_connection(self) -> None:
        await self.asks(b"BLPOP", lambda client, node, key: client.execute_on(node, "BLPOP", key, 0))

    async def test_a_command_in_a_transaction(self) -> None:
        await self.asks(b"EXEC", lambda client, _, key: client.transaction(timeout=0.2).set(key, "v").execute())

    async def test_a_session(self) -> None:
        async def call(client: ClusterClient, key: str) -> None:
            async with client.watch(key) as session:
                await session.set(key, "v")

        await self.asks(b"SET", lambda client, _, key: Deferred.fromCoroutine(call(client, key)))

    async def test_a_command_that_ends_another(self) -> None:
        self.nodes[0].script = lambda _, words, __: b"-NOTBUSY no\r\n" if words[0] == b"SCRIPT" else DEFAULT_REPLY
        await self.asks(b"SCRIPT", lambda client, _, __: client.script_kill())
