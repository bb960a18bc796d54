"""The client for asyncio: the same methods, which give awaitables of asyncio.

`connect` and `AsyncClient` are the counterparts of `txvalkeycluster.connect` and `ClusterClient`.  `client.AsyncClient`
has a `ClusterClient` inside, and `reply.Reply` carries each result from Twisted to asyncio.  `loops` gives each event
loop a reactor.  ``composites`` has pipelines, transactions, watch sessions and scripts, ``subscription`` subscriptions.
Nothing must be installed.  `install` is for programs that use other parts of Twisted as well.

Example:
    import asyncio
    from txvalkeycluster import aio

    async def main():
        async with await aio.connect("valkey://127.0.0.1:7000") as client:
            await client.set("greeting", "hello", ex=60)
            print(await client.get("greeting"))

    asyncio.run(main())
"""

from .client import AsyncClient, connect
from .composites import AsyncPipeline, AsyncScript, AsyncTransaction, AsyncWatchSession
from .loops import install
from .reply import Reply
from .subscription import AsyncSubscription

__all__ = [
    "AsyncClient",
    "AsyncPipeline",
    "AsyncScript",
    "AsyncSubscription",
    "AsyncTransaction",
    "AsyncWatchSession",
    "Reply",
    "connect",
    "install",
]
