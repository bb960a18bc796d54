"""Sends one command to many nodes: all parts at the same time.  Their results become one result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..commands import Command
from ..commands.encoder import Arg, Packed
from ..connection.node import NodeConnection
from ..errors import PartialFailure, ProtocolError, TooManyPending
from ..requests.batch import Batch, Batches, SubRequest
from ..requests.fast_deferred import FastDeferred
from ..requests.interfaces import Destination
from ..requests.request import Call, Request
from ..requests.target import THIS_NODE, PrimaryOf, Target
from ..topology.model import Shard
from .batches import merge, split
from .response_policy import combine

#: The canceller of a command.
NoteCancel = Callable[[Deferred[Any]], None]
#: Makes one result of the replies, which it gets by the number of their part.
Finish = Callable[[dict[int, Any]], Any]


def send_parts(
    command: Command,
    args: Sequence[Arg],
    slots: Sequence[int],
    destinations: list[Any],
    note_cancel: NoteCancel,
    now: float,
    deadline: float,
    repeatable: bool,
) -> Deferred[Any]:
    """Split a command by the slots of its keys, and send each part.  The parts for one node are sent as one batch.

    Args:
        command: The command.
        args: Its name and its arguments.
        slots: The slot of each key.
        destinations: The destination of each slot.
        note_cancel: Called when the caller cancels the command.
        now: The time, as of ``reactor.seconds()``.
        deadline: The time when the command ends.
        repeatable: Whether the parts may be sent again if their replies are lost.

    Returns:
        A Deferred that fires with the combined reply.  It fails with the error of the part if there is only one, with
        PartialFailure if any of several parts fails, and with ProtocolError if the replies cannot be combined.
    """

    def where(place: int) -> str:
        return f"slot {slots[keys[place][0]]}"

    def merged(replies: dict[int, Any]) -> list[Any]:
        values: list[Any] = [None] * len(slots)
        merge(values, keys, replies)
        return values

    finish = merged if command.response_policy is None else _by_policy(command.response_policy, where)
    fan_out = FanOut(command.name, where, finish, note_cancel)
    batches = Batches(fan_out, destinations, now, deadline, repeatable)
    # The keys of each part, by their numbers.
    keys = split(batches, command, args, slots)
    fan_out.left = len(keys)
    fan_out.batches = list(batches.values())
    for destination, batch in batches.items():
        batch.seal()
        try:
            destination.send_batch(batch)
        except TooManyPending as error:
            batch.fail(error)
    for slot, payload, place in batches.large:
        part = SubRequest(fan_out, place, payload, command, slot, now, deadline, repeatable)
        _give(destinations[slot], part)
    return fan_out.deferred


def send_to_all(
    command: Command,
    payload: Packed,
    nodes: list[NodeConnection],
    shards: Sequence[Shard] | None,
    note_cancel: NoteCancel,
    now: float,
    deadline: float,
) -> Deferred[Any]:
    """Send a command to each node, and combine their replies.

    Args:
        command: The command.
        payload: The packed command.
        nodes: The nodes.
        shards: The shards of these nodes, if they are primaries.  Then a part that was certainly not executed is sent
            to the next primary of its shard.
        note_cancel: Called when the caller cancels the command.
        now: The time, as of ``reactor.seconds()``.
        deadline: The time when the command ends.

    Returns:
        A Deferred that fires with the combined reply.  It fails as that of `send_parts`.
    """
    fan_out = _over_nodes(command, nodes, note_cancel)
    for place, node in enumerate(nodes):
        target: Target = THIS_NODE if shards is None else PrimaryOf(shards[place])
        repeatable = command.repeatable and shards is not None
        _give(node, SubRequest(fan_out, place, payload, command, target, now, deadline, repeatable))
    return fan_out.deferred


def send_apart(command: Command, nodes: list[NodeConnection], calls: Sequence[Call]) -> Deferred[Any]:
    """Send a command to each node as a separate call.  One good reply is enough.

    Args:
        command: The command.
        nodes: The nodes.
        calls: One call for each node.

    Returns:
        A Deferred that fires with the combined reply.  It fails as that of `send_parts` if no node succeeds.
    """

    def cancel(_: Deferred[Any]) -> None:
        for call in calls:
            call.cancel()

    fan_out = _over_nodes(command, nodes, cancel)
    fan_out.one_suffices = True
    for place, (node, call) in enumerate(zip(nodes, calls, strict=True)):
        call.addCallbacks(lambda reply, at: fan_out.answered((at,), (reply,)), partial(fan_out.failed, place), (place,))
        _give(node, call)
    return fan_out.deferred


def _over_nodes(command: Command, nodes: list[NodeConnection], note_cancel: NoteCancel) -> FanOut:
    def where(place: int) -> str:
        return str(nodes[place].address)

    fan_out = FanOut(command.name, where, _by_policy(command.response_policy, where), note_cancel)
    fan_out.left = len(nodes)
    return fan_out


def _by_policy(policy: str | None, where: Callable[[int], str]) -> Finish:
    return lambda replies: combine(policy, [(where(place), reply) for place, reply in sorted(replies.items())])


def _give(destination: Destination, request: Request) -> None:
    """Send a part.  If the queue is full, only this part fails."""
    try:
        request.give_to(destination)
    except TooManyPending as error:
        request.fail(error)


class FanOut:
    """A command in several parts: it collects their replies and errors."""

    def __init__(self, name: str, where: Callable[[int], str], finish: Finish, note_cancel: NoteCancel) -> None:
        """Expect no results yet: ``left`` must be set before a part is sent.

        Args:
            name: The name of the command, for error texts.
            where: Returns the node or the slot of a part, for error texts.
            finish: Makes the result of the replies.
            note_cancel: Called when the caller cancels the command.
        """
        #: Fires with the result.
        self.deferred: Deferred[Any] = FastDeferred(self._cancelled)
        #: The number of parts without a result.
        self.left = 0
        #: The batches among its parts.
        self.batches: list[Batch] = []
        #: Whether one good reply is enough.
        self.one_suffices = False
        # Whether it was cancelled.  Its parts can end before its Deferred fires.
        self._over = False
        self._note_cancel = note_cancel
        self._name = name
        self._where = where
        self._finish = finish
        self._replies: dict[int, Any] = {}
        self._errors: dict[int, BaseException | None] = {}

    @property
    def called(self) -> bool:
        """Whether the caller has its result, or has cancelled it."""
        return bool(self.deferred.called)

    def answered(self, places: Sequence[int], replies: Sequence[Any]) -> None:
        """Take the replies of the parts ``places``."""
        self._replies.update(zip(places, replies, strict=True))
        self.left -= len(replies)
        if not self.left:
            self._end()

    def failed(self, place: int, error: BaseException | Failure) -> None:
        """Take the error of a part."""
        self._errors[place] = error.value if isinstance(error, Failure) else error
        self.left -= 1
        if not self.left:
            self._end()

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        self._over = True
        for batch in self.batches:
            batch.called = True
        self._note_cancel(deferred)

    def _end(self) -> None:
        self.batches = []
        if self._over:
            return
        if self._errors and not (self.one_suffices and self._replies):
            self.deferred.errback(self._failure())
            return
        try:
            result = self._finish(self._replies)
        except Exception as error:
            doubt = ProtocolError(f"the replies to {self._name} cannot be combined: {error!r:.200}")
            doubt.__cause__ = error
            self.deferred.errback(doubt)
        else:
            self.deferred.callback(result)

    def _failure(self) -> BaseException | None:
        count = len(self._errors) + len(self._replies)
        if count == 1:
            return self._errors[0]
        failures = ", ".join(self._where(place) for place in sorted(self._errors))
        text = f"{self._name} failed for {len(self._errors)} of {count} parts: {failures}"
        ended = {**self._replies, **self._errors}
        return PartialFailure(text, [(self._where(place), ended[place]) for place in range(count)])
