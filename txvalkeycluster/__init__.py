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
    TransactionAborted,
    TransactionRefused,
    ValkeyError,
    WatchError,
    WritesUnconfirmed,
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
from .pipeline import Pipeline
from .slots import key_slot
from .statistics import Statistics
from .topology.model import Node, Shard, Topology
from .transaction import Transaction, WatchSession

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
    "Pipeline",
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
    "Transaction",
    "TransactionAborted",
    "TransactionRefused",
    "ValkeyError",
    "WatchError",
    "WatchSession",
    "WritesUnconfirmed",
    "connect",
    "key_slot",
]
