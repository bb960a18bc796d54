"""A Twisted client for Valkey Cluster."""

from .address import Address
from .client import ClusterClient, connect
from .errors import (
    AuthenticationFailed,
    ClientClosed,
    ClusterUnavailable,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    PartialFailure,
    ProtocolError,
    ReplyError,
    RoutingError,
    TLSFailed,
    TooManyPending,
    TopologyError,
    ValkeyError,
)
from .events import (
    Closed,
    NodeConnected,
    NodeConnectFailed,
    NodeDisconnected,
    Ready,
    TopologyRefreshFailed,
    TopologyUpdated,
)
from .options import Options
from .slots import key_slot
from .statistics import Statistics
from .topology import Node, Shard, Topology

__all__ = [
    "Address",
    "AuthenticationFailed",
    "ClientClosed",
    "Closed",
    "ClusterClient",
    "ClusterUnavailable",
    "CommandTimeout",
    "ConnectFailed",
    "ConnectionLost",
    "Node",
    "NodeConnectFailed",
    "NodeConnected",
    "NodeDisconnected",
    "Options",
    "PartialFailure",
    "ProtocolError",
    "Ready",
    "ReplyError",
    "RoutingError",
    "Shard",
    "Statistics",
    "TLSFailed",
    "TooManyPending",
    "Topology",
    "TopologyError",
    "TopologyRefreshFailed",
    "TopologyUpdated",
    "ValkeyError",
    "connect",
    "key_slot",
]
