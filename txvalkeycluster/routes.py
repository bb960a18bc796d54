"""Which nodes a command is for: a pure function from its arguments; and the cutting up of commands over many slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from .commands import Command
from .commands.by_hand import word
from .errors import RoutingError
from .pack import Arg
from .slots import ANY_NODE, argument_slot

_SHOWN = 40


class Breadth(Enum):
    """How many nodes a command is for."""

    ONE = auto()  # the one that owns the slot, or any
    SLOTS = auto()  # cut up, to the owners of the slots of its keys
    SHARDS = auto()  # every primary
    NODES = auto()  # every node


@dataclass(frozen=True, slots=True)
class Route:
    """Where a command goes.  ``slot`` belongs to ONE, and is ANY_NODE for a command without keys."""

    breadth: Breadth
    slot: int = ANY_NODE


@dataclass(frozen=True, slots=True)
class Share:
    """A command's share for one slot: its arguments, and which of the caller's keys are in it, counted from 0."""

    slot: int
    args: tuple[Arg, ...]
    keys: tuple[int, ...]


_BREADTHS = {"all_shards": Breadth.SHARDS, "all_nodes": Breadth.NODES}
_ANYWHERE = Route(Breadth.ONE)
_SLOTS = Route(Breadth.SLOTS)


def route(command: Command, args: Sequence[Any], *, split: bool = True) -> Route:
    """Route a command that has been resolved to its subcommand.  Raises RoutingError for keys in several slots."""
    slot, first = ANY_NODE, None
    for place in command.places(args):
        key_slot = argument_slot(args[place])
        if slot == ANY_NODE:
            slot, first = key_slot, args[place]
        elif key_slot != slot:
            if command.request_policy == "multi_shard" and split and not _is_conditional(command, args):
                if not _has_whole_rows(command, args):
                    # Cut up, all but the last would be written.
                    raise RoutingError(f"{command.name} ends with a key that lacks its value")
                return _SLOTS
            raise RoutingError(
                f"{command.name} has keys in several slots: {_shown(first)} in {slot} and {_shown(args[place])} in "
                f"{key_slot}; a common {{hash tag}} would bring them together"
            )
    if slot != ANY_NODE:
        return Route(Breadth.ONE, slot)
    if command.request_policy == "special":
        raise RoutingError(f"{command.name} is for one node after the other: give it to one with execute_on")
    breadth = _BREADTHS.get(command.request_policy or "")
    return Route(breadth) if breadth is not None else _ANYWHERE


def cut(command: Command, args: Sequence[Any]) -> list[Share]:
    """Cut a command up by the slots of its keys, in the order in which the slots are met."""
    (spec,) = command.key_specs
    places = spec.positions(args)
    start, end = places.start, places[-1] + places.step
    rows: dict[int, list[int]] = {}
    for number, place in enumerate(places):
        rows.setdefault(argument_slot(args[place]), []).append(number)
    parts: list[Share] = []
    for slot, numbers in rows.items():
        head = list(args[:start])
        if spec.keynum is not None:
            head[spec.begin + spec.keynum] = len(numbers)
        for number in numbers:
            place = start + number * places.step
            head += args[place : place + places.step]
        parts.append(Share(slot, (*head, *args[end:]), tuple(numbers)))
    return parts


def _has_whole_rows(command: Command, args: Sequence[Any]) -> bool:
    (spec,) = command.key_specs
    places = spec.positions(args)
    return places[-1] + places.step <= len(args)


def _is_conditional(command: Command, args: Sequence[Any]) -> bool:
    """Whether it is MSETEX with NX or XX: set all or nothing, which parts cannot promise."""
    return command.name == "MSETEX" and any(word(arg) in (b"NX", b"XX") for arg in _after_keys(command, args))


def _after_keys(command: Command, args: Sequence[Any]) -> Sequence[Any]:
    (spec,) = command.key_specs
    places = spec.positions(args)
    return args[places[-1] + places.step :] if places else ()


def _shown(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
