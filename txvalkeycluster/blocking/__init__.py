"""The client for threads: the same methods, which wait and return plain results.

`connect` and `BlockingClient` are the counterparts of `txvalkeycluster.connect` and `ClusterClient`.  `background` has
the reactor of the process, and `bridge` leads to it from other threads.  `iteration` is for scans and subscriptions.

Example:
    from txvalkeycluster import blocking

    with blocking.connect("valkey://127.0.0.1:7000") as client:
        client.set("greeting", "hello", ex=60)
        print(client.get("greeting"))
"""

from .client import (
    BlockingClient,
    BlockingPipeline,
    BlockingScript,
    BlockingSubscription,
    BlockingTransaction,
    BlockingWatchSession,
    connect,
)

__all__ = [
    "BlockingClient",
    "BlockingPipeline",
    "BlockingScript",
    "BlockingSubscription",
    "BlockingTransaction",
    "BlockingWatchSession",
    "connect",
]
