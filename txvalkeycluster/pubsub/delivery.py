"""Delivery: from messages to the feeds that want them.  It runs once for each message, so it is written for speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..address import Address
from ..messages import Lost, LostReason, Message
from .feed import Feed, ListenerFeed

# See `subscriber_protocol`.
_new = tuple.__new__

#: Takes a message.
Sink = Callable[[Message[Any]], object]
#: Takes a push: its first word, the pattern if there is one, the channel and the data.
Deliver = Callable[[Sequence[Any]], None]


def sink_of(feeds: Sequence[Feed]) -> Sink:
    """Return what takes the messages of some feeds.  Only a single listener can raise."""
    if len(feeds) == 1:
        return feeds[0].listener if isinstance(feeds[0], ListenerFeed) else feeds[0].put

    def to_all(message: Message[Any]) -> None:
        for feed in feeds:
            feed.put(message)

    return to_all


def deliverer(
    text: Any,
    node: Address | None,
    is_pattern: bool,
    decode: Callable[[Any], Any] | None,
    feeds: Sequence[Feed],
) -> Deliver:
    """Return what takes the pushes of a pattern, or of a channel of a client with an encoding.

    Args:
        text: The name of the channel or pattern, as the application sees it.
        node: What is put into the messages as their node.
        is_pattern: Whether it is a pattern.
        decode: Makes text of what the server sends; None leaves bytes.
        feeds: What gets the messages.
    """

    def deliver_pattern(push: Sequence[Any]) -> None:
        _, _, channel, data = push
        message = _new(Message, (channel, data, text, node))
        for feed in feeds:
            feed.put(message)

    def deliver_text(push: Sequence[Any]) -> None:
        assert decode is not None
        raw = tuple(push[2:])
        try:
            words = [decode(each) for each in raw]
        except UnicodeError as error:
            for feed in feeds:
                feed.report(Lost((text,), LostReason.NOT_TEXT, str(error), 1, node))
            return
        message = Message(words[0], words[1], text, node) if is_pattern else Message(text, words[0])
        for feed in feeds:
            feed.put(message)

    return deliver_text if decode is not None else deliver_pattern
