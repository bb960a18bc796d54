"""Blocking commands and transactions on nodes that misbehave, and on clients that are closed or aborted."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from tests.memory import MemoryTests
from tests.scripted.base import ScriptedTests, ask, moved, transactional
from txvalkeycluster import (
    ClientClosed,
    CommandTimeout,
    ConnectionLost,
    RoutingError,
    TooManyPending,
)
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode
from txvalkeycluster.testing.scripted import Connection, Script


def silent_on(*names: bytes) -> Script:
    """Return a script that leaves the commands of these names without a reply."""
    return lambda node, words, _: SILENCE if words[0] in names else DEFAULT_REPLY


class EndTests(ScriptedTests):
    async def test_abort_and_close_end_commands_that_wait_for_a_map(self) -> None:
        """close() and abort() end commands that wait for a slot map, even commands without a timeout."""
        for end in ("abort", "close"):
            self.cluster.ranges = []
            client = self.lazy_client(timeout=None)
            waiting: list[Deferred[Any]] = [client.transaction().set("a", 1).execute(), client.blpop("l", 0)]
            await self.until(lambda: self.cluster.count(b"CLUSTER"))
            await getattr(client, end)()
            for deferred in waiting:
                await self.assertFailure(deferred, ClientClosed)

    async def test_close_in_the_same_reactor_turn(self) -> None:
        """A blocking command that starts in the same reactor turn as close() fails with ClientClosed."""
        client = await self.client()
        self.nodes[0].script = silent_on(b"BLPOP")
        waiting = client.blpop(self.key_of(self.nodes[0]), 0)
        closed = client.close()
        await self.assertFailure(waiting, ClientClosed)
        await closed

    async def test_after_close(self) -> None:
        """After close() transactions, blocking commands and sessions fail with ClientClosed."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        session = client.watch(key)
        await session.__aenter__()
        await client.close()
        calls: list[Deferred[Any]] = [
            client.transaction().set("a", 1).execute(),
            client.blpop("l", 0),
            session.get(key),
            session.transaction().get(key).execute(),
        ]
        for call in calls:
            await self.assertFailure(call, ClientClosed)
        await session.__aexit__(None, None, None)

    async def test_abort_after_sending(self) -> None:
        """abort() fails a blocking command that was sent, and says that it may have been executed."""
        client = await self.client()
        self.nodes[0].script = silent_on(b"BLPOP")
        waiting = client.blpop(self.key_of(self.nodes[0]), 0)
        await self.until(lambda: self.nodes[0].count(b"BLPOP"))
        await client.abort()
        error = await self.assertFailure(waiting, ClientClosed)
        self.assertTrue(error.maybe_executed)

    async def test_cancelled_during_close(self) -> None:
        """close() does not wait for a cancelled command, even if the server never answers CLIENT UNBLOCK."""
        client = await self.client()
        silent = ([b"BLPOP"], [b"CLIENT", b"UNBLOCK"])
        self.nodes[0].script = lambda node, words, _: (
            SILENCE if words[:1] in silent or words[:2] in silent else DEFAULT_REPLY
        )
        waiting = client.blpop(self.key_of(self.nodes[0]), 0)
        await self.until(lambda: self.nodes[0].count(b"BLPOP"))
        closed = client.close()
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError, ClientClosed, ConnectionLost)
        await closed

    async def test_close_with_commands_that_wait_for_a_connection(self) -> None:
        """close() ends blocking commands, including those that wait for an exclusive connection."""
        client = await self.client(max_exclusive=1)
        node = self.nodes[0]
        node.script = silent_on(b"BLPOP")
        waiting = [client.blpop(self.key_of(node), 0) for _ in range(3)]
        await self.until(lambda: node.count(b"BLPOP"))
        closed = client.close()
        for deferred in waiting:
            await self.assertFailure(deferred, ClientClosed, ConnectionLost)
        await closed

    async def test_a_session_on_a_lost_connection(self) -> None:
        """A transaction of a session fails at once if the connection of the session is lost, even without a timeout."""
        client = await self.client(timeout=None)
        node = self.nodes[0]
        async with client.watch(self.key_of(node)) as session:
            node.script = lambda node, words, _: CLOSE if words[0] == b"GET" else DEFAULT_REPLY
            await self.assertFailure(session.get(self.key_of(node)), ConnectionLost)
            await self.assertFailure(session.transaction().get(self.key_of(node)).execute(), ConnectionLost)

    async def test_a_session_at_a_node_that_no_map_lists(self) -> None:
        """A new slot map does not end a session on a node that no map lists."""
        target = ScriptedNode(self.cluster, 3)
        await target.listen(reactor)
        self.addCleanup(target.stop)
        client = await self.client()
        key = self.key_of(self.nodes[0])
        redirect = ask(key, target.address)
        self.nodes[0].script = lambda _, words, __: redirect if words[0] == b"WATCH" else DEFAULT_REPLY
        async with client.watch(key) as session:
            self.cluster.ranges = [(0, 16383, self.nodes[0])]
            await client.refresh_topology()
            self.assertIsNone(await session.get(key))
        self.assertEqual(target.count(b"GET"), 1)


