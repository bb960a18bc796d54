"""SCAN through the proxy: cursors as of one server, and no key is missed while the cluster changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import redis
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from tests.cases import SynchronousTestCase
from tests.proxy.base import HOST, ProxyTests, Wire, frames_of, request
from txvalkeycluster import key_slot
from txvalkeycluster.proxy.commands import scans
from txvalkeycluster.proxy.commands.scans import Scans, UnknownCursor

_UNKNOWN = b"-ERR this cursor is not known: the scan has expired, or its options have changed; start with 0\r\n"
Page = tuple[int, list[bytes]]


class Keys:
    """Gives numbered keys, each of them as soon as it may, and notes that it is closed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.closed = False
        #: If there is one, the next key waits for it.
        self.gate: Deferred[None] | None = None

    async def __call__(self) -> AsyncIterator[bytes]:
        try:
            for number in range(self.count):
                if self.gate is not None:
                    await self.gate
                yield b"%d" % number
        finally:
            self.closed = True


def numbered(*numbers: int) -> list[bytes]:
    """Return keys as `Keys` gives them."""
    return [b"%d" % number for number in numbers]


class ScansTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.scans = Scans(self.clock, 7)

    def begin(self, keys: Keys, owner: object = None, words: tuple[bytes, ...] = ()) -> int:
        """Begin a scan."""
        return self.scans.begin(owner, words, keys())

    def stepping(
        self, cursor: int, count: int = 2, owner: object = None, words: tuple[bytes, ...] = ()
    ) -> Deferred[Page]:
        """Ask for a step."""
        return ensureDeferred(self.scans.step(owner, cursor, words, count))

    def step(self, cursor: int, count: int = 2) -> Page:
        """Return the result of a step."""
        return self.successResultOf(self.stepping(cursor, count))

    def refused(self, cursor: int, *, owner: object = None, words: tuple[bytes, ...] = ()) -> None:
        """Check that a cursor is refused."""
        self.failureResultOf(self.stepping(cursor, owner=owner, words=words), UnknownCursor)

    def test_steps(self) -> None:
        """A scan gives every key once, as many for each step as wanted, and then the cursor 0."""
        keys = Keys(5)
        first = self.begin(keys)
        second, found = self.step(first)
        self.assertEqual((found, len(self.scans)), (numbered(0, 1), 1))
        third, found = self.step(second, 1)
        self.assertEqual(found, numbered(2))
        last, found = self.step(third, 10)
        self.assertEqual((last, found, keys.closed, len(self.scans)), (0, numbered(3, 4), True, 0))
        self.assertEqual(len({first, second, third}), 3)

    def test_cursors(self) -> None:
        """Cursors fit into 53 bits, differ from scan to scan, and tell which worker has the scan."""
        cursors = [self.begin(Keys(3)) for _ in range(500)]
        cursors += [self.step(cursor, 1)[0] for cursor in cursors]
        self.assertEqual(len(set(cursors)), 1000)
        self.assertTrue(all(0 < cursor < 1 << 53 for cursor in cursors))
        other = Scans(self.clock, 8)
        self.assertEqual({other.owner_among([6, 7, 9], cursor) for cursor in cursors}, {7})
        self.assertEqual({self.scans.owner_among([6, 8, 9], cursor) for cursor in cursors}, {None})
        self.assertEqual({other.owner_among([6, 9], cursor) for cursor in cursors}, {None})

    def test_a_step_again(self) -> None:
        """The last cursor gives the same page again, also with another number of keys, and the first and last page."""
        first = self.begin(Keys(3))
        page = self.step(first)
        self.assertEqual([self.step(first), self.step(first, 1), self.step(first, 99)], [page] * 3)
        end = self.step(page[0])
        self.assertEqual((end, self.step(page[0])), ((0, numbered(2)), end))
        self.refused(first)

    def test_wrong_cursors(self) -> None:
        """A cursor of nobody, of another owner, with other options or out of turn is refused, and changes nothing."""
        first = self.begin(Keys(9), "alice", (b"MATCH", b"a"))
        words = (b"MATCH", b"a")
        for cursor in (first + 1, first - 1, first + 255, first + (1 << 30), 1, (1 << 64) - 1):
            self.refused(cursor, owner="alice", words=words)
        self.refused(first, owner="bob", words=words)
        self.refused(first, words=words)
        self.refused(first, owner="alice")
        self.refused(first, owner="alice", words=(b"MATCH", b"b"))
        second, found = self.successResultOf(self.stepping(first, 2, "alice", words))
        self.assertEqual(found, numbered(0, 1))
        third, found = self.successResultOf(self.stepping(second, 2, "alice", words))
        self.assertEqual(found, numbered(2, 3))
        self.refused(first, owner="alice", words=words)
        self.assertEqual(self.successResultOf(self.stepping(third, 2, "alice", words))[1], numbered(4, 5))

    def test_many_steps(self) -> None:
        """A scan can have any number of steps, and each of them can be repeated."""
        cursor, found = self.begin(Keys(2000)), []
        while True:
            following, page = self.step(cursor, 1)
            self.assertEqual(self.step(cursor, 1), (following, page))
            found += page
            if not following:
                break
            cursor = following
        self.assertEqual(found, numbered(*range(2000)))

    def test_expiry(self) -> None:
        """A scan that is not used for ten minutes is forgotten, and its iterator closed."""
        old, used = Keys(9), Keys(9)
        first, second = self.begin(old), self.begin(used)
        first = self.step(first)[0]
        self.clock.advance(300.0)
        second = self.step(second)[0]
        self.clock.advance(301.0)
        self.scans.expire()
        self.assertEqual((old.closed, used.closed, len(self.scans)), (True, False, 1))
        self.refused(first)
        self.assertEqual(self.step(second)[1], numbered(2, 3))

    def test_number(self) -> None:
        """Above the limit the scan that was used least recently is forgotten, whether it has begun or not."""
        self.patch(scans, "_MOST", 10)
        all_keys = [Keys(9) for _ in range(14)]
        cursors: list[int] = []
        for number, keys in enumerate(all_keys):
            cursors.append(self.begin(keys))
            if number % 2:
                cursors[-1] = self.step(cursors[-1])[0]
            if number == 9:
                cursors[1] = self.step(cursors[1])[0]
        for number in (0, 2, 3, 4):
            self.refused(cursors[number])
        self.assertEqual(len(self.scans), 10)
        self.assertEqual([number for number, keys in enumerate(all_keys) if keys.closed], [3])
        self.assertEqual(self.step(cursors[1])[1], numbered(4, 5))
        self.assertEqual(self.step(cursors[5])[1], numbered(2, 3))

    def test_kept_keys(self) -> None:
        """The pages that are kept for repeated cursors are bounded; a scan can go on without them."""
        self.patch(scans, "_MOST_KEYS", 100)
        ended = [self.begin(Keys(30)) for _ in range(5)]
        for cursor in ended:
            self.assertEqual(self.step(cursor, 40)[0], 0)
        self.refused(ended[0])
        self.refused(ended[1])
        for cursor in ended[2:]:
            self.assertEqual(len(self.step(cursor)[1]), 30)
        one, other = self.begin(Keys(500)), self.begin(Keys(500))
        second = self.step(one, 50)[0]
        self.assertEqual(len(self.step(one)[1]), 50)
        following, found = self.step(other, 200)
        self.assertEqual((len(found), self.step(other)), (200, (following, found)))
        self.refused(ended[4])
        self.refused(one)
        self.assertEqual(self.step(second)[1], numbered(50, 51))

    def test_an_error(self) -> None:
        """An error of a step reaches the caller; the scan is over then."""

        async def failing() -> AsyncIterator[bytes]:
            yield b"0"
            raise ValueError("a node has failed")

        cursor = self.scans.begin(None, (), failing())
        self.failureResultOf(self.stepping(cursor), ValueError)
        self.refused(cursor)
        self.assertEqual(len(self.scans), 0)

    def test_the_same_step_twice_at_once(self) -> None:
        """Two requests for the same step at the same time get the same page."""
        keys = Keys(9)
        keys.gate = Deferred()
        cursor = self.begin(keys)
        steps = [self.stepping(cursor), self.stepping(cursor)]
        for each in steps:
            self.assertNoResult(each)
        keys.gate.callback(None)
        self.assertEqual(self.successResultOf(steps[0]), self.successResultOf(steps[1]))

    def test_forgotten_during_a_step(self) -> None:
        """A scan that is forgotten during a step ends it, is closed afterwards, and is not known any more."""
        self.patch(scans, "_MOST", 1)
        keys = Keys(9)
        keys.gate = Deferred()
        cursor = self.begin(keys)
        steps = [self.stepping(cursor), self.stepping(cursor)]
        self.begin(Keys(1))
        self.assertFalse(keys.closed)
        keys.gate.callback(None)
        following, found = self.successResultOf(steps[0])
        self.assertEqual((found, keys.closed), (numbered(0, 1), True))
        self.assertEqual(self.successResultOf(steps[1]), (following, found))
        self.refused(following)


