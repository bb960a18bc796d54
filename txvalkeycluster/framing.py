"""Cuts a stream of RESP into frames: the bytes of one reply each, unchanged.

Nothing is converted, so ``+OK`` stays ``+OK`` and a set stays a set.  Source: https://valkey.io/topics/protocol

Most replies of a connection are short lines and bulk strings of a few lengths.  For these a regular expression finds
all frames of a read at once: 0.13 us for each, where the loop over the headers takes 0.55 us.  The C extension finds
all plain replies.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Generic, TypeVar

from .acceleration import fast
from .errors import ProtocolError

_T = TypeVar("_T")

#: Repeats a group of a regular expression as often as possible, without backtracking.  Python before 3.11.5 does that
#: wrongly (python/cpython#106052).  There it is repeated a limited number of times, because each time needs memory.
REPEATED = b"*+" if re.match("(?:ab?c)*+", "aca").end() == 2 else b"{0,512}"  # type: ignore[union-attr]
# A line that is a whole element, or the header of one: a bulk string, an aggregate, or an aggregate of pairs.  A big
# number can have any text, because a Lua script can return any text as one, and the server passes it on.
_HEADER = re.compile(
    rb"(?:[+\-(][^\r\n]*|:-?\d{1,19}|[$*]-1|_|#[tfTF]|,[-+.\da-zA-Z]{1,330}"
    rb"|[$=!](0|[1-9]\d{0,9})|[*~>](0|[1-9]\d{0,9})|[%|](0|[1-9]\d{0,8}))\r\n"
).match
_LENGTH = re.compile(rb"0|[1-9]\d*").fullmatch
_ATTRIBUTE = ord("|")
# The first bytes of all elements, and of those that have a line of any length.
_KINDS = frozenset(b"+-:$*_#,(=!~>%|")
_LONG_KINDS = frozenset(b"+-(")
# The longest line of the other kinds.
_LINE = 512
# An element has at least this many bytes.
_LEAST = 3
# The first bytes of the frames that are not the plain reply to a request: errors, pushes, and attributes with whatever
# they belong to.
_SPECIAL = frozenset(b"-!>|")


class ReplyFramer:
    """Collects the bytes that a server sends on one connection, and returns complete frames."""

    __slots__ = ("_done", "_done_size", "_in_line", "_left", "_most", "_need", "_rest", "_rest_size", "plain")

    def __init__(self, most: int) -> None:
        """Make a framer without bytes.

        Args:
            most: The largest frame that is allowed, in bytes.
        """
        #: Whether all frames of the last `feed` are plain replies: no errors, no pushes, and none with attributes.
        self.plain = True
        self._most = most
        # The scanned bytes of the frame that is not complete, and the number of elements that it still needs.
        self._done: list[bytes] = []
        self._done_size = 0
        self._left = 1
        # The bytes that are not scanned yet.  With fewer bytes than `_need`, or inside a long line that has not ended,
        # there is nothing to scan.
        self._rest: list[bytes] = []
        self._rest_size = 0
        self._need = 0
        self._in_line = False

    @property
    def partial(self) -> int:
        """The number of bytes of the frame that is not complete."""
        return self._done_size + self._rest_size

    def feed(self, data: bytes, frames: list[bytes] | None = None) -> list[bytes]:
        """Take the next bytes of the stream.

        Args:
            data: The bytes.
            frames: A list to which the frames are added.  After an error, it has the frames before the invalid bytes.

        Returns:
            The frames that are complete now.

        Raises:
            ProtocolError: The bytes are not RESP, or a frame is too large.  The framer cannot be used afterwards.
        """
        if frames is None:
            frames = []
        self.plain = True
        if self._rest_size:
            self._rest.append(data)
            self._rest_size += len(data)
            if self._in_line and b"\r" not in data and b"\n" not in data:
                self._check_size(self.partial)
                return frames
            if self._rest_size < self._need:
                return frames
            data = b"".join(self._rest)
            self._rest = []
            self._rest_size = 0
        end = len(data)
        start = pos = 0 if self._done else take_plain(data, 0, frames, self._most)
        left = self._left
        while pos < end:
            match = _HEADER(data, pos)
            if match is None:
                self._wait_for_line(data, pos)
                self._check_size(self._done_size + end - start)
                break
            after = match.end()
            kind = match.lastindex
            if kind is None:
                left -= 1
            elif kind == 1:
                after += int(match[1]) + 2
                if after > end:
                    self._check_size(self._done_size + after - start)
                    self._need, self._in_line = after - pos, False
                    break
                if not data.startswith(b"\r\n", after - 2):
                    raise ProtocolError(f"a bulk string of {match[1].decode()} bytes does not end with a line break")
                left -= 1
            else:
                if kind == 2:
                    left += int(match[2]) - 1
                else:
                    pairs = 2 * int(match[3])
                    # An attribute is not an element: another one follows.
                    left += pairs if data[pos] == _ATTRIBUTE else pairs - 1
                self._check_size(self._done_size + after - start + _LEAST * left)
            pos = after
            if not left:
                frame = data[start:pos]
                if self._done:
                    frame = b"".join([*self._done, frame])
                    self._done = []
                    self._done_size = 0
                if len(frame) > self._most:
                    self._check_size(len(frame))
                if frame[0] in _SPECIAL:
                    self.plain = False
                frames.append(frame)
                left = 1
                start = pos = take_plain(data, pos, frames, self._most)
        self._left = left
        if pos > start:
            self._done.append(data[start:pos])
            self._done_size += pos - start
            self._check_size(self._done_size)
        if pos < end:
            self._rest.append(data[pos:] if pos else data)
            self._rest_size = end - pos
        return frames

    def _check_size(self, size: int) -> None:
        if size > self._most:
            raise ProtocolError(f"a reply of at least {size} bytes is larger than the limit of {self._most} bytes")

    def _wait_for_line(self, data: bytes, pos: int) -> None:
        """Note that a line at ``pos`` is not complete; raise ProtocolError if it cannot become valid."""
        kind, size = data[pos], len(data) - pos
        line_break = data.find(b"\r", pos)
        invalid = data.find(b"\n", pos) >= 0 or 0 <= line_break < len(data) - 1
        if invalid or kind not in _KINDS or (size > _LINE and kind not in _LONG_KINDS):
            raise ProtocolError(f"{data[pos : pos + 40]!r} is not RESP")
        # The next bytes are searched for the end of the line, so that a long line is not scanned many times.
        self._need, self._in_line = 0, line_break < 0 and kind in _LONG_KINDS


_ONE_BULK = b"*1\r\n$"


class Sampler(Generic[_T]):
    """Finds out what is usual at the moment, from samples of a stream of items.

    After 64 items that are not usual, then after 128, 256 and so on, it takes a new sample.
    """

    _SAMPLE = 128
    _RARELY = 1 << 16

    def __init__(self, most: int) -> None:
        """Begin with a sample.

        Args:
            most: How many items can be usual at the same time.
        """
        self._most = most
        self._sample: Counter[_T] = Counter()
        self._wait = 64
        # The items until the end of the sample, or until the next sample.
        self._countdown = self._SAMPLE
        self._sampling = True

    def note(self, item: _T) -> list[_T] | None:
        """Take an item that is not usual yet.

        Returns:
            The items that are usual from now on, if that changes; None otherwise.
        """
        if self._sampling:
            self._sample[item] += 1
        self._countdown -= 1
        if self._countdown:
            return None
        usual: list[_T] = []
        if self._sampling:
            usual = [each for each, count in self._sample.most_common(self._most) if count > 1]
            self._countdown, self._wait = self._wait, min(2 * self._wait, self._RARELY)
        else:
            self._countdown = self._SAMPLE
            self._sample.clear()
        self._sampling = not self._sampling
        return usual


# The longest line, and the longest bulk string, that the regular expression finds; and the largest of these frames.
_QUICK_LINE, _QUICK_BULK = 1000, 2048
_LARGEST_QUICK = _QUICK_BULK + 16


class _ReplyShapes:
    """The regular expression for short lines, and for bulk strings of the usual lengths."""

    # Lines without errors, attributes and pushes; first what is frequent.
    _FIRST = rb"\+[^\r\n]{0,%d}+\r\n|:\d{1,19}+\r\n" % _QUICK_LINE
    _LAST = rb"(?:\*1\r\n)?\$-1\r\n|_\r\n|#[tf]\r\n|,[-+.\da-zA-Z]{1,40}\r\n"

    def __init__(self) -> None:
        self._sampler: Sampler[bytes] = Sampler(12)
        self._compile([])

    def _compile(self, lengths: list[bytes]) -> None:
        self._known = frozenset(lengths)
        # A bulk string can be the only element of an array, as in the reply to MGET with one key.
        bulks = [b"(?:\\*1\r\n)?\\$%b\r\n.{%b}\r\n" % (length, length) for length in lengths]
        shape = b"(?s:%b)" % b"|".join([self._FIRST, *bulks, self._LAST])
        #: Matches frames of known shapes from a position on.
        self.run = re.compile(shape + REPEATED).match
        #: Lists the frames between two positions.
        self.frames = re.compile(shape).findall

    def missed(self, data: bytes, pos: int) -> None:
        """Note a bulk string at ``pos`` that the expression has not matched."""
        length, line_break, _ = data[pos + 1 : pos + 6].partition(b"\r")
        if line_break and length not in self._known and _LENGTH(length) and int(length) <= _QUICK_BULK:
            usual = self._sampler.note(length)
            if usual is not None:
                self._compile(usual)


_shapes = _ReplyShapes()


def take_plain(data: bytes, pos: int, frames: list[bytes], most: int) -> int:
    """Append complete frames of plain replies that are found in a fast way.

    Args:
        data: The bytes.
        pos: Where to begin.
        frames: The list.
        most: The largest frame that is allowed, in bytes.

    Returns:
        The position behind them.
    """
    if most < _LARGEST_QUICK:
        return pos
    match = _shapes.run(data, pos)
    # The expression also matches no frame at all.
    assert match is not None
    end = match.end()
    if end > pos:
        frames += _shapes.frames(data, pos, end)
    if data.startswith(b"$", end):
        _shapes.missed(data, end)
    elif data.startswith(_ONE_BULK, end):
        _shapes.missed(data, end + len(_ONE_BULK) - 1)
    return end


if fast is not None and not TYPE_CHECKING:
    # It takes frames of any length, with all elements.
    take_plain = fast.Shortcut("take_plain", take_plain)
