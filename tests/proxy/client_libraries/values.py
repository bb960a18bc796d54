"""The values that a key can have after errors."""

from __future__ import annotations

from collections import defaultdict
from typing import Any


class Values:
    """Which values a key can have: the last one that was written, and those of later writes without a reply."""

    def __init__(self) -> None:
        self._possible: defaultdict[str, set[Any]] = defaultdict(lambda: {None})

    def writes(self, key: str, value: Any) -> None:
        self._possible[key].add(value)

    def has(self, key: str, value: Any) -> None:
        """A value was written for sure, or was read."""
        assert value in self._possible[key], f"{key} is {value}, and not one of {self._possible[key]}"
        self._possible[key] = {value}

    def has_not(self, key: str, value: Any) -> None:
        """A value was not written for sure."""
        self._possible[key].discard(value)
