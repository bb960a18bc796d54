"""AsyncClient: a `ClusterClient` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from inspect import isawaitable
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from twisted.internet.defer import Deferred

from ..address import Address
from ..client import ClusterClient
from ..commands import CommandTable
from ..commands.async_commands import AsyncCommands
from ..commands.encoder import Arg
from ..commands.method_support import Key, Text
from ..errors import WatchError
from ..events import Closed, Event
from ..options import DEFAULT, ClientOptions, Options
from ..pubsub.methods import SubscriptionOptions
from ..pubsub.subscription import Subscription
from ..routing.observation import CommandListener
from ..statistics import Statistics
from ..topology.model import Node, Topology
from ..transaction import Attempts
from . import loops
from .composites import AsyncPipeline, AsyncScript, AsyncTransaction, AsyncWatchSession
from .reply import AsyncIteration, Reply, check_loop, reply_by, sender
from .subscription import AsyncSubscription

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
