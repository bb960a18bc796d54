"""Publish/subscribe of scripted nodes: what they answer to SUBSCRIBE and its relatives, and the messages they send."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Protocol

from ..slots import key_slot

# The prefix of the commands and pushes of each kind: classic channels, patterns, sharded channels.
_PREFIXES = (b"", b"P", b"S")
_COMMANDS = {prefix + word: prefix for prefix in _PREFIXES for word in (b"SUBSCRIBE", b"UNSUBSCRIBE")}


class Subscriber(Protocol):
    """A connection, as far as publish/subscribe uses it."""

    node: Any
    #: Whether it speaks RESP3.
    resp3: bool
    #: What is subscribed: pairs of prefix and name.
    subscribed: dict[tuple[bytes, bytes], None]

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""


def answer(words: list[bytes], connection: Subscriber) -> bytes | None:
    """Return the reply to a command of publish/subscribe, in RESP; None for another command.

    Args:
        words: The command, with its name first.
        connection: The connection that it came on.
    """
    name = words[0].upper()
    if name == b"PING" and (len(words) > 1 or (connection.subscribed and not connection.resp3)):
        token = _bulk(words[1] if len(words) > 1 else b"")
        return b"*2\r\n$4\r\npong\r\n" + token if connection.subscribed and not connection.resp3 else token
    if name in (b"PUBLISH", b"SPUBLISH"):
        cluster = connection.node.cluster
        publish = cluster.publish if name == b"PUBLISH" else cluster.spublish
        return b":%d\r\n" % publish(words[1], words[2])
    if name not in _COMMANDS:
        return None
    prefix = _COMMANDS[name]
    if prefix == b"S" and name == b"SSUBSCRIBE":
        slot = key_slot(words[1])
        owner = connection.node.cluster.owner(slot)
        if owner is None:
            return b"-CLUSTERDOWN Hash slot not served\r\n"
        if owner is not connection.node:
            return b"-MOVED %d %b\r\n" % (slot, str(owner.address).encode())
    replies = []
    for channel in words[1:]:
        if name == prefix + b"SUBSCRIBE":
            connection.subscribed[prefix, channel] = None
        else:
            connection.subscribed.pop((prefix, channel), None)
        replies.append(_push(connection, name.lower(), channel, len(connection.subscribed)))
    return b"".join(replies)


def deliver(connection: Subscriber, prefix: bytes, channel: bytes, data: bytes) -> int:
    """Send a message to a connection, once for each subscription that it matches; return how often.

    Args:
        connection: The connection.
        prefix: ``b""`` for classic channels and patterns, ``b"S"`` for sharded channels.
        channel: The channel.
        data: The payload.
    """
    count = 0
    for kind, name in list(connection.subscribed):
        if kind == prefix and name == channel:
            connection.write(_push(connection, prefix.lower() + b"message", channel, data))
            count += 1
        elif kind == b"P" and prefix == b"" and fnmatchcase(channel.decode("latin-1"), name.decode("latin-1")):
            connection.write(_push(connection, b"pmessage", name, channel, data))
            count += 1
    return count


def end_sharded(connection: Subscriber, slot: int) -> None:
    """End the sharded channels of a slot on a connection, as a server does when the slot leaves."""
    for kind, name in list(connection.subscribed):
        if kind == b"S" and key_slot(name) == slot:
            del connection.subscribed[kind, name]
            connection.write(_push(connection, b"sunsubscribe", name, len(connection.subscribed)))


def _push(connection: Subscriber, *items: bytes | int) -> bytes:
    words = b"".join(b":%d\r\n" % item if isinstance(item, int) else _bulk(item) for item in items)
    return (b">" if connection.resp3 else b"*") + b"%d\r\n" % len(items) + words


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)
