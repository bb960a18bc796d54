"""Programs that use redis-py, redis.asyncio and txredisapi as on a single server, with numbers that can be checked.

Each program has several workers.  A worker does one thing again and again, and writes down the errors that it got and
everything that was wrong.  Workers are coroutines, so that those of redis-py and of redis.asyncio are the same text.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

import redis
import redis.asyncio
import txredisapi
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater

from tests.proxy.programs import HOST, Progress

# Seconds until a library gives up.  The proxy must answer earlier, or redis-py sends a command a second time.
PATIENCE = 20
# Seconds between two rounds of a worker: two cores have to run all of them.
_PACE = 0.01
# Seconds that a blocking command waits.
_BLOCK = 1
_reactor: Any = reactor
Turn = Callable[[int], Awaitable[object]]


async def done(result: Any) -> Any:
    """Return a result, or that of something to wait for."""
    return await result if inspect.isawaitable(result) else result


def drive(worker: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits; return its result."""
    try:
        worker.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the coroutine waits")


def fired(future: Future[Any]) -> Deferred[Any]:
    """Return a Deferred with the result of something that runs in a thread."""
    made: Deferred[Any] = Deferred()

    def ended(future: Future[Any]) -> None:
        error = future.exception()
        if error is None:
            _reactor.callFromThread(made.callback, future.result())
        else:
            _reactor.callFromThread(made.errback, error)

    future.add_done_callback(ended)
    return made


class Threads:
    """Redis-py: each worker has a thread."""

    name = "redis-py"
    errors: tuple[type[Exception], ...] = (redis.RedisError,)

    def __init__(self, port: int) -> None:
        self.client: Any = redis.Redis(HOST, port, protocol=2, socket_timeout=PATIENCE)
        self._threads = ThreadPoolExecutor(40)

    def start(self, worker: Coroutine[Any, Any, None]) -> Deferred[Any]:
        return fired(self._threads.submit(drive, worker))

    def pause(self, seconds: float = _PACE) -> object:
        time.sleep(seconds)
        return None

    def function(self, function: Callable[[Any], Coroutine[Any, Any, Any]]) -> Callable[[Any], Any]:
        """Return a function that the library can call."""
        return lambda argument: drive(function(argument))

    async def close(self) -> None:
        self.client.close()
        self._threads.shutdown()


