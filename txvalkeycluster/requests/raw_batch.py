"""Batches of encoded requests, whose replies are passed on as the server's own bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import hiredis

from ..commands import Command, CommandTable
from ..errors import ReplyError
from ..slots import key_slot
from .batch import BATCH, Batch, BatchesByNode, Collector, SubRequest
from .interfaces import Destination
from .request import Call
from .target import ANY_NODE, Target


def error_text(frame: bytes) -> str:
    """Return the text of an error reply.

    Args:
        frame: The bytes of a simple error (``-``) or of a bulk error (``!``).
    """
    text = frame[1:-2] if frame.startswith(b"-") else frame.partition(b"\r\n")[2][:-2]
    return text.decode("utf-8", "replace")


class RawReplyError(ReplyError):
    """An error reply with its bytes."""

    def __init__(self, frame: bytes) -> None:
        super().__init__(error_text(frame))
        #: The reply as the server sent it.
        self.frame = frame

    def __reduce__(self) -> tuple[type[RawReplyError], tuple[bytes]]:
        return RawReplyError, (self.frame,)


class RawCall(Call):
    """A call whose result is the bytes of the reply."""

    __slots__ = ()

    unparsed = True

    def give_to(self, destination: Destination) -> None:
        """Give this request to a destination."""
        destination.send_mixed(self)


class RawCollector(Collector, Protocol):
    """Collects the results of a `RawBatch`."""

    def left(self, place: Any) -> None:
        """Note that a request is delayed: it is redirected, waits, or has failed.  This must have no other effect."""

    def parted(self, place: Any, part: RawPart) -> None:
        """Note the request with which a place continues outside its batch."""

    def waits(self, change: int) -> None:
        """Note that the number of pieces that wait for room in a queue changes."""


class RawPart(SubRequest):
    """A request that has left its batch, with the bytes of its reply as the result."""

    __slots__ = ()

    unparsed = True


class RawBatch(Batch):
    """A batch that takes many replies at once.

    It does not know the commands of its requests: a request is parsed only if it leaves the batch.
    """

    __slots__ = ("_announced", "_table")

    unparsed = True
    _collector: RawCollector

    def __init__(self, collector: RawCollector, slot: int, table: CommandTable) -> None:
        """Create an empty batch.

        Args:
            collector: Gets the results.
            slot: One of the slots of the requests.
            table: The commands.
        """
        # The same as the constructors of the base classes, whose calls would take 4,300 instructions more: 3% of a
        # request that is alone.  The requests have no definitions here, and their slots are not kept.
        self.command = BATCH
        self.target = slot
        self.repeatable = self.called = False
        self.history = None
        self._collector = collector
        self._places = []
        self._packed = []
        self._replies = []
        self._table = table
        # The collector was told of the delays of requests before this place.
        self._announced = 0

    def put(self, tag: object, payload: bytes) -> None:
        """Add a request; only before `send_at`."""
        self._places.append(tag)
        self._packed.append(payload)

    def send_at(self, since: float, deadline: float) -> None:
        """Complete the batch; only once, before it is sent.

        Args:
            since: The current time, as reactor.seconds().
            deadline: When the requests time out, as reactor.seconds().
        """
        self.since = since
        self.deadline = deadline
        self.seal()

    def accept(self, frames: list[bytes], place: int) -> int:
        """Take the replies from ``place`` on, as many as are due.  The caller calls `settle` afterwards.

        Returns:
            The number of replies that were taken.
        """
        replies = self._replies
        due = self._due - len(replies)
        taken = frames[place : place + due]
        replies += taken
        self.called = len(taken) == due
        return len(taken)

    def pieces(self, size: int) -> list[RawBatch]:
        """Split a batch that was rejected into pieces that wait.  The collector is told of both.

        Args:
            size: The most requests of a piece.

        Returns:
            The pieces, in the order of the requests.
        """
        found: list[RawBatch] = []
        for start in range(0, len(self), size):
            piece = RawBatch(self._collector, self._slot, self._table)
            piece._places += self._places[start : start + size]
            piece._packed += self._packed[start : start + size]
            piece._announced = len(piece)
            piece.send_at(self.since, self.deadline)
            found.append(piece)
        self._announce(0, len(self))
        self._collector.waits(len(found))
        return found

    def waits_no_more(self) -> None:
        """Tell the collector that this piece has ended to wait."""
        self._collector.waits(-1)

    def _announce(self, start: int, end: int) -> None:
        """Tell the collector that some requests are delayed, unless it knows that."""
        start = max(start, self._announced)
        self._announced = max(end, self._announced)
        for place in self._places[start:end]:
            self._collector.left(place)

    def _leave(self, go: Callable[[SubRequest], None]) -> None:
        if not self.called:
            # Before the collector gets the earlier replies: it may send more requests then.
            index = len(self._places) - self._due + len(self._replies)
            self._announce(index, index + 1)
        super()._leave(go)

    def overtaken(self) -> None:
        """Tell the collector that all requests without a reply are delayed."""
        if not self.called:
            count = len(self._places)
            self._announce(count - self._due + len(self._replies), count)

    def dissolve(self) -> list[SubRequest]:
        """Return every request without a reply as a request of its own; the batch expects no more replies."""
        self.overtaken()
        return super().dissolve()

    @property
    def _slot(self) -> int:
        assert isinstance(self.target, int)
        return self.target

    def _command_of(self, payload: bytes) -> tuple[Command, Target]:
        """Return the command and the target of a request."""
        try:
            reader = hiredis.Reader()
            reader.feed(payload)
            words = reader.gets()
            command = self._table[words[0]].resolve(words)
            places = command.places(words)
            if places:
                return command, key_slot(words[places[0]])
        except Exception:
            # The requests are not checked.  The server will refuse this one.
            command = _UNREADABLE
        return command, ANY_NODE if command.known else self._slot

    def _part(self, index: int) -> SubRequest:
        place, payload = self._places[index], self._packed[index]
        command, target = self._command_of(payload)
        collector = self._collector
        part = RawPart(collector, place, payload, command, target, self.since, self.deadline, command.repeatable)
        collector.parted(place, part)
        return part


class RawBatches(BatchesByNode[RawBatch]):
    """The batches of relayed requests."""

    def __init__(self, collector: RawCollector, destinations: list[Any], table: CommandTable) -> None:
        """Make no batches yet.

        Args:
            collector: Gets the results.
            destinations: The destination for each slot.
            table: The commands.
        """
        super().__init__(destinations)
        self._collector = collector
        self._table = table

    def make(self, slot: int) -> RawBatch:
        """Make the batch for a destination that has none."""
        return RawBatch(self._collector, slot, self._table)


_UNREADABLE = Command("an unreadable request", known=False)
