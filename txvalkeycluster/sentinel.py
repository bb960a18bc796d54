"""Sentinels: unique values that mean "not given"."""

from __future__ import annotations


class Sentinel:
    """A value that is compared by identity, and that signatures and tracebacks show by its name."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name
