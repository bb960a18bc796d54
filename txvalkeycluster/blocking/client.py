"""BlockingClient: a `ClusterClient` for threads, whose methods wait and return plain results."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from itertools import islice
from threading import RLock
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, overload

from twisted.internet.defer import Deferred

from ..address import Address
from ..client import ClusterClient
from ..commands import CommandTable
from ..commands.blocking_commands import BlockingCommands
from ..commands.converters import Convert, converted
from ..commands.encoder import Arg
from ..commands.method_support import Key, Text
from ..connection.forks import in_forked_children
from ..errors import ClientClosed, WatchError
from ..events import Event
from ..messages import Lost, Message, Resubscribed
from ..options import DEFAULT, ClientOptions, Options, options_of_client
from ..pipeline import Pipeline
from ..pubsub.methods import SubscriptionOptions
from ..pubsub.subscription import Subscription
from ..routing.observation import CommandListener
from ..scripting import Function, Keys, Script, Values
from ..statistics import Statistics
from ..topology.model import Node, Topology
from ..transaction import Attempts, Transaction, WatchSession
from ..wrapped_queue import WrappedQueue
from . import background
from .bridge import ThreadCall
from .iteration import BlockingIteration

_T = TypeVar("_T")
# The most commands of a stream that are sent at once.
_STREAMED = 4096


class _Link:
    """A client in the reactor's thread, and the way to it.

    Everything that uses the client refers to its link.  If the last of them is garbage-collected, the client ends.
    """

    def __init__(self, url: str | None, options: dict[str, Any]) -> None:
        self._background = used = background.acquire()
        #: Leads to the reactor.
        self.bridge = used.bridge
        self._is_open = False
        try:
            #: The client.
            self.client: ClusterClient[Any] = used.bridge.run(partial(self._make, url, options))
            self._is_open = True
        finally:
            if not self._is_open:
                background.release(used)

    def _make(self, url: str | None, options: dict[str, Any]) -> ClusterClient[Any]:
        client = ClusterClient[Any](self.bridge.reactor, url, **options)
        self.bridge.schedulers.append(client._router.factory.write_scheduler)
        return client

    def _release(self) -> None:
        self.bridge.schedulers.remove(self.client._router.factory.write_scheduler)
        background.release(self._background)

    def end(self, how: Callable[[ClusterClient[Any]], Any], first: bool) -> None:
        """Close or abort the client; the first call gives the reactor back."""
        if first:
            self._is_open = False
        try:
            self.bridge.run(partial(how, self.client))
        except ClientClosed:
            # The reactor has stopped, and the connections with it.
            pass
        finally:
            if first:
                self._release()

    def forked(self) -> None:
        """Leave everything to the parent process."""
        self._is_open = False

    def __del__(self) -> None:
        if "_is_open" not in vars(self) or not self._is_open:
            return
        # The garbage collector may be at work in any thread, also in that of the reactor: nothing here may wait.
        used, client, schedulers = self._background, self.client, self.bridge.schedulers
        scheduler = client._router.factory.write_scheduler

        def release(_: object) -> None:
            schedulers.remove(scheduler)
            background.release(used)

        self.bridge.post(lambda: client.abort().addBoth(release))
        if client._router.connected and not self.bridge.ended:
            text = f"<BlockingClient {client!r}> was garbage-collected without close() or abort()"
            warnings.warn(text, ResourceWarning, 2, self)


class _Connection:
    """The link of a client and its views, which a forked child makes anew."""

    def __init__(self, url: str | None, options: dict[str, Any]) -> None:
        self._url = url
        self._options = options
        #: The options of the client.
        self.options = options_of_client(url, options)
        self._lock = RLock()
        self._closed = False
        self._link: _Link | None = None
        self._parents: _Link | None = None
        in_forked_children(self, _Connection._forked)

    def __repr__(self) -> str:
        link = self._link
        seeds = ", ".join(map(str, self.options.seeds))
        return f"{seeds} not connected" if link is None else repr(link.client)

    def get(self) -> _Link:
        """Return the link of this process."""
        link = self._link
        return self._open() if link is None or self._closed else link

    def last(self) -> _Link:
        """Return the link of this process, also if the client is closed."""
        return self._link or self._open()

    def _open(self) -> _Link:
        with self._lock:
            if self._closed:
                raise ClientClosed("the client is closed")
            if self._link is None:
                self._link, self._parents = _Link(self._url, self._options), None
            return self._link

    def end(self, how: Callable[[ClusterClient[Any]], Any]) -> None:
        """Close or abort the client.  Every call waits for the end, and the first gives the reactor back."""
        link = self._link
        if link is not None:
            link.bridge.check_thread()
        with self._lock:
            first, self._closed = not self._closed, True
            link = self._link
        if link is not None:
            link.end(how, first)

    def _forked(self) -> None:
        # Another thread of the parent may have held the lock.
        self._lock = RLock()
        if self._link is not None:
            # Its sockets are closed in a moment.
            self._parents, self._link = self._link, None
            self._parents.forked()


class BlockingClient(BlockingCommands[Text], AbstractContextManager["BlockingClient[Text]"]):
    """A client of one cluster, for programs without an event loop.

    Every command is a method, with the arguments of `ClusterClient`; it waits, and returns the reply or raises the
    error.  Any number of threads may use one client at the same time.  The connections belong to a reactor in a thread
    of its own, or to the reactor of the program if one runs.  A forked child makes connections of its own at its first
    command; pipelines, sessions and subscriptions of the parent do not work there.

    Example:
        with blocking.connect("valkey://10.0.0.1:7000", encoding="utf-8") as client:
            client.set("greeting", "hello", ex=60)
            print(client.get("greeting"))
    """

    @overload
    def __init__(
        self: BlockingClient[str], url: str | None = None, *, encoding: str, **options: Unpack[ClientOptions]
    ) -> None: ...

    @overload
    def __init__(
        self: BlockingClient[bytes], url: str | None = None, *, encoding: None = None, **options: Unpack[ClientOptions]
    ) -> None: ...

    def __init__(self, url: str | None = None, **options: Any) -> None:
        """Make a lazy client: its reactor starts, and it connects, at the first command.

        Args:
            url: As for `ClusterClient`.
            **options: Every field of `Options` is a keyword.

        Raises:
            TypeError: As for `ClusterClient`.
            ValueError: As for `ClusterClient`.
        """
        self._connection = _Connection(url, options)
        # The arguments of each call of `with_options`, and the link and the client for which they were used.
        self._views: list[dict[str, Any]] = []
        self._made: tuple[_Link, ClusterClient[Any]] | None = None

    def __repr__(self) -> str:
        return f"<BlockingClient {self._connection!r}>"

    def _of(self, link: _Link) -> ClusterClient[Any]:
        """Return the client of a link, with the options of this view."""
        if not self._views:
            return link.client
        made = self._made
        if made is None or made[0] is not link:
            client = link.client
            for view in self._views:
                client = client.with_options(**view)
            self._made = made = link, client
        return made[1]

    def _inside(self) -> tuple[_Link, ClusterClient[Any]]:
        link = self._connection.get()
        return link, self._of(link)

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        link, client = self._inside()
        reply = link.bridge.run(partial(client._call, words, make=ThreadCall))
        return reply if convert is None else converted(reply, convert)

    def _do(self, what: Callable[[ClusterClient[Any]], Any]) -> Any:
        """Call a function with the client in the reactor's thread, and return its result."""
        link, client = self._inside()
        return link.bridge.run(partial(what, client))

    @property
    def options(self) -> Options:
        """The options."""
        return self._of(self._connection.last()).options if self._views else self._connection.options

    @property
    def topology(self) -> Topology:
        """As `ClusterClient.topology`."""
        return self._connection.last().client.topology

    @property
    def statistics(self) -> Statistics:
        """As `ClusterClient.statistics`."""
        link = self._connection.last()
        if link.bridge.ended:
            # Nothing changes any more.
            return link.client.statistics
        found: Statistics = link.bridge.run(lambda: link.client.statistics)
        return found

    @property
    def commands(self) -> CommandTable:
        """As `ClusterClient.commands`."""
        return self._connection.last().client.commands

    def execute(self, *args: Arg, timeout: float | None = DEFAULT, repeatable: bool = False) -> Any:
        """As `ClusterClient.execute`."""
        return self._do(lambda client: client.execute(*args, timeout=timeout, repeatable=repeatable))

    def execute_on(self, node: Node | Address | str, *args: Arg, timeout: float | None = DEFAULT) -> Any:
        """As `ClusterClient.execute_on`."""
        return self._do(lambda client: client.execute_on(node, *args, timeout=timeout))

    def with_options(
        self, *, timeout: float | None = DEFAULT, repeatable: bool = False, split_keys: bool | None = None
    ) -> BlockingClient[Text]:
        """As `ClusterClient.with_options`."""
        view: BlockingClient[Text] = BlockingClient.__new__(type(self))
        view._connection = self._connection
        view._views = [*self._views, {"timeout": timeout, "repeatable": repeatable, "split_keys": split_keys}]
        view._made = None
        # Raises ValueError.
        view._inside()
        return view

    def pipeline(self, *, timeout: float | None = DEFAULT) -> BlockingPipeline[Text]:
        """As `ClusterClient.pipeline`."""
        link, client = self._inside()
        return BlockingPipeline(link, client.pipeline(timeout=timeout))

    def stream(
        self,
        commands: Iterable[Sequence[Arg]],
        each: Callable[[int, Any], object],
        *,
        timeout: float | None = DEFAULT,
    ) -> int:
        """As `ClusterClient.stream`; ``commands`` and ``each`` run in the calling thread, 4096 commands at a time."""
        return self.pipeline(timeout=timeout).stream(commands, each)

    def transaction(self, *, timeout: float | None = DEFAULT) -> BlockingTransaction[Text]:
        """As `ClusterClient.transaction`."""
        link, client = self._inside()
        return BlockingTransaction(link, client.transaction(timeout=timeout))

    def watch(self, *keys: Key, timeout: float | None = DEFAULT) -> BlockingWatchSession[Text]:
        """As `ClusterClient.watch`; use it with ``with``."""
        link, client = self._inside()
        return BlockingWatchSession(link, client.watch(*keys, timeout=timeout))

    def optimistically(
        self,
        function: Callable[[BlockingWatchSession[Text]], _T],
        *keys: Key,
        attempts: int | None = None,
        timeout: float | None = DEFAULT,
    ) -> _T:
        """As `ClusterClient.optimistically`; ``function`` is an ordinary function."""
        options = self.options
        given = options.timeout if timeout is DEFAULT else timeout
        left = Attempts(monotonic, options.random, attempts, given)
        while True:
            try:
                with self.watch(*keys) as session:
                    return function(session)
            except WatchError as error:
                pause = left.pause_after(error)
            sleep(pause)

    def script(self, source: str | bytes) -> BlockingScript:
        """As `ClusterClient.script`."""
        return BlockingScript(self, lambda client: client.script(source))

    def function(self, name: str, library: str | bytes | None = None) -> BlockingScript:
        """As `ClusterClient.function`."""
        return BlockingScript(self, lambda client: client.function(name, library))

    def scan_iter(
        self, match: Key | None = None, *, count: int | None = None, type: str | None = None
    ) -> Iterator[Text]:
        """As `ClusterClient.scan_iter`."""
        link, client = self._inside()
        return BlockingIteration(link.bridge, client.scan_iter(match, count=count, type=type), link)

    def hscan_iter(
        self, key: Key, match: Key | None = None, *, count: int | None = None
    ) -> Iterator[tuple[Text, Text]]:
        """As `ClusterClient.hscan_iter`."""
        link, client = self._inside()
        return BlockingIteration(link.bridge, client.hscan_iter(key, match, count=count), link)

    def sscan_iter(self, key: Key, match: Key | None = None, *, count: int | None = None) -> Iterator[Text]:
        """As `ClusterClient.sscan_iter`."""
        link, client = self._inside()
        return BlockingIteration(link.bridge, client.sscan_iter(key, match, count=count), link)

    def zscan_iter(
        self, key: Key, match: Key | None = None, *, count: int | None = None
    ) -> Iterator[tuple[Text, float]]:
        """As `ClusterClient.zscan_iter`."""
        link, client = self._inside()
        return BlockingIteration(link.bridge, client.zscan_iter(key, match, count=count), link)

    def subscribe(self, *channels: Key, **how: Unpack[SubscriptionOptions[Text]]) -> BlockingSubscription[Text]:
        """As `ClusterClient.subscribe`.  A listener is called in the reactor's thread."""
        return self._subscription(lambda client: client.subscribe(*channels, **how))

    def psubscribe(self, *patterns: Key, **how: Unpack[SubscriptionOptions[Text]]) -> BlockingSubscription[Text]:
        """As `ClusterClient.psubscribe`."""
        return self._subscription(lambda client: client.psubscribe(*patterns, **how))

    def ssubscribe(self, *channels: Key, **how: Unpack[SubscriptionOptions[Text]]) -> BlockingSubscription[Text]:
        """As `ClusterClient.ssubscribe`."""
        return self._subscription(lambda client: client.ssubscribe(*channels, **how))

    def keyspace_events(
        self, pattern: Key = "*", *, db: int = 0, replicas: bool = False, **how: Unpack[SubscriptionOptions[Text]]
    ) -> BlockingSubscription[Text]:
        """As `ClusterClient.keyspace_events`."""
        return self._subscription(lambda client: client.keyspace_events(pattern, db=db, replicas=replicas, **how))

    def keyevent_events(
        self, event: Key = "*", *, db: int = 0, replicas: bool = False, **how: Unpack[SubscriptionOptions[Text]]
    ) -> BlockingSubscription[Text]:
        """As `ClusterClient.keyevent_events`."""
        return self._subscription(lambda client: client.keyevent_events(event, db=db, replicas=replicas, **how))

    def _subscription(self, make: Callable[[ClusterClient[Any]], Subscription[Any]]) -> BlockingSubscription[Text]:
        link, client = self._inside()
        return BlockingSubscription(link, link.bridge.run(partial(make, client)))

    def refresh_topology(self) -> Topology:
        """As `ClusterClient.refresh_topology`."""
        topology: Topology = self._do(lambda client: client.refresh_topology())
        return topology

    def reauthenticate(self) -> None:
        """As `ClusterClient.reauthenticate`."""
        self._do(lambda client: client.reauthenticate())

    def reload_tls(self) -> None:
        """As `ClusterClient.reload_tls`."""
        self._do(lambda client: client.reload_tls())

    def primaries(self) -> Iterator[Node]:
        """As `ClusterClient.primaries`."""
        return self._connection.last().client.primaries()

    def nodes(self) -> Iterator[Node]:
        """As `ClusterClient.nodes`."""
        return self._connection.last().client.nodes()

    def add_listener(self, listener: Callable[[Event], object]) -> None:
        """As `ClusterClient.add_listener`.  The listener is called in the reactor's thread."""
        self._do(lambda client: client.add_listener(listener))

    def remove_listener(self, listener: Callable[[Event], object]) -> None:
        """As `ClusterClient.remove_listener`."""
        self._do(lambda client: client.remove_listener(listener))

    def add_command_listener(self, listener: CommandListener) -> None:
        """As `ClusterClient.add_command_listener`.  The listener is called in the reactor's thread."""
        self._do(lambda client: client.add_command_listener(listener))

    def remove_command_listener(self, listener: CommandListener) -> None:
        """As `ClusterClient.remove_command_listener`."""
        self._do(lambda client: client.remove_command_listener(listener))

    def close(self) -> None:
        """As `ClusterClient.close`.  It can be called more than once."""
        self._connection.end(lambda client: client.close())

    def abort(self) -> None:
        """As `ClusterClient.abort`."""
        self._connection.end(lambda client: client.abort())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BlockingPipeline(WrappedQueue[Pipeline[Any], Text]):
    """A `Pipeline` for threads; `BlockingClient.pipeline` makes one.  Only one thread may use it at a time."""

    def __init__(self, link: _Link, pipeline: Pipeline[Any]) -> None:
        super().__init__(pipeline)
        self._link = link

    def execute(self, *, raise_first: bool = False) -> list[Any]:
        """As `Pipeline.execute`."""
        results: list[Any] = self._link.bridge.run(partial(self._queue.execute, raise_first=raise_first))
        return results

    def stream(self, commands: Iterable[Sequence[Arg]], each: Callable[[int, Any], object]) -> int:
        """As `Pipeline.stream`; ``commands`` and ``each`` run in the calling thread, 4096 commands at a time."""
        count, left = 0, iter(commands)
        while chunk := list(islice(left, _STREAMED)):
            results: list[Any] = [None] * len(chunk)
            self._link.bridge.run(partial(self._queue.stream, chunk, results.__setitem__))
            for result in results:
                each(count, result)
                count += 1
        return count


