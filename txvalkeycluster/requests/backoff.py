"""The pauses between attempts: 10 ms at first, doubling up to 60 ms, each with jitter."""

from __future__ import annotations

from random import Random

# Long enough that a thousand clients are no storm for a server that recovers, short enough that nobody notices.
_FIRST = 0.01
_LONGEST = 0.06


class Backoff:
    """How long to wait before the next attempt, in seconds."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._most = _FIRST

    def next(self) -> float:
        """The next pause, longer than the one before."""
        most, self._most = self._most, min(2 * self._most, _LONGEST)
        return self._random.uniform(most / 2, most)

    def reset(self) -> None:
        """Begin anew: an attempt has succeeded."""
        self._most = _FIRST
