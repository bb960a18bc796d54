"""How arguments become bytes."""

import enum
from typing import Any

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import SynchronousTestCase
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
    def test_a_reader_gets_every_argument_back(self, args: list[Any]) -> None:
        """A RESP reader returns each argument as its bytes."""
        reader = hiredis.Reader()
        reader.feed(packed(*args))
        wire = [a if isinstance(a, bytes) else str(a).encode() for a in args]
        self.assertEqual(reader.gets(), wire)

    def test_subclasses_of_numbers_are_sent_as_numbers(self) -> None:
        """A numpy float or an IntEnum is sent as its number, not as its repr."""
        self.assertEqual(packed("SET", Colour.RED, Scalar(1.5)), packed("SET", "3", "1.5"))

    def test_buffers(self) -> None:
        """A memoryview that is not contiguous sends the bytes that it shows."""
        self.assertEqual(packed("SET", memoryview(b"abcdef")[::2], bytearray(b"x")), packed("SET", "ace", "x"))

    def test_large_values_are_not_copied(self) -> None:
        """The packed command contains the object of a large value, not a copy of it."""
        value = b"x" * (LARGE + 1)
        parts: Any = pack(("SET", "k", value, "é", 5, 1.5))
        self.assertTrue(any(part is value for part in parts))
        reader = hiredis.Reader()
        reader.feed(b"".join(parts))
        self.assertEqual(reader.gets(), [b"SET", b"k", value, "é".encode(), b"5", b"1.5"])

    def test_arguments_beside_a_large_value(self) -> None:
        """The arguments before and after a large value are packed or refused as usual."""
        large = "x" * (LARGE + 1)
        for odd, plain in [(bytearray(b"b"), "b"), (memoryview(b"b"), "b"), (Colour.RED, "3"), (Scalar(1.5), "1.5")]:
            self.assertEqual(packed("HSET", "k", large, odd), packed("HSET", "k", large, plain))
            self.assertEqual(packed("HSET", odd, large, "v"), packed("HSET", plain, large, "v"))

    def test_a_refused_argument_is_named(self) -> None:
        """The error names the command, the position and the type, also after a large value."""
        refused: list[tuple[Any, str]] = [(None, "is None"), (True, "is True"), ([1], "type list"), ({}, "type dict")]
        for bad, text in refused:
            for key in ("k", "k" * (LARGE + 1), 1 << 2000):
                error = self.assertRaises(TypeError, pack, ("SET", key, bad))
                self.assertIn("argument 2 of SET", str(error))
                self.assertIn(text, str(error))

    def test_long_integers(self) -> None:
        """Integers have as many digits as Python can write. A longer one is a ValueError."""
        for number in (1 << 63, -(1 << 64), 1 << 1024, -(1 << 1024), 10**4000, -(10**4000)):
            self.assertEqual(packed("SET", "k", number), packed("SET", "k", str(number)))
        for number in (10**5000, -(10**5000)):
            self.assertRaises(ValueError, pack, ("SET", "k", number))
            self.assertRaises(ValueError, argument_slot, number)

    def test_a_lone_surrogate_is_refused(self) -> None:
        """Half of a surrogate pair has no UTF-8 form."""
        for text in ("\ud800", "\ud800" * LARGE * 2):
            self.assertRaises(ValueError, pack, ("SET", "k", text))


class PackKeyedTests(SynchronousTestCase):
    def assert_same(self, *args: Any) -> None:
        slot, wire = pack_keyed(Command("GET").wire_name, ("GET", *args))
        self.assertEqual((slot, wire), (argument_slot(args[0]), pack(("GET", *args))))

    @given(st.lists(st.binary() | st.text() | st.integers() | st.floats(allow_nan=False), min_size=1, max_size=4))
    def test_same_result_as_pack(self, args: list[Any]) -> None:
        """``pack_keyed`` gives the slot of ``argument_slot`` and the bytes of ``pack``, for arguments of any types."""
        self.assert_same(*args)

    def test_keys_of_other_types(self) -> None:
        for key in (5, 1.5, bytearray(b"k"), memoryview(b"{k}x"), Colour.RED):
            self.assert_same(key, "v")

    def test_long_arguments(self) -> None:
        """The result is the same for lengths whose headers are not cached, and for keys with a hash tag."""
        for length in (0, 1, 1024, 1025, LARGE + 1):
            for key in (b"k" * length, "{k}" * length, "é" * length):
                self.assert_same(key)
                self.assert_same(key, b"v" * length)
                self.assert_same(b"k", key)

    def test_a_refused_argument_is_named(self) -> None:
        calls: list[tuple[Any, ...]] = [("GET", "k", None), ("GET", b"k", []), ("GET", "k", "v", {})]
        for args in calls:
            error = self.assertRaises(TypeError, pack_keyed, Command("GET").wire_name, args)
            self.assertIn(f"argument {len(args) - 1} of GET", str(error))
