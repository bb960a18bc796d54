"""Sentinels: values that stand for something that is not there, told apart by identity."""

from __future__ import annotations


class Sentinel:
    """Shown by its name: in a signature, a traceback, a debugger."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name
