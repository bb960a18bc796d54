"""AsyncClient: a `ClusterClient` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextvars import copy_context
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from time import monotonic
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, overload

from twisted.internet.defer import Deferred

from ..address import Address
from ..client import ClusterClient
from ..commands import CommandTable
from ..commands.async_commands import AsyncCommands
from ..commands.converters import Convert
from ..commands.encoder import Arg
from ..commands.method_support import Key, Text
from ..errors import WatchError
from ..events import Closed, Event
from ..messages import Lost, Message, Resubscribed
from ..options import DEFAULT, ClientOptions, Options
from ..pipeline import Pipeline
from ..pubsub.feed import BufferedFeed
from ..pubsub.methods import SubscriptionOptions
from ..pubsub.subscription import Subscription
from ..routing.observation import CommandListener
from ..scripting import Function, Keys, Script, Values
from ..statistics import Statistics
from ..topology.model import Node, Topology
from ..transaction import Attempts, Transaction, WatchSession
from ..wrapped_queue import WrappedQueue
from . import loops
from .reply import AsyncIteration, Reply, check_loop, reply_by, reply_from, sender

_T = TypeVar("_T")


class AsyncClient(AsyncCommands[Text]):
    """A client of one cluster, for asyncio.

    Every command is a method, with the arguments of `ClusterClient`.  A command is sent when its method is called; its
    result is a `Reply`, a future of asyncio, which fails with the errors that `ClusterClient.execute` lists.

    Make it in a coroutine.  It belongs to the event loop that runs then.

    Example:
        async with await aio.connect("valkey://10.0.0.1:7000", encoding="utf-8") as client:
            first, second = await asyncio.gather(client.get("a"), client.get("b"))
    """

    @overload
    def __init__(
        self: AsyncClient[str], url: str | None = None, *, encoding: str, **options: Unpack[ClientOptions]
    ) -> None: ...

    @overload
    def __init__(
        self: AsyncClient[bytes], url: str | None = None, *, encoding: None = None, **options: Unpack[ClientOptions]
    ) -> None: ...

    def __init__(self, url: str | None = None, **options: Any) -> None:
        """Make a lazy client: it connects at the first command.

        Args:
            url: As for `ClusterClient`.
            **options: Every field of `Options` is a keyword.

        Raises:
            RuntimeError: No event loop is running.
            TypeError: As for `ClusterClient`.
            ValueError: As for `ClusterClient`.
        """
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("no event loop is running: make the client in a coroutine") from None
        if callable(options.get("credentials")):
            options["credentials"] = partial(_credentials, options["credentials"])
        use = loops.acquire(self._loop)
        try:
            self._send_by(ClusterClient[Any](use.reactor, url, **options))
        except BaseException:
            loops.release(self._loop)
            raise
        self._client.add_listener(partial(_release, self._loop))

    def __repr__(self) -> str:
        return f"<AsyncClient {self._client!r}>"

    #: Sends a command: ``(words, convert=None)``.
    _run: Any

    def _send_by(self, client: ClusterClient[Any]) -> None:
        """Use a client; not a method `_run`, which would be one more call for each command."""
        self._client = client
        self._run = sender(client._call, self._loop)

    @property
    def options(self) -> Options:
        """The options."""
        return self._client.options

    @property
    def topology(self) -> Topology:
        """As `ClusterClient.topology`."""
        return self._client.topology

    @property
    def statistics(self) -> Statistics:
        """As `ClusterClient.statistics`."""
        return self._client.statistics

    @property
    def commands(self) -> CommandTable:
        """As `ClusterClient.commands`."""
        return self._client.commands

    def execute(self, *args: Arg, timeout: float | None = DEFAULT, repeatable: bool = False) -> Reply[Any]:
        """As `ClusterClient.execute`."""
        return reply_by(self._loop, self._client.execute, *args, timeout=timeout, repeatable=repeatable)

    def execute_on(self, node: Node | Address | str, *args: Arg, timeout: float | None = DEFAULT) -> Reply[Any]:
        """As `ClusterClient.execute_on`."""
        return reply_by(self._loop, self._client.execute_on, node, *args, timeout=timeout)

    def with_options(
        self, *, timeout: float | None = DEFAULT, repeatable: bool = False, split_keys: bool | None = None
    ) -> AsyncClient[Text]:
        """As `ClusterClient.with_options`."""
        view: AsyncClient[Text] = AsyncClient.__new__(type(self))
        view._loop = self._loop
        view._send_by(self._client.with_options(timeout=timeout, repeatable=repeatable, split_keys=split_keys))
        return view

    def pipeline(self, *, timeout: float | None = DEFAULT) -> AsyncPipeline[Text]:
        """As `ClusterClient.pipeline`."""
        return AsyncPipeline(self._loop, self._client.pipeline(timeout=timeout))

    async def stream(
        self,
        commands: Iterable[Sequence[Arg]],
        each: Callable[[int, Any], object],
        *,
        timeout: float | None = DEFAULT,
    ) -> int:
        """As `ClusterClient.stream`.  ``each`` is an ordinary function, or a coroutine function of asyncio."""
        return await self.pipeline(timeout=timeout).stream(commands, each)

    def transaction(self, *, timeout: float | None = DEFAULT) -> AsyncTransaction[Text]:
        """As `ClusterClient.transaction`."""
        return AsyncTransaction(self._loop, self._client.transaction(timeout=timeout))

    def watch(self, *keys: Key, timeout: float | None = DEFAULT) -> AsyncWatchSession[Text]:
        """As `ClusterClient.watch`."""
        return AsyncWatchSession(self._loop, self._client.watch(*keys, timeout=timeout))

    async def optimistically(
        self,
        function: Callable[[AsyncWatchSession[Text]], Awaitable[_T]],
        *keys: Key,
        attempts: int | None = None,
        timeout: float | None = DEFAULT,
    ) -> _T:
        """As `ClusterClient.optimistically`; ``function`` is a coroutine function of asyncio."""
        options = self._client.options
        left = Attempts(monotonic, options.random, attempts, options.timeout if timeout is DEFAULT else timeout)
        while True:
            try:
                async with self.watch(*keys) as session:
                    return await function(session)
            except WatchError as error:
                pause = left.pause_after(error)
            await asyncio.sleep(pause)

    def script(self, source: str | bytes) -> AsyncScript:
        """As `ClusterClient.script`."""
        return AsyncScript(self._loop, self._client.script(source))

    def function(self, name: str, library: str | bytes | None = None) -> AsyncScript:
        """As `ClusterClient.function`."""
        return AsyncScript(self._loop, self._client.function(name, library))

    def scan_iter(
        self, match: Key | None = None, *, count: int | None = None, type: str | None = None
    ) -> AsyncIterator[Text]:
        """As `ClusterClient.scan_iter`."""
        return AsyncIteration(self._loop, self._client.scan_iter(match, count=count, type=type))

    def hscan_iter(
        self, key: Key, match: Key | None = None, *, count: int | None = None
    ) -> AsyncIterator[tuple[Text, Text]]:
        """As `ClusterClient.hscan_iter`."""
        return AsyncIteration(self._loop, self._client.hscan_iter(key, match, count=count))

    def sscan_iter(self, key: Key, match: Key | None = None, *, count: int | None = None) -> AsyncIterator[Text]:
        """As `ClusterClient.sscan_iter`."""
        return AsyncIteration(self._loop, self._client.sscan_iter(key, match, count=count))

    def zscan_iter(
        self, key: Key, match: Key | None = None, *, count: int | None = None
    ) -> AsyncIterator[tuple[Text, float]]:
        """As `ClusterClient.zscan_iter`."""
        return AsyncIteration(self._loop, self._client.zscan_iter(key, match, count=count))

    def subscribe(self, *channels: Key, **how: Unpack[SubscriptionOptions[Text]]) -> AsyncSubscription[Text]:
        """As `ClusterClient.subscribe`."""
        return self._subscription(self._client.subscribe, *channels, **how)

    def psubscribe(self, *patterns: Key, **how: Unpack[SubscriptionOptions[Text]]) -> AsyncSubscription[Text]:
        """As `ClusterClient.psubscribe`."""
        return self._subscription(self._client.psubscribe, *patterns, **how)

    def ssubscribe(self, *channels: Key, **how: Unpack[SubscriptionOptions[Text]]) -> AsyncSubscription[Text]:
        """As `ClusterClient.ssubscribe`."""
        return self._subscription(self._client.ssubscribe, *channels, **how)

    def keyspace_events(
        self, pattern: Key = "*", *, db: int = 0, replicas: bool = False, **how: Unpack[SubscriptionOptions[Text]]
    ) -> AsyncSubscription[Text]:
        """As `ClusterClient.keyspace_events`."""
        return self._subscription(self._client.keyspace_events, pattern, db=db, replicas=replicas, **how)

    def keyevent_events(
        self, event: Key = "*", *, db: int = 0, replicas: bool = False, **how: Unpack[SubscriptionOptions[Text]]
    ) -> AsyncSubscription[Text]:
        """As `ClusterClient.keyevent_events`."""
        return self._subscription(self._client.keyevent_events, event, db=db, replicas=replicas, **how)

    def _subscription(self, start: Callable[..., Subscription[Any]], *args: Any, **how: Any) -> AsyncSubscription[Text]:
        check_loop(self._loop)
        return AsyncSubscription(self._loop, start(*args, **how))

    def refresh_topology(self) -> Reply[Topology]:
        """As `ClusterClient.refresh_topology`."""
        return reply_by(self._loop, self._client.refresh_topology)

    def reauthenticate(self) -> Reply[None]:
        """As `ClusterClient.reauthenticate`."""
        return reply_by(self._loop, self._client.reauthenticate)

    def reload_tls(self) -> None:
        """As `ClusterClient.reload_tls`."""
        self._client.reload_tls()

    def primaries(self) -> Iterator[Node]:
        """As `ClusterClient.primaries`."""
        return self._client.primaries()

    def nodes(self) -> Iterator[Node]:
        """As `ClusterClient.nodes`."""
        return self._client.nodes()

    def add_listener(self, listener: Callable[[Event], object]) -> None:
        """As `ClusterClient.add_listener`."""
        self._client.add_listener(listener)

    def remove_listener(self, listener: Callable[[Event], object]) -> None:
        """As `ClusterClient.remove_listener`."""
        self._client.remove_listener(listener)

    def add_command_listener(self, listener: CommandListener) -> None:
        """As `ClusterClient.add_command_listener`."""
        self._client.add_command_listener(listener)

    def remove_command_listener(self, listener: CommandListener) -> None:
        """As `ClusterClient.remove_command_listener`."""
        self._client.remove_command_listener(listener)

    async def close(self) -> None:
        """As `ClusterClient.close`.  It can be called more than once.  If it is cancelled, the client is aborted."""
        try:
            await asyncio.shield(reply_by(self._loop, self._client.close))
        except asyncio.CancelledError:
            await self.abort()
            raise
        await asyncio.sleep(0)

    async def abort(self) -> None:
        """As `ClusterClient.abort`."""
        await asyncio.shield(reply_by(self._loop, self._client.abort))
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


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


class AsyncSubscription(Generic[Text]):
    """A `Subscription` for asyncio; `AsyncClient.subscribe` and its kin make one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, subscription: Subscription[Any]) -> None:
        self._loop = loop
        self._subscription = subscription

    def __repr__(self) -> str:
        return f"<AsyncSubscription {self._subscription!r}>"

    @property
    def channels(self) -> tuple[Text, ...]:
        """As `Subscription.channels`."""
        return self._subscription.channels

    async def ready(self) -> Self:
        """As `Subscription.ready`."""
        await reply_by(self._loop, self._subscription.ready)
        return self

    def add(self, *channels: Key) -> Reply[None]:
        """As `Subscription.add`."""
        return reply_by(self._loop, self._subscription.add, *channels)

    def remove(self, *channels: Key) -> Reply[None]:
        """As `Subscription.remove`."""
        return reply_by(self._loop, self._subscription.remove, *channels)

    def close(self) -> Reply[None]:
        """As `Subscription.close`."""
        return reply_by(self._loop, self._subscription.close)

    async def __aenter__(self) -> Self:
        try:
            return await self.ready()
        except BaseException:
            self.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self.close())

    def __aiter__(self) -> AsyncIterator[Message[Text] | Lost | Resubscribed]:
        return _Items(self._loop, self._subscription, object)

    def messages(self) -> AsyncIterator[Message[Text]]:
        """As `Subscription.messages`."""
        return _Items(self._loop, self._subscription, Message)