class Loop:
    """Redis.asyncio: all workers are in an event loop, which has a thread of its own."""

    name = "redis.asyncio"
    errors: tuple[type[Exception], ...] = (redis.RedisError,)

    def __init__(self, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.client: Any = redis.asyncio.Redis(host=HOST, port=port, protocol=3, socket_timeout=PATIENCE)

    def start(self, worker: Coroutine[Any, Any, None]) -> Deferred[Any]:
        return fired(asyncio.run_coroutine_threadsafe(worker, self._loop))

    def pause(self, seconds: float = _PACE) -> object:
        return asyncio.sleep(seconds)

    def function(self, function: Callable[[Any], Coroutine[Any, Any, Any]]) -> Callable[[Any], Any]:
        return function

    async def _finish(self) -> None:
        workers = asyncio.all_tasks() - {asyncio.current_task()}
        for each in workers:
            each.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await self.client.aclose()

    async def close(self) -> None:
        await self.start(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Pool:
    """Txredisapi: a pool of connections in this reactor."""

    name = "txredisapi"
    errors: tuple[type[Exception], ...] = (txredisapi.RedisError,)

    def __init__(self, port: int) -> None:
        self.port = port
        self.client: Any = txredisapi.lazyConnectionPool(HOST, port, poolsize=10, replyTimeout=PATIENCE)
        #: Factories that are closed with it.
        self.factories: list[Any] = [self.client]

    def start(self, worker: Coroutine[Any, Any, None]) -> Deferred[Any]:
        return Deferred.fromCoroutine(worker)

    def pause(self, seconds: float = _PACE) -> object:
        return deferLater(_reactor, seconds)

    async def close(self) -> None:
        for each in self.factories:
            await each.disconnect()


class Workers(Progress):
    """A program with workers."""

    #: Workers that do something while the node of the tag of the program does not.
    elsewhere: tuple[str, ...] = ()

    def __init__(self, name: str, library: Any) -> None:
        super().__init__(f"{library.name}: {name}")
        self.library = library
        self.client = library.client
        #: What must not happen.
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()

    def start(self, **turns: Turn) -> None:
        """Start workers, each of which calls its function with the numbers from 1."""
        self.counts.update(dict.fromkeys(turns, 0))
        workers = [self.library.start(self._work(name, turn)) for name, turn in turns.items()]
        self.ended = DeferredList(workers, fireOnOneErrback=True, consumeErrors=True)

    async def _work(self, name: str, turn: Turn) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            await self.round(name, turn(number))
            await done(self.library.pause())

    async def round(self, name: str, turn: Awaitable[object]) -> None:
        """Do one round; note how long it took and what it raised."""
        begun = monotonic()
        try:
            await turn
        except self.library.errors as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        except Exception:
            self.wrong.append(f"{name}: {traceback.format_exc()}")
        self.counts[name] += 1
        self.took(begun)

    @property
    def still(self) -> list[tuple[str, int]]:
        """What does not change while the node of the tag does nothing."""
        return sorted(each for each in self.counts.items() if each[0] not in self.elsewhere)

    @property
    def seen(self) -> str:
        """What the program has seen that was no error, as text to be added to its name."""
        return ""

    def check(self, client: redis.Redis) -> None:
        """Compare what is at the server with what the workers know, after they have stopped."""


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


class Pops(Workers):
    """A worker adds numbers to lists, sorted sets and streams, and others take them with blocking commands.

    What an error says that may have been executed was perhaps taken from the list, but only that one element.
    """

    elsewhere = ("many",)

    def __init__(self, library: Any, tag: str, others: Sequence[str]) -> None:
        super().__init__("blocking commands", library)
        self._tag = tag
        self._lists = [f"{{{each}}}:many:{tag}" for each in (tag, *others)]
        self._sent: defaultdict[str, set[int]] = defaultdict(set)
        self._maybe_sent: defaultdict[str, set[int]] = defaultdict(set)
        self._taken: defaultdict[str, set[int]] = defaultdict(set)
        self._maybe_taken: Counter[str] = Counter()
        self._last = b"0"
        self._pending = False
        self._no_group = True
        self._producing = True
        self._kinds: dict[str, Callable[[str], Awaitable[int | None]]] = {
            "blpop": self._blpop,
            "brpop": self._brpop,
            "many": self._many,
            "blmove": self._blmove,
            "bzpopmin": self._bzpopmin,
            "xread": self._xread,
            "xreadgroup": self._xreadgroup,
        }
        self.start(produce=self._produce, **{kind: self._consumer(kind) for kind in self._kinds})

    async def _work(self, name: str, turn: Turn) -> None:
        await super()._work(name, turn)
        if name == "produce":
            self._producing = False
            return
        # Take what is left: until a command has waited in vain after the last element was added.
        while True:
            last, errors, taken = not self._producing, self._maybe_taken[name], len(self._taken[name])
            await self.round(name, turn(0))
            if last and taken == len(self._taken[name]) and (errors == self._maybe_taken[name] or errors > 100):
                return

    def _key(self, kind: str) -> str:
        return f"{{{self._tag}}}:{kind}"

    async def _produce(self, number: int) -> None:
        kind = list(self._kinds)[number % len(self._kinds)]
        self._sent[kind].add(number)
        try:
            if kind == "bzpopmin":
                await done(self.client.zadd(self._key(kind), {str(number): number}))
            elif kind.startswith("xread"):
                await done(self.client.xadd(self._key(kind), {"n": number}))
            elif kind == "many":
                await done(self.client.rpush(self._lists[number // len(self._kinds) % 3], number))
            else:
                await done(self.client.rpush(self._key(kind), number))
        except redis.RedisError:
            self._maybe_sent[kind].add(number)
            raise

    def _consumer(self, kind: str) -> Turn:
        async def consume(number: int) -> None:
            try:
                found = await self._kinds[kind](self._key(kind))
            except redis.RedisError:
                self._maybe_taken[kind] += 1
                raise
            if found is not None:
                assert found in self._sent[kind], f"{kind} of {found}, which was never added"
                assert found not in self._taken[kind], f"{kind} of {found} a second time"
                self._taken[kind].add(found)

        return consume

    async def _blpop(self, key: str) -> int | None:
        found = await done(self.client.blpop(key, timeout=_BLOCK))
        return found and int(found[1])

    async def _brpop(self, key: str) -> int | None:
        found = await done(self.client.brpop(key, timeout=_BLOCK))
        return found and int(found[1])

    async def _many(self, key: str) -> int | None:
        found = await done(self.client.blpop(self._lists, timeout=_BLOCK))
        return found and int(found[1])

    async def _blmove(self, key: str) -> int | None:
        found = await done(self.client.blmove(key, key + ":to", _BLOCK))
        return found and int(found)

    async def _bzpopmin(self, key: str) -> int | None:
        found = await done(self.client.bzpopmin(key, timeout=_BLOCK))
        return found and int(found[1])

    async def _xread(self, key: str) -> int | None:
        found = await done(self.client.xread({key: self._last}, count=1, block=_BLOCK * 1000))
        if not found:
            return None
        self._last, fields = _entry(found)
        return int(fields[b"n"])

    async def _xreadgroup(self, key: str) -> int | None:
        """Read and acknowledge an entry; after an error, first those that were delivered before."""
        if self._no_group:
            try:
                await done(self.client.xgroup_create(key, "group", "0", mkstream=True))
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
            self._no_group = False
        start, self._pending = "0" if self._pending else ">", True
        options = {"count": 1, "block": _BLOCK * 1000}
        found = await done(self.client.xreadgroup("group", "consumer", {key: start}, **options))
        entry = _entry(found) if found else None
        if entry is None:
            self._pending = False
            return None if start == ">" else await self._xreadgroup(key)
        await done(self.client.xack(key, "group", entry[0]))
        self._pending = False
        return int(entry[1][b"n"])

    def check(self, client: redis.Redis) -> None:
        for kind, sent in self._sent.items():
            missing = sent - self._maybe_sent[kind] - self._taken[kind]
            if kind == "blmove":
                moved: Any = client.lrange(self._key(kind) + ":to", 0, -1)
                assert len(moved) == len(set(moved)), "an element was moved twice"
                missing -= set(map(int, moved))
            # Reading a stream takes nothing.
            most = 0 if kind in ("xread", "xreadgroup", "blmove") else self._maybe_taken[kind]
            assert len(missing) <= most, f"{kind}: {sorted(missing)} are lost, with {most} errors"


def _entry(reply: Any) -> Any:
    """Return the one entry of a reply to XREAD, of RESP2 or RESP3."""
    while isinstance(reply, list | dict):
        reply = next(iter(reply.values()), None) if isinstance(reply, dict) else reply[-1] if reply else None
        if isinstance(reply, tuple):
            return reply
    return None


class Values:
    """Which values a key can have: the last one that was written, and those of later writes without a reply."""

    def __init__(self) -> None:
        self._possible: defaultdict[str, set[Any]] = defaultdict(lambda: {None})

    def writes(self, key: str, value: Any) -> None:
        self._possible[key].add(value)

    def has(self, key: str, value: Any) -> None:
        """A value was written for sure, or was read."""
        assert value in self._possible[key], f"{key} is {value}, and not one of {self._possible[key]}"
        self._possible[key] = {value}

    def has_not(self, key: str, value: Any) -> None:
        """A value was not written for sure."""
        self._possible[key].discard(value)


class Cache(Workers):
    """A cache of Django or of Flask-Caching, with keys in many slots; and one whose keys are in one slot."""

    elsewhere = ("one", "several", "add", "memoize")

    def __init__(self, name: str, threads: Threads, everywhere: Any, together: Any) -> None:
        super().__init__("", threads)
        self.name = name
        self._cache, self._together = everywhere, together
        self._values = Values()
        self._calls: Counter[int] = Counter()
        self._logged = 0
        self._handler = logging.Handler(logging.ERROR)
        self._handler.emit = self.emit  # type: ignore[method-assign]
        if hasattr(everywhere, "memoize"):
            logging.getLogger("flask_caching").addHandler(self._handler)
        memoize = {"memoize": self._memoize} if hasattr(everywhere, "memoize") else {}
        self.start(one=self._one, several=self._several, add=self._add, **memoize)

    async def _one(self, number: int) -> None:
        """Keys in all slots."""
        key = f"key{number % 30}"
        self._values.writes(key, number)
        self._cache.set(key, number)
        self._values.has(key, number)
        self._values.has(key, self._cache.get(key))
        if number % 3 == 0:
            self._values.writes(key, None)
            self._cache.delete(key)
            self._values.has(key, None)
            assert self._cache.get(key) is None

    async def _several(self, number: int) -> None:
        """Set_many of Django is a transaction, whose keys must be in one slot."""
        keys = [f"many{number % 10}:{index}" for index in range(5)]
        for key in keys:
            self._values.writes(key, number)
        self._together.set_many(dict.fromkeys(keys, number))
        for key in keys:
            self._values.has(key, number)
        found = self._together.get_many(*keys) if hasattr(self._together, "memoize") else self._together.get_many(keys)
        found = list(found.values()) if isinstance(found, dict) else found
        assert found == [number] * 5, (found, number)
        if number % 2:
            for key in keys:
                self._values.writes(key, None)
            delete_many = self._together.delete_many
            delete_many(*keys) if hasattr(self._together, "memoize") else delete_many(keys)
            for key in keys:
                self._values.has(key, None)

    async def _add(self, number: int) -> None:
        """A second add does nothing."""
        key = f"add{number}"
        self._values.writes(key, 1)
        assert self._cache.add(key, 1)
        self._values.has(key, 1)
        assert not self._cache.add(key, 2)
        self._values.has(key, self._cache.get(key))

    async def _memoize(self, number: int) -> None:
        """A function is called once for each argument, unless its result could not be stored."""
        argument = number // 3

        @self._cache.memoize()  # type: ignore[untyped-decorator]
        def square(value: int) -> int:
            self._calls[value] += 1
            return value * value

        assert square(argument) == argument * argument
        assert self._calls[argument] <= 1 + self._logged, "the function was called again"

    def emit(self, record: logging.LogRecord) -> None:
        """Note an error that Flask-Caching has only logged."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            self._logged += 1
            self.errors.append(f"logged: {type(error).__name__}: {error}")

    async def stop(self) -> None:
        await super().stop()
        logging.getLogger("flask_caching").removeHandler(self._handler)


class Messages(Workers):
    """A worker publishes numbers to a channel, a channel of a pattern and a shard channel; another is subscribed.

    A number may be missing only where the subscriber has seen that it was subscribed once more.
    """

    elsewhere = ("subscribe",)

    def __init__(self, library: Any, tag: str) -> None:
        super().__init__("subscriptions", library)
        self._channel, self._pattern, self._shard = f"{{{tag}}}:news", f"{{{tag}}}:p:*", f"{{{tag}}}:shard"
        self._channels = self._channel, f"{{{tag}}}:p:1", self._shard
        self.log = MessageLog(self._channels)
        self._pubsub: Any = None
        self._publishing = True
        self._sharded = False
        self.start(publish=self._publish, subscribe=self._receive)

    async def _work(self, name: str, turn: Turn) -> None:
        await super()._work(name, turn)
        if name == "publish":
            self._publishing = False
            return
        silent = False
        while not silent:
            last, before = not self._publishing, self.log.events
            await self.round(name, self._receive(0))
            silent = last and before == self.log.events
        await done(self._pubsub.aclose() if hasattr(self._pubsub, "aclose") else self._pubsub.close())

    async def _publish(self, number: int) -> None:
        channel = self._channels[number % 3]
        if not self.log.subscribed:
            return
        send = self.client.spublish if channel == self._shard and self._sharded else self.client.publish
        try:
            await done(send(channel, number))
        except redis.RedisError:
            self.log.maybe(channel, number)
            raise
        self.log.sent(channel, number)

    async def _receive(self, number: int) -> None:
        if self._pubsub is None:
            self._pubsub = self.client.pubsub()
            await done(self._pubsub.subscribe(self._channel))
            await done(self._pubsub.psubscribe(self._pattern))
            # Redis.asyncio 6 has no SSUBSCRIBE.
            self._sharded = hasattr(self._pubsub, "ssubscribe")
            await done((self._pubsub.ssubscribe if self._sharded else self._pubsub.subscribe)(self._shard))
        try:
            message = await done(self._pubsub.get_message(timeout=_BLOCK))
        except redis.RedisError:
            for channel in self._channels:
                self.log.gap(channel)
            raise
        if message is None:
            return
        channel = message["channel"].decode()
        if message["type"].endswith("subscribe"):
            self.log.gap(self._channels[1] if channel == self._pattern else channel)
        else:
            self.log.received(channel, int(message["data"]))

    @property
    def seen(self) -> str:
        return self.log.summary

    def check(self, client: redis.Redis) -> None:
        self.log.check()


class TwistedLibrary(Workers):
    """Commands, transactions, blocking pops and a subscriber of txredisapi."""

    elsewhere = ("commands",)

    def __init__(self, pool: Pool, tag: str) -> None:
        super().__init__("commands, transactions, blocking commands, subscriber", pool)
        self._tag = tag
        self._values = Values()
        self._x = 0
        self._maybe_x = 0
        self._sent: set[int] = set()
        self._taken: set[int] = set()
        self._maybe_taken = 0
        #: Transactions that were not executed, although nobody has changed their watched keys.
        self.refused = 0
        self._channels = f"{{{tag}}}:news", f"{{{tag}}}:p:1"
        self.log = MessageLog(self._channels)
        self._subscriber = _SubscriberFactory(self.log, f"{{{tag}}}:p:*")
        self._subscriber.startConnecting(TCP4ClientEndpoint(_reactor, HOST, pool.port))
        pool.factories.append(self._subscriber)
        self.start(
            commands=self._commands,
            multi=self._multi,
            watch=self._watch,
            push=self._push,
            pop=self._pop,
            publish=self._publish,
        )

    def _key(self, name: str) -> str:
        return f"{{{self._tag}}}:{name}"

    async def _commands(self, number: int) -> None:
        """Keys in many slots."""
        key = f"txredisapi:{number % 30}"
        self._values.writes(key, number)
        await self.client.set(key, number)
        self._values.has(key, number)
        self._values.has(key, await self.client.get(key))

    async def _transaction(self, begun: Deferred[Any], change: Callable[[Any], Awaitable[Any]]) -> Any:
        transaction = await begun
        try:
            return await change(transaction)
        except txredisapi.WatchError:
            raise
        except txredisapi.RedisError:
            # This gives the connection back to the pool.  There is nothing to discard if it was EXEC that has failed.
            if transaction.connected and transaction.inTransaction:
                end = transaction.discard if transaction.inMulti else transaction.unwatch
                await end().addErrback(lambda failure: failure.trap(txredisapi.RedisError))
            raise

    async def _multi(self, number: int) -> None:
        async def change(transaction: Any) -> Any:
            await transaction.incr(self._key("x"))
            await transaction.incr(self._key("y"))
            return await transaction.commit()

        try:
            x, y = await self._transaction(self.client.multi(), change)
        except txredisapi.RedisError:
            self._maybe_x += 1
            raise
        self._x += 1
        assert x == y, (x, y)
        assert self._x <= x <= self._x + self._maybe_x, (x, self._x, self._maybe_x)

    async def _watch(self, number: int) -> None:
        """Another connection changes the key in every second round: the transaction must not be executed.

        It is not executed either if the primary has changed, since nobody knows whether the key has changed then.
        """
        key = self._key("watched")
        changed = number % 2 == 0
        if changed:
            self._values.writes(key, number)

        async def change(transaction: Any) -> Any:
            if changed:
                await self.client.set(key, number)
                self._values.has(key, number)
            await transaction.multi()
            await transaction.set(key, -number)
            self._values.writes(key, -number)
            return await transaction.commit()

        try:
            await self._transaction(self.client.watch(key), change)
            assert not changed, "a watched key has changed, and the transaction was executed"
            self._values.has(key, -number)
        except txredisapi.WatchError:
            self._values.has_not(key, -number)
            self.refused += not changed
        self._values.has(key, await self.client.get(key))

    async def _push(self, number: int) -> None:
        self._sent.add(number)
        try:
            await self.client.rpush(self._key("list"), number)
        except txredisapi.RedisError:
            # It may be popped, or not.
            self._maybe_taken += 1
            raise

    async def _pop(self, number: int) -> None:
        try:
            found = await self.client.blpop(self._key("list"), timeout=_BLOCK)
        except txredisapi.RedisError:
            self._maybe_taken += 1
            raise
        if found is not None:
            assert found[1] in self._sent - self._taken, f"{found[1]} was not added, or came twice"
            self._taken.add(found[1])

    async def _publish(self, number: int) -> None:
        if not self.log.subscribed:
            return
        channel = self._channels[number % 2]
        try:
            await self.client.publish(channel, number)
        except txredisapi.RedisError:
            self.log.maybe(channel, number)
            raise
        self.log.sent(channel, number)

    async def stop(self) -> None:
        await super().stop()
        # All that was published before this message has come when it has come.
        while not self.log.ended:
            for channel in self._channels:
                await self.client.publish(channel, 0)
            await deferLater(_reactor, 0.1)

    @property
    def seen(self) -> str:
        return f"{self.log.summary}; {self.refused} transactions refused"

    def check(self, client: redis.Redis) -> None:
        left = {int(each) for each in client.lrange(self._key("list"), 0, -1)}
        missing = self._sent - self._taken - left
        assert not left & self._taken
        assert len(missing) <= self._maybe_taken, f"{sorted(missing)} are lost, with {self._maybe_taken} errors"
        self.log.check()


class _Subscriber(txredisapi.SubscriberProtocol):  # type: ignore[misc]
    """Subscribes on each new connection."""

    def connectionMade(self) -> None:
        super().connectionMade()
        log = self.factory.log
        # An error is that of a lost connection; the next one subscribes again.
        self.subscribe(log.channels[0]).addCallbacks(lambda reply: log.gap(log.channels[0]), lambda failure: None)
        self.psubscribe(self.factory.pattern).addCallbacks(lambda reply: log.gap(log.channels[1]), lambda failure: None)

    def messageReceived(self, pattern: str | None, channel: str, message: int) -> None:
        self.factory.log.received(channel, message)


class _SubscriberFactory(txredisapi.SubscriberFactory):  # type: ignore[misc]
    protocol = _Subscriber
    initialDelay = 0.1

    def __init__(self, log: MessageLog, pattern: str) -> None:
        super().__init__()
        self.log = log
        self.pattern = pattern


class MessageLog:
    """What was published to some channels, and what a subscriber has received.  None is a gap."""

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = channels
        self._sent: dict[str, list[int]] = {channel: [] for channel in channels}
        self._maybe: dict[str, set[int]] = {channel: set() for channel in channels}
        self._seen: dict[str, list[int | None]] = {channel: [] for channel in channels}
        self.gaps = 0
        self.events = 0
        self._ends: set[str] = set()

    @property
    def subscribed(self) -> bool:
        return all(self._seen.values())

    @property
    def summary(self) -> str:
        """How often a channel was subscribed anew, and how many messages are missing so far."""
        missing = sum(len(set(self._sent[channel]) - set(self._seen[channel])) for channel in self.channels)
        return f"; {self.gaps} times subscribed anew; {missing} messages missing"

    def sent(self, channel: str, number: int) -> None:
        self._sent[channel].append(number)

    def maybe(self, channel: str, number: int) -> None:
        self._maybe[channel].add(number)

    @property
    def ended(self) -> bool:
        """Whether a last message, 0, has come on each channel."""
        return len(self._ends) == len(self.channels)

    def received(self, channel: str, number: int) -> None:
        if number == 0:
            self._ends.add(channel)
            return
        self.events += 1
        self._seen[channel].append(number)

    def gap(self, channel: str) -> None:
        self.events += 1
        self.gaps += bool(self._seen[channel])
        self._seen[channel].append(None)

    def check(self) -> None:
        """No message came twice or too late, and those that are missing are in gaps."""
        for channel, seen in self._seen.items():
            came = [number for number in seen if number is not None]
            assert came == sorted(set(came)), f"{channel}: wrong order, or messages that came twice: {came}"
            assert set(came) <= {*self._sent[channel], *self._maybe[channel]}, channel
            missing = sorted(set(self._sent[channel]) - set(came))
            gaps = list(_gaps(seen))
            lost = [number for number in missing if not any(first < number < last for first, last in gaps)]
            assert not lost, f"{channel}: {lost} are missing without a gap; gaps: {gaps}"


def _gaps(seen: Sequence[int | None]) -> Iterator[tuple[float, float]]:
    """Find the numbers before and after each gap."""
    for index, number in enumerate(seen):
        if number is None:
            before = [each for each in seen[:index] if each is not None]
            after = [each for each in seen[index:] if each is not None]
            yield (before[-1] if before else 0, after[0] if after else float("inf"))
