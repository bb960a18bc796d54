"""Combines the replies of several nodes: one function for each response policy.

Source of the policies: https://valkey.io/topics/command-tips/
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any


def combine(policy: str | None, replies: Sequence[tuple[str, Any]]) -> Any:
    """Combine the replies of several nodes.

    Args:
        policy: The response policy of the command; None is the default policy.
        replies: Pairs of node or slot, and reply.

    Returns:
        The combined reply.

    Raises:
        TypeError: The policy cannot combine replies of these types.
    """
    if policy == "special":
        return dict(replies)
    return _POLICIES.get(policy, _joined)([reply for _, reply in replies])


def _first(replies: list[Any]) -> Any:
    return replies[0]


def _joined(replies: list[Any]) -> Any:
    """The default policy without keys: concatenate maps or lists, else return the first reply."""
    if all(isinstance(reply, dict) for reply in replies):
        return {name: value for reply in replies for name, value in reply.items()}
    if all(isinstance(reply, list) for reply in replies):
        return [item for reply in replies for item in reply]
    return replies[0]


def _each(merge: Callable[[Any, Any], Any]) -> Callable[[list[Any]], Any]:
    """Return a function that merges numbers, or lists of numbers position by position."""

    def two(one: Any, other: Any) -> Any:
        if isinstance(one, list):
            return [merge(*pair) for pair in zip(one, other, strict=True)]
        return merge(one, other)

    return lambda replies: reduce(two, replies)


def _any_not_null(replies: list[Any]) -> Any:
    found = [reply for reply in replies if reply is not None]
    # RANDOMKEY has this policy.  The first reply would always be a key of the same node.
    return random.choice(found) if found else None


def _union(replies: list[Any]) -> list[Any]:
    return list(dict.fromkeys(item for reply in replies for item in reply))


def _sum_by_name(replies: list[Any]) -> list[Any]:
    """Add up flat lists of names and numbers, and return one such list."""
    sums: dict[Any, int] = {}
    for reply in replies:
        for name, number in zip(reply[::2], reply[1::2], strict=True):
            sums[name] = sums.get(name, 0) + number
    return [word for pair in sums.items() for word in pair]


_POLICIES: dict[str | None, Callable[[list[Any]], Any]] = {
    "all_succeeded": _first,
    "one_succeeded": _first,
    "agg_sum": _each(lambda one, other: one + other),
    "agg_min": _each(min),
    "agg_max": _each(max),
    "agg_logical_and": _each(lambda one, other: int(bool(one) and bool(other))),
    "agg_logical_or": _each(lambda one, other: int(bool(one) or bool(other))),
    "any_not_null": _any_not_null,
    "union": _union,
    "sum_by_name": _sum_by_name,
}
