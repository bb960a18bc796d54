"""Pipelines and commands over many slots where a node's queue is full."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import gatherResults

from tests.scripted.base import ScriptedTests
from txvalkeycluster import (
    ClientClosed,
    ClusterClient,
    CommandTimeout,
    PartialFailure,
)
from txvalkeycluster.slots import key_slot
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode


class FullTests(ScriptedTests):
    """Commands that are turned away because a node owes all the replies that it may."""

    async def full(self, room: int, *, left: int = 0) -> tuple[ClusterClient, str]:
        client = await self.client(max_pending=room, unresponsive_after=60)
        key = self.key_of(self.nodes[0])
        await client.set(key, 1)
        self.held: list[tuple[list[bytes], Any]] = []

        def script(_: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            self.held.append((words, connection))
            return SILENCE

        self.nodes[0].script = script
        self.others = [client.execute("GET", key, timeout=None) for _ in range(room - left)]
        await self.until(lambda: len(self.held) == room - left)
        return client, key

    async def release(self) -> None:
        """Have the node answer what it owes, and everything from now on."""
        self.nodes[0].script = None
        held, self.held = self.held, []
        for words, connection in held:
            connection.write(self.nodes[0].usual(words, asking=False))
        await gatherResults(self.others)

    async def test_order_is_kept(self) -> None:
        """Whatever of it would find room: batches, large values, commands without a key."""
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

    async def test_more_bytes_than_may_be_under_way(self) -> None:
        """They go as soon as there is room, also when another node is not full."""
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

    async def test_owners_that_change_meanwhile(self) -> None:
        """Those of one key stay in order when the map comes while they wait."""
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
        """MOVED for what belongs elsewhere."""
        if words[0] not in (b"GET", b"SET"):
            return DEFAULT_REPLY
        slot = key_slot(words[1])
        owner = self.cluster.owner(slot)
        assert owner is not None
        return DEFAULT_REPLY if owner is node else b"-MOVED %d 127.0.0.1:%d\r\n" % (slot, owner.address.port)

    async def test_many_slots(self) -> None:
        """A command whose every part is turned away waits as well."""
        client, key = await self.full(10)
        executing = client.pipeline().del_(key, self.key_of(self.nodes[0], 1)).execute()
        await self.release()
        self.assertEqual(await executing, [1])

    async def test_their_deadline(self) -> None:
        client, _ = await self.full(10)
        key = self.key_of(self.nodes[0], 1)
        pipeline = client.pipeline(timeout=0.05).get(key).set(key, "v" * 10_000).add()
        for each in await pipeline.execute():
            self.assertIsInstance(each, CommandTimeout)
            self.assertFalse(each.maybe_executed)
        await self.release()
        self.assertEqual(self.nodes[0].count(b"GET", key.encode()), 0)

    async def test_the_client_ends(self) -> None:
        """What was queued before a close is served, when there is room; after an abort nobody will make room."""
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

    async def test_more_parts_than_there_can_be(self) -> None:
        """A command that never fits fails, and holds nothing up."""
        client = await self.client(max_pending=10)
        keys = self.cluster.keys_of(self.nodes[0], 20)
        pipeline = client.pipeline(timeout=None).mget(*keys).set(keys[0], 1)
        refused, done = await pipeline.execute()
        self.assertIsInstance(refused, PartialFailure)
        self.assertEqual(done, b"OK")

    async def test_what_was_refused_is_not_tried_at_each_reply(self) -> None:
        """A thousand errors of another node have it tried a few times."""
        client, key = await self.full(5000)
        other = self.key_of(self.nodes[1])
        await client.get(other)
        self.nodes[1].script = lambda *_: b"-ERR no\r\n"
        tries: list[int] = []
        route = client._router.route
        self.patch(client._router, "route", lambda batch: tries.append(1) or route(batch))
        pipeline = client.pipeline()
        for _ in range(1000):
            pipeline.get(other).set(key, 1)
        executing = pipeline.execute()
        await self.until(lambda: self.nodes[1].count(b"GET") > 1000)
        await client.pipeline().get(other).execute()
        self.assertLess(len(tries), 40)
        await self.release()
        self.assertEqual((await executing)[1::2], [b"OK"] * 1000)

    async def test_a_list_that_is_used_again(self) -> None:
        """What was taken out of a stream stays as it was then."""
        client, _ = await self.full(20)
        keys = self.cluster.keys_of(self.nodes[0], 4)

        def commands() -> Any:
            words: list[Any] = ["SET", "", b""]
            for number, key in enumerate(keys):
                words[1], words[2] = key, b"%d" % number * 9000
                yield words

        streaming = client.pipeline().stream(commands(), lambda *_: None)
        await self.release()
        self.assertEqual(await streaming, 4)
        self.assertEqual([self.cluster.values[key.encode()][:1] for key in keys], [b"0", b"1", b"2", b"3"])

    async def test_cancelled_ones_take_no_room(self) -> None:
        """Of those that wait to be written."""
        client = await self.client(max_pending=10)
        keys = self.cluster.keys_of(self.nodes[0], 2)
        await client.set(keys[0], 1)
        for _ in range(10):
            reading = client.get(keys[0])
            reading.addErrback(lambda _: None)
            reading.cancel()
        self.assertEqual(await client.del_(*keys), 1)
