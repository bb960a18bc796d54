"""BlockingClient: a `ClusterClient` for threads, whose methods wait and return plain results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from time import monotonic, sleep
from types import TracebackType
from typing import Any, TypeVar, Unpack, overload

from ..address import Address
from ..client import ClusterClient
from ..commands import CommandTable
from ..commands.blocking_commands import BlockingCommands
from ..commands.converters import Convert, converted
from ..commands.encoder import Arg
from ..commands.method_support import Key, Text
from ..errors import WatchError
from ..events import Event
from ..options import DEFAULT, ClientOptions, Options
from ..pubsub.methods import SubscriptionOptions
from ..pubsub.subscription import Subscription
from ..routing.observation import CommandListener
from ..statistics import Statistics
from ..topology.model import Node, Topology
from ..transaction import Attempts
from .bridge import ThreadCall
from .composites import BlockingPipeline, BlockingScript, BlockingTransaction, BlockingWatchSession
from .connection import Connection, Link
from .iteration import BlockingIteration
from .subscription import BlockingSubscription

_T = TypeVar("_T")


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
        self._connection = Connection(url, options)
        # The arguments of each call of `with_options`, and the link and the client for which they were used.
        self._views: list[dict[str, Any]] = []
        self._made: tuple[Link, ClusterClient[Any]] | None = None

    def __repr__(self) -> str:
        return f"<BlockingClient {self._connection!r}>"

    def _of(self, link: Link) -> ClusterClient[Any]:
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

    def _inside(self) -> tuple[Link, ClusterClient[Any]]:
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
