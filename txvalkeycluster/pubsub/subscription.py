"""Subscription: what an application holds of some channels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Generic, Self
from weakref import finalize

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads

from ..commands.method_support import Key, Text
from ..connection.subscriber_group import SubscriberGroup
from ..errors import ValkeyError
from ..messages import Lost, Message, Resubscribed
from ..requests.subscribe import Kind
from .acknowledgement import Acknowledgement
from .feed import BufferedFeed, Feed
from .hub import SubscriptionHub
from .placement import Scope


class Subscription(Generic[Text]):
    """Channels or patterns of one kind, and their messages.

    `ClusterClient.subscribe`, `psubscribe`, `ssubscribe`, `keyspace_events` and `keyevent_events` make one.  It lives
    until `close`, or until the program drops it and its iterators; with a listener until `close`.  The client
    subscribes again after failovers, moved slots and lost connections, and reports each gap.

    Example:
        async with client.subscribe("news", "weather") as subscription:
            async for item in subscription:
                match item:
                    case Message(channel=channel, data=data):
                        print(channel, data)
                    case Lost(channels=channels, reason=reason):
                        print("messages may be missing from", channels, reason)
                    case Resubscribed(channels=channels):
                        print("complete again:", channels)
    """

    def __init__(
        self,
        hub: SubscriptionHub,
        feed: Feed,
        group: SubscriberGroup,
        kind: Kind,
        scope: Scope,
        prefix: bytes,
        timeout: float | None,
    ) -> None:
        """Make a subscription without channels; the methods of the client do that."""
        self._hub = hub
        self._feed = feed
        self._group = group
        self._kind = kind
        self._scope = scope
        self._prefix = prefix
        self._timeout = timeout
        self._closing: Deferred[None] | None = None
        self._finalizer: Any = None

    def start(self, channels: Iterable[Key], *, keep: bool) -> None:
        """Subscribe the first channels.

        Args:
            channels: The channels.
            keep: Whether it lives until it is closed, even if the program drops it.
        """
        if not keep:
            self._finalizer = finalize(self, _drop, self._hub, self._feed)
            self._finalizer.atexit = False
        self._first = self._add([self._prefix + _name(channel) for channel in channels], first=True)

    def __repr__(self) -> str:
        state = "closed" if self._feed.ended else "open"
        return f"<Subscription {self._kind.subscribe.name} channels={len(self._feed.upstreams)} {state} {self._feed!r}>"

    @property
    def channels(self) -> tuple[Text, ...]:
        """The channels or patterns, as the server has them."""
        return tuple(upstream.text for upstream in self._feed.upstreams.values())

    def ready(self) -> Deferred[Self]:
        """Wait until the servers have acknowledged the first channels.

        Returns:
            A Deferred that fires with this subscription.  It fails with the errors below, and then no channel is
            subscribed.

        Raises:
            ReplyError: A server refused, for instance because the user lacks the right to a channel.
            CommandTimeout: The timeout passed.
            ClientClosed: The client is closed.
        """
        done: Deferred[Any] = self._first.wait()
        return done.addCallback(lambda _: self)

    def add(self, *channels: Key) -> Deferred[None]:
        """Subscribe more channels.

        Args:
            *channels: Channels or patterns.  Those that it has already change nothing.

        Returns:
            A Deferred that fires when the servers have acknowledged them.  It fails as that of `ready` does; then none
            of the new channels is subscribed, and the others stay.
        """
        if self._feed.ended:
            return fail(ValkeyError("the subscription is closed"))
        return self._add([self._prefix + _name(channel) for channel in channels], first=False).wait()

    def _add(self, names: Iterable[bytes], *, first: bool) -> Acknowledgement:
        names = dict.fromkeys(names)
        return self._hub.add(self._feed, self._group, self._kind, self._scope, names, self._timeout, first=first)

    def remove(self, *channels: Key) -> Deferred[None]:
        """Unsubscribe channels.  Messages that are in the buffer stay there.

        Args:
            *channels: Channels or patterns of this subscription.

        Returns:
            A Deferred that fires when the servers do not send their messages to this client any more, unless another
            subscription wants them.  It fails with ValueError for a channel that this subscription does not have.
        """
        names = dict.fromkeys(self._prefix + _name(channel) for channel in channels)
        upstreams = self._feed.upstreams
        missing = [name for name in names if name not in upstreams]
        if missing:
            return fail(ValueError(f"{missing[0]!r} is not one of the channels of this subscription"))
        return self._hub.unsubscribe(self._feed, [upstreams[name] for name in names])

    def close(self) -> Deferred[None]:
        """Unsubscribe all channels and discard the buffer.  Iterators stop.

        Returns:
            A Deferred that fires when the servers do not send the messages to this client any more, unless another
            subscription wants them.
        """
        if self._finalizer is not None:
            self._finalizer.detach()
        done: Deferred[None] = Deferred()
        if self._closing is None:
            # In place first: an iterator that stops can close the subscription, too.
            self._closing = Deferred()
            self._hub.end(self._feed).chainDeferred(self._closing)
        self._closing.addCallback(done.callback)
        return done

    async def __aenter__(self) -> Self:
        try:
            return await self.ready()
        except BaseException:
            self.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[Message[Text] | Lost | Resubscribed]:
        return self._items(object)

    def messages(self) -> AsyncIterator[Message[Text]]:
        """Iterate over the messages only, without the reports of gaps."""
        return self._items(Message)

    async def _items(self, kind: type) -> AsyncIterator[Any]:
        feed = self._feed
        if not isinstance(feed, BufferedFeed):
            raise TypeError("a subscription with a listener cannot be iterated")
        take = feed.take
        while True:
            item = take()
            if item is not None:
                if isinstance(item, kind):
                    yield item
            elif feed.error is not None:
                # Without the traceback of an earlier raise.
                raise feed.error.with_traceback(None)
            elif feed.ended:
                return
            else:
                await feed.wait()


def _name(channel: Key) -> bytes:
    if isinstance(channel, str):
        return channel.encode()
    if isinstance(channel, (bytes, bytearray, memoryview)):
        return bytes(channel)
    raise TypeError(f"a channel must be str or bytes, not {type(channel).__name__}; give several one by one")


def _drop(hub: SubscriptionHub, feed: Feed) -> None:
    """End a subscription that the program has dropped.  The garbage collector can call this in any thread."""
    if IReactorFromThreads.providedBy(hub.clock):
        hub.clock.callFromThread(hub.end, feed)
    else:
        hub.next_turn(lambda: hub.end(feed))
