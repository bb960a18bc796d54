"""A program that uses locks, and one that uses transactions."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import redis

from tests.proxy.client_libraries.libraries import done
from tests.proxy.client_libraries.workers import Workers


class Lock(Workers):
    """Three workers want the same `redis.lock.Lock`."""

    def __init__(self, library: Any, tag: str) -> None:
        super().__init__("lock", library)
        self._key = f"{{{tag}}}:lock"
        self._held = threading.Lock()
        self.start(one=self._hold, two=self._hold, three=self._hold)

    async def _hold(self, number: int) -> None:
        # Long enough that it does not expire while a worker of a slow machine holds it.
        lock = self.client.lock(self._key, timeout=5, sleep=0.01)
        assert await done(lock.acquire())
        assert self._held.acquire(blocking=False), "the lock is held twice"
        try:
            await done(self.library.pause(0.002))
            assert await done(lock.owned()), "the lock is lost"
        finally:
            self._held.release()
            await done(lock.release())


class Transactions(Workers):
    """Single-slot transactions: transfers with WATCH in two ways, two counters, and a reader of all."""

    def __init__(self, library: Any, tag: str) -> None:
        super().__init__("transactions", library)
        self._a, self._b, self._moves, self._n, self._x, self._y = (f"{{{tag}}}:{name}" for name in "abmnxy")
        self._sure: Counter[str] = Counter()
        self._maybe: Counter[str] = Counter()
        self._numbers: set[int] = set()
        self._counting = threading.Lock()
        self.start(
            transfer=self._transfer,
            back=self._transfer,
            count=self._count,
            also=self._count,
            both=self._both,
            read=self._read,
        )

    async def _noted(self, name: str, work: Awaitable[Any]) -> Any:
        try:
            found = await work
        except redis.RedisError:
            with self._counting:
                self._maybe[name] += 1
            raise
        with self._counting:
            self._sure[name] += 1
        return found

    async def _transfer(self, number: int) -> None:
        async def move(pipeline: Any) -> None:
            a, b = (int(each or 0) for each in await done(pipeline.mget(self._a, self._b)))
            assert a + b == 0, (a, b)
            pipeline.multi()
            pipeline.set(self._a, a - number)
            pipeline.set(self._b, b + number)
            pipeline.incr(self._moves)

        transaction = self.client.transaction(self.library.function(move), self._a, self._b)
        await self._noted(self._moves, done(transaction))

    async def _count(self, number: int) -> None:
        """Increment with WATCH: no number can be written twice."""
        new = await self._noted(self._n, self._next())
        assert new not in self._numbers, f"{new} was written twice"
        self._numbers.add(new)

    async def _next(self) -> int:
        pipeline = self.client.pipeline()
        try:
            while True:
                await done(pipeline.watch(self._n))
                new = int(await done(pipeline.get(self._n)) or 0) + 1
                pipeline.multi()
                pipeline.set(self._n, new)
                try:
                    await done(pipeline.execute())
                    return new
                except redis.WatchError:
                    continue
        finally:
            await done(pipeline.reset())

    async def _both(self, number: int) -> None:
        x, y = await self._noted(self._x, done(self.client.pipeline().incr(self._x).incr(self._y).execute()))
        assert x == y, (x, y)
        self._within(self._x, x)

    async def _read(self, number: int) -> None:
        pipeline = self.client.pipeline().mget(self._a, self._b).get(self._x).get(self._y)
        (a, b), x, y = await done(pipeline.execute())
        assert int(a or 0) + int(b or 0) == 0, (a, b)
        assert x == y, (x, y)

    def _within(self, key: str, value: int) -> None:
        """No transaction that was acknowledged is missing, and none was executed twice."""
        least, most = self._sure[key], self._sure[key] + self._maybe[key]
        assert least <= value <= most, f"{key} is {value}, not from {least} to {most}"

    def check(self, client: redis.Redis) -> None:
        x, y = client.mget(self._x, self._y)
        assert x == y, (x, y)
        for key in (self._x, self._moves, self._n):
            self._within(key, int(client.get(key)))  # type: ignore[arg-type]
