"""Streams and pipelines of many commands, and what their caller may do meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from weakref import ref

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from tests.memory import MemoryTests
from tests.scripted.base import ScriptedTests
from txvalkeycluster import (
    ClientClosed,
    ClusterClient,
    CommandTimeout,
    ConnectionLost,
    ReplyError,
)
from txvalkeycluster.slots import key_slot
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode

Action = Callable[[ClusterClient[bytes], Deferred[int]], object]


class Results:
    """Collects the replies of a stream."""

    def __init__(self) -> None:
        self.replies: list[Any] = []

    def __call__(self, place: int, reply: Any) -> None:
        self.replies.append(reply)


def no_reply() -> None:
    raise KeyError


class StreamTests(ScriptedTests):
    async def test_no_room(self) -> None:
        """A stream tries commands again that were refused because max_pending was reached."""
        client = await self.client(max_pending=20)
        results: dict[int, Any] = {}
        keys = self.cluster.keys_of(self.nodes[0], 50)
        others = [client.get(keys[0]) for _ in range(20)]
        commands = (("SET", keys[number % 50], number) for number in range(2000))
        self.assertEqual(await client.pipeline().stream(commands, results.__setitem__), 2000)
        self.assertEqual(set(results.values()), {b"OK"})
        await gatherResults(others)

    async def test_abort_ends_an_endless_stream(self) -> None:
        """abort() fails an endless stream with ClientClosed."""
        client = await self.client()
        taken = 0

        def endless() -> Iterator[tuple[Any, ...]]:
            nonlocal taken
            while True:
                taken += 1
                yield "SET", "k", taken

        streaming = client.pipeline().stream(endless(), lambda *_: None)
        await self.until(lambda: taken > 5000)
        await client.abort()
        await self.assertFailure(streaming, ClientClosed)

    async def test_ended_by_the_function_that_gets_the_replies(self) -> None:
        """The function may abort the client, cancel the stream or raise.  Then it gets no more replies."""
        actions: list[tuple[Action, type[BaseException]]] = [
            (lambda client, _: client.abort(), ClientClosed),
            (lambda _, streaming: streaming.cancel(), CancelledError),
            (lambda _, __: no_reply(), KeyError),
        ]
        for action, error in actions:
            client = await self.client()
            places, fired = await self.act_at_the_fifth_reply(client, action)
            await client.abort()
            self.assertEqual((places, len(fired)), ([0, 1, 2, 3, 4], 1))
            self.assertIsInstance(fired[0].value, error)

    async def act_at_the_fifth_reply(self, client: ClusterClient[bytes], action: Action) -> tuple[list[int], list[Any]]:
        """Start a stream, and act at its fifth reply.

        Returns:
            The numbers of the commands whose replies came, and what the Deferred of the stream fired with.
        """
        places: list[int] = []
        fired: list[Any] = []

        def each(place: int, reply: Any) -> None:
            places.append(place)
            if len(places) == 5:
                action(client, streaming)

        streaming = client.pipeline().stream([("SET", f"{{k}}{n}", n) for n in range(100)], each)
        streaming.addBoth(fired.append)
        await self.until(lambda: fired)
        return places, fired

    async def test_replies_are_not_held_back(self) -> None:
        """A stream hands over replies as they come, and does not wait for the replies of other commands."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        commands = [("INCR", key), ("INCR", key), ("SET", key), ("INCR", key), ("GET", key)]
        self.nodes[0].script = lambda _, words, __: (
            SILENCE if words[0] == b"GET" else b"-ERR no\r\n" if words[0] == b"SET" else DEFAULT_REPLY
        )
        came: list[tuple[int, type]] = []

        def each(place: int, reply: Any) -> None:
            came.append((place, type(reply)))

        streaming = client.pipeline(timeout=None).stream(commands, each)
        await self.until(lambda: len(came) == 4)
        self.assertEqual(came, [(0, int), (1, int), (2, ReplyError), (3, int)])
        streaming.cancel()
        await self.assertFailure(streaming, CancelledError)

    async def test_an_iterable_that_raises(self) -> None:
        """If the iterable raises, the commands before are sent and answered, and the stream fails with its error."""
        client = await self.client()
        key = self.key_of(self.nodes[0])

        def commands(count: int, error: type[BaseException]) -> Iterator[tuple[Any, ...]]:
            for _ in range(count):
                yield "INCR", key
            raise error

        for count, error in ((10, KeyError), (10, asyncio.CancelledError), (9000, asyncio.CancelledError)):
            self.cluster.values.clear()
            results = Results()
            fired = self.fired(client.pipeline().stream(commands(count, error), results))
            await self.until(fired.__len__)
            self.assertTrue(fired[0].check(error))
            self.assertEqual(results.replies, list(range(1, count + 1)))

    async def test_a_function_that_raises(self) -> None:
        """If the function that gets the replies raises, the stream sends no more commands, and fails with its error."""
        client = await self.client()
        key = self.key_of(self.nodes[0])

        def each(place: int, _: Any) -> None:
            raise asyncio.CancelledError

        fired = self.fired(client.pipeline().stream([("INCR", key)] * 9000, each))
        await self.until(fired.__len__)
        self.assertTrue(fired[0].check(asyncio.CancelledError))
        self.assertLessEqual(self.cluster.count(b"INCR"), 4096)

    def fired(self, streaming: Deferred[Any]) -> list[Any]:
        """Return the list that gets what a Deferred fires with, which may be the error of a BaseException."""
        fired: list[Any] = []
        streaming.addBoth(fired.append)
        return fired

    async def test_ended_while_commands_are_taken(self) -> None:
        """If the iterable or the function that gets the replies ends the stream, no more commands are taken."""
        actions: list[tuple[Callable[[ClusterClient[bytes]], object], type[Exception]]] = [
            (lambda _: no_reply(), KeyError),
            (lambda client: client.close(), ClientClosed),
            (lambda client: client.abort(), ClientClosed),
        ]
        for action, error in actions:
            for ended_by in ("function", "iterable"):
                client = await self.client()
                act = partial(action, client)
                taken: list[int] = []
                before = self.cluster.count(b"SET")
                commands = self.one_bad_command(taken, act if ended_by == "iterable" else None)
                each = partial(self.act_at_the_bad_command, act if ended_by == "function" else None)
                fired = self.fired(client.pipeline().stream(commands, each))
                await self.until(fired.__len__)
                self.assertTrue(fired[0].check(error))
                self.assertLessEqual(len(taken), 3)
                self.assertLessEqual(self.cluster.count(b"SET") - before, len(taken))
                await client.abort()

    def one_bad_command(self, taken: list[int], act: Callable[[], object] | None) -> Iterator[tuple[Any, ...]]:
        """Yield a command that fails at once, then good ones; act before the third of these."""
        yield "SET", "k", object()
        while True:
            taken.append(1)
            if act is not None and len(taken) == 3:
                act()
            yield "SET", "k", 1

    def act_at_the_bad_command(self, act: Callable[[], object] | None, _: int, reply: Any) -> None:
        if act is not None and isinstance(reply, TypeError):
            act()

    async def test_close_at_the_last_reply(self) -> None:
        """A stream whose commands are all served succeeds, even if the client is closed at its last reply."""
        client = await self.client(max_pending=4)
        closing: list[Deferred[None]] = []
        streaming = client.pipeline().stream([("SET", "k", 1)], lambda place, reply: closing.append(client.close()))
        self.assertEqual(await streaming, 1)
        await closing[0]

    async def test_an_endless_stream_of_bad_commands(self) -> None:
        """An endless stream of commands that fail at once does not block the reactor, and close() ends it."""
        # Each turn of the reactor takes thousands of commands.  On a busy machine, a handshake takes seconds meanwhile.
        client = await self.client(timeout=25.0, connect_timeout=20.0)
        failed = 0

        def each(_: int, reply: Any) -> None:
            nonlocal failed
            failed += isinstance(reply, TypeError)

        bad: Iterator[tuple[Any, ...]] = (("GET", None) for _ in iter(int, 1))
        streaming = client.pipeline().stream(bad, each)
        self.assertEqual(await client.get("k"), None)
        await self.until(lambda: failed > 20_000)
        await client.close()
        await self.assertFailure(streaming, ClientClosed)

    async def test_a_cancelled_stream_is_freed(self) -> None:
        """A cancelled stream keeps no reference to the function that gets the replies, though replies are missing."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        self.nodes[0].script = lambda *_: SILENCE

        def each(place: int, reply: Any) -> None:
            raise AssertionError("a reply of a cancelled stream")

        given = ref(each)
        executing = client.pipeline().stream([("GET", key)] * 2, each)
        await self.until(lambda: self.nodes[0].count(b"GET") == 2)
        executing.cancel()
        await self.assertFailure(executing, CancelledError)
        del each, executing
        self.assertIsNone(given())

    async def test_order_for_each_key(self) -> None:
        """The commands of one key keep their order, among large values and commands for many slots."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        pipeline = client.pipeline()
        for number in range(50):
            pipeline.set(key, "x" * 10_000 if number % 7 == 0 else number).get(key)
            pipeline.del_(key, self.key_of(self.nodes[1]))
        results = await pipeline.execute()
        for number in range(50):
            expected = b"x" * 10_000 if number % 7 == 0 else b"%d" % number
            self.assertEqual(results[3 * number : 3 * number + 3], [b"OK", expected, 1])

    async def test_a_connection_that_is_lost_halfway(self) -> None:
        """Reads of a pipeline are sent again.  Writes fail, and say that they may have been executed."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        await client.set(key, "v")

        def script(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            return CLOSE if words == [b"SET", key.encode(), b"5"] and node.accepted == 1 else DEFAULT_REPLY

        self.nodes[0].script = script
        pipeline = client.pipeline()
        for number in range(10):
            pipeline.set(key, number).get(key)
        results = await pipeline.execute()
        # abortConnection() drops the replies that were written before.
        self.assertEqual({type(result) for result in results[::2]}, {ConnectionLost})
        self.assertTrue(all(result.maybe_executed for result in results[::2]))
        self.assertEqual(results[1::2], [b"4"] * 10)

    async def test_close_and_abort(self) -> None:
        """close() waits for all commands of a pipeline.  abort() says that they may have been executed."""
        client = await self.client()
        keys = self.cluster.keys_of(self.nodes[0], 20)
        pipeline = client.pipeline()
        for key in keys * 500:
            pipeline.set(key, 1)
        pipeline.ping()
        executing = pipeline.execute()
        await client.close()
        self.assertEqual(await executing, [b"OK"] * 10_000 + [b"PONG"])
        client = await self.client()
        executing = client.pipeline().set(keys[0], 1).execute()
        await client.abort()
        error = await self.assertFailure(executing, ClientClosed)
        self.assertTrue(error.maybe_executed)

    async def test_commands_of_wrong_types(self) -> None:
        """A command that is a string, empty, or has a bytearray as its name fails with TypeError."""
        client = await self.client()
        error = await self.assertFailure(client.pipeline().stream(["GET k"], lambda *_: None), TypeError)
        self.assertIn("sequence of words", str(error))
        await self.assertFailure(client.execute(), TypeError)
        error = await self.assertFailure(client.execute(bytearray(b"GET"), "k"), TypeError)
        self.assertIn("not bytearray", str(error))
        self.assertRaises(TypeError, client.transaction().add)


class CallerTests(ScriptedTests):
    """Errors of the caller's code while replies are handed over."""

    async def test_an_item_that_is_no_sequence(self) -> None:
        """An item that is no sequence fails the stream, and other commands of the connection succeed."""
        client = await self.client(max_pending=8)
        key = self.key_of(self.nodes[0])
        await client.set(key, 1)
        commands: list[Any] = [*[("GET", key)] * 4, None]
        streaming = client.pipeline().stream(iter(commands), lambda *_: None)
        other = client.incr(key)
        await self.assertFailure(streaming, TypeError)
        self.assertEqual(await other, 2)
        self.assertEqual(client.statistics.connections.shared, 1)

    async def test_cancelled_by_a_result(self) -> None:
        """A stream that is cancelled by one of its results sends no more commands."""
        client = await self.client(max_pending=200)
        key = self.key_of(self.nodes[0])
        running: list[Deferred[int]] = []

        def commands() -> Iterator[tuple[Any, ...]]:
            yield from [("GET", key)] * 100
            yield "GET", None
            yield from [("INCR", key)] * 40

        def each(_: int, result: Any) -> None:
            if isinstance(result, TypeError):
                running[0].cancel()

        running.append(client.pipeline().stream(commands(), each))
        await self.assertFailure(running[0], CancelledError)
        self.assertEqual(await client.get(key), None)
        self.assertEqual(self.cluster.count(b"INCR"), 0)


