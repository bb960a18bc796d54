"""The start of a client: connections, credentials and host names."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from tests.aio.waiting import raises, until
from txvalkeycluster import Address, Credentials, aio


async def cancelled_while_connecting(url: str) -> None:
    """connect() that is cancelled or fails leaves nothing."""
    for steps in range(12):
        task = asyncio.create_task(aio.connect(url))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await (await task).close()
    await raises(ConnectionError, aio.connect("valkey://127.0.0.1:1"))
    await raises(TypeError, aio.connect(url, no_such_option=1))  # type: ignore[call-overload]
    await raises(ValueError, aio.connect("http://x"))


async def credentials(url: str) -> None:
    """The function for credentials may be a coroutine function of asyncio, or an ordinary one."""
    async with await aio.connect(url) as admin:
        for node in admin.nodes():
            await admin.execute_on(node, "ACL", "SETUSER", "app", "on", ">secret", "+@all", "~*")
    asked = 0

    async def later(address: Address) -> Credentials:
        nonlocal asked
        await asyncio.sleep(0)
        asked += 1
        return Credentials("app", "secret")

    for function in (later, lambda address: Credentials("app", "secret")):
        async with await aio.connect(url, credentials=function) as client:
            assert await client.acl_whoami() == b"app"
    assert asked > 0


async def names(url: str) -> None:
    """Host names are looked up in threads, which end with the client."""
    before = threading.active_count()
    host = url.replace("127.0.0.1", "localhost")
    async with await aio.connect(host) as client:
        await client.get("key")
        assert threading.active_count() > before
    await until(lambda: threading.active_count() == before)
