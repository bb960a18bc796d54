"""Key -> hash slot.  Source: cluster specification, "Key distribution model" and "Hash tags"."""

from __future__ import annotations

from binascii import crc_hqx

SLOT_COUNT = 16384
#: What a hash tag begins with.  Bytes are searched for a number in 0.01 us, for ``b"{"`` in 0.1.
BRACE = ord("{")
_END = ord("}")


def key_slot(key: bytes | str) -> int:
    """Return the hash slot, 0 to 16383, of a key; text is taken as UTF-8.

    Only what stands between the first ``{`` and the first ``}`` after it counts, unless that is nothing.
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
    """Slot of a key in any of the types an argument may have.  Raises TypeError for others."""
    if key.__class__ is str:
        key = key.encode()
    if key.__class__ is bytes and BRACE not in key:
        # Most keys: key_slot would say the same, one call later.
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
    raise TypeError(f"a key is bytes, str, int or float, not {type(key).__name__}{several}")
