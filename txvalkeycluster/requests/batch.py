"""Sub-requests: of a command for many nodes, or of a pipeline.  They are sent one by one, or as one batch per node.

A `Batch` goes as one while all goes straight.  A command of it that is redirected, refused, lost or late leaves it, and
goes on by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..commands import Command
from ..commands.encoder import Packed
from .request import Connection, MultiRequest, Request
from .target import Target


class Collector(Protocol):
    """Gathers the results of sub-requests: a command on many nodes, or a pipeline."""

    @property
    def called(self) -> bool:
        """Whether nobody waits for it any more."""

    def answered(self, places: Sequence[int], replies: Sequence[Any]) -> None:
        """Take replies, with the places of their sub-requests."""

    def failed(self, place: int, error: Any) -> None:
        """Take the error, or Failure, of one sub-request."""


class SubRequest(Request):
    """A request whose result goes to its place in a collector."""

    __slots__ = ("_collector", "_done", "_place")

    def __init__(
        self,
        collector: Collector,
        place: int,
        payload: Packed,
        command: Command,
        target: Target,
        since: float,
        deadline: float,
        repeatable: bool = False,
    ) -> None:
        super().__init__(payload, command, target, since, deadline, repeatable)
        self._collector = collector
        self._place = place
        self._done = False

    @property
    def called(self) -> bool:
        return self._done or self._collector.called

    def callback(self, result: Any) -> None:
        self._done = True
        self._collector.answered((self._place,), (result,))

    def errback(self, fail: Any = None) -> None:
        self._done = True
        self._collector.failed(self._place, fail)


class Batch(MultiRequest):
    """Commands that go to one node as one: one record, one write, one deadline.

    A command that is redirected, refused, lost or late leaves it, and goes on as a `SubRequest`.  Replies that came in
    one read are handed over together.
    """

    __slots__ = ("_collector", "_commands", "_due", "_packed", "_places", "_replies", "_slots", "called")

    def __init__(
        self, collector: Collector, slot: int, since: float, deadline: float, repeatable: bool = False
    ) -> None:
        """``slot`` is one of those that it is for; ``repeatable`` goes for all of its commands."""
        super().__init__(b"", _BATCH, slot, since, deadline, repeatable)
        self.called = False
        self._collector = collector
        # Four lists: a tuple for each command would have the garbage collector take a tenth of the time.
        self._places: list[int] = []
        self._packed: list[bytes] = []
        self._commands: list[Command] = []
        self._slots: list[int] = []
        # Replies that the collector was not given yet, and the number of these and of those to come.
        self._replies: list[Any] = []
        self._due = 0

    def __len__(self) -> int:
        return len(self._places)

    def add(self, place: int, payload: bytes, command: Command, slot: int) -> None:
        """Add a command, before it is sealed."""
        self._places.append(place)
        self._packed.append(payload)
        self._commands.append(command)
        self._slots.append(slot)

    def regrouped(self, destinations: Sequence[object]) -> list[Batch]:
        """Split by the current ``destinations`` of the slots, before anything was sent; itself if they are one."""
        batches: dict[object, Batch] = {}
        for place, payload, command, slot in zip(self._places, self._packed, self._commands, self._slots, strict=True):
            destination = destinations[slot]
            if destination not in batches:
                batches[destination] = Batch(self._collector, slot, self.since, self.deadline, self.repeatable)
            batches[destination].add(place, payload, command, slot)
        if len(batches) == 1:
            return [self]
        for batch in batches.values():
            batch.seal()
        return list(batches.values())

    def seal(self) -> None:
        """Be ready to be sent."""
        self.payload = b"".join(self._packed)
        self._due = len(self._places)

    def callback(self, result: Any) -> None:
        replies = self._replies
        replies.append(result)
        if len(replies) == self._due:
            self.called = True
            self.settle()

    def hand_over(self) -> None:
        if self._replies:
            replies, self._replies = self._replies, []
            told = len(self._places) - self._due
            self._due -= len(replies)
            self._collector.answered(self._places[told : told + len(replies)], replies)

    def errback(self, fail: Any = None) -> None:
        self._end_all(lambda part: part.fail(fail))

    def time_out(self, now: float, where: str, *, written: bool) -> None:
        self._end_all(lambda part: part.time_out(now, where, written=written))

    def _end_all(self, end: Callable[[SubRequest], None]) -> None:
        for part in self.dissolve():
            end(part)
        self.settle()

    def refused(self, connection: Connection, error: Any) -> None:
        self._leave(lambda part: connection.owner.reply_failed(connection, part, error))

    def undecodable(self, error: Exception) -> None:
        self._leave(lambda part: part.fail(error))

    def _leave(self, go: Callable[[SubRequest], None]) -> None:
        """Have the command go whose reply is the next, after the collector was given what has come before."""
        if self.called:
            return
        self.hand_over()
        # That may have been the end of everything.
        if not self.called:
            part = self._part(len(self._places) - self._due)
            self._due -= 1
            self.called = not self._due
            go(part)
            self.settle()

    def dissolve(self) -> list[SubRequest]:
        """Have every command leave that has no reply yet."""
        if self.called:
            return []
        self.called = True
        count = len(self._places)
        return [self._part(index) for index in range(count - self._due + len(self._replies), count)]

    def settle(self) -> None:
        if not self.called:
            return
        # Break the reference cycle, and free the bytes.
        self.payload = b""
        self._packed, self._commands, self._slots = [], [], []
        self.hand_over()
        self._ended()

    def _part(self, index: int) -> SubRequest:
        place, payload, command, slot = (
            self._places[index], self._packed[index], self._commands[index], self._slots[index],
        )  # fmt: skip
        repeatable = self.repeatable or command.repeatable
        return SubRequest(self._collector, place, payload, command, slot, self.since, self.deadline, repeatable)


_BATCH = Command("a batch")
