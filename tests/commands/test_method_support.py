"""How methods take several values, and rows of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txvalkeycluster.commands.method_support import each, flat, flat_reversed


class RowTests(SynchronousTestCase):
    def test_one_alone(self) -> None:
        """Text and bytes are one value, not its letters."""
        for one in ("ab", b"ab", bytearray(b"ab"), memoryview(b"ab"), 5, 1.5):
            self.assertEqual(each(one), (one,))
        self.assertEqual(each(word for word in "ab"), ("a", "b"))

    def test_rows_and_mappings(self) -> None:
        """A mapping has the name first, whatever comes first on the wire."""
        self.assertEqual(flat({"a": 1, "b": 2}), ["a", 1, "b", 2])
        self.assertEqual(flat([("a", 1), ("b", 2)]), ["a", 1, "b", 2])
        self.assertEqual(flat_reversed({"a": 1, "b": 2}), [1, "a", 2, "b"])
        self.assertEqual(flat_reversed([(1, "a"), (2, "b")]), [1, "a", 2, "b"])

    def test_one_row_that_is_no_row(self) -> None:
        """Text in the place of a tuple would be taken apart."""
        for rows, kind in [(["ab"], "str"), ([b"ab"], "bytes"), ("ab", "str"), ([("a", 1), 5], "int")]:
            for lay_out in (flat, flat_reversed):
                error = self.assertRaises(TypeError, lay_out, rows)
                self.assertEqual(str(error), f"{kind} in the place of a tuple")
