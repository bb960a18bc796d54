"""How methods accept one or several values, and rows of values."""

from __future__ import annotations

from tests.cases import SynchronousTestCase
from txvalkeycluster.commands.method_support import each, flat, flat_reversed


class RowTests(SynchronousTestCase):
    def test_a_single_value_is_not_split(self) -> None:
        """Text and bytes are one value, not a sequence of characters."""
        for one in ("ab", b"ab", bytearray(b"ab"), memoryview(b"ab"), 5, 1.5):
            self.assertEqual(each(one), (one,))
        self.assertEqual(each(word for word in "ab"), ("a", "b"))

    def test_rows_and_mappings(self) -> None:
        """``flat`` puts the name of a mapping first and ``flat_reversed`` puts it second. Tuples keep their order."""
        self.assertEqual(flat({"a": 1, "b": 2}), ["a", 1, "b", 2])
        self.assertEqual(flat([("a", 1), ("b", 2)]), ["a", 1, "b", 2])
        self.assertEqual(flat_reversed({"a": 1, "b": 2}), [1, "a", 2, "b"])
        self.assertEqual(flat_reversed([(1, "a"), (2, "b")]), [1, "a", 2, "b"])

    def test_every_row_must_be_a_tuple(self) -> None:
        """Text in place of a tuple is refused, because it would be split into characters."""
        for rows, kind in [(["ab"], "str"), ([b"ab"], "bytes"), ("ab", "str"), ([("a", 1), 5], "int")]:
            for lay_out in (flat, flat_reversed):
                error = self.assertRaises(TypeError, lay_out, rows)
                self.assertEqual(str(error), f"{kind} where a tuple is expected")
