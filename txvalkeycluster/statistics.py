"""Counters of a client.  Commands that succeed at once change none of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Statistics:
    """Counters since the client was created.  Each counts from 0 and never decreases."""

    #: MOVED redirects that were followed.
    moved: int = 0
    #: ASK redirects that were followed.
    asked: int = 0
    #: Commands that waited in a retry queue because a server could not serve them yet.
    put_off: int = 0
    #: Commands that were sent again because their connection was lost.
    repeated: int = 0
    #: Refreshes of the slot map that were started.
    refreshes: int = 0
    #: Messages that were received, once for each channel or pattern.
    messages: int = 0
    #: Messages that a full buffer of a subscription has dropped.
    messages_dropped: int = 0
    #: Channels and patterns that were lost: their connection ended, or they belong to another node.
    lost: int = 0
    #: Channels and patterns that were subscribed again after a loss.
    resubscribed: int = 0
    #: Connections that finished their handshake, exclusive connections not included.
    connections: int = 0
