"""SubscriberGroup: the connections that carry the same subscriptions, at most one for each node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ..messages import LostReason

if TYPE_CHECKING:
    from .subscriber import Subscriber


class Sleeper(Protocol):
    """What waits for messages."""

    def wake(self) -> None:
        """Let it take the messages."""


class SubscriberGroup:
    """Connections that are paused and resumed together, at most one for each node."""

    def __init__(self, lost: Callable[[Subscriber, list[Any], LostReason, str], None]) -> None:
        """Make a group without connections.

        Args:
            lost: Called when a connection ends: the subscriber, its subscriptions, the reason, and the error's text.
        """
        self.lost = lost
        #: Whether reading is stopped.
        self.paused = False
        #: The node of the classic channels; None if none is chosen.
        self.home: Any = None
        #: Whether a read is being processed.
        self.reading = False
        self._subscribers: set[Subscriber] = set()
        self._sleepers: dict[Sleeper, None] = {}

    def __repr__(self) -> str:
        return f"<SubscriberGroup nodes={len(self._subscribers)} paused={self.paused}>"

    def wake_after_read(self, sleeper: Sleeper) -> None:
        """Wake a sleeper at the end of the read that is being processed; at once if there is none."""
        if self.reading:
            self._sleepers[sleeper] = None
        else:
            sleeper.wake()

    def read_done(self) -> None:
        """Note the end of a read, and wake the sleepers."""
        self.reading = False
        if self._sleepers:
            sleepers, self._sleepers = self._sleepers, {}
            for sleeper in sleepers:
                sleeper.wake()

    def add(self, subscriber: Subscriber) -> None:
        """Add the connection of a node."""
        self._subscribers.add(subscriber)

    def remove(self, subscriber: Subscriber) -> None:
        """Remove the connection of a node."""
        self._subscribers.discard(subscriber)

    def pause(self) -> None:
        """Stop reading from every connection."""
        if not self.paused:
            self.paused = True
            for subscriber in list(self._subscribers):
                subscriber.pause()

    def resume(self) -> None:
        """Read from every connection again."""
        if self.paused:
            self.paused = False
            for subscriber in list(self._subscribers):
                subscriber.resume()
