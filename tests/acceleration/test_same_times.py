"""The buckets of times in C have what the Python code has."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.acceleration.test_same_parts import NO_EXTENSION, outcome
from tests.cases import SynchronousTestCase
from txvalkeycluster import prometheus
from txvalkeycluster.acceleration import fast
from txvalkeycluster.prometheus import DEFAULT_BUCKETS, PythonTimes

SECONDS = st.floats(0, 20) | st.sampled_from(DEFAULT_BUCKETS)


def shown(times: Any) -> list[Any]:
    """Return what a scrape shows of times."""
    copy = times.copy()
    copy.sort_in()
    return [copy.below, copy.number, round(copy.total, 9)]


class TimesTests(SynchronousTestCase):
    skip = NO_EXTENSION

    @given(st.lists(SECONDS, max_size=40), st.sampled_from([list(DEFAULT_BUCKETS), [0.5], []]))
    def test_buckets(self, seconds: list[float], bounds: list[float]) -> None:
        both: list[Any] = [fast.Times(bounds), PythonTimes(bounds)]
        for number, each in enumerate(seconds):
            for times in both:
                times.append(each)
            if number % 7 == 3:
                both[1].sort_in()
                both[0].sort_in()
                self.assertEqual(shown(both[0]), shown(both[1]))
        self.assertEqual(shown(both[0]), shown(both[1]))
        self.assertEqual(len(both[0]), 0)

    def test_a_copy_does_not_change(self) -> None:
        times = fast.Times([1.0])
        times.append(0.5)
        copy = times.copy()
        times.append(0.5)
        self.assertEqual((shown(copy), shown(times)), ([[1], 1, 0.5], [[2], 2, 1.0]))

    def test_wrong_use(self) -> None:
        self.assertIs(prometheus._Times, fast.Times)
        for wrong in (lambda: fast.Times(), lambda: fast.Times((1.0,)), lambda: fast.Times(["x"])):
            self.assertRaises(TypeError, wrong)
        self.assertRaises(TypeError, fast.Times([1.0]).append, "x")
        self.assertRaises(RuntimeError, fast.Times([1.0]).__init__, [1.0])
        bare = fast.Times.__new__(fast.Times)
        self.assertRaises(RuntimeError, bare.append, 1.0)
        self.assertRaises(TypeError, bare.copy)
        self.assertEqual(bare.below, [])
        self.assertRaises(TypeError, fast.TimeRecorder, print, [])
        self.assertRaises(TypeError, fast.TimeRecorder.__new__(fast.TimeRecorder))

    def test_the_recorder(self) -> None:
        """It leaves unknown names, errors and wrong arguments to the function in Python."""
        calls: list[Any] = []
        times: dict[Any, Any] = {"GET": fast.Times([1.0]), "odd": []}
        recorder = fast.TimeRecorder(lambda *args: calls.append(args), times)
        recorder("GET", 0.5, None)
        error = ValueError()
        left: list[Any] = [
            ("SET", 0.5, None),
            ("GET", 0.5, error),
            ("GET", 1, None),
            ("odd", 0.5, None),
            ([], 0.5, None),
        ]
        for each in left:
            recorder(*each)
        self.assertEqual(calls, left)
        self.assertEqual(outcome(recorder, "GET"), None)
        self.assertEqual(times["GET"].number, 1)
