"""What all parsers of slot maps do: name the command in their errors, take steps, and check the map as a whole."""

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

#: Parsing a map, in steps of less than a millisecond; returns its shards.
Steps = Generator[None, None, tuple[Shard, ...]]
#: Shards that are read in one step.
SHARDS_AT_ONCE = 32
_RANGES = 4096


def reader(command: str) -> Callable[[Callable[_P, Steps]], Callable[_P, Steps]]:
    """Have a reader's errors begin with the command."""

    def decorate(read: Callable[_P, Steps]) -> Callable[_P, Steps]:
        @wraps(read)
        def named(*args: _P.args, **kwargs: _P.kwargs) -> Steps:
            steps = read(*args, **kwargs)
            # The reader frees the reply as it goes.
            del args, kwargs
            try:
                return (yield from steps)
            except TopologyError as error:
                raise TopologyError(f"{command} {error}") from None

        return named

    return decorate


def _owners(slot: int, shards: Iterable[Shard]) -> str:
    owners = (
        str(shard.primary.address) if shard.primary is not None else "nobody"
        for shard in shards
        for start, end in shard.slots
        if start <= slot <= end
    )
    return " and to ".join(islice(owners, 2))


def checked(shards: list[Shard]) -> Steps:
    """Put shards in a fixed order, so that equal maps compare equal, and refuse a slot with two owners."""
    found: list[Shard] = []
    taken = bytearray(SLOT_COUNT)
    ranges = 0
    for shard in shards:
        slots = tuple(sorted(shard.slots))
        for start, end in slots:
            if start == end and not taken[start]:
                # Most ranges of a map in pieces; the other way costs several times as much.
                taken[start] = 1
                continue
            twice = taken.find(1, start, end + 1)
            if twice >= 0:
                raise TopologyError(f"gives slot {twice} twice, to {_owners(twice, shards)}")
            taken[start : end + 1] = b"\1" * (end + 1 - start)
        found.append(shard if slots == shard.slots else replace(shard, slots=slots))
        ranges += len(slots)
        if ranges > _RANGES:
            ranges = 0
            yield
    found.sort(key=lambda s: (s.slots[0][0] if s.slots else SLOT_COUNT, s.primary.id if s.primary else ""))
    if len(found) > SHARDS_AT_ONCE:
        # Whatever is done with it is a step of its own.
        yield
    return tuple(found)
