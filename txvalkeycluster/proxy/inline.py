"""Splits an inline command into words, with the quotes and escapes that the server understands (``sdssplitargs``)."""

from __future__ import annotations

import re

_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
# The spaces before a word.  Inside a word, only some of them end it.
_SPACES = re.compile(rb"[ \t\n\v\f\r]*").match
# A part of a word: double quotes, single quotes, or without quotes.  A backslash before the last character of the line
# is an ordinary character.  Each character fits only one alternative, so that backtracking finds nothing else.
_PART = re.compile(
    rb"\"((?:\\(?!.\Z).|\\(?=\"\Z)|[^\"\\])*)\"|'((?:\\'(?!\Z)|\\(?!'(?!\Z))|[^'\\])*)'|([^ \t\n\r\"']+)", re.DOTALL
).match
_END = b" \t\n\r"


class UnbalancedQuotes(ValueError):
    """A quote is not closed."""


def split_inline(line: bytes) -> list[bytes]:
    """Split a line into words.

    Args:
        line: The line, without its end.

    Returns:
        The words; none for an empty line.

    Raises:
        UnbalancedQuotes: A quote is not closed.
    """
    words: list[bytes] = []
    end = len(line)
    pos = _end_of_spaces(line, 0)
    while pos < end:
        word = b""
        while pos < end and line[pos] not in _END:
            match = _PART(line, pos)
            if match is None:
                raise UnbalancedQuotes
            double, single, plain = match.groups()
            pos = match.end()
            if plain is not None:
                word += plain
            else:
                word += _ESCAPE.sub(_unescaped, double) if double is not None else single.replace(b"\\'", b"'")
        words.append(word)
        pos = _end_of_spaces(line, pos)
    return words


def _end_of_spaces(line: bytes, pos: int) -> int:
    match = _SPACES(line, pos)
    assert match is not None
    return match.end()


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return bytes([int(match[1], 16)])
    return _ESCAPES.get(match[2], match[2])
