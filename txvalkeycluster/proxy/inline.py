"""Splits an inline command into words, with the quotes and escapes that the server understands (``sdssplitargs``)."""

from __future__ import annotations

import re

_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_PART = re.compile(rb"[ \t\n\v\f\r\0]*(?:\"((?:\\.|[^\"\\])*)\"|'((?:\\'|[^'])*)'|([^\s\0\"']+))", re.DOTALL)
_SPACES = b" \t\n\v\f\r\0"


class UnbalancedQuotes(ValueError):
    """A quote is not closed, or a closing quote is not followed by a space."""


def split_inline(line: bytes) -> list[bytes]:
    """Split a line into words.

    Args:
        line: The line, without its end.

    Returns:
        The words; none for an empty line.

    Raises:
        UnbalancedQuotes: A quote is not closed, or a closing quote is not followed by a space.
    """
    words: list[bytes] = []
    pos, end = 0, len(line)
    while True:
        while pos < end and line[pos] in _SPACES:
            pos += 1
        if pos == end:
            return words
        word = b""
        while pos < end and line[pos] not in _SPACES:
            match = _PART.match(line, pos)
            if match is None:
                raise UnbalancedQuotes
            double, single, plain = match.groups()
            pos = match.end()
            if plain is not None:
                word += plain
                continue
            word += _ESCAPE.sub(_unescaped, double) if double is not None else single.replace(b"\\'", b"'")
            if pos < end and line[pos] not in _SPACES:
                raise UnbalancedQuotes
        words.append(word)


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return bytes([int(match[1], 16)])
    return _ESCAPES.get(match[2], match[2])
