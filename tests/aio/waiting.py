"""What the scenarios wait for: errors, conditions and blocked clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from txvalkeycluster import aio


async def raises(kind: type[BaseException], awaitable: Awaitable[Any]) -> Any:
    """Await, and return the error, which must be of a kind."""
    try:
        result = await awaitable
    except kind as error:
        return error
    raise AssertionError(f"the result is {result!r} instead of {kind.__name__}")


async def until(condition: Any) -> None:
    """Wait until a function returns something true."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def blocked(client: aio.AsyncClient[Any]) -> int:
    """Return the number of clients that are blocked on the servers."""
    infos = [await client.execute_on(node, "INFO", "clients") for node in client.primaries()]
    lines = [line for info in infos for line in info.decode().splitlines() if line.startswith("blocked_clients:")]
    return sum(int(line.partition(":")[2]) for line in lines)


async def pause(client: aio.AsyncClient[Any], milliseconds: int) -> None:
    """Let every primary stop answering for some time."""
    await asyncio.gather(*(client.execute_on(node, "CLIENT", "PAUSE", milliseconds, "ALL") for node in client.nodes()))


async def until_blocked(client: aio.AsyncClient[Any], count: int) -> None:
    async with asyncio.timeout(5):
        while await blocked(client) != count:
            await asyncio.sleep(0.005)
