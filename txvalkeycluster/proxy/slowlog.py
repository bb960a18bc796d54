"""SLOWLOG of the proxy: the requests whose replies took long to come, in the form of a server."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from .commands.mget import whole_of
from .request_framer import words_of

# An entry shows so many words, and so many bytes of each.
_MOST_WORDS, _LONGEST_WORD = 32, 128
# A larger request is cut when it is noted, so that it is not held in memory; others are cut when they are shown.
_LARGE = 1024


class SlowCommand(NamedTuple):
    """An entry."""

    number: int
    time: int
    microseconds: int
    #: The request, or what is shown of a large one.
    request: bytes | list[bytes]
    peer: str
    #: The name of the client.
    name: bytes

    @property
    def words(self) -> list[bytes]:
        """The words that are shown."""
        return _trimmed(words_of(self.request)) if isinstance(self.request, bytes) else self.request

    def reply(self) -> list[Any]:
        """Return the entry as SLOWLOG GET shows it."""
        return [self.number, self.time, self.microseconds, self.words, self.peer.encode(), self.name]


class SlowLog:
    """The newest slow requests.

    It costs little: when a cluster is slow, all requests are.
    """

    def __init__(self, most: int, wall_clock: Callable[[], float]) -> None:
        """Make an empty log.

        Args:
            most: How many entries are kept.
            wall_clock: Returns the time of day, in seconds since 1970.
        """
        #: How many requests were slow.
        self.count = 0
        self._most = most
        self._clock = wall_clock
        self._entries: deque[SlowCommand] = deque(maxlen=most)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[SlowCommand]:
        """Iterate from the newest entry on."""
        return reversed(self._entries)

    def note(self, seconds: float, cells: Sequence[list[Any]]) -> None:
        """Note requests that have their replies now.

        Args:
            seconds: How long they took.
            cells: Their cells.
        """
        slow: list[Any] = []
        for cell in cells:
            whole = whole_of(cell)
            if whole is not cell:
                # Each part of a split request comes here.
                if whole.noted:
                    continue
                whole.noted = True
            slow.append(whole)
        self.count += len(slow)
        kept = slow[-self._most :] if self._most else []
        now, microseconds = int(self._clock()), int(seconds * 1e6)
        for number, (_, session, frame) in enumerate(kept, self.count - len(kept) + 1):
            request = frame if len(frame) <= _LARGE else _trimmed(words_of(frame))
            peer = session.peer if not session.closed else ""
            self._entries.append(SlowCommand(number, now, microseconds, request, peer, session.name))

    def clear(self) -> None:
        """Forget all entries."""
        self._entries.clear()


def _trimmed(words: list[bytes]) -> list[bytes]:
    kept = words if len(words) <= _MOST_WORDS else words[: _MOST_WORDS - 1]
    shown = [
        word
        if len(word) <= _LONGEST_WORD
        else b"%b... (%d more bytes)" % (word[:_LONGEST_WORD], len(word) - _LONGEST_WORD)
        for word in kept
    ]
    if len(kept) < len(words):
        shown.append(b"... (%d more arguments)" % (len(words) - len(kept)))
    return shown
