"""One command on many nodes: its parts go out side by side, and what they come to comes back as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .aggregate import combine
from .commands import Command
from .errors import PartialFailure, TooManyPending
from .node import NodeConnection
from .pack import Packed, pack
from .request import Part, Request
from .routes import Share
from .slots import THIS_NODE

#: What became of one part: where it went, and the reply or the error.
Ending = tuple[str, Any]
NoteCancel = Callable[[Deferred[Any]], None]


class Taker(Protocol):
    """What takes the requests for a slot: a node, or a waiting room."""

    def send(self, request: Request) -> None:
        """Raises TooManyPending."""


def send_parts(
    command: Command,
    parts: list[Share],
    takers: Sequence[Taker],
    note_cancel: NoteCancel,
    now: float,
    deadline: float,
    repeatable: bool,
) -> Deferred[Any]:
    """Send a command's parts to what takes their slots; those for one node leave in one write."""

    def finish(endings: list[Ending]) -> Any:
        if command.response_policy is not None:
            return combine(command.response_policy, endings)
        merged: dict[int, Any] = {}
        for part, (_, reply) in zip(parts, endings, strict=True):
            merged.update(zip(part.keys, reply, strict=True))
        return [merged[key] for key in range(len(merged))]

    whole = FanOut(command.name, finish, note_cancel)
    requests = [
        Part(whole, whole.place(f"slot {part.slot}"), pack(part.args), command, part.slot, now, deadline, repeatable)
        for part in parts
    ]
    for request in requests:
        _give(takers[request.slot], request)
    return whole.deferred


def send_to_all(
    command: Command,
    payload: Packed,
    nodes: list[NodeConnection],
    note_cancel: NoteCancel,
    now: float,
    deadline: float,
) -> Deferred[Any]:
    """Send a command to each node, once, and make one reply of theirs."""
    whole = FanOut(command.name, lambda endings: combine(command.response_policy, endings), note_cancel)
    requests = [
        Part(whole, whole.place(str(node.address)), payload, command, THIS_NODE, now, deadline) for node in nodes
    ]
    for node, request in zip(nodes, requests, strict=True):
        _give(node, request)
    return whole.deferred


def send_apart(
    command: Command, nodes: list[NodeConnection], send: Callable[[NodeConnection], Deferred[Any]]
) -> Deferred[Any]:
    """Send a command to each node in a way of its own; one success is enough."""
    sent: list[Deferred[Any]] = []

    def cancel(_: Deferred[Any]) -> None:
        for each in sent:
            each.cancel()

    whole = FanOut(command.name, lambda endings: combine(command.response_policy, endings), cancel)
    whole.one_suffices = True
    places = [whole.place(str(node.address)) for node in nodes]
    for node, place in zip(nodes, places, strict=True):
        sent.append(send(node))
        sent[-1].addCallbacks(partial(whole.answered, place), partial(whole.failed, place))
    return whole.deferred


def _give(taker: Taker, request: Request) -> None:
    """Have a part sent, or fail alone."""
    try:
        taker.send(request)
    except TooManyPending as error:
        request.fail(error)


class FanOut:
    """One command on many nodes: gathers what its parts come to."""

    def __init__(self, name: str, finish: Callable[[list[Ending]], Any], note_cancel: NoteCancel) -> None:
        """``finish`` makes the result out of the parts' endings, all of them good, in the order they were added."""
        self.deferred: Deferred[Any] = Deferred(note_cancel)
        #: Whether one good ending is enough.
        self.one_suffices = False
        self._name = name
        self._finish = finish
        self._endings: list[Ending] = []
        self._failed: set[int] = set()
        self._left = 0

    @property
    def called(self) -> bool:
        """Whether nobody waits for it any more."""
        return bool(self.deferred.called)

    def place(self, where: str) -> int:
        """The place of one more part; all parts have theirs before any can end."""
        self._endings.append((where, None))
        self._left += 1
        return len(self._endings) - 1

    def answered(self, place: int, reply: Any) -> None:
        """Take the reply of a part."""
        self._ended(place, reply)

    def failed(self, place: int, error: Any) -> None:
        """Take the error of a part."""
        self._failed.add(place)
        self._ended(place, error.value if isinstance(error, Failure) else error)

    def _ended(self, place: int, value: Any) -> None:
        self._endings[place] = self._endings[place][0], value
        self._left -= 1
        if self._left or self.deferred.called:
            return
        endings = self._endings
        if self.one_suffices and len(self._failed) < len(endings):
            endings = [ending for place, ending in enumerate(endings) if place not in self._failed]
        elif self._failed:
            self._fail()
            return
        try:
            result = self._finish(endings)
        except Exception:
            # Replies of a kind that the command's policy cannot put together.
            self.deferred.errback()
        else:
            self.deferred.callback(result)

    def _fail(self) -> None:
        if len(self._endings) == 1:
            self.deferred.errback(self._endings[0][1])
            return
        failures = ", ".join(where for place, (where, _) in enumerate(self._endings) if place in self._failed)
        text = f"{self._name} failed for {len(self._failed)} of {len(self._endings)} parts: {failures}"
        self.deferred.errback(PartialFailure(text, self._endings))