class DeadlineTests(MemoryTests):
    def test_the_function_is_not_kept(self) -> None:
        """A stream that ended at its deadline keeps no reference to the function that gets the replies."""
        client = self.client(unresponsive_after=60)
        key, other = self.key_of(self.nodes[0]), self.key_of(self.nodes[1])
        self.nodes[0].script = lambda *_: SILENCE
        each = Results()
        kept = ref(each)
        streaming = client.pipeline(timeout=0.1).stream([("GET", key), ("GET", other)], each)
        del each
        self.assertEqual(self.result_of(streaming), 2)
        del streaming
        gc.collect()
        self.assertIsNone(kept())

    def test_before_the_first_map(self) -> None:
        """A pipeline of a lazy client has a reply or an error for each command: one is refused, one node is down."""
        client = self.lazy_client()
        down = self.nodes[2]
        self.network.refuse(down)
        keys = [self.key_of(node, number) for number in range(3) for node in self.nodes]
        refused = keys[0].encode()
        self.nodes[0].script = lambda node, words, _: (
            b"-ERR no\r\n" if words[:2] == [b"SET", refused] else DEFAULT_REPLY
        )
        pipeline = client.pipeline(timeout=0.9)
        for key in keys:
            pipeline.set(key, "v")
        pipeline.mget(*keys[:2]).get(keys[1])
        results = self.result_of(pipeline.execute())
        lost = [place for place, key in enumerate(keys) if self.cluster.owner(key_slot(key)) is down]
        self.assertIsInstance(results[0], ReplyError)
        self.assertEqual({type(results[place]) for place in lost}, {CommandTimeout})
        good = [place for place in range(len(keys)) if place and place not in lost]
        self.assertEqual({results[place] for place in good}, {b"OK"})
        self.assertEqual(results[-1], b"v")
