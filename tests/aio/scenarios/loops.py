"""Several clients in one loop, and a client in the wrong loop."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from tests.aio.waiting import raises
from txvalkeycluster import aio
from txvalkeycluster.errors import WrongThread


async def several_clients(url: str) -> None:
    """Clients of one loop share its reactor, and it ends with the last one."""
    first, second = await aio.connect(url), await aio.connect(url)
    await first.close()
    await second.set("key", "1")
    third = await aio.connect(url)
    await second.close()
    assert await third.get("key") == b"1"
    await third.close()


async def wrong_use(url: str) -> None:
    """Every interface raises in another thread or another loop, and sends nothing."""
    async with await aio.connect(url) as client, client.subscribe("a") as subscription:
        session = client.watch("key")
        pipeline = client.pipeline().incr("n")
        transaction = client.transaction().incr("n")
        script = client.script("return 1")
        messages, scan = aiter(subscription), client.scan_iter()
        calls: list[Any] = [
            lambda: client.incr("n"),
            lambda: client.execute("INCR", "n"),
            lambda: client.execute_on("127.0.0.1:1", "PING"),
            lambda: client.with_options(timeout=1).incr("n"),
            lambda: session.execute("GET", "key"),
            lambda: session.get("key"),
            lambda: pipeline.execute(),
            lambda: transaction.execute(),
            lambda: script(["key"]),
            lambda: subscription.add("b"),
            lambda: client.subscribe("b"),
            lambda: client.refresh_topology(),
        ]
        coroutines: list[Any] = [
            client.close,
            client.abort,
            session.__aenter__,
            lambda: anext(messages),
            lambda: anext(scan),
            lambda: client.stream([("INCR", "n")], lambda index, result: None),
        ]

        def outside() -> None:
            for call in calls:
                try:
                    call()
                except WrongThread as error:
                    assert "outside of an event loop" in str(error)
                else:
                    raise AssertionError("a call outside of the loop did not raise")

        async def other_loop() -> None:
            for call in calls:
                try:
                    call()
                except RuntimeError as error:
                    assert "another event loop" in str(error)
                else:
                    raise AssertionError("a call in another loop did not raise")
            for function in coroutines:
                await raises(WrongThread, function())

        await asyncio.to_thread(outside)
        await asyncio.to_thread(lambda: asyncio.run(other_loop()))
        assert await pipeline.execute() == [1]
        assert await transaction.execute() == [2]
    await asyncio.get_running_loop().shutdown_default_executor()
    gc.collect()
