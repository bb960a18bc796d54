"""`add_keyed` in C does what the one in Python does."""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.acceleration.test_same_parts import BYTES, NO_EXTENSION, outcome
from tests.cases import SynchronousTestCase
from txvalkeycluster.commands import CommandTable
from txvalkeycluster.relay.batch import add_keyed
from txvalkeycluster.requests.raw_batch import RawBatch, RawBatches

NODES = ["one", "two", "three"]
DESTINATIONS = [NODES[slot * 3 >> 14] for slot in range(16384)]


class RelayTests(SynchronousTestCase):
    skip = NO_EXTENSION

    def played(self, function: Any, *calls: tuple[Any, Any, Any], make: Any = None) -> list[Any]:
        """Return the results of calls, and the requests of each batch."""
        table, collector = CommandTable(), object()
        groups = RawBatches(collector, DESTINATIONS, table)  # type: ignore[arg-type]
        if make is not None:
            groups.make = make  # type: ignore[method-assign]
        seen = [outcome(function, groups, *call) for call in calls]
        return [*seen, [(node, batch.target, batch._places, batch._packed) for node, batch in groups.items()]]

    def check(self, *calls: tuple[Any, Any, Any], make: Any = None) -> list[Any]:
        seen = self.played(add_keyed, *calls, make=make)
        self.assertEqual(seen, self.played(add_keyed.__wrapped__, *calls, make=make))  # type: ignore[attr-defined]
        return seen

    @given(st.lists(st.lists(BYTES, max_size=20), max_size=4), st.sampled_from([tuple, list]))
    def test_requests(self, keys: list[list[bytes]], kind: Any) -> None:
        """Requests are in the batches of their nodes, in the order of the calls."""
        calls = [(kind(range(len(each))), kind(each), kind(b"GET %b" % key for key in each)) for each in keys]
        seen = self.check(*calls)
        self.assertEqual(sum(len(places) for _, _, places, _ in seen[-1]), sum(map(len, keys)))

    def test_wrong_arguments(self) -> None:
        """The Python code finds what is wrong."""
        calls: tuple[tuple[Any, Any, Any], ...] = (
            ([1], [b"a", b"b"], [b"A", b"B"]), ([1, 2], [b"a"], [b"A", b"B"]), ([1, 2], [b"a", b"b"], [b"A"]),
            ([1, 2], ["a", b"b"], [b"A", b"B"]), ([1, 2], [b"a", None], [b"A", b"B"]), ([1], None, []),
        )  # fmt: skip
        for call in calls:
            self.check(call)

    def test_no_batch(self) -> None:
        """An error of `make` is passed on, and the requests before it are in their batches."""
        table, collector = CommandTable(), object()

        def make(slot: int) -> RawBatch:
            if slot > 10_000:
                raise ValueError(f"no batch for slot {slot}")
            return RawBatch(collector, slot, table)  # type: ignore[arg-type]

        keys = [b"b", b"b", b"a", b"b"]
        seen = self.check((range(4), [*keys], [*keys]), ((1, 2, 3, 4), keys, keys), make=make)
        self.assertEqual(seen[-2], (ValueError, "no batch for slot 15495"))
        self.assertEqual([places for _, _, places, _ in seen[-1]], [[0, 1, 1, 2]])

    def test_references(self) -> None:
        """Each tag and each payload has one more reference, that of its batch."""
        tag, payload = object(), bytes(range(50))
        before = sys.getrefcount(tag), sys.getrefcount(payload)
        seen = self.played(add_keyed, ([tag] * 10, [b"%d" % number for number in range(10)], [payload] * 10))
        self.assertEqual((sys.getrefcount(tag), sys.getrefcount(payload)), (before[0] + 10, before[1] + 10))
        del seen
        self.assertEqual((sys.getrefcount(tag), sys.getrefcount(payload)), before)
