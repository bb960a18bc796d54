"""A subscription for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, Self

from ..commands.method_support import Key, Text
from ..messages import Lost, Message, Resubscribed
from ..pubsub.feed import BufferedFeed
from ..pubsub.subscription import Subscription
from .reply import Reply, check_loop, reply_by


class AsyncSubscription(Generic[Text]):
    """A `Subscription` for asyncio; `AsyncClient.subscribe` and its kin make one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, subscription: Subscription[Any]) -> None:
        self._loop = loop
        self._subscription = subscription

    def __repr__(self) -> str:
        return f"<AsyncSubscription {self._subscription!r}>"

    @property
    def channels(self) -> tuple[Text, ...]:
        """As `Subscription.channels`."""
        return self._subscription.channels

    async def ready(self) -> Self:
        """As `Subscription.ready`."""
        await reply_by(self._loop, self._subscription.ready)
        return self

    def add(self, *channels: Key) -> Reply[None]:
        """As `Subscription.add`."""
        return reply_by(self._loop, self._subscription.add, *channels)

    def remove(self, *channels: Key) -> Reply[None]:
        """As `Subscription.remove`."""
        return reply_by(self._loop, self._subscription.remove, *channels)

    def close(self) -> Reply[None]:
        """As `Subscription.close`."""
        return reply_by(self._loop, self._subscription.close)

    async def __aenter__(self) -> Self:
        try:
            return await self.ready()
        except BaseException:
            self.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self.close())

    def __aiter__(self) -> AsyncIterator[Message[Text] | Lost | Resubscribed]:
        return _Items(self._loop, self._subscription, object)

    def messages(self) -> AsyncIterator[Message[Text]]:
        """As `Subscription.messages`."""
        return _Items(self._loop, self._subscription, Message)


class _Items(AsyncIterator[Any]):
    """Iterates over the items of a subscription.

    It takes an item only when nothing can cancel the task any more, so that cancelled waits lose nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, subscription: Subscription[Any], kind: type) -> None:
        self._loop = loop
        # A subscription that the program has dropped lives as long as its iterators.
        self._subscription = subscription
        self._kind = kind

    async def __anext__(self) -> Any:
        check_loop(self._loop)
        feed = self._subscription._feed
        if not isinstance(feed, BufferedFeed):
            raise TypeError("a subscription with a listener cannot be iterated")
        while True:
            item = feed.take()
            if item is not None:
                if isinstance(item, self._kind):
                    return item
            elif feed.error is not None:
                # Without the traceback of an earlier raise.
                raise feed.error.with_traceback(None)
            elif feed.ended:
                raise StopAsyncIteration
            else:
                await reply_by(self._loop, feed.wait)

    async def aclose(self) -> None:
        """Do nothing; for `contextlib.aclosing`.  The subscription stays."""
