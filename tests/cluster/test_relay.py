"""``ClusterClient.submit`` on real servers: requests of others while slots move and nodes fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.cluster.base import ClusterTests
from txvalkeycluster import ClientClosed, ClusterClient, Statistics, key_slot

# What each counter asks for at a time: whether the request counts.
_ROUND = (True, False, True, True, False, True)


def encoded(*words: str | int) -> bytes:
    """Return a request in RESP."""
    found = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(found) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in found)


class CountedKey:
    """A key that several requests at a time count up and read.  What must come back is known."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.slot = key_slot(name)
        #: The value that the server has at least, and how much more it may have: of requests without a reply.
        self.value = 0
        self.doubtful = 0
        #: Whether its primary was killed: then acknowledged counts may be lost.
        self.lossy = False
        #: The results of this round, by place.
        self.results: dict[int, Any] = {}
        #: Whether a request of this round was delayed, so that others may have been executed before it.
        self.delayed = False

    def check(self) -> str:
        """Check the results of a round; return what is wrong, or an empty text."""
        results, self.results = [self.results[place] for place in range(len(_ROUND))], {}
        values = [number(result) for result in results]
        counts = sum(_ROUND)
        self.doubtful += sum(
            count and isinstance(result, Exception) and result.maybe_executed  # type: ignore[attr-defined]
            for count, result in zip(_ROUND, results, strict=True)
        )
        strict, self.delayed = not self.delayed and not self.doubtful and not self.lossy, False
        if strict:
            wanted = [self.value + sum(_ROUND[: place + 1]) for place in range(len(_ROUND))]
            right = values == wanted
            self.value += counts
        else:
            done = [value for value in values if value is not None]
            low, high = 0 if self.lossy else self.value, self.value + counts + self.doubtful
            counted = [value for count, value in zip(_ROUND, values, strict=True) if count and value is not None]
            right = all(low <= value <= high for value in done) and len(set(counted)) == len(counted)
            known = self.value + len(counted)
            self.value = max(done, default=self.value) if self.lossy else max([known, *done])
            self.doubtful -= 0 if self.lossy else min(self.doubtful, self.value - known)
        return (
            "" if right else f"{self.name} strict={strict}: {results}, with {self.value} and {self.doubtful} doubtful"
        )


def number(result: Any) -> int | None:
    """Return the number in a reply, raw or parsed; None for an error."""
    if isinstance(result, Exception):
        return None
    if isinstance(result, bytes) and result.endswith(b"\r\n"):
        result = result[1:-2].rpartition(b"\n")[2] or 0
    return int(result or 0)


class Load:
    """Counts many keys up.  All requests of a turn of the reactor are submitted together, as a proxy does."""

    def __init__(self, client: ClusterClient[bytes]) -> None:
        self.client = client
        self.keys = [CountedKey(f"relay:{number}") for number in range(200)]
        self.rounds = 0
        self.delays = 0
        self.wrong: list[str] = []
        self.errors: Counter[str] = Counter()
        self._ready = list(self.keys)
        self._stopping = False
        self._running = Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        while not self._stopping or len(self._ready) < len(self.keys):
            if self._ready and not self._stopping:
                batch = self.client.relay_batch()
                ready, self._ready = self._ready, []
                for key in ready:
                    for place, count in enumerate(_ROUND):
                        batch.add((key, place), key.slot, encoded("INCR" if count else "GET", key.name))
                self.client.submit(batch, self._replied, on_delay=self._delayed)
            await deferLater(reactor, 0)

    def _delayed(self, tag: tuple[CountedKey, int]) -> None:
        self.delays += 1
        tag[0].delayed = True

    def _replied(self, tags: Sequence[tuple[CountedKey, int]], replies: Sequence[Any]) -> None:
        for (key, place), reply in zip(tags, replies, strict=True):
            if place in key.results:
                self.wrong.append(f"a second result for request {place} of {key.name}: {reply!r}")
            key.results[place] = reply
            if isinstance(reply, Exception):
                name = "INCR" if _ROUND[place] else "GET"
                self.errors[f"{name}: {type(reply).__name__} {getattr(reply, 'maybe_executed', '')}"] += 1
            elif isinstance(reply, bytes) and reply.startswith(b"-"):
                self.errors[reply.decode()] += 1
            if len(key.results) == len(_ROUND):
                self.rounds += 1
                fault = key.check()
                if fault:
                    self.wrong.append(fault)
                self._ready.append(key)

    async def progress(self, rounds: int = 1000) -> None:
        """Wait until so many rounds more have ended."""
        goal = self.rounds + rounds
        while self.rounds < goal:
            await deferLater(reactor, 0.01)

    async def stop(self) -> None:
        """Start no more rounds, and wait for the end of the others."""
        self._stopping = True
        await self._running


