"""``ClusterClient.submit`` on real servers: requests of others while slots move and nodes fail."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.cluster.base import ClusterTests
from txvalkeycluster import ClientClosed, ClusterClient, Statistics, key_slot

# The most requests for a key that are under way, and how many are submitted at a time.
_DEPTH, _AT_ONCE = 12, 3


def encoded(*words: str | int) -> bytes:
    """Return a request in RESP."""
    found = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(found) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in found)


def number(result: Any) -> int:
    """Return the number in a reply, raw or parsed."""
    if isinstance(result, bytes) and result.endswith(b"\r\n"):
        result = result[1:-2].rpartition(b"\n")[2] or 0
    return int(result or 0)


class Sent:
    """One request of a key: whether it counts, and its result."""

    def __init__(self, key: CountedKey, counts: bool) -> None:
        self.key = key
        self.counts = counts
        self.result: Any = None
        self.ended = self.delayed = False

    @property
    def request(self) -> bytes:
        return encoded("INCR" if self.counts else "GET", self.key.name)


class CountedKey:
    """A key that pipelined requests count up and read, as those of one client of a proxy.

    While one of them is delayed, no other is sent.  So they must be executed in their order.
    """

    def __init__(self, name: str, *, strict: bool) -> None:
        self.name = name
        self.slot = key_slot(name)
        # Whether the order must hold also for those that were under way when one of them was delayed.  It does for
        # redirects.  If a server refuses one for a moment, it can execute those behind it before.
        self._strict = strict
        #: The value that the server has at least, and how much more it may have, of requests without a reply.
        self.value = self.doubtful = 0
        #: Whether its primary was killed: then acknowledged counts may be lost.
        self.lossy = False
        self.under_way: deque[Sent] = deque()
        self._number = 0

    def more(self) -> list[Sent]:
        """Return the requests that may be submitted now."""
        waits = any(sent.delayed and not sent.ended for sent in self.under_way) if self._strict else self._loose
        if waits or len(self.under_way) + _AT_ONCE > _DEPTH:
            return []
        self._number += 1
        found = [Sent(self, (self._number + place) % 3 > 0) for place in range(_AT_ONCE)]
        self.under_way += found
        return found

    @property
    def _loose(self) -> bool:
        return any(sent.delayed or isinstance(sent.result, Exception) for sent in self.under_way)

    def check(self) -> list[str]:
        """Check the results that have come; return what is wrong."""
        found: list[str] = []
        if not self._strict and (self._loose or self.lossy):
            if all(sent.ended for sent in self.under_way):
                found += self._check_loosely()
            return found
        while self.under_way and self.under_way[0].ended:
            sent = self.under_way.popleft()
            low = self.value + sent.counts
            if isinstance(sent.result, Exception):
                found.append(f"{self.name}: {sent.result!r}")
            elif not low <= (value := number(sent.result)) <= low + self.doubtful:
                found.append(f"{self.name}: {value} instead of {low} to {low + self.doubtful}")
            else:
                self.doubtful -= value - low
                self.value = value
        return found

    def _check_loosely(self) -> list[str]:
        """Check the results of all that was under way together: nothing was counted twice."""
        done, self.under_way = list(self.under_way), deque()
        self.doubtful += sum(
            sent.counts and isinstance(sent.result, Exception) and sent.result.maybe_executed  # type: ignore[attr-defined]
            for sent in done
        )
        right = [sent for sent in done if not isinstance(sent.result, Exception)]
        counted = [number(sent.result) for sent in right if sent.counts]
        values = [number(sent.result) for sent in right]
        low, known = 0 if self.lossy else self.value, self.value + len(counted)
        high = known + self.doubtful
        before = f"{self.name}: {values}, {counted} counted, for {low} to {high}"
        if self.lossy:
            self.value = max(values, default=self.value)
        else:
            highest = max([known, *values])
            self.value, self.doubtful = highest, self.doubtful - (highest - known)
        fine = all(low <= value <= high for value in values) and len(set(counted)) == len(counted)
        return [] if fine else [before]


# The slots that move, and the keys: a quarter of them are in these slots.
MOVED = range(200)
_ALL = [f"relay:{number}" for number in range(10_000)]
NAMES = [
    *[name for name in _ALL if key_slot(name) in MOVED][:50],
    *[name for name in _ALL if key_slot(name) > 200][:150],
]


class Load:
    """Counts many keys up.  All requests of a turn of the reactor are submitted together, as a proxy does."""

    def __init__(self, client: ClusterClient[bytes], *, strict: bool) -> None:
        self.client = client
        self.keys = [CountedKey(name, strict=strict) for name in NAMES]
        self.replies = 0
        self.delays = 0
        self.wrong: list[str] = []
        self.errors: Counter[str] = Counter()
        self._stopping = False
        self._running = Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        while not self._stopping or any(key.under_way for key in self.keys):
            if not self._stopping:
                batch = self.client.relay_batch()
                for key in self.keys:
                    for sent in key.more():
                        batch.add(sent, key.slot, sent.request)
                self.client.submit(batch, self._replied, on_delay=self._delayed)
            await deferLater(reactor, 0)

    def _delayed(self, sent: Sent) -> None:
        self.delays += 1
        sent.delayed = True

    def _replied(self, tags: Sequence[Sent], replies: Sequence[Any]) -> None:
        self.replies += len(tags)
        for sent, reply in zip(tags, replies, strict=True):
            if sent.ended:
                self.wrong.append(f"a second result for {sent.request!r}: {reply!r}")
            sent.ended, sent.result = True, reply
            if isinstance(reply, Exception):
                name = "INCR" if sent.counts else "GET"
                self.errors[f"{name}: {type(reply).__name__} {getattr(reply, 'maybe_executed', '')}"] += 1
            elif isinstance(reply, bytes) and reply.startswith(b"-"):
                self.errors[reply.decode()] += 1
            self.wrong += sent.key.check()

    async def progress(self, replies: int = 5000) -> None:
        """Wait until so many replies more have come."""
        goal = self.replies + replies
        while self.replies < goal:
            await deferLater(reactor, 0.01)

    async def stop(self) -> None:
        """Submit no more requests, and wait for the end of the others."""
        self._stopping = True
        await self._running


def _collect(found: dict[Any, Any], tags: Sequence[Any], replies: Sequence[Any]) -> None:
    found.update(zip(tags, replies, strict=True))


class LoadTests(ClusterTests):
    async def relay_while(
        self, change: Callable[[Load], Awaitable[object]], *, strict: bool = False, **options: Any
    ) -> tuple[Load, Statistics]:
        """Relay requests while the cluster changes, and check that no reply is wrong, missing or out of order."""
        client = await self.connect(**{"raw_replies": True, **options})
        load = Load(client, strict=strict)
        await load.progress()
        await change(load)
        await load.progress()
        await load.stop()
        self.assertEqual(load.wrong, [])
        statistics = client.statistics
        await client.close()
        return load, statistics

    async def test_slots_move(self) -> None:
        """Slots that move key by key (ASK) or at once (MOVED) cause no error and change no order, raw or parsed."""
        one, other = self.cluster.servers[:2]

        async def by_key(_: Load) -> None:
            for source, target in ((one, other), (other, one)):
                await self.cluster.migrate_by_key(MOVED, source, target)

        async def atomically(_: Load) -> None:
            for source, target in ((one, other), (other, one)):
                await self.cluster.migrate_atomically(MOVED[0], MOVED[-1], source, target)

        for raw in (True, False):
            for change in (by_key, atomically):
                load, statistics = await self.relay_while(change, strict=True, raw_replies=raw)
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
        client.submit(batch, partial(_collect, found))
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
            client.submit(batch, partial(_collect, found))
            await end(client)
            self.assertEqual(len(found), 5000)
            if end is ClusterClient.close:
                self.assertEqual([found[tag] for tag in range(5000)], [b":%d\r\n" % (tag + 1) for tag in range(5000)])
            else:
                kinds = {(type(error), error.maybe_executed) for error in found.values()}
                self.assertEqual(kinds, {(ClientClosed, True)})
            late = client.relay_batch()
            late.add("late", key_slot("key"), encoded("INCR", "key"))
            client.submit(late, partial(_collect, found))
            await deferLater(reactor, 0)
            await deferLater(reactor, 0)
            self.assertIsInstance(found["late"], ClientClosed)
