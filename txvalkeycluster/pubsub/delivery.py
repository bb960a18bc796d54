"""Delivery: from the push of a message to the feeds.  It runs once for each message, so it is written for speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger

from ..address import Address
from ..messages import Lost, LostReason, Message
from .feed import Feed, ListenerFeed

_log = Logger()
# Message(...) itself costs three times as much: it calls a function in Python.
_new = tuple.__new__

#: Takes a push: its first word, the pattern if there is one, the channel and the data.
Deliver = Callable[[Sequence[Any]], None]


def deliverer(
    text: Any,
    node: Address | None,
    is_pattern: bool,
    decode: Callable[[Any], Any] | None,
    feeds: Sequence[Feed],
) -> Deliver:
    """Return the function that delivers the messages of one channel or pattern.

    Args:
        text: The name of the channel or pattern, as the application sees it.
        node: What is put into the messages as their node.
        is_pattern: Whether it is a pattern.
        decode: Makes text of what the server sends; None leaves bytes.
        feeds: What gets the messages.
    """

    def deliver(push: Sequence[Any]) -> None:
        message = _new(Message, (text, push[2], None, None))
        for feed in feeds:
            feed.put(message)

    def deliver_to_listener(push: Sequence[Any]) -> None:
        message = _new(Message, (text, push[2], None, None))
        try:
            listener(message)
        except BaseException:
            only.failed(Message)

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

    if decode is not None:
        return deliver_text
    if is_pattern:
        return deliver_pattern
    if len(feeds) == 1 and isinstance(feeds[0], ListenerFeed):
        only = feeds[0]
        listener = only.listener
        return deliver_to_listener
    return deliver
