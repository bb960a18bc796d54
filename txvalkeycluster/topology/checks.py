"""Common parts of the slot map parsers: the prefix of their errors, and the checks of a whole map."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from functools import wraps
from itertools import islice
from typing import ParamSpec

from ..errors import TopologyError
from ..slots import SLOT_COUNT
from .model import Shard

_P = ParamSpec("_P")

#: A parser that yields after each step, which takes less than a millisecond.  It returns the shards of the map.
Steps = Generator[None, None, tuple[Shard, ...]]
#: How many shards a parser reads in one step.
SHARDS_AT_ONCE = 32
_RANGES = 4096


def reader(command: str) -> Callable[[Callable[_P, Steps]], Callable[_P, Steps]]:
    """Return a decorator for a parser that makes each TopologyError begin with ``command``."""

    def decorate(read: Callable[_P, Steps]) -> Callable[_P, Steps]:
        @wraps(read)
        def named(*args: _P.args, **kwargs: _P.kwargs) -> Steps:
            steps = read(*args, **kwargs)
            # The parser frees the reply while it reads.  It cannot do so if this frame refers to the reply.
            del args, kwargs
            try:
                return (yield from steps)
            except TopologyError as error:
                raise TopologyError(f"{command} {error}") from None

        return named

    return decorate


def _owners(slot: int, shards: Iterable[Shard]) -> str:
    owners = (
        str(shard.primary.address) if shard.primary is not None else "no node"
        for shard in shards
        for start, end in shard.slots
        if start <= slot <= end
    )
    return " and to ".join(islice(owners, 2))


def checked(shards: list[Shard]) -> Steps:
    """Sort the shards, so that equal maps compare equal, and check that no slot has two owners.

    Args:
        shards: The shards in the order in which the server listed them.

    Returns:
        A generator that returns the sorted shards.

    Raises:
        TopologyError: A slot has two owners.
    """
    found: list[Shard] = []
    taken = bytearray(SLOT_COUNT)
    ranges = 0
    for shard in shards:
        slots = tuple(sorted(shard.slots))
        for start, end in slots:
            if start == end and not taken[start]:
                # A fragmented map has mostly such ranges.  The general way below takes several times as long.
                taken[start] = 1
                continue
            twice = taken.find(1, start, end + 1)
            if twice >= 0:
                raise TopologyError(f"assigns slot {twice} twice: to {_owners(twice, shards)}")
            taken[start : end + 1] = b"\1" * (end + 1 - start)
        found.append(shard if slots == shard.slots else replace(shard, slots=slots))
        ranges += len(slots)
        if ranges > _RANGES:
            ranges = 0
            yield
    found.sort(key=lambda s: (s.slots[0][0] if s.slots else SLOT_COUNT, s.primary.id if s.primary else ""))
    if len(found) > SHARDS_AT_ONCE:
        # The caller's next work on a large map gets a step of its own.
        yield
    return tuple(found)
