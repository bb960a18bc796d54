"""Puts commands into batches, one for each node: for pipelines, and for commands with keys in several slots.

The functions of this module are also in `_fast`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..commands import Command, CommandTable
from ..commands.encoder import Arg, pack
from ..requests.batch import Batches
from ..requests.fast_deferred import fast
from .plan import cut


class Intake:
    """What a pipeline has taken from its caller."""

    #: No more commands are taken if the large ones that are pending have this many bytes.
    limit = 1 << 20
    #: Commands with at most this many bytes are not counted.
    small = 256

    def __init__(self) -> None:
        #: The number of commands that were taken.
        self.count = 0
        #: The sizes of the pending commands that are not small, by their places, and the sum of these sizes.
        self.sizes: dict[int, int] = {}
        self.bytes = 0

    def add(self, place: int, size: int) -> None:
        """Count the bytes of a command."""
        self.sizes[place] = size
        self.bytes += size

    def remove(self, places: Sequence[int]) -> None:
        """Subtract the bytes of commands that have ended."""
        if self.sizes:
            self.bytes -= sum(self.sizes.pop(place, 0) for place in places)


def take(
    intake: Intake,
    calls: Iterator[Sequence[Arg]],
    most: int,
    table: CommandTable,
    batches: Batches,
    stopped: Callable[[], bool],
) -> tuple[Any] | None:
    """Take commands from an iterator and put them into batches.

    It ends after ``most`` commands, at the end of the iterator, at the limit of bytes, and at a command that must be
    sent by itself: it has not exactly one key as argument 1, or is large or wrong.

    Args:
        intake: Counts what is taken.
        calls: The iterator, which is code of the caller.
        most: How many commands to take.
        table: The table of commands.
        batches: Gets the commands.
        stopped: Tells whether the caller's code has ended the pipeline.

    Returns:
        A tuple with the last command taken, if it must be sent by itself.

    Raises:
        BaseException: Whatever ``calls`` raises.
    """
    for words in islice(calls, most):
        place = intake.count
        intake.count = place + 1
        packed = batches.pack(words, table)
        if packed is None:
            return (words,)
        command, slot, payload = packed
        batches.add(place, payload, command, slot)
        if len(payload) > intake.small:
            intake.add(place, len(payload))
        if intake.bytes >= intake.limit or stopped():
            break
    return None


def split(batches: Batches, command: Command, args: Sequence[Arg], slots: Sequence[int]) -> list[Sequence[int]]:
    """Put the parts of a command with keys in several slots into batches.

    Args:
        batches: Gets the parts, and has a list for the large ones.
        command: The command.
        args: Its name and its arguments.
        slots: The slot of each key.

    Returns:
        The numbers of the keys of each part.
    """
    keys: list[Sequence[int]] = []
    for place, (slot, words, numbers) in enumerate(cut(command, args, slots)):
        keys.append(numbers)
        payload = pack(words)
        if isinstance(payload, list):
            batches.large.append((slot, payload, place))
        else:
            batches.add(place, payload, command, slot)
    return keys


def store(results: list[Any], places: Sequence[int], values: Sequence[Any]) -> None:
    """Put each value into a list at its place.

    Raises:
        ValueError: There are not as many values as places.
    """
    for place, value in zip(places, values, strict=True):
        results[place] = value


def merge(results: list[Any], keys: list[Sequence[int]], replies: dict[int, Sequence[Any]]) -> None:
    """Put the values of keys into a list in the order of the caller.

    Args:
        results: Gets the values.
        keys: The numbers of the keys of each part.
        replies: The replies, by the number of their part.

    Raises:
        ValueError: A reply has not one value for each key.
    """
    for place, reply in replies.items():
        store(results, keys[place], reply)


if fast is not None and not TYPE_CHECKING:
    take, split, store, merge = (fast.Shortcut(each.__name__, each) for each in (take, split, store, merge))
