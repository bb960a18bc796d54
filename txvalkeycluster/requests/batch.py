"""Sub-requests of a pipeline or of a command for many nodes, sent one by one or in one batch per node.

A `Batch` is one request for many commands.  A command that is redirected, refused or lost leaves its batch and
continues as a request of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from ..commands import Command, CommandTable
from ..commands.encoder import Arg, Packed, pack_keyed
from ..errors import ReplyError
from .fast_deferred import fast
from .interfaces import Connection, Destination
from .request import Call, MultiRequest, Request
from .target import Target

_B = TypeVar("_B", bound="Batch")


class Collector(Protocol):
    """Collects the results of sub-requests, for a pipeline or for a command on many nodes."""

    @property
    def called(self) -> bool:
        """Whether nobody waits for the results any more."""

    def answered(self, places: Sequence[Any], replies: Sequence[Any]) -> None:
        """Accept replies.

        Args:
            places: The place of each reply's sub-request in the collector.
            replies: As many replies.
        """

    def failed(self, place: Any, error: Any) -> None:
        """Accept the error of one sub-request.

        Args:
            place: The place of the sub-request in the collector.
            error: An exception or a Failure.
        """


class SubRequest(Request):
    """A request that gives its result to a collector."""

    __slots__ = ("_collector", "_done", "_place")

    def __init__(
        self,
        collector: Collector,
        place: Any,
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
        """Whether this request has ended, or nobody waits for it any more."""
        return self._done or self._collector.called

    def callback(self, result: Any) -> None:
        """Give the reply to the collector."""
        self._done = True
        self._collector.answered((self._place,), (result,))

    def errback(self, fail: Any = None) -> None:
        """Give the error to the collector."""
        self._done = True
        self._collector.failed(self._place, fail)


class Batch(MultiRequest):
    """Commands for one node in one record, with one write and one deadline.

    A command that is redirected, refused or lost leaves the batch and continues as a `SubRequest`.  Replies from one
    read go to the collector in one call.
    """

    __slots__ = ("_collector", "_commands", "_due", "_packed", "_places", "_replies", "_slots", "called")

    def __init__(
        self, collector: Collector, slot: int, since: float, deadline: float, repeatable: bool = False
    ) -> None:
        """Create an empty batch.

        Args:
            collector: Gets the results.
            slot: One of the slots of the commands.
            since: The time of the call, as reactor.seconds().
            deadline: When the commands time out, as reactor.seconds().
            repeatable: Whether all commands of the batch may be sent again after a lost connection.
        """
        super().__init__(b"", BATCH, slot, since, deadline, repeatable)
        self.called = False
        self._collector = collector
        # Four lists: with a tuple for each command, garbage collection would take a tenth of the time.
        self._places: list[Any] = []
        self._packed: list[bytes] = []
        self._commands: list[Command] = []
        self._slots: list[int] = []
        # The replies that the collector does not have yet, and their number plus the number of pending replies.
        self._replies: list[Any] = []
        self._due = 0

    def __len__(self) -> int:
        return len(self._places)

    def add(self, place: int, payload: bytes, command: Command, slot: int) -> None:
        """Add a command; only before `seal`.

        Args:
            place: The place of the command in the collector.
            payload: The packed command.
            command: The command's definition.
            slot: The command's slot.
        """
        self._places.append(place)
        self._packed.append(payload)
        self._commands.append(command)
        self._slots.append(slot)

    def regrouped(self, destinations: list[Any]) -> list[Batch]:
        """Split the batch by the current owners of the slots; only before it is sent.

        Args:
            destinations: The destination for each slot.

        Returns:
            A batch for each destination; this batch itself if there is only one.
        """
        batches = Batches(self._collector, destinations, self.since, self.deadline, self.repeatable)
        for place, payload, command, slot in zip(self._places, self._packed, self._commands, self._slots, strict=True):
            batches.add(place, payload, command, slot)
        if len(batches) == 1:
            return [self]
        for batch in batches.values():
            batch.seal()
        return list(batches.values())

    def seal(self) -> None:
        """Pack the commands.  After this call the batch can be sent, and no command can be added."""
        self.payload = b"".join(self._packed)
        self._due = len(self._places)

    def callback(self, result: Any) -> None:
        """Accept the next reply."""
        replies = self._replies
        replies.append(result)
        if len(replies) == self._due:
            self.called = True
            self.settle()

    def hand_over(self) -> None:
        """Give the replies that have come to the collector."""
        if self._replies:
            replies, self._replies = self._replies, []
            told = len(self._places) - self._due
            self._due -= len(replies)
            self._collector.answered(self._places[told : told + len(replies)], replies)

    def errback(self, fail: Any = None) -> None:
        """End every command without a reply with an error."""
        self._end_all(lambda part: part.fail(fail))

    def time_out(self, now: float, where: str, *, written: bool) -> None:
        """End every command without a reply with a timeout."""
        self._end_all(lambda part: part.time_out(now, where, written=written))

    def _end_all(self, end: Callable[[SubRequest], None]) -> None:
        for part in self.dissolve():
            end(part)
        self.settle()

    def refused(self, connection: Connection, error: ReplyError) -> None:
        """Let the command with this error reply leave the batch; the connection's owner decides about it."""
        self._leave(lambda part: connection.owner.reply_failed(connection, part, error))

    def undecodable(self, error: Exception) -> None:
        """Fail the command whose reply cannot be read."""
        self._leave(lambda part: part.fail(error))

    def _leave(self, go: Callable[[SubRequest], None]) -> None:
        """Give the earlier replies to the collector, then let the command of the next reply leave the batch."""
        if self.called:
            return
        self.hand_over()
        # The collector's callbacks may have ended this batch.
        if not self.called:
            part = self._part(len(self._places) - self._due)
            self._due -= 1
            self.called = not self._due
            go(part)
            self.settle()

    def dissolve(self) -> list[SubRequest]:
        """Return every command without a reply as a request of its own; the batch expects no more replies."""
        if self.called:
            return []
        self.called = True
        count = len(self._places)
        return [self._part(index) for index in range(count - self._due + len(self._replies), count)]

    def settle(self) -> None:
        """If no more replies are expected, give the last ones to the collector and end the batch."""
        if not self.called:
            return
        # Break the reference cycle, and free the bytes.
        self.payload = b""
        self._packed = self._commands = self._slots = _FREED
        self.hand_over()
        self._ended()

    def _part(self, index: int) -> SubRequest:
        place, payload, command, slot = (
            self._places[index], self._packed[index], self._commands[index], self._slots[index],
        )  # fmt: skip
        repeatable = self.repeatable or command.repeatable
        return SubRequest(self._collector, place, payload, command, slot, self.since, self.deadline, repeatable)


