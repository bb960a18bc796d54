"""Runs a test with the version of a function in Python, and with the one in C."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def in_python(function: Any) -> Any:
    """Return the version of a function in Python."""
    return getattr(function, "__wrapped__", function)


def versions(module: Any, name: str) -> Iterator[Any]:
    """Let a module use each version of one of its functions in turn.

    Args:
        module: The module.
        name: The name of the function.

    Yields:
        The function that is used now.
    """
    used = getattr(module, name)
    try:
        for function in dict.fromkeys([in_python(used), used]):
            setattr(module, name, function)
            yield function
    finally:
        setattr(module, name, used)
