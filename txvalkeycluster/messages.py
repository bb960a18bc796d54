"""What a subscription gives to an application: messages, and reports of gaps between them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

from .address import Address

_Text = TypeVar("_Text", bound=bytes | str)


class Message(NamedTuple, Generic[_Text]):
    """A message that was published to a channel, or a keyspace event."""

    #: The channel to which it was published.
    channel: _Text
    #: The payload.  For a keyspace event the name of the event, for a keyevent event the key.
    data: _Text
    #: The pattern that matched the channel; None if the channel itself was subscribed.
    pattern: _Text | None = None
    #: The node that sent a keyspace event; None for other messages, which any node can pass on.
    node: Address | None = None


class LostReason(Enum):
    """Why messages may be missing."""

    #: The connection to the node ended.
    CONNECTION = "the connection was lost"
    #: Another node is the primary of the shard now.
    FAILOVER = "another node has become the primary"
    #: The slot of a sharded channel belongs to another shard now.
    SLOT_MOVED = "the slot was moved"
    #: The slot map does not list the node any more.
    NODE_REMOVED = "the node was removed from the cluster"
    #: The slot map lists a new node, whose keyspace events were not received until now.
    NODE_ADDED = "a node was added to the cluster"
    #: The buffer of the subscription was full.  The oldest messages were dropped.
    OVERFLOW = "the buffer of the subscription was full"
    #: The connection ended while the client did not read from it (``overflow="pause"``).
    OUTPUT_LIMIT = "the server closed a connection that was not read; its output limit is the likely cause"
    #: A message is not text in the encoding of the client.
    NOT_TEXT = "a message is not text in the encoding of the client"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Lost:
    """Messages may be missing from here on.

    After OVERFLOW and NOT_TEXT the subscription goes on at once.  After the other reasons a `Resubscribed` for the same
    channels ends the gap.  A keyspace subscription has a gap for each node.  It does not get a `Resubscribed` for a
    node that is not a primary any more, or that left the cluster.
    """

    #: The channels or patterns, as they were subscribed.
    channels: tuple[Any, ...]
    reason: LostReason
    #: More about the reason, such as the error of a connection; may be empty.
    detail: str = ""
    #: The number of dropped messages, for OVERFLOW and NOT_TEXT.
    dropped: int = 0
    #: The node from which messages may be missing; None if it does not matter.
    node: Address | None = None


@dataclass(frozen=True, slots=True)
class Resubscribed:
    """The server has acknowledged the channels again: from here on no message is missing."""

    #: The channels or patterns, as they were subscribed.
    channels: tuple[Any, ...]
    #: The node that sends the messages now.
    node: Address | None = None
