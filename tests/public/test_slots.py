"""The slots of keys, with the examples of the cluster specification."""

from hypothesis import given
from hypothesis import strategies as st

from tests.cases import SynchronousTestCase
from txvalkeycluster.slots import key_slot


class KeySlotTests(SynchronousTestCase):
    def test_reference_value(self) -> None:
        """The specification gives CRC16 of "123456789" as 0x31C3."""
        self.assertEqual(key_slot(b"123456789"), 0x31C3)

    def test_hash_tags(self) -> None:
        """Only the first hash tag counts, and only if it is not empty."""
        same = [
            ("{user1000}.following", "user1000"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
        ]
        for key, tag in same:
            self.assertEqual(key_slot(key), key_slot(tag), key)
        self.assertNotEqual(key_slot("foo{}{bar}"), key_slot("bar"))
        self.assertEqual(key_slot("foo{}{bar}"), 8363)

    def test_empty_key(self) -> None:
        """The empty key has a slot like any other."""
        self.assertEqual(key_slot(b""), 0)
        self.assertEqual(key_slot("{}"), 15257)

    @given(st.text(), st.binary())
    def test_text_is_utf8(self, text: str, data: bytes) -> None:
        """Text and its UTF-8 bytes share a slot, and every slot is in range."""
        self.assertEqual(key_slot(text), key_slot(text.encode()))
        self.assertTrue(0 <= key_slot(data) < 16384)
