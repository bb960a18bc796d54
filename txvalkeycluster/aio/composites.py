"""Several commands together, for asyncio: pipelines, transactions, watch sessions, scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import Deferred

from ..commands.async_commands import AsyncCommands
from ..commands.converters import Convert
from ..commands.encoder import Arg
from ..commands.method_support import Key, Text
from ..pipeline import Pipeline
from ..scripting import Function, Keys, Script, Values
from ..transaction import Transaction, WatchSession
from ..wrapped_queue import WrappedQueue
from .reply import Reply, reply_by, reply_from


class AsyncPipeline(WrappedQueue[Pipeline[Any], Text]):
    """A `Pipeline` for asyncio; `AsyncClient.pipeline` makes one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pipeline: Pipeline[Any]) -> None:
        super().__init__(pipeline)
        self._loop = loop

    def execute(self, *, raise_first: bool = False) -> Reply[list[Any]]:
        """As `Pipeline.execute`."""
        return reply_by(self._loop, self._queue.execute, raise_first=raise_first)

    async def stream(self, commands: Iterable[Sequence[Arg]], each: Callable[[int, Any], object]) -> int:
        """As `Pipeline.stream`.  ``each`` is an ordinary function, or a coroutine function of asyncio.

        Each call of ``each`` has the context variables of the caller.
        """
        context = copy_context()
        if not iscoroutinefunction(each):

            def call(index: int, result: Any) -> None:
                # A copy, since an ``each`` that closes the client can lead to other calls before it ends.
                context.copy().run(each, index, result)

            return await reply_by(self._loop, self._queue.stream, commands, call)

        running: asyncio.Task[Any] | None = None

        async def awaited(index: int, result: Any) -> None:
            nonlocal running
            running = self._loop.create_task(each(index, result), context=context)
            await Deferred.fromFuture(running)

        reply = reply_by(self._loop, self._queue.stream, commands, awaited)
        try:
            return await reply
        finally:
            if running is not None and not running.done():
                # This was cancelled.
                running.cancel()
                await asyncio.wait([running])


class AsyncTransaction(WrappedQueue[Transaction[Any], Text]):
    """A `Transaction` for asyncio; `AsyncClient.transaction` makes one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transaction: Transaction[Any]) -> None:
        super().__init__(transaction)
        self._loop = loop

    def execute(self, *, raise_first: bool = True) -> Reply[list[Any]]:
        """As `Transaction.execute`."""
        return reply_by(self._loop, self._queue.execute, raise_first=raise_first)


class AsyncWatchSession(AsyncCommands[Text]):
    """A `WatchSession` for asyncio; `AsyncClient.watch` makes one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, session: WatchSession[Any]) -> None:
        self._loop = loop
        self._session = session

    def __repr__(self) -> str:
        return f"<AsyncWatchSession slot={self._session.slot}>"

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        return reply_by(self._loop, self._session._run, words, convert)

    def execute(self, *args: Arg) -> Reply[Any]:
        """As `WatchSession.execute`."""
        return reply_by(self._loop, self._session.execute, *args)

    def watch(self, *keys: Key) -> Reply[Any]:
        """As `WatchSession.watch`."""
        return reply_by(self._loop, self._session.watch, *keys)

    def transaction(self) -> AsyncTransaction[Text]:
        """As `WatchSession.transaction`."""
        return AsyncTransaction(self._loop, self._session.transaction())

    async def __aenter__(self) -> Self:
        try:
            await reply_from(self._loop, self._session.__aenter__)
        except BaseException:
            # The task can be cancelled after the keys were watched, and before it continues.
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        await asyncio.shield(reply_from(self._loop, self._session.__aexit__, None, None, None))


class AsyncScript:
    """A `Script` or a `Function` for asyncio; `AsyncClient.script` and `AsyncClient.function` make one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, script: Script[Any] | Function[Any]) -> None:
        self._loop = loop
        self._script = script

    def __repr__(self) -> str:
        return f"<AsyncScript {self._script!r}>"

    def __call__(self, keys: Keys = (), args: Values = (), *, read_only: bool = False) -> Reply[Any]:
        """As a call of `Script` or `Function`."""
        return reply_by(self._loop, self._script, keys, args, read_only=read_only)
