"""Pipelines and streams: order of the results, redirects, errors and limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import CancelledError

from tests.cluster.base import ClusterTests
from txvalkeycluster import ReplyError


class PipelineTests(ClusterTests):
    async def test_results_in_order(self) -> None:
        """Results come in the order of the commands, each as its method returns it."""
        client = await self.connect()
        pipeline = client.pipeline().set("text", "x").hset("h", {"f": 1}).hgetall("h").incr("text")
        pipeline.zadd("z", {"m": 1.5}).zrange("z", 0, -1, withscores=True).add("GET", "text")
        pipeline.dbsize().mget("text", "none")
        self.assertEqual(len(pipeline), 9)
        results = await pipeline.execute()
        error = results.pop(3)
        self.assertIsInstance(error, ReplyError)
        self.assertEqual(results, [b"OK", 1, {b"f": b"1"}, 1, [(b"m", 1.5)], b"x", 3, [b"x", None]])
        self.assertEqual(await pipeline.execute(), [])

    async def test_the_first_error(self) -> None:
        """With raise_first=True the first error is raised when all commands have ended."""
        client = await self.connect()
        await client.set("text", "x")
        pipeline = client.pipeline().incr("text").set("after", 1).lpush("text", 1)
        error = await self.assertFailure(pipeline.execute(raise_first=True), ReplyError)
        self.assertIn("not an integer", str(error))
        self.assertEqual(await client.get("after"), b"1")

    async def test_redirected(self) -> None:
        """The results keep their order while slots move."""
        client = await self.connect()
        count = 5000
        pipeline = client.pipeline()
        for number in range(count):
            pipeline.set(f"k{number}", number)
        migrating = self.cluster.migrate_by_key(range(200), self.cluster.servers[0], self.cluster.servers[1])
        self.assertEqual(await pipeline.execute(), [b"OK"] * count)
        for number in range(count):
            pipeline.get(f"k{number}")
        self.assertEqual(await pipeline.execute(), [b"%d" % number for number in range(count)])
        await migrating
        await self.cluster.migrate_atomically(0, 199, self.cluster.servers[1], self.cluster.servers[0])
        pipeline.get("k0").get("k1")
        self.assertEqual(await pipeline.execute(), [b"0", b"1"])

    async def test_commands_in_flight_are_bounded(self) -> None:
        """A stream takes fewer than 5000 commands before their results, and hands over each result once."""
        client = await self.connect()
        taken = ahead = 0
        results: dict[int, Any] = {}

        def commands() -> Iterator[tuple[Any, ...]]:
            nonlocal taken
            for number in range(50000):
                taken += 1
                yield "SET", f"k{number % 1000}", number

        def arrived(number: int, result: Any) -> None:
            nonlocal ahead
            ahead = max(ahead, taken - len(results))
            assert number not in results
            results[number] = result

        self.assertEqual(await client.pipeline().stream(commands(), arrived), 50000)
        self.assertEqual(set(results.values()), {b"OK"})
        self.assertEqual(len(results), 50000)
        self.assertLess(ahead, 5000)

    async def test_large_values(self) -> None:
        """A stream of large values has no more than 5 in flight."""
        client = await self.connect()
        value = b"x" * 300_000
        open_at_once = 0
        begun = 0
        ended = 0

        def commands() -> Iterator[tuple[Any, ...]]:
            nonlocal begun, open_at_once
            for number in range(100):
                begun += 1
                open_at_once = max(open_at_once, begun - ended)
                yield "SET", f"k{number}", value

        def arrived(_: int, __: Any) -> None:
            nonlocal ended
            ended += 1

        await client.pipeline().stream(commands(), arrived)
        self.assertLessEqual(open_at_once, 5)

    async def test_errors_of_the_caller(self) -> None:
        """A stream fails with the error of its iterable or function.  In a pipeline a bad argument fails a command."""
        client = await self.connect()

        def broken() -> Iterator[tuple[Any, ...]]:
            yield "SET", "a", 1
            raise LookupError("no more")

        await self.assertFailure(client.pipeline().stream(broken(), lambda *_: None), LookupError)
        self.assertEqual(await client.get("a"), b"1")
        await self.assertFailure(client.pipeline().stream([("GET", "a")] * 10, lambda *_: 1 / 0), ZeroDivisionError)
        results = await client.pipeline().add("GET", None).add("GET", "a").execute()  # type: ignore[arg-type]
        self.assertIsInstance(results[0], TypeError)
        self.assertEqual(results[1], b"1")

    async def test_cancelled(self) -> None:
        """A cancelled pipeline sends no more commands, and the client goes on."""
        client = await self.connect()
        await client.get("a")
        pipeline = client.pipeline()
        for number in range(20000):
            pipeline.incr(f"k{number % 10}")
        executing = pipeline.execute()
        executing.cancel()
        await self.assertFailure(executing, CancelledError)
        sums = sum(int(value or 0) for value in await client.mget(*(f"k{n}" for n in range(10))))
        self.assertLess(sums, 5000)
