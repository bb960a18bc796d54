"""The events that a client emits to its listeners.

Each event is an immutable value.  ``client.add_listener(listener)`` adds a listener.
"""

from __future__ import annotations

from dataclasses import dataclass

from .address import Address
from .messages import Lost, Resubscribed
from .topology.model import Topology


@dataclass(frozen=True, slots=True)
class TopologyUpdated:
    """Emitted when the client starts to use a slot map that differs from the previous one."""

    #: The new slot map.
    topology: Topology
    #: The slot map before it; None if this is the first.
    previous: Topology | None


@dataclass(frozen=True, slots=True)
class Ready:
    """Emitted once, after the first TopologyUpdated: the client has a slot map."""

    #: The first slot map.
    topology: Topology


@dataclass(frozen=True, slots=True)
class TopologyRefreshFailed:
    """Emitted when a refresh of the slot map has failed.  The client continues to use the old map."""

    #: Usually ClusterUnavailable or TopologyError.
    reason: Exception


@dataclass(frozen=True, slots=True)
class NodeConnected:
    """Emitted when the connection to a node has finished its handshake."""

    #: The node.
    address: Address


@dataclass(frozen=True, slots=True)
class NodeConnectFailed:
    """Emitted when a connection attempt or its handshake has failed.

    The client tries again as long as it needs the node.
    """

    #: The node.
    address: Address
    #: Usually ConnectFailed, or one of its subclasses.
    reason: Exception


@dataclass(frozen=True, slots=True)
class NodeDisconnected:
    """Emitted when an established connection has ended."""

    #: The node.
    address: Address
    #: Why the connection ended.
    reason: Exception
    #: True if the client closed the connection after all replies had come.
    clean: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """Emitted when the client is closed.  It is the last event."""


#: `Lost` and `Resubscribed` are emitted once for all subscriptions that share a channel; a subscription gets its own.
Event = (
    TopologyUpdated
    | Ready
    | TopologyRefreshFailed
    | NodeConnected
    | NodeConnectFailed
    | NodeDisconnected
    | Lost
    | Resubscribed
    | Closed
)
