"""The client for threads: the same methods, which wait and return plain results.

`connect` and `BlockingClient` (``client``) are the counterparts of `txvalkeycluster.connect` and `ClusterClient`.
``composites`` has pipelines, transactions, watch sessions and scripts, ``subscription`` subscriptions; ``iteration`` is
for scans and subscriptions.  ``connection`` is the client inside.  ``background`` has the reactor of the process, and
``bridge`` leads to it from other threads.

Example:
    from txvalkeycluster import blocking

    with blocking.connect("valkey://127.0.0.1:7000") as client:
        client.set("greeting", "hello", ex=60)
        print(client.get("greeting"))
"""

from .client import BlockingClient, connect
from .composites import BlockingPipeline, BlockingScript, BlockingTransaction, BlockingWatchSession
from .subscription import BlockingSubscription

__all__ = [
    "BlockingClient",
    "BlockingPipeline",
    "BlockingScript",
    "BlockingSubscription",
    "BlockingTransaction",
    "BlockingWatchSession",
    "connect",
]
