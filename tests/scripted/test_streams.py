"""Streams: many commands out of an iterable, and what their caller may do meanwhile."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any
from weakref import ref

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

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


class StreamTests(ScriptedTests):
    async def test_no_room(self) -> None:
        """Commands that are turned away are sent again, in the time that takes."""
        client = await self.client(max_pending=20)
        results: dict[int, Any] = {}
        keys = self.cluster.keys_of(self.nodes[0], 50)
        others = [client.get(keys[0]) for _ in range(20)]
        commands = (("SET", keys[number % 50], number) for number in range(2000))
        self.assertEqual(await client.pipeline().stream(commands, results.__setitem__), 2000)
        self.assertEqual(set(results.values()), {b"OK"})
        await gatherResults(others)

    async def test_the_client_ends(self) -> None:
        """An endless stream ends with it."""
        client = await self.client()
        taken = 0

        def endless() -> Any:
            nonlocal taken
            while True:
                taken += 1
                yield "SET", "k", taken

        streaming = client.pipeline().stream(endless(), lambda *_: None)
        await self.until(lambda: taken > 5000)
        await client.abort()
        await self.assertFailure(streaming, ClientClosed)

    async def test_ended_in_the_midst_of_a_batch(self) -> None:
        """Whoever is handed a reply may end the client, cancel, or raise: nothing comes after that, and one end."""
        for deed, error in ((ClusterClient.abort, ClientClosed), (None, CancelledError), (len, TypeError)):
            client = await self.client()
            handed, ended = await self.stream_until_the_fifth(client, deed)
            await client.abort()
            self.assertEqual((handed, len(ended)), ([0, 1, 2, 3, 4], 1))
            self.assertIsInstance(ended[0].value, error)

    async def stream_until_the_fifth(
        self, client: ClusterClient, deed: Callable[[Any], Any] | None
    ) -> tuple[list[int], list[Any]]:
        """Do something to the client, or cancel the stream, at the fifth reply; what was handed over, and the ends."""
        handed: list[int] = []
        ended: list[Any] = []

        def each(place: int, reply: Any) -> None:
            handed.append(place)
            if len(handed) == 5:
                streaming.cancel() if deed is None else deed(client)

        streaming = client.pipeline().stream([("SET", f"{{k}}{n}", n) for n in range(100)], each)
        streaming.addBoth(ended.append)
        await self.until(lambda: ended)
        return handed, ended

    async def test_replies_are_not_held_back(self) -> None:
        """They are handed over in the order in which they come, and do not wait for those that do not."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        commands = [("INCR", key), ("INCR", key), ("SET", key), ("INCR", key), ("GET", key)]
        self.nodes[0].script = lambda _, words, __: (
            SILENCE if words[0] == b"GET" else b"-ERR no\r\n" if words[0] == b"SET" else DEFAULT_REPLY
        )
        came: list[Any] = []

        def each(place: int, reply: Any) -> None:
            came.append((place, type(reply)))

        streaming = client.pipeline(timeout=None).stream(commands, each)
        await self.until(lambda: len(came) == 4)
        self.assertEqual(came, [(0, int), (1, int), (2, ReplyError), (3, int)])
        streaming.cancel()
        await self.assertFailure(streaming, CancelledError)

    async def test_commands_that_raise(self) -> None:
        """Whatever that is, those before it are sent, and each is told what became of it."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        for count, error in ((10, KeyError), (10, asyncio.CancelledError), (9000, asyncio.CancelledError)):

            def commands(count: int = count, error: type[BaseException] = error) -> Any:
                for _ in range(count):
                    yield "INCR", key
                raise error

            self.cluster.values.clear()
            results: list[Any] = []
            streaming = client.pipeline().stream(commands(), lambda _, reply, results=results: results.append(reply))
            ended: list[Any] = []
            streaming.addBoth(ended.append)
            await self.until(lambda ended=ended: ended)
            self.assertTrue(ended[0].check(error))
            self.assertEqual(results, list(range(1, count + 1)))

    async def test_whoever_is_told_raises(self) -> None:
        """Whatever that is, it ends the stream."""
        client = await self.client()
        key = self.key_of(self.nodes[0])

        def each(place: int, _: Any) -> None:
            raise asyncio.CancelledError

        ended: list[Any] = []
        client.pipeline().stream([("INCR", key)] * 9000, each).addBoth(ended.append)
        await self.until(lambda: ended)
        self.assertTrue(ended[0].check(asyncio.CancelledError))
        self.assertLessEqual(self.cluster.count(b"INCR"), 4096)

    async def test_ended_while_commands_are_taken(self) -> None:
        """By whoever is told of one that fails at once, or by what gives them: no more are taken and sent."""

        def stop(_: ClusterClient) -> None:
            raise KeyError

        for deed, error in ((stop, KeyError), (ClusterClient.close, ClientClosed), (ClusterClient.abort, ClientClosed)):
            for by in ("each", "commands"):
                client = await self.client()
                taken: list[int] = []
                ended: list[Any] = []

                def commands(client: Any = client, taken: Any = taken, by: str = by, deed: Any = deed) -> Any:
                    yield "SET", "k", object()
                    while True:
                        taken.append(1)
                        if by == "commands" and len(taken) == 3:
                            deed(client)
                        yield "SET", "k", 1

                def each(_: int, reply: Any, client: Any = client, by: str = by, deed: Any = deed) -> None:
                    if by == "each" and isinstance(reply, TypeError):
                        deed(client)

                before = self.cluster.count(b"SET")
                client.pipeline().stream(commands(), each).addBoth(ended.append)
                await self.until(lambda ended=ended: ended)
                self.assertTrue(ended[0].check(error))
                self.assertLessEqual(len(taken), 3)
                self.assertLessEqual(self.cluster.count(b"SET") - before, len(taken))
                await client.abort()

    async def test_served_before_the_close(self) -> None:
        """It is no failure to have nothing left."""
        client = await self.client(max_pending=4)
        told: list[Any] = []
        streaming = client.pipeline().stream([("SET", "k", 1)], lambda place, reply: told.append(client.close()))
        self.assertEqual(await streaming, 1)
        await told[0]

    async def test_results_are_not_kept(self) -> None:
        """By what is left of commands that a node has yet to answer."""
        client = await self.client(unresponsive_after=60)
        key, other = self.key_of(self.nodes[0]), self.key_of(self.nodes[1])
        self.nodes[0].script = lambda *_: SILENCE

        class Told:
            def __call__(self, place: int, reply: Any) -> None:
                """Is what must not be kept."""

        each = Told()
        kept = ref(each)
        streaming = client.pipeline(timeout=0.1).stream([("GET", key), ("GET", other)], each)
        del each
        self.assertEqual(await streaming, 2)
        del streaming
        # We are being called by what is to be freed.
        await deferLater(reactor, 0)  # type: ignore[arg-type]
        gc.collect()
        self.assertIsNone(kept())

    async def test_an_endless_stream_of_bad_commands(self) -> None:
        """Others have their turn, and may end it."""
        client = await self.client()
        failed = 0

        def each(_: int, reply: Any) -> None:
            nonlocal failed
            failed += isinstance(reply, TypeError)

        streaming = client.pipeline().stream((("GET", None) for _ in iter(int, 1)), each)  # type: ignore[misc]
        self.assertEqual(await client.get("k"), None)
        await self.until(lambda: failed > 20_000)
        await client.close()
        await self.assertFailure(streaming, ClientClosed)

    async def test_a_cancelled_one_is_freed(self) -> None:
        """What its caller gave is kept by nobody, though replies are still to come."""
        client = await self.client()
        key = self.key_of(self.nodes[0])
        self.nodes[0].script = lambda *_: SILENCE

        def each(place: int, reply: Any) -> None:
            raise AssertionError("told of a cancelled stream")

        given = weakref.ref(each)
        executing = client.pipeline().stream([("GET", key)] * 2, each)
        await self.until(lambda: self.nodes[0].count(b"GET") == 2)
        executing.cancel()
        await self.assertFailure(executing, CancelledError)
        del each, executing
        self.assertIsNone(given())

    async def test_before_the_first_map(self) -> None:
        """A lazy client's first commands, of which one is refused and one goes to a node that is not there any more."""
        client = self.lazy_client()
        gone = self.nodes[2]
        await gone.stop()
        self.nodes[0].script = lambda node, words, _: (
            b"-ERR no\r\n" if words[:2] == [b"SET", refused] else DEFAULT_REPLY
        )
        keys = [self.key_of(node, number) for number in range(3) for node in self.nodes]
        refused = keys[0].encode()
        pipeline = client.pipeline(timeout=1.0)
        for key in keys:
            pipeline.set(key, "v")
        pipeline.mget(*keys[:2]).get(keys[1])
        results = await pipeline.execute()
        lost = [place for place, key in enumerate(keys) if self.cluster.owner(key_slot(key)) is gone]
        self.assertIsInstance(results[0], ReplyError)
        self.assertEqual({type(results[place]) for place in lost}, {CommandTimeout})
        good = [place for place in range(len(keys)) if place and place not in lost]
        self.assertEqual({results[place] for place in good}, {b"OK"})
        self.assertEqual(results[-1], b"v")

    async def test_order_for_each_key(self) -> None:
        """Whatever is between them: large values, commands for many slots, unknown ones."""
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

    async def test_lost_halfway(self) -> None:
        """Reads are sent again; of the others each says whether it may have been executed."""
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
        # The replies to the first five were cut off with the connection.
        self.assertEqual({type(result) for result in results[::2]}, {ConnectionLost})
        self.assertTrue(all(result.maybe_executed for result in results[::2]))
        self.assertEqual(results[1::2], [b"4"] * 10)

    async def test_closed_meanwhile(self) -> None:
        """A graceful end waits for all that was queued; an abort says that it may have been executed."""
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

    async def test_words_are_no_text(self) -> None:
        client = await self.client()
        error = await self.assertFailure(client.pipeline().stream(["GET k"], lambda *_: None), TypeError)
        self.assertIn("sequence of words", str(error))
        await self.assertFailure(client.execute(), TypeError)
        error = await self.assertFailure(client.execute(bytearray(b"GET"), "k"), TypeError)
        self.assertIn("not bytearray", str(error))
        self.assertRaises(TypeError, client.transaction().add)


class CallerTests(ScriptedTests):
    """What a caller's own code does in the midst of it."""

    async def test_an_item_that_is_no_sequence(self) -> None:
        """Met while replies are handed out, it costs nobody else a thing."""
        client = await self.client(max_pending=8)
        key = self.key_of(self.nodes[0])
        await client.set(key, 1)
        commands: list[Any] = [*[("GET", key)] * 4, None]
        streaming = client.pipeline().stream(iter(commands), lambda *_: None)
        other = client.incr(key)
        await self.assertFailure(streaming, TypeError)
        self.assertEqual(await other, 2)
        self.assertEqual(client.statistics.connections, 1)

    async def test_cancelled_by_a_result(self) -> None:
        """In the midst of a load, it goes no further."""
        client = await self.client(max_pending=200)
        key = self.key_of(self.nodes[0])
        running: list[Deferred[int]] = []

        def commands() -> Any:
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