class ScanningTests(ProxyTests):
    """Tests of scans of 2000 keys."""

    keys = frozenset(b"key:%d" % number for number in range(2000))

    async def fill(self, wire: Wire) -> None:
        """Set all keys."""
        await self.ask(wire, [request("SET", key, "value") for key in self.keys])

    async def page(self, wire: Wire, cursor: int, *options: Any) -> Page:
        """Return one step."""
        reply = await wire.call("SCAN", cursor, *options)
        self.assertEqual(reply[:4], b"*2\r\n", reply)
        head, page = frames_of(reply[4:])
        keys = [frame.partition(b"\r\n")[2][:-2] for frame in frames_of(page.partition(b"\r\n")[2])]
        return int(head.split(b"\r\n")[1]), keys

    async def scan(self, wire: Wire, *options: Any, between: Callable[[int], Any] | None = None) -> list[bytes]:
        """Return all keys of a scan; ``between`` is awaited after each step."""
        found: list[bytes] = []
        cursor, step = 0, 0
        while True:
            cursor, keys = await self.page(wire, cursor, *options)
            found += keys
            step += 1
            if not cursor:
                return found
            self.assertTrue(cursor < 1 << 53)
            if between is not None:
                await between(step)


class ScanTests(ScanningTests):
    async def test_options(self) -> None:
        """COUNT is the number of keys of a step; MATCH and TYPE select keys."""
        wire = await self.wire()
        await self.fill(wire)
        await wire.call("RPUSH", "list", 1)
        found = await self.scan(wire)
        self.assertEqual((set(found), len(found)), (self.keys | {b"list"}, 2001))
        cursor, keys = await self.page(wire, 0, "COUNT", 500)
        self.assertEqual(len(keys), 500)
        cursor, keys = await self.page(wire, cursor, "COUNT", 3)
        self.assertEqual(len(keys), 3)
        self.assertEqual(await self.scan(wire, "TYPE", "list", "COUNT", 1000), [b"list"])
        tens = await self.scan(wire, "match", "key:1?", "count", 3)
        self.assertEqual(sorted(tens), [b"key:%d" % number for number in range(10, 20)])
        self.assertEqual(await self.scan(wire, "MATCH", "{tag}*"), [])
        cursor, _ = await self.page(wire, 0, "MATCH", "key:*", "TYPE", "string")
        for options in ((), ("MATCH", "key:*"), ("MATCH", "k*", "TYPE", "string"), ("TYPE", "string")):
            self.assertEqual(await wire.call("SCAN", cursor, *options), _UNKNOWN)
        self.assertEqual(len((await self.page(wire, cursor, "TYPE", "string", "COUNT", 7, "MATCH", "key:*"))[1]), 7)

    async def test_cursors(self) -> None:
        """A cursor can be used by another connection, and again; an unknown one gets an error."""
        one, other = await self.wire(), await self.wire()
        await self.fill(one)
        cursor, first = await self.page(one, 0)
        one.close()
        page = await self.page(other, cursor)
        self.assertEqual(await self.page(other, cursor), page)
        self.assertEqual(set(first) & set(page[1]), set())
        self.assertEqual(await other.call("SCAN", cursor + 99), _UNKNOWN)
        self.assertEqual(await other.call("SCAN", 1), _UNKNOWN)
        replies = await self.ask(other, [request("SCAN", page[0])] * 5 + [request("PING")])
        self.assertEqual(len(set(replies[:5])), 1)
        self.assertEqual(replies[5], b"+PONG\r\n")

    async def test_redis_py(self) -> None:
        """An unchanged client of a single server finds all keys once."""
        wire = await self.wire()
        await self.fill(wire)

        def scans_of(protocol: int) -> list[list[bytes]]:
            with redis.Redis(HOST, self.port, protocol=protocol) as client:
                return [list(client.scan_iter(count=count)) for count in (None, 1, 77, 100_000)]

        for protocol in (2, 3):
            for found in await deferToThread(scans_of, protocol):
                self.assertEqual((set(found), len(found)), (self.keys, 2000))

    async def test_moving_slots(self) -> None:
        """No key is missed while slots move key by key in both directions."""
        wire = await self.wire()
        await self.fill(wire)
        one, other, *_ = await self.cluster.primaries()
        owned = {slot for part in await self.cluster.ranges_of(one) for slot in part}
        slots = sorted({key_slot(key) for key in self.keys} & owned)[:400]
        rounds = 0

        async def between(step: int) -> None:
            nonlocal rounds
            if step % 25 == 0 and rounds < 12:
                part = slots[rounds // 2 * 60 : rounds // 2 * 60 + 60]
                source, target = (one, other) if rounds % 2 == 0 else (other, one)
                await self.cluster.migrate_by_key(part, source, target)
                rounds += 1

        found = await self.scan(wire, "COUNT", 7, between=between)
        self.assertEqual((set(found), rounds > 8), (self.keys, True))

    async def test_slots_that_stay_open(self) -> None:
        """No key is missed of slots that are half moved during the whole scan."""
        wire = await self.wire()
        await self.fill(wire)
        one, other, *_ = await self.cluster.primaries()
        owned = {slot for part in await self.cluster.ranges_of(one) for slot in part}
        slots = sorted({key_slot(key) for key in self.keys} & owned)[:30]
        for number, slot in enumerate(slots):
            await self.cluster.open_slot(slot, one, other)
            if number % 2:
                await self.cluster.move_keys(slot, one, other)
        self.assertEqual(set(await self.scan(wire, "COUNT", 50)), self.keys)


class FailoverTests(ScanningTests):
    options: ClassVar[dict[str, Any]] = {"replicas": 1}

    async def replicated(self, wire: Wire) -> None:
        """Set all keys, and wait until the replicas have them."""
        await self.fill(wire)
        self.assertEqual(await wire.call("WAIT", 1, 0), b":1\r\n")

    async def test_failover(self) -> None:
        """No key is missed if a replica becomes a primary in the middle of a scan."""
        wire = await self.wire()
        await self.replicated(wire)
        changed = 0

        async def between(step: int) -> None:
            nonlocal changed
            if step in (20, 90, 160):
                await self.cluster.failover(self.cluster.servers[3 + changed])
                changed += 1

        found = await self.scan(wire, "COUNT", 10, between=between)
        self.assertEqual((set(found), changed), (self.keys, 3))

    async def test_killed_primary(self) -> None:
        """No key is missed if a primary is killed in the middle of a scan, and its replica takes over."""
        wire = await self.wire()
        await self.replicated(wire)

        async def between(step: int) -> None:
            if step == 50:
                await self.cluster.kill(self.cluster.servers[1])

        self.assertEqual(set(await self.scan(wire, "COUNT", 10, between=between)), self.keys)
