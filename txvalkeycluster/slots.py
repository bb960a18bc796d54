"""Computes the hash slot of a key.

Source: https://valkey.io/topics/cluster-spec, "Key distribution model" and "Hash tags".
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .acceleration import fast

SLOT_COUNT = 16384
#: The first character of a hash tag.  ``number in bytes`` takes 0.01 us, ``b"{" in bytes`` 0.1 us.
BRACE = ord("{")
_END = ord("}")


def key_slot(key: bytes | str) -> int:
    """Return the hash slot of a key, 0 to 16383.

    If the key has a hash tag, only the tag counts.  The tag is the text between the first ``{`` and the first ``}``
    after it, unless that is empty.

    Args:
        key: The key.  A str is encoded as UTF-8.

    Returns:
        The slot.

    Example:
        >>> key_slot("{user:1}:name") == key_slot("{user:1}:mail")
        True
    """
    if key.__class__ is str or isinstance(key, str):
        key = key.encode()
    # crc_hqx is CRC-16/XMODEM, the CRC of the specification, computed in C.
    if BRACE in key:
        start = key.find(BRACE)
        end = key.find(_END, start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) & 16383


def argument_slot(key: object) -> int:
    """Return the slot of a key that has any of the types of command arguments.

    Args:
        key: The key, before it is encoded.

    Returns:
        The slot, 0 to 16383.

    Raises:
        TypeError: The value has a type that a key cannot have.
    """
    if key.__class__ is str:
        key = key.encode()
    if key.__class__ is bytes and BRACE not in key:
        # The usual case, without the call of key_slot.
        return crc_hqx(key, 0) & 16383
    if isinstance(key, (bytes, str)):
        return key_slot(key)
    if isinstance(key, (bytearray, memoryview)):
        return key_slot(bytes(key))
    if isinstance(key, int) and not isinstance(key, bool):
        return key_slot(int.__repr__(key))
    if isinstance(key, float):
        return key_slot(float.__repr__(key))
    several = "; give several keys one by one, as in mget(*keys)" if isinstance(key, (list, tuple, set)) else ""
    raise TypeError(f"a key must be bytes, str, int or float, not {type(key).__name__}{several}")


def argument_slots(args: Sequence[object], places: Sequence[int]) -> list[int]:
    """Return the slots of the arguments at some places.

    Raises:
        TypeError: As `argument_slot`.
    """
    return list(map(argument_slot, map(args.__getitem__, places)))


if fast is not None and not TYPE_CHECKING:
    argument_slot = fast.Shortcut("argument_slot", argument_slot)
    argument_slots = fast.Shortcut("argument_slots", argument_slots)
