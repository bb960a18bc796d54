"""AsyncClient: a `ClusterClient` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from inspect import iscoroutinefunction
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
from ..commands.queued import QueuedCommands
from ..events import Closed, Event
from ..messages import Lost, Message, Resubscribed
from ..options import DEFAULT, ClientOptions, Options
from ..pipeline import Pipeline
from ..pubsub.methods import SubscriptionOptions
from ..pubsub.subscription import Subscription
from ..routing.observation import CommandListener
from ..scripting import Function, Keys, Script, Values
from ..statistics import Statistics
from ..topology.model import Node, Topology
from ..transaction import Transaction, WatchSession
from . import loops
from .reply import AsyncIteration, Reply, reply_from, reply_of, send

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
        self._loop = asyncio.get_running_loop()
        use = loops.acquire(self._loop)
        try:
            self._client: ClusterClient[Any] = ClusterClient[Any](use.reactor, url, **options)
        except BaseException:
            loops.release(self._loop)
            raise
        self._client.add_listener(self._closed)

    def _closed(self, event: Event) -> None:
        if isinstance(event, Closed):
            # Not in a callback of the reactor that ends.
            self._loop.call_soon(loops.release, self._loop)

    def __repr__(self) -> str:
        return f"<AsyncClient {self._client!r}>"

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        return send(self._client, words, convert)

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
        return reply_of(self._client.execute(*args, timeout=timeout, repeatable=repeatable))

    def execute_on(self, node: Node | Address | str, *args: Arg, timeout: float | None = DEFAULT) -> Reply[Any]:
        """As `ClusterClient.execute_on`."""
        return reply_of(self._client.execute_on(node, *args, timeout=timeout))

    def with_options(
        self, *, timeout: float | None = DEFAULT, repeatable: bool = False, split_keys: bool | None = None
    ) -> AsyncClient[Text]:
        """As `ClusterClient.with_options`."""
        view: AsyncClient[Text] = AsyncClient.__new__(type(self))
        view._loop = self._loop
        view._client = self._client.with_options(timeout=timeout, repeatable=repeatable, split_keys=split_keys)
        return view

    def pipeline(self, *, timeout: float | None = DEFAULT) -> AsyncPipeline[Text]:
        """As `ClusterClient.pipeline`."""
        return AsyncPipeline(self._client.pipeline(timeout=timeout))

    def stream(
        self,
        commands: Iterable[Sequence[Arg]],
        each: Callable[[int, Any], object],
        *,
        timeout: float | None = DEFAULT,
    ) -> Reply[int]:
        """As `ClusterClient.stream`.  ``each`` is an ordinary function, or a coroutine function of asyncio."""
        return self.pipeline(timeout=timeout).stream(commands, each)

    def transaction(self, *, timeout: float | None = DEFAULT) -> AsyncTransaction[Text]:
        """As `ClusterClient.transaction`."""
        return AsyncTransaction(self._client.transaction(timeout=timeout))

    def watch(self, *keys: Key, timeout: float | None = DEFAULT) -> AsyncWatchSession[Text]:
        """As `ClusterClient.watch`."""
        return AsyncWatchSession(self._client.watch(*keys, timeout=timeout))

    def optimistically(
        self,
        function: Callable[[AsyncWatchSession[Text]], Awaitable[_T]],
        *keys: Key,
        attempts: int | None = None,
        timeout: float | None = DEFAULT,
    ) -> Reply[_T]:
        """As `ClusterClient.optimistically`; ``function`` is a coroutine function of asyncio."""

        async def attempt(session: WatchSession[Any]) -> _T:
            running = asyncio.ensure_future(_await(function(AsyncWatchSession(session))))
            return await Deferred.fromFuture(running)

        return reply_of(self._client.optimistically(attempt, *keys, attempts=attempts, timeout=timeout))

    def script(self, source: str | bytes) -> AsyncScript:
        """As `ClusterClient.script`."""
        return AsyncScript(self._client.script(source))

    def function(self, name: str, library: str | bytes | None = None) -> AsyncScript:
        """As `ClusterClient.function`."""
        return AsyncScript(self._client.function(name, library))

    def scan_iter(
        self, match: Key | None = None, *, count: int | None = None, type: str | None = None
    ) -> AsyncIterator[Text]:
        """As `ClusterClient.scan_iter`."""
        return AsyncIteration(self._client.scan_iter(match, count=count, type=type))

    def hscan_iter(
        self, key: Key, match: Key | None = None, *, count: int | None = None
    ) -> AsyncIterator[tuple[Text, Text]]:
        """As `ClusterClient.hscan_iter`."""
        return AsyncIteration(self._client.hscan_iter(key, match, count=count))

    def sscan_iter(self, key: Key, match: Key | None = None, *, count: int | None = None) -> AsyncIterator[Text]:
        """As `ClusterClient.sscan_iter`."""
        return AsyncIteration(self._client.sscan_iter(key, match, count=count))

    def zscan_iter(
        self, key: Key, match: Key | None = None, *, count: int | None = None
    ) -> AsyncIterator[tuple[Text, float]]:
        """As `ClusterClient.zscan_iter`."""
        return AsyncIteration(self._client.zscan_iter(key, match, count=count))

    def subscribe(self, *channels: Key, **how: Unpack[SubscriptionOptions[Text]]) -> AsyncSubscription[Text]:
        """As `ClusterClient.subscribe`."""
        return AsyncSubscription(self._client.subscribe(*channels, **how))

    def psubscribe(self, *patterns: Key, **how: Unpack[SubscriptionOptions[Text]]) -> AsyncSubscription[Text]:
        """As `ClusterClient.psubscribe`."""
        return AsyncSubscription(self._client.psubscribe(*patterns, **how))

    def ssubscribe(self, *channels: Key, **how: Unpack[SubscriptionOptions[Text]]) -> AsyncSubscription[Text]:
        """As `ClusterClient.ssubscribe`."""
        return AsyncSubscription(self._client.ssubscribe(*channels, **how))

    def keyspace_events(
        self, pattern: Key = "*", *, db: int = 0, replicas: bool = False, **how: Unpack[SubscriptionOptions[Text]]
    ) -> AsyncSubscription[Text]:
        """As `ClusterClient.keyspace_events`."""
        return AsyncSubscription(self._client.keyspace_events(pattern, db=db, replicas=replicas, **how))

    def keyevent_events(
        self, event: Key = "*", *, db: int = 0, replicas: bool = False, **how: Unpack[SubscriptionOptions[Text]]
    ) -> AsyncSubscription[Text]:
        """As `ClusterClient.keyevent_events`."""
        return AsyncSubscription(self._client.keyevent_events(event, db=db, replicas=replicas, **how))

    def refresh_topology(self) -> Reply[Topology]:
        """As `ClusterClient.refresh_topology`."""
        return reply_of(self._client.refresh_topology())

    def reauthenticate(self) -> Reply[None]:
        """As `ClusterClient.reauthenticate`."""
        return reply_of(self._client.reauthenticate())

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
        """As `ClusterClient.close`.  It can be called more than once."""
        await asyncio.shield(reply_of(self._client.close()))
        await asyncio.sleep(0)

    async def abort(self) -> None:
        """As `ClusterClient.abort`."""
        await asyncio.shield(reply_of(self._client.abort()))
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncPipeline(QueuedCommands[Text]):
    """A `Pipeline` for asyncio; `AsyncClient.pipeline` makes one."""

    def __init__(self, pipeline: Pipeline[Any]) -> None:
        self._pipeline = pipeline

    def __len__(self) -> int:
        return len(self._pipeline)

    def __repr__(self) -> str:
        return f"<AsyncPipeline of {len(self)} commands>"

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        self._pipeline._run(words, convert)
        return self

    def add(self, *args: Arg) -> Self:
        """As `Pipeline.add`."""
        self._pipeline.add(*args)
        return self

    def execute(self, *, raise_first: bool = False) -> Reply[list[Any]]:
        """As `Pipeline.execute`."""
        return reply_of(self._pipeline.execute(raise_first=raise_first))

    def stream(self, commands: Iterable[Sequence[Arg]], each: Callable[[int, Any], object]) -> Reply[int]:
        """As `Pipeline.stream`.  ``each`` is an ordinary function, or a coroutine function of asyncio."""
        if iscoroutinefunction(each):

            async def awaited(index: int, result: Any) -> None:
                await Deferred.fromFuture(asyncio.ensure_future(each(index, result)))

            return reply_of(self._pipeline.stream(commands, awaited))
        return reply_of(self._pipeline.stream(commands, each))


class AsyncTransaction(QueuedCommands[Text]):
    """A `Transaction` for asyncio; `AsyncClient.transaction` makes one."""

    def __init__(self, transaction: Transaction[Any]) -> None:
        self._transaction = transaction

    def __len__(self) -> int:
        return len(self._transaction)

    def __repr__(self) -> str:
        return f"<AsyncTransaction of {len(self)} commands>"

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        self._transaction._run(words, convert)
        return self

    def add(self, *args: Arg) -> Self:
        """As `Transaction.add`."""
        self._transaction.add(*args)
        return self

    def execute(self, *, raise_first: bool = True) -> Reply[list[Any]]:
        """As `Transaction.execute`."""
        return reply_of(self._transaction.execute(raise_first=raise_first))


class AsyncWatchSession(AsyncCommands[Text]):
    """A `WatchSession` for asyncio; `AsyncClient.watch` makes one."""

    def __init__(self, session: WatchSession[Any]) -> None:
        self._session = session

    def __repr__(self) -> str:
        return f"<AsyncWatchSession slot={self._session.slot}>"

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        return reply_of(self._session._run(words, convert))

    def execute(self, *args: Arg) -> Reply[Any]:
        """As `WatchSession.execute`."""
        return reply_of(self._session.execute(*args))

    def transaction(self) -> AsyncTransaction[Text]:
        """As `WatchSession.transaction`."""
        return AsyncTransaction(self._session.transaction())

    async def __aenter__(self) -> Self:
        await reply_from(self._session.__aenter__())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(reply_from(self._session.__aexit__(kind, error, trace)))


class AsyncScript:
    """A `Script` or a `Function` for asyncio; `AsyncClient.script` and `AsyncClient.function` make one."""

    def __init__(self, script: Script[Any] | Function[Any]) -> None:
        self._script = script

    def __repr__(self) -> str:
        return f"<AsyncScript {self._script!r}>"

    def __call__(self, keys: Keys = (), args: Values = (), *, read_only: bool = False) -> Reply[Any]:
        """As a call of `Script` or `Function`."""
        return reply_of(self._script(keys, args, read_only=read_only))


class AsyncSubscription(Generic[Text]):
    """A `Subscription` for asyncio; `AsyncClient.subscribe` and its kin make one."""

    def __init__(self, subscription: Subscription[Any]) -> None:
        self._subscription = subscription

    def __repr__(self) -> str:
        return f"<AsyncSubscription {self._subscription!r}>"

    @property
    def channels(self) -> tuple[Text, ...]:
        """As `Subscription.channels`."""
        return self._subscription.channels

    async def ready(self) -> Self:
        """As `Subscription.ready`."""
        await reply_of(self._subscription.ready())
        return self

    def add(self, *channels: Key) -> Reply[None]:
        """As `Subscription.add`."""
        return reply_of(self._subscription.add(*channels))

    def remove(self, *channels: Key) -> Reply[None]:
        """As `Subscription.remove`."""
        return reply_of(self._subscription.remove(*channels))

    def close(self) -> Reply[None]:
        """As `Subscription.close`."""
        return reply_of(self._subscription.close())

    async def __aenter__(self) -> Self:
        await reply_from(self._subscription.__aenter__())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self.close())

    def __aiter__(self) -> AsyncIterator[Message[Text] | Lost | Resubscribed]:
        return AsyncIteration(aiter(self._subscription))

    def messages(self) -> AsyncIterator[Message[Text]]:
        """As `Subscription.messages`."""
        return AsyncIteration(self._subscription.messages())


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


async def _await(awaitable: Awaitable[_T]) -> _T:
    return await awaitable
