"""Pipelines, and commands over many slots, on nodes that misbehave, that are full, and with clients that end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from tests.scripted.base import ScriptedTests
from txvalkeycluster import (
    ClientClosed,
    ClusterClient,
    CommandTimeout,
    ConnectionLost,
    PartialFailure,
    ReplyError,
)
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode


class EndTests(ScriptedTests):
    async def begun(self, script: Any, **options: Any) -> tuple[ClusterClient, str]:
        """A client that is connected to the first node, which follows the script from now on, and a key of it."""
        client = await self.client(**options)
        key = self.key_of(self.nodes[0])
        await client.set(key, 1)
        self.nodes[0].script = script
        return client, key

    async def test_after_the_end(self) -> None:
        """A pipeline is refused as any command is, whether or not there ever was a map."""
        for client in (await self.client(), self.lazy_client()):
            await client.close()
            await self.assertFailure(client.pipeline(timeout=None).get("k").execute(), ClientClosed)

    async def test_a_stream_ends_with_the_client(self) -> None:
        """What is on its way when close() is called is served, and no more."""
        client, key = await self.begun(None)
        closed: list[Deferred[None]] = []

        def each(number: int, _: Any) -> None:
            if not number:
                closed.append(client.close())

        endless = (("INCR", key) for _ in iter(int, 1))
        await self.assertFailure(client.pipeline(timeout=None).stream(endless, each), ClientClosed)
        await closed[0]
        self.assertLessEqual(self.cluster.count(b"INCR"), 4096)

    async def test_close_waits_for_whatever_ends_a_batch(self) -> None:
        """Be it an error, a deadline, or the end of the connection."""

        def ends(how: Callable[[Any], None]) -> Any:
            def script(_: ScriptedNode, words: list[bytes], connection: Any) -> Any:
                if words[0] != b"INCR":
                    return DEFAULT_REPLY
                reactor.callLater(0.05, how, connection)  # type: ignore[attr-defined]
                return SILENCE

            return script

        for how, error, timeout in (
            (lambda connection: connection.write(b"-WRONGTYPE no\r\n"), ReplyError, 10.0),
            (lambda _: None, CommandTimeout, 0.3),
            (lambda connection: connection.close(), ConnectionLost, 10.0),
        ):
            client, key = await self.begun(ends(how))
            executing = client.pipeline(timeout=timeout).get(key).incr(key).execute()
            await self.until(lambda: self.nodes[0].received[-1][1][0] == b"INCR")
            await client.close()
            self.assertIsInstance((await executing)[1], error)
            self.nodes[0].script = None

    async def test_close_waits_for_what_has_left_a_batch(self) -> None:
        """Elsewhere, or put off, it ends as it would have."""
        there = b"-MOVED 1 127.0.0.1:%d\r\n" % self.nodes[1].address.port
        for reply in (b"-TRYAGAIN later\r\n", there):

            def script(node: ScriptedNode, words: list[bytes], connection: Any, reply: bytes = reply) -> Any:
                if words[0] == b"GET":
                    node.script = None
                    reactor.callLater(0.05, connection.write, reply + b"$1\r\n1\r\n")  # type: ignore[attr-defined]
                return SILENCE

            client, key = await self.begun(script)
            executing = client.pipeline().incr(key).get(key).execute()
            await self.until(lambda: self.nodes[0].script is None)
            await client.close()
            self.assertEqual(await executing, [2, b"1"])

    async def test_close_waits_for_many_slots(self) -> None:
        """Also if all of them fail."""
        client, key = await self.begun(None)
        other = self.key_of(self.nodes[0], 1)

        def script(_: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            reactor.callLater(0.05, connection.write, b"-ERR no\r\n")  # type: ignore[attr-defined]
            return SILENCE

        self.nodes[0].script = script
        reading = client.mget(key, other)
        await self.until(lambda: self.nodes[0].count(b"MGET") == 2)
        closed = client.close()
        await self.assertFailure(reading, PartialFailure)
        await closed

    async def test_nothing_is_left_behind(self) -> None:
        """No timer is, of a command that was cancelled where it waited for a map or a node."""
        self.cluster.ranges = []
        client = self.lazy_client(refresh_period=None)
        waiting = client.get("k")
        await self.until(lambda: self.cluster.count(b"CLUSTER"))
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        await client.close()
        timers = reactor.getDelayedCalls()  # type: ignore[attr-defined]
        self.assertEqual([timer for timer in timers if timer.func.__module__.startswith("txvalkeycluster")], [])

    async def test_a_cancelled_question_of_our_own(self) -> None:
        """close() does not wait for what the client asked on its own behalf."""
        client = await self.client(refresh_period=None)
        for node in self.nodes:
            node.script = lambda _, words, __: SILENCE if words[0] == b"CLUSTER" else DEFAULT_REPLY
        asked = self.cluster.count(b"CLUSTER")
        refreshing = client.refresh_topology()
        await self.until(lambda: self.cluster.count(b"CLUSTER") == asked + 2)
        await client.close()
        await self.assertFailure(refreshing, ClientClosed)
