"""Which nodes a command is for: a pure function from its arguments; and the cutting up of commands over many slots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from ..commands import Command
from ..commands.encoder import Arg
from ..commands.overrides import word
from ..errors import RoutingError
from ..requests.target import ANY_NODE, Keyless
from ..slots import argument_slot

_SHOWN = 40


class Scope(Enum):
    """How many nodes a command is for."""

    ONE = auto()  # the one that owns the slot, or any
    SLOTS = auto()  # cut up, to the owners of the slots of its keys
    SHARDS = auto()  # every primary
    NODES = auto()  # every node


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a command goes.

    ``target``, a slot or ANY_NODE, belongs to ONE; ``slots``, of each key, belongs to SLOTS.
    """

    scope: Scope
    target: int | Keyless = ANY_NODE
    slots: Sequence[int] = field(default=(), compare=False)


class SubCommand(NamedTuple):
    """A command's share for one slot: its arguments, and which of the caller's keys are in it, counted from 0."""

    slot: int
    args: Sequence[Arg]
    keys: Sequence[int]


_SCOPES = {"all_shards": Scope.SHARDS, "all_nodes": Scope.NODES}
_ANYWHERE = Plan(Scope.ONE)


def plan_command(command: Command, args: Sequence[Any], *, split: bool = True) -> Plan:
    """Plan a command that has been resolved to its subcommand.  Raises RoutingError for keys in several slots."""
    places = command.places(args)
    slots = [argument_slot(args[place]) for place in places]
    if slots and slots.count(slots[0]) == len(slots):
        return Plan(Scope.ONE, slots[0])
    if slots:
        if command.request_policy != "multi_shard" or not split or _is_conditional(command, args):
            other = next(number for number, slot in enumerate(slots) if slot != slots[0])
            raise RoutingError(
                f"{command.name} has keys in several slots: {_shown(args[places[0]])} in {slots[0]} and "
                f"{_shown(args[places[other]])} in {slots[other]}; a common {{hash tag}} would bring them together"
            )
        if not _has_whole_rows(command, args):
            # Cut up, all but the last would be written.
            raise RoutingError(f"{command.name} ends with a key that lacks its value")
        return Plan(Scope.SLOTS, slots=slots)
    if command.request_policy == "special":
        raise RoutingError(f"{command.name} is for one node after the other: give it to one with execute_on")
    scope = _SCOPES.get(command.request_policy or "")
    return Plan(scope) if scope is not None else _ANYWHERE


def cut(command: Command, args: Sequence[Any], slots: Sequence[int]) -> Iterator[SubCommand]:
    """Cut a command up by the ``slots`` of its keys, in the order in which they are met."""
    (spec,) = command.key_specs
    places = spec.positions(args)
    start, step, end = places.start, places.step, places[-1] + places.step
    head, tail = list(args[:start]), args[end:]
    rows: dict[int, list[int]] = {}
    for number, slot in enumerate(slots):
        rows.setdefault(slot, []).append(number)
    for slot, numbers in rows.items():
        words = head.copy()
        if spec.keynum is not None:
            words[spec.begin + spec.keynum] = len(numbers)
        if step == 1:
            words += [args[start + number] for number in numbers]
        else:
            for number in numbers:
                place = start + number * step
                words += args[place : place + step]
        words += tail
        yield SubCommand(slot, words, numbers)


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
