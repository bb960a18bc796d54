"""A Twisted client for Valkey Cluster.

`connect` makes a `ClusterClient`.  Each command of Valkey is a method of the client, and returns a Deferred.
`Options` describes the settings, `errors` the errors, `events` what a listener is called with, and
`txvalkeycluster.testing` clusters for tests of an application.

Example:
    from twisted.internet.defer import ensureDeferred
    from twisted.internet.task import react
    from txvalkeycluster import connect

    async def main(reactor):
        client = await connect(reactor, "valkey://127.0.0.1:7000")
        await client.set("greeting", "hello", ex=60)
        print(await client.get("greeting"))
        await client.close()

    react(lambda reactor: ensureDeferred(main(reactor)))
"""

from .address import Address
from .client import ClusterClient, connect
from .commands import Command, CommandTable, KeySpec
from .credentials import Credentials
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
    WrongThread,
)
from .events import (
    Closed,
    CommandsResumed,
    CommandsWaiting,
    Event,
    LoginFailed,
    LoginRestored,
    NodeConnected,
    NodeConnectFailed,
    NodeDisconnected,
    Ready,
    TLSReloaded,
    TLSReloadFailed,
    TopologyRefreshFailed,
    TopologyRefreshRestored,
    TopologyUpdated,
)
from .messages import Lost, LostReason, Message, Resubscribed
from .options import DEFAULT, ClientOptions, Options
from .pipeline import Pipeline
from .pubsub.subscription import Subscription
from .relay import RelayBatch, RelayLease
from .scripting import Function, Script
from .service import ClusterService
from .slots import key_slot
from .statistics import ByKind, FinishedCommand, NodeStatistics, Statistics
from .topology.model import Node, OpenSlot, Shard, Topology
from .transaction import Transaction, WatchSession

__all__ = [
    "DEFAULT",
    "Address",
    "AuthenticationFailed",
    "ByKind",
    "ClientClosed",
    "ClientOptions",
    "Closed",
    "ClusterClient",
    "ClusterService",
    "ClusterUnavailable",
    "Command",
    "CommandTable",
    "CommandTimeout",
    "CommandsResumed",
    "CommandsWaiting",
    "ConnectFailed",
    "ConnectionLost",
    "Credentials",
    "Event",
    "FinishedCommand",
    "Function",
    "KeySpec",
    "LoginFailed",
    "LoginRestored",
    "Lost",
    "LostReason",
    "MaybeExecuted",
    "Message",
    "Node",
    "NodeConnectFailed",
    "NodeConnected",
    "NodeDisconnected",
    "NodeStatistics",
    "OpenSlot",
    "Options",
    "PartialFailure",
    "Pipeline",
    "ProtocolError",
    "Ready",
    "RelayBatch",
    "RelayLease",
    "ReplyError",
    "Resubscribed",
    "RoutingError",
    "Script",
    "Shard",
    "Statistics",
    "Subscription",
    "TLSFailed",
    "TLSReloadFailed",
    "TLSReloaded",
    "TooManyPending",
    "Topology",
    "TopologyError",
    "TopologyRefreshFailed",
    "TopologyRefreshRestored",
    "TopologyUpdated",
    "Transaction",
    "TransactionAborted",
    "TransactionRefused",
    "ValkeyError",
    "WatchError",
    "WatchSession",
    "WritesUnconfirmed",
    "WrongThread",
    "connect",
    "key_slot",
]
