"""A Twisted client for Valkey Cluster."""

from .address import Address
from .client import ClusterClient, connect
from .commands import Command, CommandTable, KeySpec
from .errors import (
    AuthenticationFailed,
    ClientClosed,
    ClusterUnavailable,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    MaybeExecuted,
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
    Event,
    NodeConnected,
    NodeConnectFailed,
    NodeDisconnected,
    Ready,
    TopologyRefreshFailed,
    TopologyUpdated,
)
from .options import DEFAULT, ClientOptions, Options
from .pipeline import Pipeline
from .scripting import Function, Script
from .slots import key_slot
from .statistics import Statistics
from .topology.model import Node, OpenSlot, Shard, Topology
from .transaction import Transaction, WatchSession

__all__ = [
    "DEFAULT",
    "Address",
    "AuthenticationFailed",
    "ClientClosed",
    "ClientOptions",
    "Closed",
    "ClusterClient",
    "ClusterUnavailable",
    "Command",
    "CommandTable",
    "CommandTimeout",
    "ConnectFailed",
    "ConnectionLost",
    "Event",
    "Function",
    "KeySpec",
    "MaybeExecuted",
    "Node",
    "NodeConnectFailed",
    "NodeConnected",
    "NodeDisconnected",
    "OpenSlot",
    "Options",
    "PartialFailure",
    "Pipeline",
    "ProtocolError",
    "Ready",
    "ReplyError",
    "RoutingError",
    "Script",
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
