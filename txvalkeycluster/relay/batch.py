"""`RelayBatch`: many encoded requests of several callers, which are sent in one call."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..acceleration import fast
from ..errors import ClientClosed
from ..requests.batch import BatchesByNode
from ..requests.raw_batch import RawBatch, RawBatches, RawPart, RawReplyError
from ..routing.router import Router
from ..slots import BRACE, key_slot

_log = Logger()
#: Called with tags and as many replies.
OnReplies = Callable[[Sequence[Any], Sequence[Any]], object]


class RelayBatch:
    """Encoded requests of many callers, which leave as one record per node.

    A batch is filled and submitted in the same turn of the reactor, and used only once.
    """

    __slots__ = ("_groups", "_on_delay", "_on_replies", "_parts", "_pending", "_room", "_router", "_waiting")

    #: The results are always wanted.
    called = False

    def __init__(self, router: Router) -> None:
        """Make an empty batch.

        Args:
            router: The router of the client.
        """
        self._router = router
        # The requests by node, or by the queue of slots without an owner.  As long as the batch is filled, a new slot
        # map does not matter: requests for one slot must not part.
        destinations = router.recovery.slot_map.snapshot()
        self._groups: BatchesByNode[RawBatch] = RawBatches(self, destinations, router.commands)
        self._on_replies: OnReplies = _no_replies
        self._on_delay: Callable[[Any], object] | None = None
        # The number of requests without a reply.
        self._pending = 0
        # The requests that have left their group, by the identity of their tag.
        self._parts: dict[int, RawPart] = {}
        # The number of pieces that wait for room in a queue, and the Deferred that fires when there are none.
        self._waiting = 0
        self._room: Deferred[None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def __repr__(self) -> str:
        return f"<RelayBatch of {len(self)} requests for {len(self._groups)} nodes>"

    def add(self, tag: object, slot: int, payload: bytes) -> None:
        """Add a request.

        The requests of a batch, and of all batches after it, that are for the same slot are sent in this order.

        Args:
            tag: Given back with the reply.
            slot: The slot of its keys, 0 to 16383.
            payload: The encoded request: one RESP array of bulk strings.  It is not checked.
        """
        self._groups.of(slot).put(tag, payload)

    def add_keyed(self, tags: Sequence[Any], keys: Sequence[bytes], payloads: Sequence[bytes]) -> None:
        """Add requests with one key each; this is faster than `add`.

        Args:
            tags: The tag of each request.
            keys: The key of each request.
            payloads: The encoded requests.
        """
        add_keyed(self._groups, tags, keys, payloads)

    def submit(
        self, on_replies: OnReplies, on_delay: Callable[[Any], object] | None, timeout: float | None
    ) -> Deferred[None] | None:
        """Send the batch; only `ClusterClient.submit` calls this."""
        router = self._router
        router.factory.thread.check()
        if self._on_replies is not _no_replies:
            raise RuntimeError("a batch can be submitted only once")
        self._on_replies = on_replies
        self._on_delay = on_delay
        groups, self._groups = self._groups, _SUBMITTED
        now, deadline = router.clock.seconds(), router.deadline_of(timeout)
        for group in groups.values():
            group.send_at(now, deadline)
            self._pending += len(group)
        if router.closed:
            for group in groups.values():
                router.next_turn.add(partial(group.fail_unanswered, ClientClosed, router.closed_because))
            return None
        if router.recovery.slot_map.snapshot() is not groups.destinations:
            # They will be redirected, and later ones will not.
            for group in groups.values():
                group.overtaken()
        scheduler = router.factory.write_scheduler
        # All connections write together at the end, and no timer is needed for that.
        outer, scheduler.held = scheduler.held, True
        try:
            for destination, group in groups.items():
                router.full_queues.send(destination, group)
        finally:
            scheduler.held = outer
        if not outer:
            scheduler.release()
        if self._waiting:
            self._room = Deferred()
        return self._room

    def give_up(self, tag: object) -> bool:
        """End a request that a server has refused for the moment, if it is waiting to be sent again.

        Its reply is the last error of the server.  This keeps the order of requests that were sent together: one that
        was refused must not be executed after a later one.

        Args:
            tag: The tag of the request, the same object as in `add`.

        Returns:
            Whether the request has ended now, and is not sent again.
        """
        part = self._parts.get(id(tag))
        return part is not None and self._router.recovery.give_up(part)

    # ---- called by the groups

    def answered(self, tags: Sequence[Any], replies: Sequence[Any]) -> None:
        """Pass on replies."""
        self._pending -= len(tags)
        try:
            self._on_replies(tags, replies)
        except BaseException:
            # The connection, and the replies to others on it, must not suffer.  The reactor also logs SystemExit.
            _log.failure("on_replies raised an exception")
        if not self._pending:
            # The functions often refer to this batch.  Garbage collection of such cycles takes 20 ms at a time.
            self._on_replies, self._on_delay, self._parts = _ended, None, {}

    def failed(self, tag: Any, error: Any) -> None:
        """Pass on an error: the bytes of an error reply, or an exception."""
        if isinstance(error, Failure):
            error = error.value
        self.answered((tag,), (error.frame if isinstance(error, RawReplyError) else error,))

    def left(self, tag: Any) -> None:
        """Note that a request is delayed."""
        if self._on_delay is not None:
            try:
                self._on_delay(tag)
            except BaseException:
                _log.failure("on_delay raised an exception")

    def parted(self, place: Any, part: RawPart) -> None:
        """Note the request with which a tag continues."""
        self._parts[id(place)] = part

    def waits(self, change: int) -> None:
        """Note that the number of pieces that wait for room in a queue changes."""
        self._waiting += change
        if not self._waiting and self._room is not None:
            self._room.callback(None)


# Without a reference to the batch, which would be a cycle.
_SUBMITTED: BatchesByNode[RawBatch] = BatchesByNode([])


def add_keyed(
    groups: BatchesByNode[RawBatch], tags: Sequence[Any], keys: Sequence[bytes], payloads: Sequence[bytes]
) -> None:
    """Add requests with one key each to the batches of their nodes.

    Args:
        groups: The batches.
        tags: The tag of each request.
        keys: The key of each request.
        payloads: The encoded requests.
    """
    for tag, key, payload in zip(tags, keys, payloads, strict=True):
        slot = crc_hqx(key, 0) & 16383 if BRACE not in key else key_slot(key)
        groups.of(slot).put(tag, payload)


if fast is not None and not TYPE_CHECKING:
    add_keyed = fast.Shortcut("add_keyed", add_keyed)


def _no_replies(tags: Sequence[Any], replies: Sequence[Any]) -> None:
    """Stands for ``on_replies`` until the batch is submitted."""


def _ended(tags: Sequence[Any], replies: Sequence[Any]) -> None:
    """Stands for ``on_replies`` after the last reply."""
