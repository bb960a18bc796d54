"""The events that a client emits to its listeners.

Each event is an immutable value.  ``client.add_listener(listener)`` adds a listener.
"""

from __future__ import annotations

from dataclasses import dataclass

from .address import Address
from .messages import Lost, Resubscribed
from .statistics import Purpose
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
class TopologyRefreshRestored:
    """Emitted when a refresh of the slot map has succeeded after `TopologyRefreshFailed`."""


@dataclass(frozen=True, slots=True)
class NodeConnected:
    """Emitted when the connection to a node has finished its handshake.

    Of the connections of blocking commands and of subscriptions, it is emitted only for the first one after a
    `NodeConnectFailed` of the same purpose.
    """

    #: The node.
    address: Address
    #: What the connection is for.
    purpose: Purpose = "shared"


@dataclass(frozen=True, slots=True)
class NodeConnectFailed:
    """Emitted when a connection attempt or its handshake has failed.

    The client tries again as long as it needs the node.
    """

    #: The node.
    address: Address
    #: Usually ConnectFailed, or one of its subclasses.
    reason: Exception
    #: What the connection is for.
    purpose: Purpose = "shared"


@dataclass(frozen=True, slots=True)
class NodeDisconnected:
    """Emitted when an established connection has ended."""

    #: The node.
    address: Address
    #: Why the connection ended.
    reason: Exception
    #: True if the client closed the connection after all replies had come.
    clean: bool
    #: The number of commands that were sent and got no reply.
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class CommandsWaiting:
    """Emitted when a command has waited for 2 seconds or more since its call, without being sent.

    It is emitted again only after `CommandsResumed`.
    """

    #: The number of commands that wait for the same reason.
    commands: int
    #: The time since the call of the oldest one, in seconds.
    seconds: float
    #: What they wait for, such as "waiting for host:port to become reachable".
    reason: str


@dataclass(frozen=True, slots=True)
class CommandsResumed:
    """Emitted when no command waits for 2 seconds or more any more."""


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """Emitted when an open connection could not log in again.

    It goes on with its old login, and the client tries again.
    """

    #: The node.
    address: Address
    #: Usually AuthenticationFailed.
    reason: Exception


@dataclass(frozen=True, slots=True)
class LoginRestored:
    """Emitted when no open connection to a node fails to log in again any more, after `LoginFailed`."""

    #: The node.
    address: Address


@dataclass(frozen=True, slots=True)
class TLSReloadFailed:
    """Emitted when the files of the certificates have changed and cannot be used.

    New connections use the old ones.  The client tries again when the files change.
    """

    #: A ValueError, which names the option.
    reason: Exception


@dataclass(frozen=True, slots=True)
class TLSReloaded:
    """Emitted when new connections use certificates that were read again."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Emitted when the client is closed.  It is the last event."""


#: `Lost` and `Resubscribed` are emitted once for all subscriptions that share a channel; a subscription gets its own.
Event = (
    TopologyUpdated
    | Ready
    | TopologyRefreshFailed
    | TopologyRefreshRestored
    | NodeConnected
    | NodeConnectFailed
    | NodeDisconnected
    | CommandsWaiting
    | CommandsResumed
    | LoginFailed
    | LoginRestored
    | TLSReloadFailed
    | TLSReloaded
    | Lost
    | Resubscribed
    | Closed
)
