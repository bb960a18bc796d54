"""Commands for every primary, while other nodes become primaries."""

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
    """Node 0 is a shard of its own.  Nodes 1 and 2 are the other shard: node 1 is its primary at first."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.lead(1, 2)

    def lead(self, primary: int, replica: int) -> None:
        """Make one node of the second shard its primary, and the other its replica."""
        self.cluster.ranges = [(0, 8191, self.nodes[0]), (8192, 16383, self.nodes[primary])]
        self.cluster.replicas = {self.nodes[primary]: [self.nodes[replica]]}


class BroadcastTests(TwoShards):
    async def test_a_primary_that_becomes_a_replica(self) -> None:
        """READONLY causes a new slot map.  The new primary gets the command, and the other primary gets it once."""
        client = await self.client(refresh_interval=60.0)
        self.nodes[1].script = lambda node, words, _: READONLY if words[0] == b"FLUSHALL" else DEFAULT_REPLY
        self.lead(2, 1)
        self.assertEqual(await client.flushall(), b"OK")
        self.assertEqual([node.count(b"FLUSHALL") for node in (self.nodes[0], self.nodes[2])], [1, 1])

    async def test_a_new_primary_that_no_map_listed(self) -> None:
        """The new primary gets the command even if the slot map did not list it as a replica before."""
        self.cluster.replicas = {}
        client = await self.client(refresh_interval=60.0)
        self.nodes[1].script = lambda node, words, _: READONLY if words[0] == b"FLUSHALL" else DEFAULT_REPLY
        self.lead(2, 1)
        self.assertEqual(await client.flushall(), b"OK")

    async def test_a_primary_that_is_gone(self) -> None:
        """A command that could not be sent to a primary goes to the new primary when the slot map shows it."""
        # Only node 0 is a seed, so that there is no connection to node 1 before it stops.
        client = await self.client(seeds=str(self.nodes[0].address))
        await self.nodes[1].stop()
        self.nodes[2].script = lambda node, words, _: b"$1\r\nf\r\n" if words[0] == b"FUNCTION" else DEFAULT_REPLY
        self.nodes[0].script = self.nodes[2].script
        loading = client.function_load("code")
        await self.until(lambda: self.nodes[0].count(b"FUNCTION"))
        self.lead(2, 1)
        self.assertEqual(await loading, b"f")
        self.assertEqual([node.count(b"FUNCTION") for node in self.nodes], [1, 0, 1])

    async def test_a_primary_that_loads(self) -> None:
        """A command for every primary waits for a primary that is loading its data."""
        client = await self.client()
        busy = [True]
        loading = b"-LOADING Valkey is loading the dataset in memory\r\n"
        self.nodes[1].script = lambda node, words, _: loading if words[0] == b"FLUSHALL" and busy else DEFAULT_REPLY
        flushing = client.flushall()
        await self.until(lambda: self.nodes[1].count(b"FLUSHALL") > 3)
        busy.clear()
        self.assertEqual(await flushing, b"OK")

    async def test_a_lost_reply(self) -> None:
        """A write that lost its reply is not sent again.  A read is."""
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
    """READONLY shows that the slot map is old: the client refreshes it at once, for every kind of command."""

    async def assert_refreshes(self, refused: bytes, call: Callable[[ClusterClient[bytes], Node, str], Any]) -> None:
        """Answer READONLY to a command that goes to the old primary, and wait for the new slot map."""
        client = await self.client(refresh_interval=60.0)
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
        await self.until(lambda: client.topology.node(self.nodes[2].id) in client.topology.primaries)

    async def test_execute_on(self) -> None:
        await self.assert_refreshes(b"SET", lambda client, node, key: client.execute_on(node, "SET", key, "v"))

    async def test_execute_on_with_a_blocking_command(self) -> None:
        await self.assert_refreshes(b"BLPOP", lambda client, node, key: client.execute_on(node, "BLPOP", key, 0))

    async def test_a_command_in_a_transaction(self) -> None:
        await self.assert_refreshes(b"EXEC", lambda client, _, key: client.transaction().set(key, "v").execute())

    async def test_a_watch_session(self) -> None:
        async def call(client: ClusterClient[bytes], key: str) -> None:
            async with client.watch(key) as session:
                await session.set(key, "v")

        await self.assert_refreshes(b"SET", lambda client, _, key: Deferred.fromCoroutine(call(client, key)))

    async def test_script_kill(self) -> None:
        self.nodes[0].script = lambda _, words, __: b"-NOTBUSY no\r\n" if words[0] == b"SCRIPT" else DEFAULT_REPLY
        await self.assert_refreshes(b"SCRIPT", lambda client, _, __: client.script_kill())