class LoadTests(ClusterTests):
    async def relay_while(self, change: Callable[[Load], Awaitable[object]], **options: Any) -> tuple[Load, Statistics]:
        """Relay requests while the cluster changes, and check that no reply is wrong, missing or out of order."""
        client = await self.connect(**{"raw_replies": True, **options})
        load = Load(client)
        await load.progress()
        await change(load)
        await load.progress()
        await load.stop()
        self.assertEqual(load.wrong, [])
        statistics = client.statistics
        await client.close()
        return load, statistics

    async def test_slots_move(self) -> None:
        """Slots that move key by key (ASK) or at once (MOVED) cause no error, with raw and with parsed replies."""
        one, other = self.cluster.servers[:2]

        async def by_key(_: Load) -> None:
            for source, target in ((one, other), (other, one)):
                await self.cluster.migrate_by_key(range(1000), source, target)

        async def atomically(_: Load) -> None:
            for source, target in ((one, other), (other, one)):
                await self.cluster.migrate_atomically(0, 999, source, target)

        for raw in (True, False):
            for change in (by_key, atomically):
                load, statistics = await self.relay_while(change, raw_replies=raw)
                self.assertEqual(load.errors, {})
                self.assertGreater(statistics.moved, 0)
                self.assertGreater(load.delays, 0)
                if change is by_key:
                    self.assertGreater(statistics.asked, 0)
                client = await self.connect()
                await client.execute("DEL", *(key.name for key in load.keys))

    async def test_graceful_failover(self) -> None:
        """A graceful failover causes no error."""

        async def hand_over(_: Load) -> None:
            for replica in (self.cluster.servers[3], self.cluster.servers[0]):
                await self.cluster.failover(replica)
                await self.cluster.wait_until_whole()

        load, _ = await self.relay_while(hand_over)
        self.assertEqual(load.errors, {})

    async def test_sigkill(self) -> None:
        """Only counts that were sent and not answered fail, and say so; none is sent twice. Every read is answered."""
        victim = self.cluster.servers[0]

        async def kill(load: Load) -> None:
            owned = {slot for part in await self.cluster.ranges_of(victim) for slot in part}
            for key in load.keys:
                key.lossy = key.slot in owned
            await self.cluster.kill(victim)
            await self.cluster.wait_for_takeover(victim)

        load, statistics = await self.relay_while(kill)
        self.assertLessEqual(set(load.errors), {"INCR: ConnectionLost True"})
        self.assertGreater(statistics.repeated + sum(load.errors.values()), 0)

    async def test_a_paused_primary(self) -> None:
        """If a primary hangs, what was sent to it fails, may have been executed, and is not sent again."""
        victim = self.cluster.servers[1]

        async def pause(load: Load) -> None:
            owned = {slot for part in await self.cluster.ranges_of(victim) for slot in part}
            for key in load.keys:
                key.lossy = key.slot in owned
            await self.cluster.pause(victim)
            await self.cluster.wait_for_takeover(victim)

        load, _ = await self.relay_while(pause, unresponsive_after=1.0)
        self.assertLessEqual(set(load.errors), {"INCR: ConnectionLost True"})
        await self.cluster.resume(victim)


