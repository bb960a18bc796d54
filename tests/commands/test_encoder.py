"""Arguments to bytes."""

import enum
from typing import Any

import hiredis
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txvalkeycluster.commands.encoder import LARGE, pack
from txvalkeycluster.slots import argument_slot


class Colour(enum.IntEnum):
    RED = 3


class Scalar(float):
    def __repr__(self) -> str:
        return "np.float64(1.5)"


def packed(*args: Any) -> bytes:
    result = pack(args)
    return b"".join(result) if isinstance(result, list) else result


class PackTests(SynchronousTestCase):
    @given(st.lists(st.binary() | st.text() | st.integers(), min_size=1))
    def test_reads_back(self, args: list[Any]) -> None:
        """A reader gets each argument back as its bytes."""
        reader = hiredis.Reader()
        reader.feed(packed(*args))
        wire = [a if isinstance(a, bytes) else str(a).encode() for a in args]
        self.assertEqual(reader.gets(), wire)

    def test_subclasses_lose_their_repr(self) -> None:
        """numpy's float and IntEnum units as the numbers they are."""
        self.assertEqual(packed("SET", Colour.RED, Scalar(1.5)), packed("SET", "3", "1.5"))

    def test_buffers(self) -> None:
        """A view that is not contiguous sends what it shows, not what lies under it."""
        self.assertEqual(packed("SET", memoryview(b"abcdef")[::2], bytearray(b"x")), packed("SET", "ace", "x"))

    def test_large_values_are_not_copied(self) -> None:
        """A large value is handed on as the object it is."""
        value = b"x" * (LARGE + 1)
        parts = pack(("SET", "k", value, "é", 5, 1.5))
        self.assertTrue(any(part is value for part in parts))
        reader = hiredis.Reader()
        reader.feed(b"".join(parts))  # type: ignore[arg-type]
        self.assertEqual(reader.gets(), [b"SET", b"k", value, "é".encode(), b"5", b"1.5"])

    def test_a_large_value_does_not_hide_the_others(self) -> None:
        """What stands before and after it is packed, or refused, as without it."""
        large = "x" * (LARGE + 1)
        for odd, plain in [(bytearray(b"b"), "b"), (memoryview(b"b"), "b"), (Colour.RED, "3"), (Scalar(1.5), "1.5")]:
            self.assertEqual(packed("HSET", "k", large, odd), packed("HSET", "k", large, plain))
            self.assertEqual(packed("HSET", odd, large, "v"), packed("HSET", plain, large, "v"))

    def test_what_has_no_wire_form_is_named(self) -> None:
        """The error gives command, position and type, also behind a large value."""
        for bad, text in [(None, "is None"), (True, "is True"), ([1], "type list"), ({}, "type dict")]:
            for key in ("k", "k" * (LARGE + 1), 1 << 2000):
                error = self.assertRaises(TypeError, pack, ("SET", key, bad))
                self.assertIn("argument 2 of SET", str(error))
                self.assertIn(text, str(error))

    def test_long_integers(self) -> None:
        """They units up to the digits that Python writes; beyond, they are a ValueError, not a crash."""
        for number in (1 << 63, -(1 << 64), 1 << 1024, -(1 << 1024), 10**4000, -(10**4000)):
            self.assertEqual(packed("SET", "k", number), packed("SET", "k", str(number)))
        for number in (10**5000, -(10**5000)):
            self.assertRaises(ValueError, pack, ("SET", "k", number))
            self.assertRaises(ValueError, argument_slot, number)

    def test_text_that_is_not_unicode(self) -> None:
        """Half a surrogate pair has no UTF-8."""
        for text in ("\ud800", "\ud800" * LARGE * 2):
            self.assertRaises(ValueError, pack, ("SET", "k", text))
