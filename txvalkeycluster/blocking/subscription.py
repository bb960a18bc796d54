"""A subscription for threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self

from twisted.internet.defer import Deferred

from ..commands.method_support import Key, Text
from ..errors import ClientClosed
from ..messages import Lost, Message, Resubscribed
from ..pubsub.subscription import Subscription
from .connection import Link
from .iteration import BlockingIteration


class BlockingSubscription(Generic[Text]):
    """A `Subscription` for threads; `BlockingClient.subscribe` and its kin make one.

    Only one thread may iterate over it at a time.
    """

    def __init__(self, link: Link, subscription: Subscription[Any]) -> None:
        self._link = link
        self._subscription = subscription
        self._items: BlockingIteration[Message[Text] | Lost | Resubscribed] | None = None

    def __repr__(self) -> str:
        return f"<BlockingSubscription {self._subscription!r}>"

    @property
    def channels(self) -> tuple[Text, ...]:
        """As `Subscription.channels`."""
        return self._subscription.channels

    def ready(self) -> Self:
        """As `Subscription.ready`."""
        self._link.bridge.run(self._subscription.ready)
        return self

    def add(self, *channels: Key) -> None:
        """As `Subscription.add`."""
        self._link.bridge.run(partial(self._subscription.add, *channels))

    def remove(self, *channels: Key) -> None:
        """As `Subscription.remove`."""
        self._link.bridge.run(partial(self._subscription.remove, *channels))

    def close(self) -> None:
        """As `Subscription.close`."""
        # A closed client has ended the subscription.
        with suppress(ClientClosed):
            self._link.bridge.run(self._subscription.close)

    def get(self, timeout: float | None = None) -> Message[Text] | Lost | Resubscribed | None:
        """Wait for the next item.

        Args:
            timeout: The longest time to wait, in seconds; None is no limit.

        Returns:
            The item.  None: the time is up, or the subscription is closed.
        """
        try:
            return self._iteration().take(timeout)
        except (TimeoutError, StopIteration):
            return None

    def __iter__(self) -> Iterator[Message[Text] | Lost | Resubscribed]:
        return self._iteration()

    def messages(self) -> Iterator[Message[Text]]:
        """As `Subscription.messages`."""
        return (item for item in self._iteration() if isinstance(item, Message))

    def _iteration(self) -> BlockingIteration[Message[Text] | Lost | Resubscribed]:
        # One for all calls: it may hold items.
        if self._items is None:
            self._items = BlockingIteration(self._link.bridge, aiter(self._subscription), self._link)
        return self._items

    def __enter__(self) -> Self:
        self._link.bridge.run(lambda: Deferred.fromCoroutine(self._subscription.__aenter__()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
