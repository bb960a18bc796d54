"""Keyspace events: the names of their channels, and whether a node sends them.

Source: https://valkey.io/topics/notifications
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from ..connection.node import NodeConnection

_log = Logger()
_OPTION = "notify-keyspace-events"


def prefix(event: str, db: int) -> bytes:
    """Return what the names of the channels begin with; ``event`` is keyspace or keyevent."""
    return f"__{event}@{db}__:".encode()


def check_configuration(node: NodeConnection, name: bytes) -> None:
    """Log a warning if a node does not send the events of a channel, as far as it says.

    A pattern such as ``*`` is no channel of events.  Nobody knows whether the subscriber expects events.
    """
    if name.startswith((b"__keyspace", b"__keyevent")):
        node.call("CONFIG", "GET", _OPTION).addCallbacks(_warn, lambda _: None, callbackArgs=(node, name))


def _warn(reply: Any, node: NodeConnection, name: bytes) -> None:
    flags = _flags(reply)
    needed = b"K" if name.startswith(b"__keyspace") else b"E"
    if flags is not None and (needed not in flags or not flags.strip(b"KE")):
        _log.warn(
            "{node} sends no {kind} events: its {option} is {flags!r}",
            node=node.address,
            kind="keyspace" if needed == b"K" else "keyevent",
            option=_OPTION,
            flags=flags.decode("ascii", "replace"),
        )


def _flags(reply: Any) -> bytes | None:
    """The value in a reply to CONFIG GET; None if there is none, as for a user without the right to ask."""
    values = list(reply.values()) if isinstance(reply, dict) else reply[1::2] if isinstance(reply, list) else []
    return values[0] if values and isinstance(values[0], bytes) else None
