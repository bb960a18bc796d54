"""Arguments to bytes."""

import enum
from typing import Any

import hiredis
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txvalkeycluster.commands import Command
from txvalkeycluster.commands.encoder import LARGE, pack, pack_keyed
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
        """numpy's float and IntEnum go as the numbers they are."""
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
        """They go up to the digits that Python writes; beyond, they are a ValueError, not a crash."""
        for number in (1 << 63, -(1 << 64), 1 << 1024, -(1 << 1024), 10**4000, -(10**4000)):
            self.assertEqual(packed("SET", "k", number), packed("SET", "k", str(number)))
        for number in (10**5000, -(10**5000)):
            self.assertRaises(ValueError, pack, ("SET", "k", number))
            self.assertRaises(ValueError, argument_slot, number)

    def test_text_that_is_not_unicode(self) -> None:
        """Half a surrogate pair has no UTF-8."""
        for text in ("\ud800", "\ud800" * LARGE * 2):
            self.assertRaises(ValueError, pack, ("SET", "k", text))


class PackKeyedTests(SynchronousTestCase):
    def assert_same(self, *args: Any) -> None:
        slot, wire = pack_keyed(Command("GET").wire_name, ("GET", *args))
        self.assertEqual((slot, wire), (argument_slot(args[0]), pack(("GET", *args))))

    @given(st.lists(st.binary() | st.text() | st.integers() | st.floats(allow_nan=False), min_size=1, max_size=4))
    def test_the_quick_way_is_the_same(self, args: list[Any]) -> None:
        """Slot and bytes are those of the plain way, whatever the types and however many arguments."""
        self.assert_same(*args)

    def test_keys_of_other_types(self) -> None:
        for key in (5, 1.5, bytearray(b"k"), memoryview(b"{k}x"), Colour.RED):
            self.assert_same(key, "v")

    def test_long_arguments(self) -> None:
        """Also of lengths that are not kept at hand, and of keys with a hash tag."""
        for length in (0, 1, 1024, 1025, LARGE + 1):
            for key in (b"k" * length, "{k}" * length, "é" * length):
                self.assert_same(key)
                self.assert_same(key, b"v" * length)
                self.assert_same(b"k", key)

    def test_what_has_no_wire_form_is_named(self) -> None:
        for args in (("GET", "k", None), ("GET", b"k", []), ("GET", "k", "v", {})):
            error = self.assertRaises(TypeError, pack_keyed, Command("GET").wire_name, args)
            self.assertIn(f"argument {len(args) - 1} of GET", str(error))
