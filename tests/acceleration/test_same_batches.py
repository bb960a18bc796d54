"""`CommandList`, `take`, `split`, `store` and `merge` in C do what the Python code of the same name does."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any
from weakref import ref

from hypothesis import given
from hypothesis import strategies as st

from tests.acceleration.test_same_parts import BYTES, NO_EXTENSION, ODD, TEXT, outcome
from tests.cases import SynchronousTestCase
from txvalkeycluster.acceleration import fast
from txvalkeycluster.commands import CommandTable
from txvalkeycluster.commands.generated import COMMANDS
from txvalkeycluster.pipeline import CommandList, PythonCommandList
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

    def __init__(self, function: Any, play: Callable[[Any, Batches], Any], nodes: list[str]) -> None:
        self.ends = [self.end(play, each, nodes) for each in (function, function.__wrapped__)]

    @staticmethod
    def end(play: Callable[[Any, Batches], Any], function: Any, nodes: list[str]) -> list[Any]:
        collector: Any = object
        batches = Batches(collector, [nodes[slot * len(nodes) >> 14] for slot in range(16384)], 1.0, 2.0)
        try:
            seen = [play(function, batches)]
        except Exception as error:
            seen = [type(error), str(error)]
        for destination, batch in batches.items():
            seen += [destination, batch.target, batch._places, batch._packed, batch._commands, batch._slots]
        return [*seen, batches.large]


class CommandListTests(SynchronousTestCase):
    skip = NO_EXTENSION

    def test_add(self) -> None:
        """Any arguments are kept as they are.  Keywords are refused, and so is a list that is not initialized."""
        ends: list[Any] = []
        for base in (CommandList, PythonCommandList):

            class Queue(base):  # type: ignore[misc, valid-type]
                pass

            queue: Any = Queue()
            found: list[Any] = [outcome(queue.add, "GET", "key")[0]]
            calls: list[Any] = []
            queue._calls = calls
            words = ("SET", "key", object())
            self.assertIs(queue.add().add(*words).add("GET", 1, None), queue)
            self.assertIs(calls[1][2], words[2])
            found += [outcome(lambda queue=queue: queue.add("GET", key="key"))[0], calls[0], calls[1][:2], calls[2]]
            ends.append(found)
        self.assertEqual(*ends)
        self.assertEqual(ends[0][:2], [AttributeError, TypeError])

    def test_it_is_freed(self) -> None:
        """Also if it is part of a cycle."""

        class Queue(CommandList):
            pass

        queue: Any = Queue()
        queue._calls = [queue]
        freed = ref(queue)
        del queue
        gc.collect()
        self.assertIsNone(freed())


class BatchTests(SynchronousTestCase):
    skip = NO_EXTENSION

    def check(self, function: Any, play: Callable[[Any, Batches], Any], nodes: list[str] = NODES) -> None:
        self.assertEqual(*Both(function, play, nodes).ends)

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

    def test_many_nodes(self) -> None:
        """There may be more nodes than batches whose lists are remembered, and other code may change the batches."""

        def play(function: Any, batches: Batches) -> Any:
            class Words(tuple[Any, ...]):
                def __getitem__(self, place: Any) -> Any:
                    kept.append(list(batches.items()))
                    batches.clear()
                    return super().__getitem__(place)

            kept: list[Any] = []
            calls: list[Any] = [("GET", f"key:{number}") for number in range(300)]
            calls[100], calls[200] = Words(calls[100]), Words(calls[200])
            function(Intake(), iter(calls), 300, CommandTable(COMMANDS), batches, lambda: False)
            return [[(name, batch._places, batch._slots) for name, batch in batches] for batches in kept]

        for count in (1, 7, 8, 9, 40):
            self.check(take, play, [f"node {number}" for number in range(count)])

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