class BatchesByNode(dict[Destination, _B], Generic[_B]):
    """The batch for each destination."""

    def __init__(self, destinations: list[Any]) -> None:
        """Make no batches yet.

        Args:
            destinations: The destination for each slot.
        """
        super().__init__()
        #: The destination for each slot.
        self.destinations: list[Destination] = destinations

    def make(self, slot: int) -> _B:
        """Make the batch for a destination that has none; ``slot`` is that of its first command."""
        raise NotImplementedError

    def of(self, slot: int) -> _B:
        """Return the batch for the destination of a slot.  The first command for a destination makes its batch."""
        destination = self.destinations[slot]
        batch = self.get(destination)
        if batch is None:
            batch = self[destination] = self.make(slot)
        return batch


class Batches(BatchesByNode[Batch]):
    """The batches of a pipeline, or of a command for several slots."""

    def __init__(
        self,
        collector: Collector,
        destinations: list[Any],
        since: float,
        deadline: float,
        repeatable: bool = False,
    ) -> None:
        """Make no batches yet; the arguments are those of `Batch`.

        Args:
            collector: Gets the results.
            destinations: The destination for each slot.
            since: The time of the call, as reactor.seconds().
            deadline: When the commands time out, as reactor.seconds().
            repeatable: Whether all commands may be sent again after a lost connection.
        """
        super().__init__(destinations)
        #: The parts of a command that `split` found too large for a batch: slot, payload, number of the part.
        self.large: list[tuple[int, Packed, int]] = []
        self._terms = since, deadline, repeatable
        self._collector = collector

    def make(self, slot: int) -> Batch:
        """Make the batch for a destination that has none."""
        return Batch(self._collector, slot, *self._terms)

    def add(self, place: int, payload: bytes, command: Command, slot: int) -> None:
        """Add a command to the batch of its destination, with the arguments of `Batch.add`."""
        # The same as `of`, whose call would cost 3% of a command in a pipeline.
        destination = self.destinations[slot]
        batch = self.get(destination)
        if batch is None:
            batch = self[destination] = self.make(slot)
        batch.add(place, payload, command, slot)

    def pack(self, words: Sequence[Arg], table: CommandTable) -> tuple[Command, int, bytes] | None:
        """Return the definition, the slot and the bytes of a command; None if it must be sent by itself."""
        try:
            command = table[words[0]]
            if not command.keyed or len(words) < 2 or words.__class__ is str:
                return None
            slot, payload = pack_keyed(command.wire_name, words)
        except Exception:
            # A wrong argument: the command gets the error when it is sent by itself.
            return None
        return (command, slot, payload) if isinstance(payload, bytes) else None


BATCH = Command("a batch")
# What a batch that has ended has instead of its lists.  Nothing can be added to it.
_FREED: Any = ()
if fast is not None:
    fast.use_classes(Call, Batch)
