"""The pauses between attempts: 10 ms at first, doubled each time up to 60 ms, with jitter."""

from __future__ import annotations

from random import Random

# In seconds.  Long enough that a thousand clients do not overload a recovering server, and short enough for callers.
_FIRST = 0.01
_LONGEST = 0.06


class Backoff:
    """Computes the pauses before the next attempts."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._most = _FIRST

    def next(self) -> float:
        """Return the next pause in seconds; it is on average longer than the one before, up to the maximum."""
        most, self._most = self._most, min(2 * self._most, _LONGEST)
        return self._random.uniform(most / 2, most)

    def reset(self) -> None:
        """Start with the shortest pause again, after an attempt has succeeded."""
        self._most = _FIRST