class RawTests(ClusterTests):
    options: ClassVar[dict[str, Any]] = {"replicas": 0, "config": {"enable-debug-command": "yes"}}

    async def replies(self, client: ClusterClient[bytes], *requests: tuple[str | int, ...]) -> list[Any]:
        """Submit requests, of which the second word is the key, and return their results."""
        batch = client.relay_batch()
        found: dict[int, Any] = {}
        for tag, words in enumerate(requests):
            batch.add(tag, key_slot("key"), encoded(*words))
        client.submit(batch, lambda tags, replies: found.update(zip(tags, replies, strict=True)))
        while len(found) < len(requests):
            await deferLater(reactor, 0.001)
        return [found[tag] for tag in range(len(requests))]

    async def test_the_bytes_of_the_server(self) -> None:
        """Every kind of reply is the server's own bytes, with RESP3 and with RESP2, and no push is one of them."""
        for protocol in (3, 2):
            client = await self.connect(raw_replies=True, protocol=protocol)
            pushes = [("DEBUG", "PROTOCOL", "push"), ("DEBUG", "PROTOCOL", "attrib")] if protocol == 3 else []
            got = await self.replies(
                client,
                ("SET", "key", "v\r\n-ERR\r\n"),
                ("GET", "key"),
                ("GET", "{key}none"),
                ("INCR", "key"),
                ("NOSUCHCOMMAND", "key"),
                ("HSET", "{key}h", "a", 1),
                ("HGETALL", "{key}h"),
                ("ZADD", "{key}z", "1.5", "m"),
                ("ZSCORE", "{key}z", "m"),
                ("SADD", "{key}s", "m"),
                ("SMEMBERS", "{key}s"),
                ("DEBUG", "PROTOCOL", "bignum"),
                ("DEBUG", "PROTOCOL", "true"),
                ("DEBUG", "PROTOCOL", "verbatim"),
                ("DEBUG", "PROTOCOL", "null"),
                ("DEBUG", "PROTOCOL", "map"),
                ("EVAL", "return redis.error_reply(string.rep('x', 100000))", 0),
                ("EVAL", "return redis.status_reply(string.rep('x', 1000000))", 0),
                ("EVAL", "return string.rep('x', 1000000)", 0),
                *pushes,
                ("GET", "{key}none"),
            )
            null = b"_\r\n" if protocol == 3 else b"$-1\r\n"
            self.assertEqual(got[:4], [b"+OK\r\n", b"$9\r\nv\r\n-ERR\r\n\r\n", null, got[3]])
            self.assertTrue(got[3].startswith(b"-ERR value is not an integer"), got[3])
            self.assertTrue(got[4].startswith(b"-ERR unknown command"), got[4])
            fields = b"$1\r\na\r\n$1\r\n1\r\n"
            self.assertEqual(got[6], (b"%1\r\n" if protocol == 3 else b"*2\r\n") + fields)
            self.assertEqual(got[8], b",1.5\r\n" if protocol == 3 else b"$3\r\n1.5\r\n")
            self.assertEqual(got[10], (b"~" if protocol == 3 else b"*") + b"1\r\n$1\r\nm\r\n")
            kinds = b"".join(reply[:1] for reply in got[11:16])
            self.assertEqual(kinds, b"(#=_%" if protocol == 3 else b"$:$$*")
            self.assertEqual(got[16][:5], b"-ERR ")
            self.assertGreater(len(got[16]), 100_000)
            self.assertEqual(got[17], b"+" + b"x" * 1_000_000 + b"\r\n")
            self.assertEqual(got[18], b"$1000000\r\n" + b"x" * 1_000_000 + b"\r\n")
            if pushes:
                self.assertTrue(got[20].startswith(b"|1\r\n"), got[20])
            self.assertEqual(got[-1], null)
            self.assertEqual(await client.get("key"), b"v\r\n-ERR\r\n")
            await client.close()

    async def test_close_and_abort(self) -> None:
        """close() waits for the relayed requests, and abort() ends them. Afterwards all fail, and are not sent."""
        for end in (ClusterClient.close, ClusterClient.abort):
            client = await self.connect(raw_replies=True)
            await client.get("key")
            await deferLater(reactor, 0)
            found: dict[Any, Any] = {}
            batch = client.relay_batch()
            for tag in range(5000):
                batch.add(tag, key_slot("key"), encoded("INCR", f"{{key}}{end.__name__}"))
            client.submit(batch, lambda tags, replies, found=found: found.update(zip(tags, replies, strict=True)))
            await end(client)
            self.assertEqual(len(found), 5000)
            if end is ClusterClient.close:
                self.assertEqual([found[tag] for tag in range(5000)], [b":%d\r\n" % (tag + 1) for tag in range(5000)])
            else:
                kinds = {(type(error), error.maybe_executed) for error in found.values()}
                self.assertEqual(kinds, {(ClientClosed, True)})
            late = client.relay_batch()
            late.add("late", key_slot("key"), encoded("INCR", "key"))
            client.submit(late, lambda tags, replies, found=found: found.update(zip(tags, replies, strict=True)))
            await deferLater(reactor, 0)
            await deferLater(reactor, 0)
            self.assertIsInstance(found["late"], ClientClosed)
