"""The libraries, with one interface: how each of them starts, pauses and ends workers."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import redis
import redis.asyncio
import txredisapi
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.proxy.programs import HOST

# Seconds until a library gives up.  The proxy must answer earlier, or redis-py sends a command a second time.
PATIENCE = 20
# Seconds between two rounds of a worker: two cores have to run all of them.
_PACE = 0.01
_reactor: Any = reactor


async def done(result: Any) -> Any:
    """Return a result, or that of something to wait for."""
    return await result if inspect.isawaitable(result) else result


def drive(worker: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits; return its result."""
    try:
        worker.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the coroutine waits")


def fired(future: Future[Any]) -> Deferred[Any]:
    """Return a Deferred with the result of something that runs in a thread."""
    made: Deferred[Any] = Deferred()

    def ended(future: Future[Any]) -> None:
        error = future.exception()
        if error is None:
            _reactor.callFromThread(made.callback, future.result())
        else:
            _reactor.callFromThread(made.errback, error)

    future.add_done_callback(ended)
    return made


class Threads:
    """Redis-py: each worker has a thread."""

    name = "redis-py"
    errors: tuple[type[Exception], ...] = (redis.RedisError,)

    def __init__(self, port: int) -> None:
        self.client: Any = redis.Redis(HOST, port, protocol=2, socket_timeout=PATIENCE)
        self._threads = ThreadPoolExecutor(40)

    def start(self, worker: Coroutine[Any, Any, None]) -> Deferred[Any]:
        return fired(self._threads.submit(drive, worker))

    def pause(self, seconds: float = _PACE) -> object:
        time.sleep(seconds)
        return None

    def function(self, function: Callable[[Any], Coroutine[Any, Any, Any]]) -> Callable[[Any], Any]:
        """Return a function that the library can call."""
        return lambda argument: drive(function(argument))

    async def close(self) -> None:
        self.client.close()
        self._threads.shutdown()


class Loop:
    """Redis.asyncio: all workers are in an event loop, which has a thread of its own."""

    name = "redis.asyncio"
    errors: tuple[type[Exception], ...] = (redis.RedisError,)

    def __init__(self, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.client: Any = redis.asyncio.Redis(host=HOST, port=port, protocol=3, socket_timeout=PATIENCE)

    def start(self, worker: Coroutine[Any, Any, None]) -> Deferred[Any]:
        return fired(asyncio.run_coroutine_threadsafe(worker, self._loop))

    def pause(self, seconds: float = _PACE) -> object:
        return asyncio.sleep(seconds)

    def function(self, function: Callable[[Any], Coroutine[Any, Any, Any]]) -> Callable[[Any], Any]:
        return function

    async def _finish(self) -> None:
        workers = asyncio.all_tasks() - {asyncio.current_task()}
        for each in workers:
            each.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await self.client.aclose()

    async def close(self) -> None:
        await self.start(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Pool:
    """Txredisapi: a pool of connections in this reactor."""

    name = "txredisapi"
    errors: tuple[type[Exception], ...] = (txredisapi.RedisError,)

    def __init__(self, port: int) -> None:
        self.port = port
        self.client: Any = txredisapi.lazyConnectionPool(HOST, port, poolsize=10, replyTimeout=PATIENCE)
        #: Factories that are closed with it.
        self.factories: list[Any] = [self.client]

    def start(self, worker: Coroutine[Any, Any, None]) -> Deferred[Any]:
        return Deferred.fromCoroutine(worker)

    def pause(self, seconds: float = _PACE) -> object:
        return deferLater(_reactor, seconds)

    async def close(self) -> None:
        for each in self.factories:
            await each.disconnect()
