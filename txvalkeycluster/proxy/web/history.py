"""`History`: the last changes of state that a proxy has seen, for its status page."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# How many entries are kept.
_MOST = 100
# The same text of another source is the same change, if it comes within this time, in seconds.  A client that has
# nothing to do asks for the slot map once a minute.
_TOGETHER = 90.0


@dataclass(slots=True)
class Entry:
    """One change of state."""

    #: Later entries have higher numbers.
    number: int
    #: Seconds since 1970.
    time: float
    #: ``"info"``, ``"warn"`` or ``"error"``.
    level: str
    #: One sentence.
    text: str
    #: Who has seen it.
    sources: set[object] = field(default_factory=set)


class History:
    """The last entries.  All clients of the cluster and all workers see the same failover; it is one entry."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        """Make an empty history.

        Args:
            wall_clock: Returns the seconds since 1970.
        """
        self._wall_clock = wall_clock
        self._entries: deque[Entry] = deque(maxlen=_MOST)
        self._number = 0
        #: Called with the level and the text of each new entry.
        self.on_entry: Callable[[str, str], object] = lambda level, text: None

    def add(self, level: str, text: str, source: object = None) -> None:
        """Add an entry, unless another source has just added the same one.

        Args:
            level: ``"info"``, ``"warn"`` or ``"error"``.
            text: One sentence.
            source: Who has seen it.
        """
        now = self._wall_clock()
        for entry in reversed(self._entries):
            if entry.time < now - _TOGETHER:
                break
            if entry.text == text and source not in entry.sources:
                entry.sources.add(source)
                return
        self._number += 1
        self._entries.append(Entry(self._number, now, level, text, {source}))
        self.on_entry(level, text)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the entries as values that JSON has, the oldest one first."""
        return [
            {"number": each.number, "time": each.time, "level": each.level, "text": each.text} for each in self._entries
        ]