class TransactionTests(ScriptedTests):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        for node in self.nodes:
            node.script = transactional

    async def test_an_argument_that_changes_after_it_was_queued(self) -> None:
        """A transaction sends its arguments as they were when they were queued."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        value = memoryview(bytearray(b"v"))
        transaction = client.transaction().set(key, value)
        value.release()
        self.assertEqual(await transaction.execute(), [b"OK"])
        self.assertEqual(await client.get(key), b"v")

    async def test_bounded(self) -> None:
        """A transaction for which the queue has no room fails with TooManyPending, and no part of it is sent."""
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
        """MOVED to the address of the sender makes the client reconnect: the address may lead to another host now."""
        node = self.nodes[0]
        key = self.key_of(node)
        redirect = moved(key, node.address)

        def script(node: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
            if connection.number <= 2 and words[0] in (b"SET", b"BLPOP"):
                return redirect
            if connection.number <= 2 and words[0] == b"EXEC":
                return b"-EXECABORT Transaction discarded because of previous errors.\r\n"
            return b"*2\r\n$1\r\nl\r\n$1\r\nv\r\n" if words[0] == b"BLPOP" else transactional(node, words, connection)

        client = await self.client()
        await client.get(key)
        node.script = script
        self.assertEqual(await client.transaction().set(key, "v").execute(), [b"OK"])
        self.assertEqual(await client.blpop(key, 0), (b"l", b"v"))

    async def test_cancelled_before_it_is_written(self) -> None:
        """No command of a transaction is sent if the transaction is cancelled before it is written."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        await client.get(key)
        executing = client.transaction().incr(key).execute()
        executing.cancel()
        await self.assertFailure(executing, CancelledError)
        self.assertIsNone(await client.get(key))
        self.assertEqual(self.nodes[0].count(b"MULTI"), 0)


class TimeoutTests(MemoryTests):
    def test_leaving_a_session_of_a_silent_server(self) -> None:
        """Leaving a session takes no longer than a second if the server does not answer UNWATCH."""
        client = self.client()
        node = self.nodes[0]

        async def watch() -> None:
            async with client.watch(self.key_of(node)):
                node.script = silent_on(b"UNWATCH")

        leaving = Deferred.fromCoroutine(watch())
        self.network.settle()
        self.assertEqual(node.count(b"UNWATCH"), 1)
        self.advance(0.99)
        self.assertNoResult(leaving)
        self.advance(0.02)
        self.successResultOf(leaving)

    def test_a_transaction_that_was_never_sent(self) -> None:
        """The CommandTimeout of a transaction says that nothing was executed if nothing was written."""
        client = self.client()
        self.network.refuse(self.nodes[0])
        self.network.settle()
        executing = client.transaction(timeout=0.2).incr(self.key_of(self.nodes[0])).execute()
        self.advance(0.21)
        error = self.failureResultOf(executing, CommandTimeout).value
        self.assertFalse(error.maybe_executed)

    def test_a_blocking_command_that_is_redirected(self) -> None:
        """After a redirect a blocking command asks the target to block for the remaining time only."""
        one, two = self.nodes[:2]
        key = self.key_of(one)
        client = self.client()
        one.script = silent_on(b"BLPOP")
        two.script = lambda node, words, _: b"_\r\n" if words[0] == b"BLPOP" else DEFAULT_REPLY
        waiting = client.blpop(key, 10)
        self.advance(3.0)
        self.cluster.ranges = [(0, 16383, two)]
        one.connections[-1].write(moved(key, two.address))
        self.assertIsNone(self.result_of(waiting))
        first, second = (float(words[-1]) for node in (one, two) for _, words in node.received if words[0] == b"BLPOP")
        self.assertEqual(first, 10.0)
        self.assertTrue(6.9 < second < 7.1, second)


class NoAddressTests(ScriptedTests):
    async def test_a_map_without_addresses(self) -> None:
        """Commands for every node or for any node fail at once if the slot map has no address."""
        client = await self.client()
        reply = b"*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$1\r\n?\r\n:7000\r\n$40\r\n%b\r\n*0\r\n" % (b"a" * 40)
        for node in self.nodes:
            node.script = lambda node, words, _: reply if words[:2] == [b"CLUSTER", b"SLOTS"] else DEFAULT_REPLY
        await client.refresh_topology()
        calls: list[Deferred[Any]] = [client.dbsize(), client.wait(1, 0), client.script_kill()]
        for call in calls:
            await self.assertFailure(call, RoutingError)
