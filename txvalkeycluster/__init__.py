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
from .messages import Lost, LostReason, Message, Resubscribed
from .options import DEFAULT, ClientOptions, Options
from .pipeline import Pipeline
from .pubsub.subscription import Subscription
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
    "Lost",
    "LostReason",
    "MaybeExecuted",
    "Message",
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
    "Resubscribed",
    "RoutingError",
    "Script",
    "Shard",
    "Statistics",
    "Subscription",
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
