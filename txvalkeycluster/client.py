"""ClusterClient: what an application holds."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from math import inf
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload
from weakref import WeakMethod

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from .address import Address
from .commands import CommandTable
from .commands.converters import Convert, converted, flat_pairs, scored
from .commands.encoder import Arg
from .commands.method_support import Key, Text
from .commands.methods import Commands
from .events import Closed, Event
from .options import DEFAULT, ClientOptions, Options, check_names
from .pipeline import Pipeline
from .routing.router import Router, Terms
from .scan import KeyScan, MemberScan
from .scripting import Function, Script
from .statistics import Statistics
from .topology.model import Node, Topology
from .transaction import Transaction, WatchSession, optimistically

_log = Logger()
_T = TypeVar("_T")


class ClusterClient(Commands[Text]):
    """A client of one cluster.  Every command is a method: ``get``, ``hset``, ``client_list``.

    Built directly it is lazy: nothing is dialled before the first command, which waits for the slot map until its
    deadline.  `connect` is the eager way.  All methods belong to the reactor's thread.
    """

    @overload
    def __init__(
        self: ClusterClient[str],
        reactor: IReactorTime,
        url: str | None = None,
        *,
        encoding: str,
        **options: Unpack[ClientOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: ClusterClient[bytes],
        reactor: IReactorTime,
        url: str | None = None,
        *,
        encoding: None = None,
        **options: Unpack[ClientOptions],
    ) -> None: ...

    def __init__(self, reactor: IReactorTime, url: str | None = None, **options: Any) -> None:
        """``url`` as `Options.from_url` reads it, or ``seeds`` as ``"host:port,..."``; every option as a keyword."""
        if isinstance(reactor, (str, bytes)):
            raise TypeError("the reactor comes first, as in connect(reactor, url); it is in twisted.internet")
        check_names(options)
        self.options = Options.from_url(url, **options) if url is not None else Options(**options)
        if not self.options.seeds:
            raise ValueError("no seeds: give a URL or seeds")
        self._listeners: list[Callable[[Event], object]] = []
        # The reactor knows the router: it must not keep a client alive that nobody else knows any more.
        emit = WeakMethod(self._emit)
        self._router = Router(reactor, self.options, lambda event: (emit() or _to_nobody)(event))
        self._closing: Deferred[None] | None = None

    def __del__(self) -> None:
        if "_closing" in vars(self) and self._closing is None and self._router.connected:
            warnings.warn(f"{self!r} was dropped without close() or abort()", ResourceWarning, 2, self)

    def __repr__(self) -> str:
        return f"<ClusterClient {', '.join(map(str, self.options.seeds))} {self._router!r}>"

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Deferred[Any]:
        return self._router.execute(words, convert)

    @property
    def topology(self) -> Topology:
        """The slot map in force; version 0, without nodes, before the first one."""
        return self._router.topology

    @property
    def statistics(self) -> Statistics:
        """A copy of what has been counted so far."""
        return replace(self._router.statistics)

    @property
    def commands(self) -> CommandTable:
        """What the commands mean; ``extend`` adds those of a module."""
        return self._router.commands

    def execute(self, *args: Arg, timeout: float | None = DEFAULT, repeatable: bool = False) -> Deferred[Any]:
        """Send a command to the node its keys live on; one without keys goes where its policy says, or to any primary.

        The reply is as the server gave it; replies of several nodes are put together as the policy says.

        ``timeout`` in seconds replaces the option of that name.  ``repeatable`` declares that running this command
        twice does no harm, so that it is sent again when its reply was lost.

        Fails with ReplyError, PartialFailure, CommandTimeout, ConnectionLost, ProtocolError, TooManyPending,
        RoutingError, ClientClosed or TypeError; WAIT and WAITAOF also with WritesUnconfirmed or ConnectFailed.
        """
        return self._router.execute(args, None, timeout, repeatable)

    def with_options(
        self, *, timeout: float | None = DEFAULT, repeatable: bool = False, split_keys: bool | None = None
    ) -> ClusterClient[Text]:
        """The same client, with its connections and its map, whose methods have other defaults.

        ``timeout`` in seconds goes for all that it does.  With ``repeatable`` every command of its methods is sent
        again when its reply was lost.  ``split_keys`` replaces the option of that name for them; pipelines keep that.
        """
        options = replace(
            self.options,
            timeout=self._given(timeout),
            split_keys=self.options.split_keys if split_keys is None else split_keys,
        )
        return _View(self, options, repeatable)

    def _given(self, timeout: float | None) -> float | None:
        return self.options.timeout if timeout is DEFAULT else timeout

    def execute_on(self, node: Node | Address | str, *args: Arg, timeout: float | None = DEFAULT) -> Deferred[Any]:
        """Send a command to one node of `topology`, or at an address, as ``"host:port"``: no redirect, no repetition.

        Fails with ReplyError, CommandTimeout, ConnectionLost, ProtocolError, TooManyPending, RoutingError, ClientClosed
        or TypeError; with ConnectFailed, or one of its kinds, if it could not be connected to and nothing was sent.
        """
        return self._router.execute_on(node, args, self._given(timeout))

    def pipeline(self, *, timeout: float | None = DEFAULT) -> Pipeline[Text]:
        """Commands to be queued and sent together; ``timeout`` is that of each."""
        return Pipeline(self._router, self._given(timeout))

    def stream(
        self,
        commands: Iterable[Sequence[Arg]],
        each: Callable[[int, Any], object],
        *,
        timeout: float | None = DEFAULT,
    ) -> Deferred[int]:
        """Send commands as they come out of an iterable: as `Pipeline.stream`, which says more."""
        return self.pipeline(timeout=timeout).stream(commands, each)

    def transaction(self, *, timeout: float | None = DEFAULT) -> Transaction[Text]:
        """Commands to be queued and executed at once, on one slot."""
        return Transaction(self._router, self._given(timeout))

    def watch(self, *keys: Key, timeout: float | None = DEFAULT) -> WatchSession[Text]:
        """Keys of one slot under watch: ``async with client.watch("k") as session``.

        Raises RoutingError for keys in several slots.
        """
        return WatchSession(self._router, keys, self._given(timeout))

    def optimistically(
        self,
        function: Callable[[WatchSession[Text]], Awaitable[_T]],
        *keys: Key,
        attempts: int | None = None,
        timeout: float | None = DEFAULT,
    ) -> Deferred[_T]:
        """Run ``function`` with a session that watches ``keys``, anew as long as its transaction meets a WatchError.

        Fires with what it returns.  Fails with the WatchError of the last attempt when ``timeout`` seconds have passed
        (the option of that name; None is no limit), or after so many ``attempts``.
        """
        router = self._router
        patience = inf if (given := self._given(timeout)) is None else given
        return Deferred.fromCoroutine(
            optimistically(router.clock, self.options.random, lambda: self.watch(*keys), function, attempts, patience)
        )

    def script(self, source: str | bytes) -> Script[Text]:
        """A Lua script to be called with keys and arguments."""
        return Script(self, source, repeats=self.options.repeat_scripts)

    def function(self, name: str, library: str | bytes | None = None) -> Function[Text]:
        """A server's function to be called with keys and arguments; ``library`` is loaded where it is missing."""
        return Function(self, name, library, repeats=self.options.repeat_scripts)

    def scan_iter(
        self, match: Key | None = None, *, count: int | None = None, type: str | None = None
    ) -> AsyncIterator[Text]:
        """Every key of the cluster that is there from beginning to end, at least once, whatever moves meanwhile."""
        options = _scan_options(match, count) + (("TYPE", type) if type is not None else ())
        return KeyScan(self._router, options, self.options.timeout).keys()

    async def hscan_iter(
        self, key: Key, match: Key | None = None, *, count: int | None = None
    ) -> AsyncIterator[tuple[Text, Text]]:
        """Every field of a hash, with its value, at least once."""
        async for members in self._members("HSCAN", key, match, count):
            for item in converted(members, flat_pairs):
                yield item

    async def sscan_iter(self, key: Key, match: Key | None = None, *, count: int | None = None) -> AsyncIterator[Text]:
        """Every member of a set, at least once."""
        async for members in self._members("SSCAN", key, match, count):
            for member in members:
                yield member

    async def zscan_iter(
        self, key: Key, match: Key | None = None, *, count: int | None = None
    ) -> AsyncIterator[tuple[Text, float]]:
        """Every member of a sorted set, with its score, at least once."""
        async for members in self._members("ZSCAN", key, match, count):
            for item in converted(members, scored):
                yield item

    def _members(self, command: str, key: Key, match: Key | None, count: int | None) -> AsyncIterator[list[Any]]:
        return MemberScan(self._router, command, key, _scan_options(match, count), self.options.timeout).replies()

    def refresh_topology(self) -> Deferred[Topology]:
        """Fetch the slot map now; fires with the map in force, or fails with ClusterUnavailable or TopologyError."""
        refreshed: Deferred[Any] = self._router.refresh()
        return refreshed.addCallback(lambda _: self.topology)

    def primaries(self) -> Iterator[Node]:
        """Visit every primary of the current map once, also when the map changes between two steps."""
        return self._visit(lambda topology: topology.primaries)

    def nodes(self) -> Iterator[Node]:
        """Visit every node of the current map once, primaries first, also when the map changes between two steps."""
        return self._visit(lambda topology: topology.nodes)

    def _visit(self, of: Callable[[Topology], tuple[Node, ...]]) -> Iterator[Node]:
        seen: set[str] = set()
        topology = None
        while topology is not self.topology:
            topology = self.topology
            for node in of(topology):
                if node.id not in seen:
                    seen.add(node.id)
                    yield node
                    if topology is not self.topology:
                        break

    def add_listener(self, listener: Callable[[Event], object]) -> None:
        """Have every event handed to ``listener``; what it raises is logged and does no harm."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Callable[[Event], object]) -> None:
        """Undo `add_listener`.  Raises ValueError if it was not added."""
        self._listeners.remove(listener)

    def close(self) -> Deferred[None]:
        """Take no new commands; fires when the unanswered ones have ended and every socket is closed."""
        return self._end(self._router.close)

    def abort(self) -> Deferred[None]:
        """End every command and connection now; fires when every socket is closed."""
        return self._end(self._router.abort, again=True)

    def _end(self, how: Callable[[], Deferred[None]], *, again: bool = False) -> Deferred[None]:
        ended: Deferred[None] = Deferred()
        first = self._closing is None
        if self._closing is None:
            # In place before anything is ended, whose callbacks may end us again.
            self._closing = Deferred()
            self._closing.addCallback(lambda _: self._emit(Closed()))
        if first or again:
            gone: Deferred[Any] = how()
            if first:
                gone.chainDeferred(self._closing)

        def pass_on(result: Any) -> Any:
            ended.callback(None)
            return result

        self._closing.addCallback(pass_on)
        return ended

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _emit(self, event: Event) -> None:
        if isinstance(event, Closed):
            listeners, self._listeners = self._listeners, []
        else:
            listeners = list(self._listeners)
        for listener in listeners:
            try:
                listener(event)
            except BaseException:
                # SystemExit, too, must not keep the client from closing; the reactor itself does the same with it.
                _log.failure("a listener raised on {event}", event=event)


class _View(ClusterClient[Text]):
    """A client with other defaults."""

    def __init__(self, client: ClusterClient[Text], options: Options, repeatable: bool) -> None:
        self._client = client
        self.options = options
        self._router = client._router
        self._repeatable = repeatable
        self._terms = Terms(options.split_keys)

    def __repr__(self) -> str:
        return f"<view of {self._client!r} timeout={self.options.timeout} repeatable={self._repeatable}>"

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Deferred[Any]:
        return self._router.execute(words, convert, self.options.timeout, self._repeatable, self._terms)

    def execute(self, *args: Arg, timeout: float | None = DEFAULT, repeatable: bool = False) -> Deferred[Any]:
        return self._router.execute(args, None, self._given(timeout), repeatable or self._repeatable, self._terms)

    def add_listener(self, listener: Callable[[Event], object]) -> None:
        self._client.add_listener(listener)

    def remove_listener(self, listener: Callable[[Event], object]) -> None:
        self._client.remove_listener(listener)

    def close(self) -> Deferred[None]:
        """Close the whole client."""
        return self._client.close()

    def abort(self) -> Deferred[None]:
        """Abort the whole client."""
        return self._client.abort()


@overload
def connect(
    reactor: IReactorTime, url: str | None = None, *, encoding: str, **options: Unpack[ClientOptions]
) -> Deferred[ClusterClient[str]]: ...


@overload
def connect(
    reactor: IReactorTime, url: str | None = None, *, encoding: None = None, **options: Unpack[ClientOptions]
) -> Deferred[ClusterClient[bytes]]: ...


def connect(reactor: IReactorTime, url: str | None = None, **options: Any) -> Deferred[ClusterClient[Any]]:
    """Make a client and fetch the slot map.

    Fires with the client, or fails with one ClusterUnavailable that says what happened at each seed; bad options raise
    ValueError or TypeError at once.
    """
    return Deferred.fromCoroutine(_connect(ClusterClient(reactor, url, **options)))


def _to_nobody(event: Event) -> None:
    """In the place of a client that is no more."""


def _scan_options(match: Key | None, count: int | None) -> tuple[Arg, ...]:
    return (("MATCH", match) if match is not None else ()) + (("COUNT", count) if count is not None else ())


async def _connect(client: ClusterClient[Any]) -> ClusterClient[Any]:
    try:
        await client.refresh_topology()
    except BaseException:
        client.abort()
        raise
    return client
