"""One command on many nodes: its parts are sent at the same time, and one result is made of theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..commands import Command
from ..commands.encoder import Arg, Packed, pack
from ..connection.node import NodeConnection
from ..errors import PartialFailure, ProtocolError, TooManyPending
from ..requests.batch import Batch, SubRequest
from ..requests.request import Call, Destination, Request
from ..requests.target import THIS_NODE, PrimaryOf, Target
from ..topology.model import Shard
from .plan import cut
from .response_policy import combine

NoteCancel = Callable[[Deferred[Any]], None]
# Makes one result of the replies, by the places of the parts.
Finish = Callable[[dict[int, Any]], Any]


def send_parts(
    command: Command,
    args: Sequence[Arg],
    slots: Sequence[int],
    destinations: Sequence[Destination],
    note_cancel: NoteCancel,
    now: float,
    deadline: float,
    repeatable: bool,
) -> Deferred[Any]:
    """Cut a command up by the ``slots`` of its keys, each to what takes it; those for one node leave as one."""
    # Which of the keys each part is for.
    keys: list[Sequence[int]] = []

    def where(place: int) -> str:
        return f"slot {slots[keys[place][0]]}"

    def merge(replies: dict[int, Any]) -> list[Any]:
        merged: list[Any] = [None] * len(slots)
        for place, reply in replies.items():
            for key, value in zip(keys[place], reply, strict=True):
                merged[key] = value
        return merged

    finish = merge if command.response_policy is None else _by_policy(command.response_policy, where)
    fan_out = FanOut(command.name, len(set(slots)), where, finish, note_cancel)
    batches: dict[Destination, Batch] = {}
    large: list[tuple[Destination, SubRequest]] = []
    for place, share in enumerate(cut(command, args, slots)):
        keys.append(share.keys)
        payload, destination = pack(share.args), destinations[share.slot]
        if isinstance(payload, list):
            part = SubRequest(fan_out, place, payload, command, share.slot, now, deadline, repeatable)
            large.append((destination, part))
            continue
        if destination not in batches:
            batches[destination] = Batch(fan_out, share.slot, now, deadline, repeatable)
        batches[destination].add(place, payload, command, share.slot)
    fan_out.batches = list(batches.values())
    for destination, batch in batches.items():
        batch.seal()
        try:
            destination.send_batch(batch)
        except TooManyPending as error:
            batch.fail(error)
    for destination, part in large:
        _give(destination, part)
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
    """Send a command to each node, and make one reply of theirs.

    With ``shards``, of which the nodes are the primaries, a part that certainly did not run is sent to the next primary
    of its shard.
    """
    fan_out = _over_nodes(command, nodes, note_cancel)
    for place, node in enumerate(nodes):
        target: Target = THIS_NODE if shards is None else PrimaryOf(shards[place])
        repeatable = command.repeatable and shards is not None
        _give(node, SubRequest(fan_out, place, payload, command, target, now, deadline, repeatable))
    return fan_out.deferred


def send_apart(command: Command, nodes: list[NodeConnection], calls: Sequence[Call]) -> Deferred[Any]:
    """Send a command to each node by a call of its own; one success is enough."""

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

    return FanOut(command.name, len(nodes), where, _by_policy(command.response_policy, where), note_cancel)


def _by_policy(policy: str | None, where: Callable[[int], str]) -> Finish:
    return lambda replies: combine(policy, [(where(place), reply) for place, reply in sorted(replies.items())])


def _give(destination: Destination, request: Request) -> None:
    """Have a part sent, or fail alone."""
    try:
        request.give_to(destination)
    except TooManyPending as error:
        request.fail(error)


class FanOut:
    """One command in several parts: gathers what they come to."""

    def __init__(
        self, name: str, count: int, where: Callable[[int], str], finish: Finish, note_cancel: NoteCancel
    ) -> None:
        """``where`` says where the part of a place went, ``finish`` makes the result of good replies."""
        self.deferred: Deferred[Any] = Deferred(self._cancelled)
        #: Those of its parts that go as one.
        self.batches: list[Batch] = []
        #: Whether one good reply is enough.
        self.one_suffices = False
        # Whether it was cancelled: its parts may end before its Deferred does.
        self._over = False
        self._note_cancel = note_cancel
        self._name = name
        self._left = count
        self._where = where
        self._finish = finish
        self._replies: dict[int, Any] = {}
        self._errors: dict[int, Any] = {}

    @property
    def called(self) -> bool:
        """Whether nobody waits for it any more."""
        return bool(self.deferred.called)

    def answered(self, places: Sequence[int], replies: Sequence[Any]) -> None:
        """Take the replies of so many parts."""
        self._replies.update(zip(places, replies, strict=True))
        self._left -= len(replies)
        if not self._left:
            self._end()

    def failed(self, place: int, error: Any) -> None:
        """Take the error of a part."""
        self._errors[place] = error.value if isinstance(error, Failure) else error
        self._left -= 1
        if not self._left:
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
            doubt = ProtocolError(f"the replies to {self._name} cannot be put together: {error!r:.200}")
            doubt.__cause__ = error
            self.deferred.errback(doubt)
        else:
            self.deferred.callback(result)

    def _failure(self) -> Exception:
        count = len(self._errors) + len(self._replies)
        if count == 1:
            error: Exception = self._errors[0]
            return error
        failures = ", ".join(self._where(place) for place in sorted(self._errors))
        text = f"{self._name} failed for {len(self._errors)} of {count} parts: {failures}"
        ended = {**self._replies, **self._errors}
        return PartialFailure(text, [(self._where(place), ended[place]) for place in range(count)])
