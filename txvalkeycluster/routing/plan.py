"""Chooses the nodes of a command from its arguments, and splits a command with keys in several slots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from ..commands import Command
from ..commands.encoder import Arg
from ..commands.overrides import word
from ..errors import RoutingError
from ..requests.target import ANY_NODE, Keyless
from ..slots import argument_slots

_SHOWN = 40


class Scope(Enum):
    """The nodes that a command is sent to."""

    #: One node: the owner of the slot, or any node.
    ONE = auto()
    #: The owners of the slots of its keys.  The command is split.
    SLOTS = auto()
    #: All primaries.
    SHARDS = auto()
    #: All nodes.
    NODES = auto()


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a command is sent."""

    #: The nodes.
    scope: Scope
    #: For `Scope.ONE`: a slot, or ANY_NODE.
    target: int | Keyless = ANY_NODE
    #: For `Scope.SLOTS`: the slot of each key.
    slots: Sequence[int] = field(default=(), compare=False)


#: The part of a split command for one slot: the slot, the name and the arguments of the part, and the numbers of its
#: keys among the caller's keys, counted from 0.  A named tuple would take 4% of the time of an MGET in 100 slots.
SubCommand = tuple[int, Sequence[Arg], Sequence[int]]


_SCOPES = {"all_shards": Scope.SHARDS, "all_nodes": Scope.NODES}
_ANYWHERE = Plan(Scope.ONE)


def plan_command(command: Command, args: Sequence[Arg], *, split: bool = True) -> Plan:
    """Choose the nodes of a command.

    Args:
        command: The command, resolved to its subcommand.
        args: Its name and its arguments.
        split: Whether a command may be split that has keys in several slots.

    Returns:
        The plan.

    Raises:
        RoutingError: The keys are in several slots and the command cannot be split, or the command must be sent to one
            node after the other.
        TypeError: A key has a type that a key cannot have.
    """
    places = command.places(args)
    slots = argument_slots(args, places)
    if slots and slots.count(slots[0]) == len(slots):
        return Plan(Scope.ONE, slots[0])
    if slots:
        if command.request_policy != "multi_shard" or not split or _is_conditional(command, args):
            other = next(number for number, slot in enumerate(slots) if slot != slots[0])
            raise RoutingError(
                f"{command.name} has keys in several slots: {_shown(args[places[0]])} in {slots[0]} and "
                f"{_shown(args[places[other]])} in {slots[other]}; give all keys the same {{hash tag}}"
            )
        if not _has_whole_rows(command, args):
            # If the command were split, all parts but the last would be executed.
            raise RoutingError(f"{command.name} has no value for its last key")
        return Plan(Scope.SLOTS, slots=slots)
    if command.request_policy == "special":
        raise RoutingError(f"{command.name} works on one node at a time; send it to a node with execute_on")
    scope = _SCOPES.get(command.request_policy or "")
    return Plan(scope) if scope is not None else _ANYWHERE


def cut(command: Command, args: Sequence[Arg], slots: Sequence[int]) -> Iterator[SubCommand]:
    """Split a command by the slots of its keys.

    Args:
        command: The command.
        args: Its name and its arguments.
        slots: The slot of each key.

    Yields:
        One part for each slot, in the order of the first keys.
    """
    (spec,) = command.key_specs
    places = spec.positions(args)
    start, step, end = places.start, places.step, places[-1] + places.step
    head, tail = list(args[:start]), args[end:]
    rows: defaultdict[int, list[int]] = defaultdict(list)
    for number, slot in enumerate(slots):
        rows[slot].append(number)
    keys = args[start : places[-1] + 1]
    for slot, numbers in rows.items():
        words = head.copy()
        if spec.keynum is not None:
            words[spec.begin + spec.keynum] = len(numbers)
        if step == 1:
            words += map(keys.__getitem__, numbers)
        else:
            for number in numbers:
                place = start + number * step
                words += args[place : place + step]
        words += tail
        yield slot, words, numbers


def _has_whole_rows(command: Command, args: Sequence[Arg]) -> bool:
    (spec,) = command.key_specs
    places = spec.positions(args)
    return places[-1] + places.step <= len(args)


def _is_conditional(command: Command, args: Sequence[Arg]) -> bool:
    """Tell whether it is MSETEX with NX or XX, which sets all keys or none.  Separate parts cannot guarantee that."""
    return command.name == "MSETEX" and any(word(arg) in (b"NX", b"XX") for arg in _after_keys(command, args))


def _after_keys(command: Command, args: Sequence[Arg]) -> Sequence[Arg]:
    (spec,) = command.key_specs
    places = spec.positions(args)
    return args[places[-1] + places.step :] if places else ()


def _shown(key: object) -> str:
    text = repr(key)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
