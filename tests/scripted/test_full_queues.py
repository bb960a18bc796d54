"""Pipelines and commands over many slots when the queue of a node is full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import gatherResults

from tests.memory import MemoryTests
from tests.scripted.base import ScriptedTests, moved
from txvalkeycluster import (
    ClientClosed,
    ClusterClient,
    CommandTimeout,
    PartialFailure,
)
from txvalkeycluster.requests.request import Request
from txvalkeycluster.slots import key_slot
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode
from txvalkeycluster.testing.scripted import Connection


class FullTests(ScriptedTests):
    """Commands that are refused with TooManyPending at first, because the first node owes max_pending replies."""

    async def full(self, room: int, *, left: int = 0) -> tuple[ClusterClient[bytes], str]:
        """Fill the queue of the first node, which answers nothing.

        Args:
            room: The option max_pending.
            left: For how many commands there is room left.

        Returns:
            The client, and a key of the first node.
        """
        client = await self.client(max_pending=room, unresponsive_after=60)
        key = self.key_of(self.nodes[0])
        await client.set(key, 1)
        self.held: list[tuple[list[bytes], Connection]] = []

        def script(_: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
            self.held.append((words, connection))
            return SILENCE

        self.nodes[0].script = script
        self.others = [client.execute("GET", key, timeout=None) for _ in range(room - left)]
        await self.until(lambda: len(self.held) == room - left)
        return client, key

    async def release(self) -> None:
        """Make the node answer what it owes, and all later commands."""
        self.nodes[0].script = None
        held, self.held = self.held, []
        for words, connection in held:
            connection.write(self.nodes[0].usual(words, asking=False))
        await gatherResults(self.others)

    async def test_order_is_kept(self) -> None:
        """The commands of a pipeline keep their order: batches, large values, and commands without a key."""
        large = b"N" * 10_000
        for values, left in (([b"1"] * 8 + [large], 5), ([large, b"new"], 0), ([b"1", None, b"2"], 0)):
            client, key = await self.full(20, left=left)
            pipeline = client.pipeline()
            for value in values:
                if value is None:
                    pipeline.ping()
                else:
                    pipeline.set(key, value)
            executing = pipeline.execute()
            await self.release()
            await executing
            self.assertEqual(await client.get(key), values[-1])
            await client.close()

    async def test_more_bytes_than_a_pipeline_has_in_flight(self) -> None:
        """A pipeline with more bytes than it sends at a time goes on when there is room again."""
        for values in ([b"v" * (1 << 20)], [b"v" * 6000] * 100):
            client, _ = await self.full(200)
            pipeline = client.pipeline()
            for key, value in zip(self.cluster.keys_of(self.nodes[0], 100), values, strict=False):
                pipeline.set(key, value)
            pipeline.get(self.key_of(self.nodes[1]))
            executing = pipeline.execute()
            await self.release()
            self.assertEqual(await executing, [b"OK"] * len(values) + [None])
            await client.close()

    async def test_the_first_map_arrives_while_commands_wait(self) -> None:
        """The commands of one key keep their order when the first slot map gives their slot an owner."""
        client = self.lazy_client(max_pending=4)
        others = [client.get(self.key_of(self.nodes[0])) for _ in range(4)]
        one, other = self.key_of(self.nodes[0]), self.key_of(self.nodes[1])
        for node in self.nodes:
            node.script = self.obedient
        pipeline = client.pipeline().set(one, "1").set(other, "old").set(other, b"n" * 10_000)
        self.assertEqual(await pipeline.execute(), [b"OK"] * 3)
        self.assertEqual(self.cluster.values[other.encode()], b"n" * 10_000)
        await gatherResults(others)

    def obedient(self, node: ScriptedNode, words: list[bytes], _: Any) -> Any:
        """Answer MOVED to commands for slots of other nodes."""
        if words[0] not in (b"GET", b"SET"):
            return DEFAULT_REPLY
        owner = self.cluster.owner(key_slot(words[1]))
        assert owner is not None
        return DEFAULT_REPLY if owner is node else moved(words[1], owner.address)

    async def test_many_slots(self) -> None:
        """A command over many slots waits if all of its parts are refused."""
        client, key = await self.full(10)
        executing = client.pipeline().del_(key, self.key_of(self.nodes[0], 1)).execute()
        await self.release()
        self.assertEqual(await executing, [1])

    async def test_deadline_of_refused_commands(self) -> None:
        """Commands that wait for room until their deadline fail with CommandTimeout, and are never sent."""
        client, _ = await self.full(10)
        key = self.key_of(self.nodes[0], 1)
        pipeline = client.pipeline(timeout=0.05).get(key).set(key, "v" * 10_000).add()
        for each in await pipeline.execute():
            self.assertIsInstance(each, CommandTimeout)
            self.assertFalse(each.maybe_executed)
        await self.release()
        self.assertEqual(self.nodes[0].count(b"GET", key.encode()), 0)

    async def test_close_and_abort(self) -> None:
        """close() waits until waiting commands are served.  abort() fails them with ClientClosed."""
        for end in ("close", "abort"):
            client, key = await self.full(10)
            executing = client.pipeline(timeout=None).get(key).execute()
            ended = getattr(client, end)()
            if end == "close":
                await self.release()
                self.assertEqual(await executing, [b"1"])
            else:
                error = await self.assertFailure(executing, ClientClosed)
                self.assertFalse(error.maybe_executed)
                await gatherResults([self.assertFailure(other, ClientClosed) for other in self.others])
            await ended

    async def test_more_parts_than_max_pending(self) -> None:
        """A command with more parts than max_pending fails, and the commands behind it are served."""
        client = await self.client(max_pending=10)
        keys = self.cluster.keys_of(self.nodes[0], 20)
        pipeline = client.pipeline(timeout=None).mget(*keys).set(keys[0], 1)
        refused, done = await pipeline.execute()
        self.assertIsInstance(refused, PartialFailure)
        self.assertEqual(done, b"OK")

    async def test_an_iterable_that_reuses_its_list(self) -> None:
        """A stream sends each command as it was when the iterable yielded it, even if it has to wait for room."""
        client, _ = await self.full(20)
        keys = self.cluster.keys_of(self.nodes[0], 4)

        def commands() -> Iterator[list[Any]]:
            words: list[Any] = ["SET", "", b""]
            for number, key in enumerate(keys):
                words[1], words[2] = key, b"%d" % number * 9000
                yield words

        streaming = client.pipeline().stream(commands(), lambda *_: None)
        await self.release()
        self.assertEqual(await streaming, 4)
        self.assertEqual([self.cluster.values[key.encode()][:1] for key in keys], [b"0", b"1", b"2", b"3"])

    async def test_cancelled_commands_take_no_room(self) -> None:
        """Commands that are cancelled before they are written do not count as pending."""
        client = await self.client(max_pending=10)
        keys = self.cluster.keys_of(self.nodes[0], 2)
        await client.set(keys[0], 1)
        for _ in range(10):
            reading = client.get(keys[0])
            reading.addErrback(lambda _: None)
            reading.cancel()
        self.assertEqual(await client.del_(*keys), 1)


class RetryTests(MemoryTests):
    def test_refused_commands_are_not_tried_at_each_reply(self) -> None:
        """A pipeline tries refused commands again a few times, not once for each of 1000 errors of another node."""
        client = self.client(max_pending=5000, unresponsive_after=60)
        full, other = self.nodes[:2]
        key, other_key = self.key_of(full), self.key_of(other)
        for connected in (key, other_key):
            self.result_of(client.get(connected))
        full.script = lambda *_: SILENCE
        other.script = lambda *_: b"-ERR no\r\n"
        held = [client.execute("GET", key, timeout=None) for _ in range(5000)]
        self.network.settle()
        tries: list[object] = []
        route = client._router.route

        def counted(request: Request) -> Request:
            tries.append(request)
            return route(request)

        self.patch(client._router, "route", counted)
        pipeline = client.pipeline()
        for _ in range(1000):
            pipeline.get(other_key).set(key, 1)
        executing = pipeline.execute()
        self.network.settle()
        self.assertEqual(other.count(b"GET"), 1001)
        self.assertLess(len(tries), 40)
        full.script = None
        for connection in full.connections:
            connection.write(b"_\r\n" * 5000)
        self.assertEqual(self.result_of(gatherResults(held)), [None] * 5000)
        self.assertEqual(self.result_of(executing)[1::2], [b"OK"] * 1000)
