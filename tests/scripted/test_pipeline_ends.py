"""Pipelines and commands over many slots, on clients that are closed or aborted while nodes misbehave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from tests.memory import MemoryTests
from tests.scripted.base import ScriptedTests, moved
from txvalkeycluster import (
    ClientClosed,
    ClusterClient,
    CommandTimeout,
    ConnectionLost,
    PartialFailure,
    ReplyError,
)
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode
from txvalkeycluster.testing.scripted import Connection, Script


class BatchTests(MemoryTests):
    """close() while a batch of a pipeline is on a connection."""

    def begun(self, script: Script | None) -> tuple[ClusterClient[bytes], str]:
        """Return a client that is connected to the first node, and a key of that node.  The node gets the script."""
        client = self.client()
        key = self.key_of(self.nodes[0])
        self.result_of(client.set(key, 1))
        self.nodes[0].script = script
        return client, key

    def test_close_waits_for_the_end_of_a_batch(self) -> None:
        """close() waits until a batch ends, by an error reply, by its deadline or by a lost connection."""

        def ends(how: Callable[[Connection], None]) -> Script:
            def script(_: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
                if words[0] != b"INCR":
                    return DEFAULT_REPLY
                self.clock.callLater(0.05, how, connection)
                return SILENCE

            return script

        cases: list[tuple[Callable[[Connection], None], type[Exception], float]] = [
            (lambda connection: connection.write(b"-WRONGTYPE no\r\n"), ReplyError, 10.0),
            (lambda _: None, CommandTimeout, 0.3),
            (lambda connection: connection.close(), ConnectionLost, 10.0),
        ]
        for how, error, timeout in cases:
            client, key = self.begun(ends(how))
            executing = client.pipeline(timeout=timeout).get(key).incr(key).execute()
            self.network.settle()
            closing = client.close()
            self.network.settle()
            self.assertNoResult(closing)
            self.result_of(closing)
            self.assertIsInstance(self.successResultOf(executing)[1], error)
            self.nodes[0].script = None

    def test_close_waits_for_commands_that_left_a_batch(self) -> None:
        """close() waits for commands of a batch that are redirected or tried again, and they succeed."""
        for reply in (b"-TRYAGAIN later\r\n", moved(self.key_of(self.nodes[0]), self.nodes[1].address)):

            def script(node: ScriptedNode, words: list[bytes], connection: Connection, reply: bytes = reply) -> Any:
                if words[0] == b"GET":
                    node.script = None
                    self.clock.callLater(0.05, connection.write, reply + b"$1\r\n1\r\n")
                return SILENCE

            client, key = self.begun(script)
            executing = client.pipeline().incr(key).get(key).execute()
            self.network.settle()
            closing = client.close()
            self.network.settle()
            self.assertNoResult(closing)
            self.result_of(closing)
            self.assertEqual(self.successResultOf(executing), [2, b"1"])

    def test_close_waits_for_many_slots(self) -> None:
        """close() waits for a command over many slots, also if all of its parts fail."""
        client, key = self.begun(None)
        other = self.key_of(self.nodes[0], 1)

        def script(_: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
            self.clock.callLater(0.05, connection.write, b"-ERR no\r\n")
            return SILENCE

        self.nodes[0].script = script
        reading = client.mget(key, other)
        self.network.settle()
        self.assertEqual(self.nodes[0].count(b"MGET"), 2)
        closing = client.close()
        self.network.settle()
        self.assertNoResult(closing)
        self.error_of(reading, PartialFailure)
        self.result_of(closing)


class EndTests(ScriptedTests):
    async def test_after_close(self) -> None:
        """A pipeline of a closed client fails with ClientClosed, with and without a slot map."""
        for client in (await self.client(), self.lazy_client()):
            await client.close()
            await self.assertFailure(client.pipeline(timeout=None).get("k").execute(), ClientClosed)

    async def test_close_ends_a_stream(self) -> None:
        """close() serves the commands of a stream that are on their way, and takes no more."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        closed: list[Deferred[None]] = []

        def each(number: int, _: Any) -> None:
            if not number:
                closed.append(client.close())

        endless = (("INCR", key) for _ in iter(int, 1))
        await self.assertFailure(client.pipeline(timeout=None).stream(endless, each), ClientClosed)
        await closed[0]
        self.assertLessEqual(self.cluster.count(b"INCR"), 4096)

    async def test_no_timer_is_left(self) -> None:
        """A command that is cancelled while it waits for a slot map leaves no timer behind."""
        self.cluster.ranges = []
        client = self.lazy_client(refresh_period=None)
        waiting = client.get("k")
        await self.until(lambda: self.cluster.count(b"CLUSTER"))
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        await client.close()
        timers: list[Any] = list(reactor.getDelayedCalls())
        self.assertEqual([timer for timer in timers if timer.func.__module__.startswith("txvalkeycluster")], [])

    async def test_close_during_a_refresh(self) -> None:
        """close() does not wait for a refresh of the slot map."""
        client = await self.client(refresh_period=None)
        for node in self.nodes:
            node.script = lambda _, words, __: SILENCE if words[0] == b"CLUSTER" else DEFAULT_REPLY
        asked = self.cluster.count(b"CLUSTER")
        refreshing = client.refresh_topology()
        await self.until(lambda: self.cluster.count(b"CLUSTER") == asked + 2)
        await client.close()
        await self.assertFailure(refreshing, ClientClosed)
