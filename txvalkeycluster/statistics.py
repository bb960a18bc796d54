"""What a client has been through, counted off the hot path."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Statistics:
    """Counts since the client was made."""

    #: MOVED and ASK redirects that were followed.
    moved: int = 0
    asked: int = 0
    #: Commands put off because a server could not serve them just then.
    put_off: int = 0
    #: Commands sent again after their connection was lost.
    repeated: int = 0
    #: Refreshes of the slot map begun.
    refreshes: int = 0
    #: Connections that finished their handshake.
    connections: int = 0
