"""Blocking commands and transactions, on nodes that misbehave, and with clients that end."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from tests.scripted.base import ScriptedTests, transactional
from txvalkeycluster import (
    ClientClosed,
    CommandTimeout,
    ConnectionLost,
    RoutingError,
    TooManyPending,
)
from txvalkeycluster.slots import key_slot
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode


def silent_on(*names: bytes) -> Any:
    return lambda node, words, _: SILENCE if words[0] in names else DEFAULT_REPLY


class EndTests(ScriptedTests):
    async def test_abort_and_close_end_what_waits_for_a_map(self) -> None:
        """However patient it is."""
        for end in ("abort", "close"):
            self.cluster.ranges = []
            client = self.lazy_client(timeout=None)
            waiting: list[Deferred[Any]] = [client.transaction().set("a", 1).execute(), client.blpop("l", 0)]
            await self.until(lambda: self.cluster.count(b"CLUSTER"))
            await getattr(client, end)()
            for deferred in waiting:
                await self.assertFailure(deferred, ClientClosed)

    async def test_begun_in_the_turn_of_close(self) -> None:
        client = await self.client()
        self.nodes[0].script = silent_on(b"BLPOP")
        waiting = client.blpop(self.key_of(self.nodes[0]), 0)
        closed = client.close()
        await self.assertFailure(waiting, ClientClosed)
        await closed

    async def test_after_the_end(self) -> None:
        """Nothing begins any more, in a session neither."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        session = client.watch(key)
        await session.__aenter__()
        await client.close()
        for call in (
            client.transaction().set("a", 1).execute(),
            client.blpop("l", 0),
            session.get(key),
            session.transaction().get(key).execute(),
        ):
            await self.assertFailure(call, ClientClosed)
        await session.__aexit__(None, None, None)

    async def test_aborted_on_its_way(self) -> None:
        client = await self.client()
        self.nodes[0].script = silent_on(b"BLPOP")
        waiting = client.blpop(self.key_of(self.nodes[0]), 0)
        await self.until(lambda: self.nodes[0].count(b"BLPOP"))
        await client.abort()
        error = await self.assertFailure(waiting, ClientClosed)
        self.assertTrue(error.maybe_executed)

    async def test_cancelled_during_close(self) -> None:
        """What the caller gives up, close does not wait for, though the server never answers UNBLOCK."""
        client = await self.client()
        asked = ([b"BLPOP"], [b"CLIENT", b"UNBLOCK"])
        self.nodes[0].script = lambda node, words, _: (
            SILENCE if words[:1] in asked or words[:2] in asked else DEFAULT_REPLY
        )
        waiting = client.blpop(self.key_of(self.nodes[0]), 0)
        await self.until(lambda: self.nodes[0].count(b"BLPOP"))
        closed = client.close()
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError, ClientClosed, ConnectionLost)
        await closed

    async def test_more_than_there_are_connections(self) -> None:
        client = await self.client(max_exclusive=1)
        node = self.nodes[0]
        node.script = silent_on(b"BLPOP")
        waiting = [client.blpop(self.key_of(node), 0) for _ in range(3)]
        await self.until(lambda: node.count(b"BLPOP"))
        closed = client.close()
        for deferred in waiting:
            await self.assertFailure(deferred, ClientClosed, ConnectionLost)
        await closed

    async def test_a_hung_server_and_a_session(self) -> None:
        """Leaving it does not wait for ever."""
        client = await self.client(timeout=0.2)
        node = self.nodes[0]
        session = client.watch(self.key_of(node))
        await session.__aenter__()
        node.script = silent_on(b"UNWATCH")
        await session.__aexit__(None, None, None)

    async def test_a_dead_session(self) -> None:
        """Its transaction fails at once, with or without a deadline."""
        client = await self.client(timeout=None)
        node = self.nodes[0]
        async with client.watch(self.key_of(node)) as session:
            node.script = lambda node, words, _: CLOSE if words[0] == b"GET" else DEFAULT_REPLY
            await self.assertFailure(session.get(self.key_of(node)), ConnectionLost)
            await self.assertFailure(session.transaction().get(self.key_of(node)).execute(), ConnectionLost)

    async def test_a_session_at_a_node_that_no_map_lists(self) -> None:
        """A new map does not cut it."""
        target = ScriptedNode(self.cluster, 3)
        await target.listen(reactor)
        self.addCleanup(target.stop)
        client = await self.client()
        key = self.key_of(self.nodes[0])
        there = b"-ASK %d %b\r\n" % (key_slot(key), str(target.address).encode())
        self.nodes[0].script = lambda _, words, __: there if words[0] == b"WATCH" else DEFAULT_REPLY
        async with client.watch(key) as session:
            self.cluster.ranges = [(0, 16383, self.nodes[0])]
            await client.refresh_topology()
            self.assertIsNone(await session.get(key))
        self.assertEqual(target.count(b"GET"), 1)


