"""Batches of relayed requests that full queues have rejected: they wait here, and are sent in their order."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ..connection.node import NodeConnection, State
from ..errors import ClientClosed, TooManyPending
from ..requests.raw_batch import RawBatch

if TYPE_CHECKING:
    from .router import Router

# Batches wait in pieces of this many requests, so that also a batch that is larger than a queue is sent.
_PIECE = 256


class FullQueues:
    """The batches that wait, for each node.  Later batches for the same node wait behind them."""

    def __init__(self, router: Router) -> None:
        """Make it without batches.

        Args:
            router: Routes the batches.
        """
        self._router = router
        self._piece = max(1, min(_PIECE, router.max_pending // 4))
        self._waiting: dict[Any, deque[RawBatch]] = {}
        self._scheduled = False

    def __repr__(self) -> str:
        return f"<FullQueues of {len(self._waiting)} nodes>"

    def send(self, destination: object, batch: RawBatch) -> None:
        """Send a new batch, or let it wait.

        Args:
            destination: The node of the batch, or the queue of slots without an owner.
            batch: The batch.
        """
        waiting = self._waiting.get(destination)
        if waiting is None:
            try:
                if isinstance(destination, NodeConnection) and destination.state is not State.CLOSED:
                    # Also if another node has become the owner: earlier requests may be on the way to this one.
                    destination.send_batch(batch)
                else:
                    self._router.route(batch)
            except TooManyPending:
                waiting = self._waiting[destination] = deque()
            else:
                return
        waiting += batch.pieces(self._piece)
        self._flush(destination, waiting)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._router.retries.add(self._try_again)

    def _try_again(self) -> None:
        self._scheduled = False
        now = self._router.clock.seconds()
        for destination, waiting in list(self._waiting.items()):
            late = [piece for piece in waiting if piece.deadline <= now]
            if late and not self._router.closed:
                kept = [piece for piece in waiting if piece.deadline > now]
                waiting.clear()
                waiting += kept
                for piece in late:
                    piece.time_out(now, "rejected because the queue of its node is full", written=False)
                    piece.waits_no_more()
            self._flush(destination, waiting)
        self._schedule()

    def _flush(self, destination: object, waiting: deque[RawBatch]) -> None:
        """Send what there is room for.  If the client is closed, all batches end."""
        router = self._router
        while waiting:
            # Callbacks may send more, so it is removed first.
            piece = waiting.popleft()
            if router.closed:
                piece.fail_unanswered(ClientClosed, router.closed_because)
            else:
                try:
                    router.route(piece)
                except TooManyPending:
                    waiting.appendleft(piece)
                    return
            piece.waits_no_more()
        if self._waiting.get(destination) is waiting:
            del self._waiting[destination]
