"""Large slot maps are read in steps, so that the reactor can run other calls in between."""

from __future__ import annotations

from typing import Any

from tests.cases import SynchronousTestCase
from tests.topology.test_parsers import ASKED, finish
from txvalkeycluster.slots import SLOT_COUNT
from txvalkeycluster.topology import Shard, Topology
from txvalkeycluster.topology.model import same
from txvalkeycluster.topology.nodes_parser import read_nodes
from txvalkeycluster.topology.parsers import read_shards, read_slots

SHARDS = 100
RANGE = SLOT_COUNT // SHARDS


def steps_of(work: Any) -> tuple[int, Any]:
    """Run a generator; return the number of its steps and its result."""
    steps = 0

    def counted() -> Any:
        nonlocal steps
        while True:
            try:
                next(work)
            except StopIteration as done:
                return done.value
            steps += 1
            yield

    result = finish(counted())
    return steps, result


def starts(count: int) -> list[tuple[int, int]]:
    return [(number, number * RANGE) for number in range(count)]


def slots_reply(count: int) -> list[Any]:
    return [[start, start + RANGE - 1, [b"h", 1 + number, b"%03d" % number]] for number, start in starts(count)]


def shards_reply(count: int) -> list[Any]:
    return [
        {
            b"slots": [start, start + RANGE - 1],
            b"nodes": [{b"id": b"%03d" % number, b"endpoint": b"h", b"port": 1 + number, b"role": b"master"}],
        }
        for number, start in starts(count)
    ]


def nodes_reply(count: int) -> bytes:
    return b"".join(
        b"%03d h:%d@9 master - 0 0 1 connected %d-%d\n" % (number, 1 + number, start, start + RANGE - 1)
        for number, start in starts(count)
    )


class StepTests(SynchronousTestCase):
    def test_many_shards(self) -> None:
        """All three commands give the same map, and each map is read in several steps."""
        maps: list[tuple[Shard, ...]] = []
        for work in (
            read_slots(slots_reply(SHARDS), ASKED),
            read_shards(shards_reply(SHARDS), ASKED),
            read_nodes(nodes_reply(SHARDS), ASKED),
        ):
            steps, shards = steps_of(work)
            self.assertGreaterEqual(steps, 1)
            maps.append(shards)
        for shards in maps:
            self.assertEqual(shards, maps[0])
            self.assertEqual(
                [shard.slots for shard in shards],
                [((start, start + RANGE - 1),) for _, start in starts(SHARDS)],
            )
        steps, equal = steps_of(same(maps[0], maps[1]))
        self.assertTrue(equal)
        self.assertGreaterEqual(steps, 1)

    def test_few_shards(self) -> None:
        """A small map is read in one step."""
        for work in (
            read_slots(slots_reply(3), ASKED),
            read_shards(shards_reply(3), ASKED),
            read_nodes(nodes_reply(3), ASKED),
        ):
            steps, shards = steps_of(work)
            self.assertEqual((steps, len(shards)), (0, 3))

    def test_a_fragmented_map(self) -> None:
        """Slots that alternate between two shards make many rows and many ranges."""
        rows = [[slot, slot, [b"h", 1 + slot % 2, b"%d" % (slot % 2)]] for slot in range(SLOT_COUNT)]
        steps, shards = steps_of(read_slots(rows, ASKED))
        self.assertGreater(steps, 100)
        self.assertEqual([shard.slot_count for shard in shards], [SLOT_COUNT // 2] * 2)
        owners = {slot: owner.id for slot, _, owner in Topology(1, shards).ranges()}
        self.assertEqual(owners, {slot: str(slot % 2) for slot in range(SLOT_COUNT)})
        pieces = [bound for slot in range(0, SLOT_COUNT, 2) for bound in (slot, slot)]
        _, (shard,) = steps_of(read_shards([{**shards_reply(1)[0], b"slots": pieces}], ASKED))
        self.assertEqual(shard.slot_count, SLOT_COUNT // 2)
