"""The end of a client."""

from __future__ import annotations

import asyncio

from tests.aio.waiting import pause, raises, until_blocked
from txvalkeycluster import ClientClosed, aio


async def closed_often(url: str) -> None:
    """close() can be called twice, by several tasks at once, and with abort()."""
    client = await aio.connect(url)
    await asyncio.gather(client.close(), client.close(), client.with_options(timeout=1).close())
    await client.close()
    await client.abort()
    await raises(ClientClosed, client.get("key"))
    await raises(ClientClosed, client.pipeline().get("key").execute())
    client = await aio.connect(url)
    await client.abort()
    await client.close()
    unused = aio.AsyncClient(url)
    await unused.close()


async def pending_at_the_end(url: str) -> None:
    """close() waits for commands and ends blocking ones; abort() fails them."""
    client = await aio.connect(url)
    replies = [client.incr("n") for _ in range(100)]
    blocking = client.blpop("list", 0)
    await until_blocked(client, 1)
    await client.close()
    assert [await reply for reply in replies] == list(range(1, 101))
    assert await blocking is None
    client = await aio.connect(url)
    replies = [client.incr("n") for _ in range(100)]
    blocking = client.blpop("list", 0)
    await asyncio.sleep(0)
    await client.abort()
    results = await asyncio.gather(*replies, blocking, return_exceptions=True)
    assert all(isinstance(result, (ClientClosed, int)) for result in results), results


async def cancelled_while_closing(url: str) -> None:
    """close() that is cancelled aborts the client, and leaves nothing."""
    client = await aio.connect(url, timeout=None)
    await pause(client, 1000)
    reply = client.get("key")
    await asyncio.sleep(0)
    others = asyncio.create_task(client.close())
    await raises(TimeoutError, asyncio.wait_for(client.close(), 0.05))
    await raises(ClientClosed, reply)
    await others
    async with await aio.connect(url) as other:
        # Until the pause is over.
        await other.get("key")


async def dropped(url: str) -> None:
    """A client that is dropped without close() is reported, and the loop can be used."""
    client = await aio.connect(url)
    await client.get("key")
    inside = client._client
    del client
    await inside.abort().asFuture(asyncio.get_running_loop())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
