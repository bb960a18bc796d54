"""Transactions and watched keys, with redirects, failovers and conflicts."""

from __future__ import annotations

import contextlib
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.cluster.base import ClusterTests
from txvalkeycluster import CommandTimeout, ReplyError, RoutingError, TransactionAborted, WatchError, WatchSession
from txvalkeycluster.slots import key_slot


class TransactionTests(ClusterTests):
    async def test_results(self) -> None:
        """The results have the types of the methods, and an error takes the place of its result."""
        client = await self.connect()
        transaction = client.transaction().set("{t}a", "x").incr("{t}n").hset("{t}h", {"f": "v"}).hgetall("{t}h")
        transaction.incr("{t}a").zadd("{t}z", {"m": 2.5}).zscore("{t}z", "m").add("GET", "{t}a").ping()
        results = await transaction.execute()
        self.assertIsInstance(results.pop(4), ReplyError)
        self.assertEqual(results, [b"OK", 1, 1, {b"f": b"v"}, 1, 2.5, b"x", b"PONG"])
        self.assertEqual(await transaction.execute(), [])
        failing = client.transaction().set("{t}a", "y").incr("{t}a").execute(raise_first=True)
        await self.assertFailure(failing, ReplyError)
        self.assertEqual(await client.get("{t}a"), b"y")

    async def test_transactions_are_atomic(self) -> None:
        """No reader sees the changes of a transaction half done, though all commands share connections."""
        client = await self.connect()
        await client.mset({"{t}a": 0, "{t}b": 0})
        seen: list[Any] = []

        async def work(number: int) -> None:
            for _ in range(100):
                if number % 2:
                    seen.append(await client.mget("{t}a", "{t}b"))
                else:
                    await client.transaction().incr("{t}a").incr("{t}b").execute()

        await gatherResults([Deferred.fromCoroutine(work(number)) for number in range(20)])
        self.assertTrue(all(one == other for one, other in seen))
        self.assertEqual(await client.get("{t}a"), b"1000")

    async def test_refused_commands(self) -> None:
        """Commands for other slots or of wrong types are refused, and nothing of the transaction is executed."""
        client = await self.connect()
        transaction = client.transaction().set("a", 1)
        self.assertIn("slot", str(self.assertRaises(RoutingError, transaction.set, "b", 1)))
        self.assertRaises(RoutingError, transaction.dbsize)
        self.assertRaises(RoutingError, transaction.add, "MULTI")
        self.assertRaises(TypeError, transaction.add, "SET", "a", None)
        self.assertEqual(len(transaction), 1)
        error = await self.assertFailure(transaction.add("GET", "a", "too", "many").execute(), TransactionAborted)
        self.assertIn("wrong number of arguments", str(error))
        self.assertIsNone(await client.get("a"))
        self.assertEqual(await client.transaction().set("a", 1).execute(), [b"OK"])

    async def test_redirected_as_a_whole(self) -> None:
        """A transaction is executed once, as a whole, in spite of MOVED, ASK and TRYAGAIN."""
        client = await self.connect()
        done = 0
        running = True

        async def work() -> None:
            nonlocal done
            while running:
                results = await client.transaction().incr("{b}x").incr("{b}y").execute()
                done += 1
                assert results == [done, done], results

        slot = key_slot("b")
        working = Deferred.fromCoroutine(work())
        source, target = self.cluster.servers[:2]
        await self.cluster.migrate_by_key([slot], source, target)
        await self.cluster.migrate_atomically(slot, slot, target, source)
        await self.cluster.open_slot(slot, source, target)
        before = done
        await self.cluster.move_keys(slot, source, target)
        while done < before + 10:
            await deferLater(reactor, 0.01)
        await self.cluster.close_slot(slot, source, target)
        await self.cluster.failover(self.cluster.servers[4])
        running = False
        await working
        self.assertEqual(await client.mget("{b}x", "{b}y"), [b"%d" % done] * 2)
        self.assertGreater(client.statistics.asked, 0)

    async def test_cancelled_after_sending(self) -> None:
        """Commands behind a cancelled transaction are not executed as a part of it."""
        client = await self.connect()
        await client.get("k")
        for number in range(200):
            transaction = client.transaction().incr("k").incr("k")
            executing = transaction.execute()
            if number % 2:
                # Cancel before or after the transaction is written.
                await deferLater(reactor, 0 if number % 4 == 1 else 0.0001)
                executing.cancel()
                with contextlib.suppress(CancelledError):
                    await executing
            else:
                self.assertEqual(len(await executing), 2)
            self.assertEqual(int(await client.get("k") or 0) % 2, 0)