class BlockingTransaction(WrappedQueue[Transaction[Any], Text]):
    """A `Transaction` for threads; `BlockingClient.transaction` makes one.  Only one thread may use it at a time."""

    def __init__(self, link: _Link, transaction: Transaction[Any]) -> None:
        super().__init__(transaction)
        self._link = link

    def execute(self, *, raise_first: bool = True) -> list[Any]:
        """As `Transaction.execute`."""
        results: list[Any] = self._link.bridge.run(partial(self._queue.execute, raise_first=raise_first))
        return results


class BlockingWatchSession(BlockingCommands[Text]):
    """A `WatchSession` for threads; `BlockingClient.watch` makes one.  Only one thread may use it at a time."""

    def __init__(self, link: _Link, session: WatchSession[Any]) -> None:
        self._link = link
        self._session = session

    def __repr__(self) -> str:
        return f"<BlockingWatchSession slot={self._session.slot}>"

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        return self._link.bridge.run(partial(self._session._run, words, convert))

    def execute(self, *args: Arg) -> Any:
        """As `WatchSession.execute`."""
        return self._link.bridge.run(partial(self._session.execute, *args))

    def watch(self, *keys: Key) -> None:
        """As `WatchSession.watch`."""
        self._link.bridge.run(partial(self._session.watch, *keys))

    def transaction(self) -> BlockingTransaction[Text]:
        """As `WatchSession.transaction`."""
        return BlockingTransaction(self._link, self._session.transaction())

    def __enter__(self) -> Self:
        self._link.bridge.run(lambda: Deferred.fromCoroutine(self._session.__aenter__()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.bridge.run(lambda: Deferred.fromCoroutine(self._session.__aexit__(kind, error, trace)))


class BlockingScript:
    """A `Script` or a `Function` for threads; `BlockingClient.script` and `BlockingClient.function` make one."""

    def __init__(
        self, client: BlockingClient[Any], make: Callable[[ClusterClient[Any]], Script[Any] | Function[Any]]
    ) -> None:
        self._client = client
        self._make = make

    def __repr__(self) -> str:
        return f"<BlockingScript of {self._client!r}>"

    def __call__(self, keys: Keys = (), args: Values = (), *, read_only: bool = False) -> Any:
        """As a call of `Script` or `Function`."""
        return self._client._do(lambda client: self._make(client)(keys, args, read_only=read_only))


class BlockingSubscription(Generic[Text]):
    """A `Subscription` for threads; `BlockingClient.subscribe` and its kin make one.

    Only one thread may iterate over it at a time.
    """

    def __init__(self, link: _Link, subscription: Subscription[Any]) -> None:
        self._link = link
        self._subscription = subscription
        self._items: BlockingIteration[Message[Text] | Lost | Resubscribed] | None = None

    def __repr__(self) -> str:
        return f"<BlockingSubscription {self._subscription!r}>"

    @property
    def channels(self) -> tuple[Text, ...]:
        """As `Subscription.channels`."""
        return self._subscription.channels

    def ready(self) -> Self:
        """As `Subscription.ready`."""
        self._link.bridge.run(self._subscription.ready)
        return self

    def add(self, *channels: Key) -> None:
        """As `Subscription.add`."""
        self._link.bridge.run(partial(self._subscription.add, *channels))

    def remove(self, *channels: Key) -> None:
        """As `Subscription.remove`."""
        self._link.bridge.run(partial(self._subscription.remove, *channels))

    def close(self) -> None:
        """As `Subscription.close`."""
        # A closed client has ended the subscription.
        with suppress(ClientClosed):
            self._link.bridge.run(self._subscription.close)

    def get(self, timeout: float | None = None) -> Message[Text] | Lost | Resubscribed | None:
        """Wait for the next item.

        Args:
            timeout: The longest time to wait, in seconds; None is no limit.

        Returns:
            The item.  None: the time is up, or the subscription is closed.
        """
        try:
            return self._iteration().take(timeout)
        except (TimeoutError, StopIteration):
            return None

    def __iter__(self) -> Iterator[Message[Text] | Lost | Resubscribed]:
        return self._iteration()

    def messages(self) -> Iterator[Message[Text]]:
        """As `Subscription.messages`."""
        return (item for item in self._iteration() if isinstance(item, Message))

    def _iteration(self) -> BlockingIteration[Message[Text] | Lost | Resubscribed]:
        # One for all calls: it may hold items.
        if self._items is None:
            self._items = BlockingIteration(self._link.bridge, aiter(self._subscription), self._link)
        return self._items

    def __enter__(self) -> Self:
        self._link.bridge.run(lambda: Deferred.fromCoroutine(self._subscription.__aenter__()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@overload
def connect(url: str | None = None, *, encoding: str, **options: Unpack[ClientOptions]) -> BlockingClient[str]: ...


@overload
def connect(
    url: str | None = None, *, encoding: None = None, **options: Unpack[ClientOptions]
) -> BlockingClient[bytes]: ...


def connect(url: str | None = None, **options: Any) -> BlockingClient[Any]:
    """Make a client and fetch the slot map; the counterpart of `txvalkeycluster.connect`.

    Args:
        url: As for `ClusterClient`.
        **options: Every field of `Options` is a keyword.

    Returns:
        The client.

    Raises:
        ClusterUnavailable: No seed gave a slot map that can be used.
        RuntimeError: This is the thread of a running reactor.
        TypeError: As for `ClusterClient`.
        ValueError: As for `ClusterClient`.
    """
    client: BlockingClient[Any] = BlockingClient(url, **options)
    try:
        client.refresh_topology()
    except BaseException:
        client.abort()
        raise
    return client
