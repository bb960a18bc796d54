"""What a plain client of a single server sees through a proxy while the cluster changes."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from itertools import count, pairwise
from random import Random
from typing import Any

import hiredis
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SkipTest

from tests.proxy.programs import (
    IN_DOUBT,
    REFUSED_IN_A_PIPELINE,
    PlainClient,
    ProxyTests,
    WorkloadClient,
    error_of,
    until,
)
from txvalkeycluster import ConnectionLost, ReplyError, key_slot
from txvalkeycluster.testing import Server, Workload

# How many pairs of SET and GET the test with moving slots makes.
PAIRS = int(os.environ.get("TXVALKEYCLUSTER_PROXY_PAIRS", "30000"))
# How many slots move.
_MOVED = 64


# Slots of keys: three that move, in the first primary, which is killed in other tests; and one in each of the others.
_SLOTS = (0, 77, 199, 6000, 12000)


def tag_of(slot: int) -> str:
    """Return a hash tag of a slot."""
    return next(f"{{{number}}}" for number in count() if key_slot(f"{{{number}}}") == slot)


class MovingTests(ProxyTests):
    """Tests that move slots."""

    moved = 200

    async def reshard(self) -> None:
        """Move slots to another primary and back, key by key."""
        one, other, *_ = await self.cluster.primaries()
        slots = (await self.cluster.ranges_of(one))[0][: self.moved]
        await self.cluster.migrate_by_key(slots, one, other)
        await self.cluster.migrate_by_key(slots, other, one)


class VerifiedWorkloadTests(MovingTests):
    async def test_all_changes(self) -> None:
        """No wrong value and no request without an end; errors only after the SIGKILL, for writes without a reply."""
        port = self.port_of(await self.proxy())
        clients = [WorkloadClient(await self.plain(port)) for _ in range(5)]
        adapters: list[Any] = list(clients)
        loads = [Workload(reactor, each, workers=10, prefix=f"w{n}") for n, each in enumerate(adapters)]
        for each in loads:
            each.start()

        async def expect(victim: Server) -> None:
            slots = await self.slots_of(victim)
            for each in loads:
                each.primary_killed(slots)

        await self.advance(loads)
        for change in (self.failover, self.reshard, lambda: self.sigkill(expect)):
            self.assertEqual([dict(each.report.errors) for each in loads], [{}] * len(loads))
            await change()
            await self.advance(loads)
        for each in loads:
            report = await each.stop()
            self.assertEqual((report.wrong, report.unfired), ([], 0))
            self.assertEqual([kind for kind in report.errors if kind != "SET: ConnectionLost, maybe executed"], [])
            # Each worker has one request under way.
            self.assertLessEqual(sum(report.errors.values()), 10)
        texts = [text for each in clients for text in each.texts]
        self.assertEqual([text for text in texts if not text.startswith("CONNLOST SET got no reply: ")], [])

    async def advance(self, loads: list[Workload]) -> None:
        """Wait until the workers have done 5000 more commands."""
        goal = sum(each.report.commands for each in loads) + 5000
        await until(lambda: sum(each.report.commands for each in loads) >= goal)


class Pushing:
    """Pushes unique values to lists and counts, in pipelines of one connection, and knows what must be there.

    All keys are in one slot, so that many requests wait for the same node.
    """

    def __init__(self, client: PlainClient, tag: str) -> None:
        self.client = client
        self.keys = [f"{tag}:{number}" for number in range(5)]
        self.rounds = 0
        self.stopping = False
        self.wrong: list[str] = []
        #: The values by list, by what the reply said.
        self.acknowledged: dict[str, list[int]] = {key: [] for key in self.keys}
        self.doubtful: dict[str, set[int]] = {key: set() for key in self.keys}
        self.refused: dict[str, set[int]] = {key: set() for key in self.keys}
        self.texts: set[str] = set()
        self._random = Random(tag)
        self._number = 0
        self.ended = Deferred.fromCoroutine(self._both())

    async def _both(self) -> None:
        # Two pipelines are under way at the same time.
        await gatherResults([Deferred.fromCoroutine(self._run()) for _ in range(2)], consumeErrors=True)

    async def _run(self) -> None:
        while not self.stopping:
            sent: list[tuple[str, int]] = []
            commands: list[tuple[Any, ...]] = []
            for _ in range(self._random.randint(1, 100)):
                self._number += 1
                key = self._random.choice(self.keys)
                sent.append((key, self._number))
                commands += [("RPUSH", key, self._number), ("ECHO", self._number), ("INCR", f"{key}:count")]
            replies = await self.client.batch(*commands)
            for (key, value), pushed, echoed, _ in zip(sent, replies[::3], replies[1::3], replies[2::3], strict=True):
                if echoed != b"%d" % value:
                    self.wrong.append(f"ECHO {value} got {echoed!r}")
                self._note(key, value, pushed)
            self.rounds += 1

    def _note(self, key: str, value: int, reply: Any) -> None:
        if isinstance(reply, int):
            self.acknowledged[key].append(value)
        elif isinstance(reply, hiredis.ReplyError):
            self.texts.add(str(reply))
            meaning = error_of(str(reply))
            in_doubt = isinstance(meaning, ConnectionLost) and meaning.maybe_executed
            (self.doubtful if in_doubt else self.refused)[key].add(value)
        else:
            self.wrong.append(f"RPUSH {key} {value} got {reply!r}")

    async def check(self, client: PlainClient, may_lose: set[int]) -> list[str]:
        """Compare with the lists.

        Args:
            client: Reads them.
            may_lose: The slots of a primary that was killed, which may have lost acknowledged values.

        Returns:
            What is wrong.
        """
        wrong = list(self.wrong)
        for key in self.keys:
            stored = [int(value) for value in await client.call("LRANGE", key, 0, -1)]
            counted = int(await client.call("GET", f"{key}:count") or 0)
            known = set(self.acknowledged[key]) | self.doubtful[key]
            lost = set(self.acknowledged[key]) - set(stored)
            if len(set(stored)) != len(stored):
                wrong.append(f"{key}: a value is there twice")
            if stored != sorted(stored):
                late = [(a, b) for a, b in pairwise(stored) if a > b]
                wrong.append(f"{key}: the order of the requests was changed: {late[:5]}")
            if not set(stored) <= known:
                wrong.append(f"{key}: {sorted(set(stored) - known)} were not executed, as the proxy said")
            if lost and key_slot(key) not in may_lose:
                wrong.append(f"{key}: {sorted(lost)[:10]} were acknowledged and are not there")
            if counted > len(known | self.refused[key]):
                wrong.append(f"{key}: incremented {counted} times, but only {len(known)} times requested")
        return wrong


class AtMostOnceTests(MovingTests):
    async def through(self, change: Callable[[], Awaitable[object]], may_lose: set[int] | None = None) -> set[str]:
        """Push through a change; return the texts of the errors."""
        port = self.port_of(await self.proxy())
        running = [Pushing(await self.plain(port), tag_of(slot)) for slot in _SLOTS]
        await self.advance(running)
        await change()
        await self.advance(running)
        for each in running:
            each.stopping = True
        await gatherResults([each.ended for each in running], consumeErrors=True)
        reader = await self.plain(port)
        for each in running:
            self.assertEqual(await each.check(reader, may_lose or set()), [])
        return {text for each in running for text in each.texts}

    async def advance(self, running: list[Pushing]) -> None:
        """Wait until each connection has done 50 more pipelines."""
        goals = [each.rounds + 50 for each in running]
        await until(lambda: all(e.rounds >= g or e.ended.called for e, g in zip(running, goals, strict=True)))

    async def test_failover(self) -> None:
        """Each value is there once, in the order of the requests."""
        self.assertEqual(await self.through(self.failover), set())

    async def test_resharding(self) -> None:
        """Each value is there once, in the order of the requests, while slots move key by key."""
        self.assertEqual(await self.through(self.reshard), set())

    async def test_atomic_resharding(self) -> None:
        """The same if the server moves the slots."""

        async def reshard() -> None:
            one, other, *_ = await self.cluster.primaries()
            await self.cluster.migrate_atomically(0, 199, one, other)
            await self.cluster.migrate_atomically(0, 199, other, one)

        self.assertEqual(await self.through(reshard), set())

    async def test_sigkill(self) -> None:
        """No value is there twice; a value that the proxy calls not executed is not there."""
        may_lose: set[int] = set()

        async def expect(victim: Server) -> None:
            may_lose.update(await self.slots_of(victim))

        texts = await self.through(lambda: self.sigkill(expect), may_lose)
        self.assertEqual([text for text in texts if not text.startswith((*IN_DOUBT, REFUSED_IN_A_PIPELINE))], [])


class Pairs:
    """SET and GET of the same key, 16 to 64 pairs in a pipeline, on one connection."""

    def __init__(self, client: PlainClient, name: str, slots: Callable[[int], str]) -> None:
        self.done = 0
        self.wrong: list[str] = []
        self.client = client
        self._random = Random(name)
        self._name = name
        self._tag = slots

    async def run(self, goal: int) -> None:
        """Make pairs."""
        while self.done < goal:
            keys = [self._random.randrange(300) for _ in range(self._random.randint(16, 64))]
            commands: list[tuple[Any, ...]] = []
            for place, key in enumerate(keys):
                name = f"{self._tag(key)}:{self._name}"
                commands += [("SET", name, f"{name}={self.done}.{place}"), ("GET", name)]
            replies = await self.client.batch(*commands)
            for place, (stored, value) in enumerate(zip(replies[::2], replies[1::2], strict=True)):
                wanted = commands[2 * place][2].encode()
                if stored != b"OK" or value != wanted:
                    self.wrong.append(f"{wanted!r}: SET got {stored!r}, GET got {value!r}")
            self.done += len(keys)


class PairsTests(ProxyTests):
    timeout = 600

    async def pairs(self, move: Callable[[], Awaitable[object]], share: int) -> None:
        """Make pairs on ten connections while slots move; none may be wrong."""
        proxy = await self.proxy_process()
        # Half of the keys are in the slots that move.
        tags = [tag_of(slot) for slot in range(_MOVED)] + [f"other{number}" for number in range(_MOVED)]

        def tag(number: int) -> str:
            return tags[number % len(tags)]

        running = [Pairs(await self.plain(proxy.port), f"pairs{number}", tag) for number in range(10)]
        ended = gatherResults(
            [Deferred.fromCoroutine(e.run(PAIRS // share // 10)) for e in running], consumeErrors=True
        )
        moves = 0
        while not ended.called:
            await move()
            moves += 1
        await ended
        self.assertEqual([text for each in running for text in each.wrong], [])
        self.assertGreaterEqual(sum(each.done for each in running), PAIRS // share)
        self.assertGreater(moves, 0)
        info = await running[0].client.call("INFO", "proxy")
        self.assertGreater(int(info.partition(b"proxy_moved:")[2].split()[0]), 0)

    async def test_key_by_key(self) -> None:
        """Slots move key by key, to and fro."""
        one, other = self.cluster.servers[:2]

        async def move() -> None:
            await self.cluster.migrate_by_key(range(_MOVED), one, other)
            await self.cluster.migrate_by_key(range(_MOVED), other, one)

        await self.pairs(move, 2)

    async def test_atomically(self) -> None:
        """The server moves the slots, to and fro."""
        one, other = self.cluster.servers[:2]

        async def move() -> None:
            try:
                await self.cluster.migrate_atomically(0, _MOVED - 1, one, other)
                await self.cluster.migrate_atomically(0, _MOVED - 1, other, one)
            except ReplyError as error:
                raise SkipTest(f"the server cannot move slots atomically: {error}") from None

        await self.pairs(move, 2)
