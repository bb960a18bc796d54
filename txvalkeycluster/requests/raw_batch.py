"""Batches of encoded requests, whose replies are passed on as the server's own bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import hiredis

from ..commands import Command, CommandTable
from ..errors import ReplyError
from ..slots import key_slot
from .batch import Batch, Collector, SubRequest
from .request import Call, Destination


class RawReplyError(ReplyError):
    """An error reply with its bytes."""

    def __init__(self, frame: bytes) -> None:
        text = frame[1:-2] if frame.startswith(b"-") else frame.partition(b"\r\n")[2][:-2]
        super().__init__(text.decode("utf-8", "replace"))
        #: The reply as the server sent it.
        self.frame = frame


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


class RawPart(SubRequest):
    """A request that has left its batch, with the bytes of its reply as the result."""

    __slots__ = ()

    unparsed = True


class RawBatch(Batch):
    """A batch that takes many replies at once.

    It does not know the commands of its requests: a request is parsed only if it leaves the batch.
    """

    __slots__ = ("_table", "add_request", "add_tag")

    unparsed = True
    _collector: RawCollector

    def __init__(self, collector: RawCollector, slot: int, table: CommandTable) -> None:
        """Create an empty batch.

        Args:
            collector: Gets the results.
            slot: One of the slots of the requests.
            table: The commands.
        """
        super().__init__(collector, slot, 0.0, 0.0)
        self._table = table
        #: Adds a tag and a request.  Each is added to its list by itself, because one call for both would cost more.
        self.add_tag, self.add_request = self._places.append, self._packed.append

    def send_at(self, since: float, deadline: float) -> None:
        """Complete the batch; only once, before it is sent.

        Args:
            since: The current time, as reactor.seconds().
            deadline: When the requests time out, as reactor.seconds().
        """
        self.since, self.deadline = since, deadline
        del self.add_tag, self.add_request
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

    def delayed(self) -> None:
        """Tell the collector that all requests of the batch are delayed."""
        for place in self._places:
            self._collector.left(place)

    def split(self, destinations: Sequence[object]) -> list[RawBatch]:
        """Split the batch by the current owners of the slots; only if it was not sent.

        Args:
            destinations: The destination for each slot.
        """
        batches: dict[object, RawBatch] = {}
        for place, payload in zip(self._places, self._packed, strict=True):
            slot = self._command_of(payload)[1]
            batch = batches.get(destinations[slot])
            if batch is None:
                batch = batches[destinations[slot]] = RawBatch(self._collector, slot, self._table)
            batch.add_tag(place)
            batch.add_request(payload)
        for batch in batches.values():
            batch.send_at(self.since, self.deadline)
        return list(batches.values())

    def _command_of(self, payload: bytes) -> tuple[Command, int]:
        """Return the command and the slot of a request."""
        reader = hiredis.Reader()
        reader.feed(payload)
        words = reader.gets()
        command = self._table[words[0]].resolve(words)
        places = command.places(words)
        # A command without keys can go to any node.
        slot = key_slot(words[places[0]]) if places else self.target
        assert isinstance(slot, int)
        return command, slot

    def _part(self, index: int) -> SubRequest:
        place, payload = self._places[index], self._packed[index]
        self._collector.left(place)
        command, slot = self._command_of(payload)
        return RawPart(self._collector, place, payload, command, slot, self.since, self.deadline, command.repeatable)