class WatchTests(ClusterTests):
    async def test_watched_keys(self) -> None:
        """A watched transaction fails with WatchError if a watched key was changed."""
        client = await self.connect()
        await client.set("k", 1)
        async with client.watch("k") as session:
            self.assertEqual(await session.get("k"), b"1")
            self.assertEqual(await session.transaction().set("k", 2).get("k").execute(), [b"OK", b"2"])
        async with client.watch("k") as session:
            await client.set("k", 3)
            await self.assertFailure(session.transaction().set("k", 4).execute(), WatchError)
            self.assertEqual(await session.execute("GET", "k"), b"3")
        self.assertRaises(RoutingError, client.watch, "a", "b")
        self.assertRaises(ValueError, client.watch)
        async with client.watch("k") as session:
            self.assertRaises(RoutingError, session.get, "another")

    async def test_more_watched_keys(self) -> None:
        """A session can watch more keys of its slot later."""
        client = await self.connect()
        for changed in ("{k}1", "{k}2", "{k}3"):
            async with client.watch("{k}1") as session:
                await session.watch("{k}2", "{k}3")
                await client.set(changed, 1)
                await self.assertFailure(session.transaction().get("{k}1").execute(), WatchError)
        async with client.watch("{k}1") as session:
            self.assertRaises(RoutingError, session.watch, "another")
            await session.watch("{k}2")
            self.assertEqual(await session.transaction().get("{k}1").execute(), [b"1"])

    async def test_a_session_that_ends_with_an_exception(self) -> None:
        """A session that ends with an exception gives its connection to the next session."""
        client = await self.connect(max_exclusive=1)
        for _ in range(3):
            try:
                async with client.watch("k") as session:
                    await session.get("k")
                    raise LookupError
            except LookupError:
                pass
        await client.set("k", 1)
        async with client.watch("other") as session:
            pass
        await self.assertFailure(session.get("other"), RoutingError)

    async def test_optimistic_increments(self) -> None:
        """50 optimistic increments at once lose no update."""
        client = await self.connect()
        await client.set("k", 0)

        async def increment(session: WatchSession[bytes]) -> int:
            value = int(await session.get("k") or 0)
            await session.transaction().set("k", value + 1).execute()
            return value + 1

        results = await gatherResults([client.optimistically(increment, "k", attempts=1000) for _ in range(50)])
        self.assertEqual(sorted(results), list(range(1, 51)))
        self.assertEqual(await client.get("k"), b"50")

    async def test_a_slot_that_moves_during_a_session(self) -> None:
        """The transaction of a session fails if the slot moves, and the next attempt runs on the new owner."""
        client = await self.connect()
        await client.set("b", 1)
        slot = key_slot("b")
        tries = 0

        async def change(session: WatchSession[bytes]) -> list[Any]:
            nonlocal tries
            tries += 1
            if tries == 1:
                await self.cluster.migrate_atomically(slot, slot, self.cluster.servers[0], self.cluster.servers[1])
            return await session.transaction().incr("b").execute()

        self.assertEqual(await client.optimistically(change, "b"), [2])
        self.assertEqual(tries, 2)

    async def test_a_slot_half_moved(self) -> None:
        """A session follows ASK to the target of a slot that is being moved."""
        client = await self.connect()
        await client.set("b", 1)
        source, target = self.cluster.servers[:2]
        await self.cluster.open_slot(key_slot("b"), source, target)
        await self.cluster.move_keys(key_slot("b"), source, target)

        async def increment(session: WatchSession[bytes]) -> list[Any]:
            value = int(await session.get("b") or 0)
            return await session.transaction().set("b", value + 1).get("b").execute()

        self.assertEqual(await client.optimistically(increment, "b"), [b"OK", b"2"])
        self.assertEqual(await client.get("b"), b"2")

    async def test_a_server_that_hangs(self) -> None:
        """A command of a session ends at its timeout."""
        client = await self.connect()
        async with client.watch("b") as session:
            await self.cluster.pause(self.cluster.servers[0])
            session._timeout = 0.3
            await self.assertFailure(session.get("b"), CommandTimeout)
            await self.cluster.resume(self.cluster.servers[0])
        self.assertIsNone(await client.get("b"))
