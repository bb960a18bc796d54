"""Runs coroutines of asyncio in a thread, while the reactor of trial runs a cluster."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.cluster.base import ClusterTests
from txvalkeycluster.aio import loops

# Seconds that a coroutine may take.
_PATIENCE = 60.0
#: Makes an event loop.
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run_and_check(
    main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, loop: LoopFactory, debug: bool = True
) -> Any:
    """Run a coroutine function in a new event loop; return its result.

    Raises:
        AssertionError: The loop has reported an error, or a task, a thread, a file or a reactor is left.
    """
    reported: list[str] = []
    # The first loop of uvloop opens files that stay open.
    loop().close()
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()

    async def checked() -> Any:
        running = asyncio.get_running_loop()
        running.set_exception_handler(lambda _, context: reported.append(str(context)))
        before = len(os.listdir("/proc/self/fd"))
        async with asyncio.timeout(_PATIENCE):
            result = await main(*args)
        gc.collect()
        # What asyncio itself puts off, such as the end of a dropped generator.
        for _ in range(3):
            await asyncio.sleep(0)
        assert running not in loops._uses, "a reactor is left"
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, f"tasks are left: {others}"
        now = len(os.listdir("/proc/self/fd"))
        assert now <= before, f"{now - before} files are left"
        return result

    with asyncio.Runner(debug=debug, loop_factory=loop) as runner:
        runner.get_loop().slow_callback_duration = 5.0
        result = runner.run(checked())
    assert not reported, reported
    deadline = time.monotonic() + 2.0
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= threads, threading.enumerate()
    assert len(os.listdir("/proc/self/fd")) <= files, "files are left"
    return result


class AioTests(ClusterTests):
    """Tests with a cluster, whose coroutines run in a thread."""

    def run_in_thread(
        self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, loop: str, debug: bool = True
    ) -> Deferred[Any]:
        """Run a coroutine function, as `run_and_check` does; return a Deferred of its result."""
        return deferToThread(run_and_check, main, *args, loop=LOOPS[loop], debug=debug)
