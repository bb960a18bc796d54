"""`take`, `split`, `store` and `merge` in C do what the Python code of the same name does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.acceleration.test_same_parts import BYTES, NO_EXTENSION, ODD, TEXT
from tests.cases import SynchronousTestCase
from txvalkeycluster.acceleration import fast
from txvalkeycluster.commands import CommandTable
from txvalkeycluster.commands.generated import COMMANDS
from txvalkeycluster.requests.batch import Batches
from txvalkeycluster.routing import batches as module
from txvalkeycluster.routing.batches import Intake, merge, split, store, take
from txvalkeycluster.slots import argument_slot, argument_slots

WORD = TEXT | BYTES | ODD
NAMES = st.sampled_from(["GET", "SET", "get", b"SET", b"del", "MGET", "PING", "NOSUCH", 7, None])
CALLS = st.lists(
    st.tuples(NAMES, WORD)
    | st.tuples(NAMES, TEXT, WORD)
    | st.tuples(NAMES)
    | st.lists(WORD, max_size=3)
    | st.just("ab"),
    max_size=30,
)
NODES = ["one", "two", "three"]


class Both:
    """What the function in C and the one in Python return, and what they leave behind."""

    def __init__(self, function: Any, play: Callable[[Any, Batches], Any]) -> None:
        self.ends = [self.end(play, each) for each in (function, function.__wrapped__)]

    @staticmethod
    def end(play: Callable[[Any, Batches], Any], function: Any) -> list[Any]:
        collector: Any = object
        batches = Batches(collector, [NODES[slot * 3 >> 14] for slot in range(16384)], 1.0, 2.0)
        try:
            seen = [play(function, batches)]
        except Exception as error:
            seen = [type(error), str(error)]
        for destination, batch in batches.items():
            seen += [destination, batch.target, batch._places, batch._packed, batch._commands, batch._slots]
        return [*seen, batches.large]


class BatchTests(SynchronousTestCase):
    skip = NO_EXTENSION

    def check(self, function: Any, play: Callable[[Any, Batches], Any]) -> None:
        self.assertEqual(*Both(function, play).ends)

    @given(CALLS, st.integers(0, 40), st.sampled_from([0, 20, 1 << 20]), st.sampled_from([0, 60]))
    def test_take(self, calls: list[Any], most: int, limit: int, small: int) -> None:
        def play(function: Any, batches: Batches) -> Any:
            intake = Intake()
            intake.limit, intake.small = limit, small
            iterator, table = iter(calls), CommandTable(COMMANDS)
            singles = [function(intake, iterator, most, table, batches, lambda: False) for _ in range(3)]
            return singles, intake.count, intake.sizes, intake.bytes, list(iterator)

        self.check(take, play)

    def test_a_pipeline_that_ends_while_a_command_is_packed(self) -> None:
        """Words of a class of the application can run any code."""

        def play(function: Any, batches: Batches) -> Any:
            ended: list[bool] = []

            class Words(tuple[Any, ...]):
                def __getitem__(self, place: Any) -> Any:
                    ended.append(True)
                    return super().__getitem__(place)

            calls: Iterator[Any] = iter([("GET", "a"), Words(("GET", "b")), ("GET", "c")])
            intake = Intake()
            return function(intake, calls, 9, CommandTable(COMMANDS), batches, lambda: bool(ended)), intake.count

        self.check(take, play)

    def test_an_iterator_of_the_application(self) -> None:
        def calls() -> Iterator[Any]:
            yield "GET", "a"
            raise LookupError("no more")

        def play(function: Any, batches: Batches) -> Any:
            return function(Intake(), calls(), 9, CommandTable(COMMANDS), batches, lambda: False)

        self.check(take, play)

    @given(st.lists(TEXT | BYTES | st.integers(), min_size=1, max_size=40), st.sampled_from(["MGET", "MSET", "MSETEX"]))
    def test_split(self, keys: list[Any], name: str) -> None:
        def play(function: Any, batches: Batches) -> Any:
            command = CommandTable(COMMANDS)[name]
            pairs = [word for number, key in enumerate(keys) for word in (key, number)]
            args = {"MGET": ("mget", *keys), "MSET": ("MSET", *pairs), "MSETEX": (name, len(keys), *pairs, "EX", 9)}
            slots = argument_slots(args[name], command.places(args[name]))
            return slots, function(batches, command, args[name], slots)

        self.check(split, play)

    def test_split_wrong_slots(self) -> None:
        for slots in ([1, 2], [1, 2, 16384], [-1, 2, 3], [1, 2, True], [], (1, 2, 3)):

            def play(function: Any, batches: Batches, slots: Any = slots) -> Any:
                return function(batches, CommandTable(COMMANDS)["MGET"], ("MGET", "a", "b", "c"), slots)

            self.check(split, play)

    @given(st.lists(st.integers(0, 9) | st.booleans(), max_size=6), st.lists(st.integers(), max_size=6))
    def test_store_and_merge(self, places: list[int], values: list[int]) -> None:
        for kind in (list, tuple, iter):

            def play_store(function: Any, _: Batches, kind: Any = kind) -> Any:
                results: list[Any] = [None] * 8
                return function(results, kind(places), values), results

            def play_merge(function: Any, _: Batches, kind: Any = kind) -> Any:
                results: list[Any] = [None] * 8
                return function(results, [places, [7]], {0: kind(values), 1: b"x"}), results

            self.check(store, play_store)
            self.check(merge, play_merge)

    @given(st.lists(WORD, max_size=20), st.integers(0, 3), st.integers(1, 3))
    def test_argument_slots(self, args: list[Any], start: int, step: int) -> None:
        for places in (range(start, len(args), step), list(range(start, len(args), step)), range(len(args) + 1)):

            def play(function: Any, _: Batches, places: Any = places) -> Any:
                return function(tuple(args), places)

            self.check(argument_slots, play)

    def test_references(self) -> None:
        """Nothing is kept and nothing is lost."""
        keys = [f"key:{number}" for number in range(60)]
        command = CommandTable(COMMANDS)["MGET"]
        words: tuple[Any, ...] = ("MGET", *keys)

        def act() -> None:
            batches = Batches(object, NODES * 5462, 1.0, 2.0)  # type: ignore[arg-type]
            numbers = split(batches, command, words, list(map(argument_slot, keys)))
            merge([None] * 60, numbers, {place: [keys[n] for n in part] for place, part in enumerate(numbers)})
            take(Intake(), iter([("SET", key, keys[0]) for key in keys]), 60, CommandTable(COMMANDS), batches, bool)

        act()
        before = [sys.getrefcount(each) for each in (*keys, command, words)]
        for _ in range(20):
            act()
        self.assertEqual([sys.getrefcount(each) for each in (*keys, command, words)], before)

    def test_all_have_a_version_in_c(self) -> None:
        for name in ("take", "split", "store", "merge"):
            self.assertIsInstance(getattr(module, name), fast.Shortcut)
