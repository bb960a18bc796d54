"""Numbers among the arguments of a command, read as the server reads them (``string2ll``)."""

from __future__ import annotations

import re

_INTEGER = re.compile(rb"0|-?[1-9]\d{0,18}").fullmatch
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


def integer(word: bytes) -> int | None:
    """Return the integer of 64 bits that a word is; None if it is none."""
    if _INTEGER(word) is None:
        return None
    number = int(word)
    return number if _LEAST <= number <= _MOST else None