class _Items(AsyncIterator[Any]):
    """Iterates over the items of a subscription.

    It takes an item only when nothing can cancel the task any more, so that cancelled waits lose nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, subscription: Subscription[Any], kind: type) -> None:
        self._loop = loop
        # A subscription that the program has dropped lives as long as its iterators.
        self._subscription = subscription
        self._kind = kind

    async def __anext__(self) -> Any:
        check_loop(self._loop)
        feed = self._subscription._feed
        if not isinstance(feed, BufferedFeed):
            raise TypeError("a subscription with a listener cannot be iterated")
        while True:
            item = feed.take()
            if item is not None:
                if isinstance(item, self._kind):
                    return item
            elif feed.error is not None:
                # Without the traceback of an earlier raise.
                raise feed.error.with_traceback(None)
            elif feed.ended:
                raise StopAsyncIteration
            else:
                await reply_by(self._loop, feed.wait)

    async def aclose(self) -> None:
        """Do nothing; for `contextlib.aclosing`.  The subscription stays."""


@overload
async def connect(url: str | None = None, *, encoding: str, **options: Unpack[ClientOptions]) -> AsyncClient[str]: ...


@overload
async def connect(
    url: str | None = None, *, encoding: None = None, **options: Unpack[ClientOptions]
) -> AsyncClient[bytes]: ...


async def connect(url: str | None = None, **options: Any) -> AsyncClient[Any]:
    """Make a client and fetch the slot map; the counterpart of `txvalkeycluster.connect`.

    Args:
        url: As for `ClusterClient`.
        **options: Every field of `Options` is a keyword.

    Returns:
        The client.

    Raises:
        ClusterUnavailable: No seed gave a slot map that can be used.
        TypeError: As for `ClusterClient`.
        ValueError: As for `ClusterClient`.
    """
    client: AsyncClient[Any] = AsyncClient(url, **options)
    try:
        await client.refresh_topology()
    except BaseException:
        await client.abort()
        raise
    return client


def _release(loop: asyncio.AbstractEventLoop, event: Event) -> None:
    """Give the reactor of a loop back when a client has closed.  It does not keep the client alive."""
    if isinstance(event, Closed):
        # Not in a callback of the reactor that ends.
        loop.call_soon(loops.release, loop)


def _credentials(function: Callable[[Address], Any], address: Address) -> Any:
    """Call the application's function for credentials, which may be a coroutine function of asyncio."""
    answer = function(address)
    if isawaitable(answer) and not isinstance(answer, Deferred):
        return Deferred.fromFuture(asyncio.ensure_future(answer))
    return answer
