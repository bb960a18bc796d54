"""The methods of the client that subscribe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, TypedDict, Unpack

from ..commands.method_support import Key, Text
from ..messages import Lost, Message, Resubscribed
from ..options import DEFAULT
from ..requests.subscribe import CHANNEL, PATTERN, SHARDED, Kind
from . import keyspace
from .feed import BufferedFeed, Feed, ListenerFeed
from .hub import SubscriptionHub
from .placement import Scope
from .subscription import Subscription

Overflow = Literal["drop", "pause"]


class SubscriptionOptions(TypedDict, Generic[Text], total=False):
    """The options of a subscription, which are keywords of `SubscriptionMethods.subscribe` and the like."""

    #: Called with each item (`Message`, `Lost`, `Resubscribed`) at once and in order.  It should return quickly.  An
    #: exception that it raises is logged.  None, the default: iterate over the subscription instead.
    listener: Callable[[Message[Text] | Lost | Resubscribed], object] | None
    #: What happens when an iterator is too slow and the buffer is full.  ``"drop"``, the default: the oldest messages
    #: are dropped, and reported as `Lost` with their number.  ``"pause"``: the client stops reading.  The subscription
    #: then has connections of its own; the server keeps the messages up to its limit ``client-output-buffer-limit
    #: pubsub``, and then closes the connection.
    overflow: Overflow
    #: The number of items that the buffer holds; by default 10,000.
    max_messages: int
    #: The bytes of channels and data that the buffer holds; by default 8 MiB.  Python needs about 200 bytes more for
    #: each message.  One message is kept even if it is larger.
    max_bytes: int
    #: Seconds until `Subscription.ready` and `Subscription.add` fail with CommandTimeout.  None: no limit.  If not
    #: given, the option ``timeout`` of the client applies.
    timeout: float | None


class SubscriptionMethods(Generic[Text]):
    """Subscribes to channels, patterns, sharded channels and keyspace events."""

    def _subscriptions(self) -> SubscriptionHub:
        raise NotImplementedError

    def _given(self, timeout: float | None) -> float | None:
        raise NotImplementedError

    def subscribe(
        self,
        *channels: Key,
        **how: Unpack[SubscriptionOptions[Text]],
    ) -> Subscription[Text]:
        """Subscribe to classic channels.

        A message reaches the subscribers at all nodes; the nodes pass it on to each other.  All classic channels of a
        client are subscribed at one primary, which each client chooses at random.
        Source: https://valkey.io/topics/pubsub

        Args:
            *channels: The channels.  More can be added later.
            **how: The fields of `SubscriptionOptions`.

        Returns:
            A subscription, at once.  Its ``ready()`` tells when the servers have acknowledged the channels.

        Raises:
            TypeError: A channel is neither str nor bytes.
            ValueError: An option has a value that is not possible.

        Example:
            async with client.subscribe("news") as subscription:
                async for message in subscription.messages():
                    print(message.data)
        """
        return self._subscription(CHANNEL, Scope.ANY_NODE, b"", channels, **how)

    def psubscribe(
        self,
        *patterns: Key,
        at_every_primary: bool = False,
        **how: Unpack[SubscriptionOptions[Text]],
    ) -> Subscription[Text]:
        """Subscribe to all classic channels that match glob patterns such as ``news.*``.

        A message whose channel matches several patterns is received once for each.

        Args:
            *patterns: The patterns.
            at_every_primary: Whether to subscribe at all primaries.  This is for channels of events, which nodes do not
                pass on to each other; `keyspace_events` does it.  A message of another channel would come several
                times.
            **how: As in `subscribe`.

        Returns:
            A subscription, as `subscribe` does.
        """
        scope = Scope.PRIMARIES if at_every_primary else Scope.ANY_NODE
        return self._subscription(PATTERN, scope, b"", patterns, **how)

    def ssubscribe(
        self,
        *channels: Key,
        **how: Unpack[SubscriptionOptions[Text]],
    ) -> Subscription[Text]:
        """Subscribe to sharded channels, whose messages (SPUBLISH) stay within the shard that owns the slot.

        The channels may be in any slots.  They move with their slots.
        Source: https://valkey.io/topics/pubsub#sharded-pubsub

        Args:
            *channels: The channels.
            **how: As in `subscribe`.

        Returns:
            A subscription, as `subscribe` does.
        """
        return self._subscription(SHARDED, Scope.SLOT_OWNER, b"", channels, **how)

    def keyspace_events(
        self,
        pattern: Key = "*",
        *,
        db: int = 0,
        replicas: bool = False,
        **how: Unpack[SubscriptionOptions[Text]],
    ) -> Subscription[Text]:
        """Subscribe to the events of keys: the channel of a message ends with the key, its data is the event.

        A node sends only the events of its own keys.  So this subscribes at every primary, also at those that come
        later; messages and gaps name their node.  Servers send events only if ``notify-keyspace-events`` contains
        ``K``; a warning is logged about nodes where it does not.  When a slot moves, its keys have events too:
        ``restore`` at the new owner and ``del`` at the old one, if it is moved key by key.
        Source: https://valkey.io/topics/notifications

        Args:
            pattern: A glob pattern that the keys must match.
            db: The number of the database.
            replicas: Whether to subscribe at replicas too.  A replica sends the events of the writes that it gets from
                its primary.
            **how: As in `subscribe`.

        Returns:
            A subscription, as `subscribe` does.
        """
        scope = Scope.ALL_NODES if replicas else Scope.PRIMARIES
        name = keyspace.prefix("keyspace", db)
        return self._subscription(PATTERN, scope, name, (pattern,), **how)

    def keyevent_events(
        self,
        event: Key = "*",
        *,
        db: int = 0,
        replicas: bool = False,
        **how: Unpack[SubscriptionOptions[Text]],
    ) -> Subscription[Text]:
        """As `keyspace_events`, by event: the channel of a message ends with the event, its data is the key.

        Args:
            event: The event, such as ``expired``, or a glob pattern.
            db: The number of the database.
            replicas: As in `keyspace_events`.
            **how: As in `subscribe`.

        Returns:
            A subscription, as `subscribe` does.
        """
        scope = Scope.ALL_NODES if replicas else Scope.PRIMARIES
        name = keyspace.prefix("keyevent", db)
        return self._subscription(PATTERN, scope, name, (event,), **how)

    def _subscription(
        self,
        kind: Kind,
        scope: Scope,
        prefix: bytes,
        names: tuple[Key, ...],
        *,
        listener: Callable[[Any], object] | None = None,
        overflow: Overflow = "drop",
        max_messages: int = 10_000,
        max_bytes: int = 8 << 20,
        timeout: float | None = DEFAULT,
    ) -> Subscription[Text]:
        if overflow not in ("drop", "pause"):
            raise ValueError(f"overflow is {overflow!r}, not 'drop' or 'pause'")
        if max_messages < 1 or max_bytes < 1:
            raise ValueError("max_messages and max_bytes must be at least 1")
        if listener is not None and overflow == "pause":
            raise ValueError("overflow='pause' needs an iterator: a listener gets every message at once")
        timeout = self._given(timeout)
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be above 0 or None, not {timeout!r}")
        hub = self._subscriptions()
        group = hub.make_group() if overflow == "pause" else hub.shared
        feed: Feed
        if listener is not None:
            feed = ListenerFeed(listener)
        else:
            pauses = (group.pause, group.resume) if overflow == "pause" else (None, None)
            feed = BufferedFeed(max_messages, max_bytes, group.wake_after_read, hub.dropped, *pauses)
        subscription: Subscription[Text] = Subscription(hub, feed, group, kind, scope, prefix, timeout)
        subscription.start(names, keep=listener is not None)
        return subscription