class TransactionTests(ScriptedTests):
    async def setUp(self) -> None:
        await super().setUp()
        for node in self.nodes:
            node.script = transactional

    async def test_what_changes_after_it_was_queued(self) -> None:
        """It goes out as it was; and nobody else is caught in a MULTI without its EXEC."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        value = memoryview(bytearray(b"v"))
        transaction = client.transaction().set(key, value)
        value.release()
        self.assertEqual(await transaction.execute(), [b"OK"])
        self.assertEqual(await client.get(key), b"v")

    async def test_bounded(self) -> None:
        """Where there is no room for it, it is refused before its first word."""
        client = await self.client(max_pending=10)
        key = self.key_of(self.nodes[0])
        await client.get(key)
        transactions = [client.transaction().incr(key).execute() for _ in range(100)]
        results = [await deferred.addErrback(lambda failure: failure.value) for deferred in transactions]
        done = [result for result in results if isinstance(result, list)]
        self.assertEqual(done, [[number + 1] for number in range(len(done))])
        self.assertTrue(0 < len(done) < 10)
        self.assertEqual({type(result) for result in results if not isinstance(result, list)}, {TooManyPending})
        self.assertEqual(await client.get(key), b"%d" % len(done))

    async def test_moved_to_the_sender_itself(self) -> None:
        """The address names another machine now: a new connection finds it."""
        node = self.nodes[0]
        key = self.key_of(node)
        moved = b"-MOVED 1 %b\r\n" % str(node.address).encode()

        def script(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            if connection.number <= 2 and words[0] in (b"SET", b"BLPOP"):
                return moved
            if connection.number <= 2 and words[0] == b"EXEC":
                return b"-EXECABORT Transaction discarded because of previous errors.\r\n"
            return b"*2\r\n$1\r\nl\r\n$1\r\nv\r\n" if words[0] == b"BLPOP" else transactional(node, words, connection)

        client = await self.client()
        await client.get(key)
        node.script = script
        self.assertEqual(await client.transaction().set(key, "v").execute(), [b"OK"])
        self.assertEqual(await client.blpop(key, 0), (b"l", b"v"))

    async def test_never_sent(self) -> None:
        """A deadline before anything could be written says so."""
        client = await self.client()
        await self.nodes[0].stop()
        transaction = client.transaction(timeout=0.2).incr(self.key_of(self.nodes[0]))
        error = await self.assertFailure(transaction.execute(), CommandTimeout)
        self.assertFalse(error.maybe_executed)

    async def test_cancelled_before_it_is_written(self) -> None:
        """It is never sent, as a whole; nor is a word of it."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        await client.get(key)
        executing = client.transaction().incr(key).execute()
        executing.cancel()
        await self.assertFailure(executing, CancelledError)
        self.assertIsNone(await client.get(key))
        self.assertEqual(self.nodes[0].count(b"MULTI"), 0)


class TimeLeftTests(ScriptedTests):
    async def test_after_a_redirect(self) -> None:
        """The second node is asked to block for what is left; module commands keep their words."""
        one, two = self.nodes[:2]
        key = self.key_of(one)
        client = await self.client()
        waited: list[Any] = []

        def script(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            if words[0] != b"BLPOP":
                return DEFAULT_REPLY
            late = b"-MOVED %d %b\r\n" % (0, str(two.address).encode())
            deferLater(reactor, 0.3).addCallback(lambda _: connection.write(late))  # type: ignore[arg-type]
            return SILENCE

        one.script = script
        two.script = lambda node, words, _: waited.append(words) or b"_\r\n" if words[0] == b"BLPOP" else DEFAULT_REPLY
        self.assertIsNone(await client.blpop(key, 10))
        self.assertEqual(one.received[-1][1][-1], b"10")
        self.assertTrue(5.0 < float(waited[0][-1]) < 9.9)


class NoAddressTests(ScriptedTests):
    async def test_nobody_to_ask(self) -> None:
        """A map without a single address is no reason to wait for ever."""
        client = await self.client()
        reply = b"*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$1\r\n?\r\n:7000\r\n$40\r\n%b\r\n*0\r\n" % (b"a" * 40)
        for node in self.nodes:
            node.script = lambda node, words, _: reply if words[:2] == [b"CLUSTER", b"SLOTS"] else DEFAULT_REPLY
        await client.refresh_topology()
        for call in (client.dbsize(), client.wait(1, 0), client.script_kill()):
            await self.assertFailure(call, RoutingError)
