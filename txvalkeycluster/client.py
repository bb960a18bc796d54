"""`ClusterClient`, the object that an application uses, and `connect`, which makes one."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
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
from .errors import ClientClosed
from .events import Closed, Event
from .log import ClusterLog
from .options import DEFAULT, ClientOptions, Options, options_of_client
from .pipeline import Pipeline
from .pubsub.hub import SubscriptionHub
from .pubsub.methods import SubscriptionMethods
from .relay.methods import RelayMethods
from .requests.request import Call
from .routing.observation import CommandListener
from .routing.router import Router, Terms
from .scan import KeyScan, MemberScan
from .scripting import Function, Script
from .statistics import Statistics
from .topology.model import Node, Topology
from .transaction import Transaction, WatchSession, optimistically

_log = Logger()
_T = TypeVar("_T")


class ClusterClient(Commands[Text], SubscriptionMethods[Text], RelayMethods):
    """A client of one cluster.

    Every command is a method: ``get``, ``hset``, ``client_list``.  A method returns a Deferred that fires with the
    reply as a Python value, or fails with one of the errors that `execute` lists.

    A client that is made directly is lazy: it connects when the first command is issued, and this command waits for
    the slot map until its deadline.  `connect` fetches the slot map first.  ``async with client`` closes the client at
    the end of the block.

    Call all methods in the reactor's thread.

    Example:
        client = ClusterClient(reactor, "valkey://10.0.0.1:7000,10.0.0.2:7000", encoding="utf-8", timeout=2.0)
        await client.set("greeting", "hello", ex=60)
        print(await client.get("greeting"))
        await client.close()
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
        """Make a lazy client.

        Args:
            reactor: The Twisted reactor.
            url: ``valkey://user:password@host:port,host:port/db?option=value``; `Options.from_url` describes it.
                Without a URL, pass the option ``seeds``.
            **options: Every field of `Options` is a keyword.  A keyword overrides the same option in the URL.

        Raises:
            TypeError: There is no such option, an option has a wrong type, or the first argument is not a reactor.
            ValueError: The URL or the value of an option is not valid, or there are no seeds.
        """
        if isinstance(reactor, (str, bytes)):
            raise TypeError(
                "the first argument must be the reactor, as in connect(reactor, url); import it from twisted.internet"
            )
        self.options = options_of_client(url, options)
        self._listeners: list[Callable[[Event], object]] = []
        self._cluster_log = ClusterLog(reactor.seconds, self.options.client_name or str(self.options.seeds[0]))
        # The reactor refers to the router.  A weak reference lets an unused client be collected.
        emit = WeakMethod(self._emit)
        self._emit_weakly: Callable[[Event], None] = lambda event: (emit() or _ignore)(event)
        self._router = Router(reactor, self.options, self._emit_weakly)
        if self._router.executor is not None:
            # Without the calls of these methods, which take 5% of the time of a command.
            self._run = self._call = self._router.executor  # type: ignore[method-assign]
        self._closing: Deferred[None] | None = None
        # Made at the first subscription.
        self._hub: SubscriptionHub | None = None

    def __del__(self) -> None:
        if "_closing" in vars(self) and self._closing is None and self._router.connected:
            warnings.warn(f"{self!r} was garbage-collected without close() or abort()", ResourceWarning, 2, self)

    def __repr__(self) -> str:
        return f"<ClusterClient {', '.join(map(str, self.options.seeds))} {self._router!r}>"

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Deferred[Any]:
        return self._router.execute(words, convert)

    def _call(self, words: Sequence[Any], *, make: Callable[..., Call]) -> Deferred[Any]:
        """Send a command as `_run` does, by another kind of call: for the interfaces to asyncio and to threads."""
        return self._router.execute(words, make=make)

    @property
    def topology(self) -> Topology:
        """The current slot map, an immutable value.  Before the first one arrives: version 0, no nodes."""
        return self._router.topology

    @property
    def statistics(self) -> Statistics:
        """A copy of what the client has counted since it was made, in total and for each node."""
        return self._router.snapshot()

    @property
    def commands(self) -> CommandTable:
        """The table that says which arguments of a command are keys; its ``extend`` adds the commands of a module."""
        return self._router.commands

    def execute(self, *args: Arg, timeout: float | None = DEFAULT, repeatable: bool = False) -> Deferred[Any]:
        """Send any command, and return the reply as the server sent it.

        The command goes to the primary that owns the slot of its keys.  A command without keys goes where the server's
        request policy says (every primary, every node), else to any primary.  Replies of several nodes are combined as
        the response policy says.  Source of the policies: https://valkey.io/topics/command-tips

        The client follows redirects, and sends a command again if the server has not executed it.  docs/delivery.md
        lists what is sent again.

        Args:
            *args: The name of the command and its arguments.
            timeout: Seconds until the command fails with CommandTimeout, over all attempts.  None: no limit.  If not
                given, the option ``timeout`` applies.
            repeatable: True says that it does no harm to run this command twice.  The client then sends it again if
                the connection ended before the reply came.  Commands that only read are always sent again.

        Returns:
            A Deferred that fires with the reply: bytes, or str with the option ``encoding``; int, float, bool, None,
            or a list or dict of these.  It fails with the errors below; nothing is raised at the call.  If it is
            cancelled before the command is written, the command is not sent.

        Raises:
            ReplyError: The server replied with an error.
            PartialFailure: A command for several nodes or slots failed at some of them.
            CommandTimeout: The deadline passed.
            ConnectionLost: The connection ended before the reply, and the command is not safe to repeat.
            ProtocolError: The reply cannot be read, or is no possible reply to this command.
            TooManyPending: The node has too many unanswered commands or unsent bytes.  Nothing was sent.
            RoutingError: The command is refused, or has keys in several slots.  Nothing was sent.
            ClientClosed: The client is closed or aborted.
            TypeError: An argument has a type that cannot be sent.
            ValueError: A str argument is not valid Unicode, or an int is too large to write.
            WritesUnconfirmed: WAIT and WAITAOF only: a connection that carried writes was replaced.
            ConnectFailed: WAIT, WAITAOF and commands for every node only: a node cannot be connected to.

        Example:
            await client.execute("SET", "key", "value", "EX", 60)
            await client.execute("INCRBY", "views", 1, timeout=0.5)
        """
        return self._router.execute(args, None, timeout, repeatable)

    def with_options(
        self, *, timeout: float | None = DEFAULT, repeatable: bool = False, split_keys: bool | None = None
    ) -> ClusterClient[Text]:
        """Return a view of this client whose methods have other defaults.

        The view has the same connections, the same slot map and the same listeners.  Closing it closes the client.

        Args:
            timeout: Seconds for each command, in place of the option ``timeout``.  None: no limit.  It applies to
                everything that the view does: methods, pipelines, transactions, watch sessions and scans.
            repeatable: True sends every command of the view's methods again if the connection ended before the reply
                came, also a write.  Pipelines, transactions and watch sessions do not use it.
            split_keys: Replaces the option ``split_keys`` for the view's methods.  Pipelines do not use it.

        Returns:
            The view, a `ClusterClient`.

        Raises:
            ValueError: ``timeout`` is neither None nor above 0.

        Example:
            quick = client.with_options(timeout=0.5)
            await quick.get("key")
        """
        options = replace(
            self.options,
            timeout=self._given(timeout),
            split_keys=self.options.split_keys if split_keys is None else split_keys,
        )
        return _View(self, options, repeatable)

    def _subscriptions(self) -> SubscriptionHub:
        if self._hub is None:
            self._hub = SubscriptionHub(self._router, self.options, self._emit_weakly)
            if self._closing is not None:
                self._hub.close(ClientClosed("the client is closed"))
        return self._hub

    def _given(self, timeout: float | None) -> float | None:
        return self.options.timeout if timeout is DEFAULT else timeout

    def execute_on(self, node: Node | Address | str, *args: Arg, timeout: float | None = DEFAULT) -> Deferred[Any]:
        """Send a command to one node, once: no redirect is followed, nothing is sent again.

        Args:
            node: A node of `topology`, an `Address`, or ``"host:port"``.
            *args: The name of the command and its arguments.
            timeout: Seconds until the command fails with CommandTimeout.  None: no limit.  If not given, the option
                ``timeout`` applies.

        Returns:
            A Deferred that fires with the reply as the server sent it.  It fails with the errors below; nothing is
            raised at the call.

        Raises:
            ReplyError: The server replied with an error, which can be a redirect.
            ConnectFailed: The node cannot be connected to.  Nothing was sent.  AuthenticationFailed and TLSFailed are
                kinds of it.
            CommandTimeout: The deadline passed.
            ConnectionLost: The connection ended before the reply.
            ProtocolError: The reply cannot be read, or is no possible reply to this command.
            TooManyPending: The node has too many unanswered commands or unsent bytes.  Nothing was sent.
            RoutingError: The command is refused, or the node has no address.  Nothing was sent.
            ClientClosed: The client is closed or aborted.
            TypeError: An argument has a type that cannot be sent, or ``node`` is none of the three.
            ValueError: ``node`` is text that is not an address.
            WritesUnconfirmed: WAIT and WAITAOF only: a connection that carried writes was replaced.

        Example:
            for node in client.nodes():
                await client.execute_on(node, "CLIENT", "LIST")
        """
        return self._router.execute_on(node, args, self._given(timeout))

    def pipeline(self, *, timeout: float | None = DEFAULT) -> Pipeline[Text]:
        """Return a queue of commands that are sent together.  They can have keys in any slots.

        Args:
            timeout: Seconds for each command.  None: no limit.  If not given, the option ``timeout`` applies.

        Returns:
            A `Pipeline`.  It has the client's methods; each queues its command and returns the pipeline.

        Example:
            visits, page = await client.pipeline().incr("visits").get("page").execute()
        """
        return Pipeline(self._router, self._given(timeout))

    def stream(
        self,
        commands: Iterable[Sequence[Arg]],
        each: Callable[[int, Any], object],
        *,
        timeout: float | None = DEFAULT,
    ) -> Deferred[int]:
        """Send the commands of an iterable, and give each result to a function.

        The same as ``client.pipeline(timeout=timeout).stream(commands, each)``; see `Pipeline.stream`.

        Args:
            commands: Commands, each a sequence of the name and the arguments.  The client takes them only as fast as
                it can send them, so millions need little memory.
            each: Called with the index of a command, from 0, and its reply or error.
            timeout: Seconds for each command.  None: no limit.  If not given, the option ``timeout`` applies.

        Returns:
            A Deferred that fires with the number of commands.  It fails as `Pipeline.stream` does.

        Example:
            def each(index, result):
                if isinstance(result, Exception):
                    failed.append((index, result))

            count = await client.stream((("SET", f"key:{n}", n) for n in range(1_000_000)), each)
        """
        return self.pipeline(timeout=timeout).stream(commands, each)

    def transaction(self, *, timeout: float | None = DEFAULT) -> Transaction[Text]:
        """Return a queue of commands that the server executes as one transaction (MULTI, EXEC).

        All keys must be in one slot; a common ``{hash tag}`` puts them there.
        Source: https://valkey.io/topics/transactions

        Args:
            timeout: Seconds for the whole transaction.  None: no limit.  If not given, the option ``timeout`` applies.

        Returns:
            A `Transaction`.  It has the client's methods; each queues its command and returns the transaction.

        Example:
            items, length = await client.transaction().incr("{cart}items").rpush("{cart}list", "apple").execute()
        """
        return Transaction(self._router, self._given(timeout))

    def watch(self, *keys: Key, timeout: float | None = DEFAULT) -> WatchSession[Text]:
        """Return a session that watches keys (WATCH), for a transaction that depends on what they hold.

        Use the session with ``async with``.  It has a connection of its own.  `optimistically` repeats such a session
        until its transaction succeeds.

        Args:
            *keys: At least one key; all of them in one slot.
            timeout: Seconds for each command of the session.  None: no limit.  If not given, the option ``timeout``
                applies.

        Returns:
            A `WatchSession`.

        Raises:
            RoutingError: The keys are in several slots.
            ValueError: There is no key.

        Example:
            async with client.watch("stock") as session:
                left = int(await session.get("stock"))
                if left:
                    await session.transaction().set("stock", left - 1).execute()
        """
        return WatchSession(self._router, keys, self._given(timeout))

    def optimistically(
        self,
        function: Callable[[WatchSession[Text]], Awaitable[_T]],
        *keys: Key,
        attempts: int | None = None,
        timeout: float | None = DEFAULT,
    ) -> Deferred[_T]:
        """Run a function with a session that watches keys; run it again while it fails with WatchError.

        Between attempts there is a random pause of at most 60 ms.

        Args:
            function: An async function.  It is called with a new `WatchSession` for each attempt, and should end with
                a transaction of this session.
            *keys: At least one key; all of them in one slot.
            attempts: How many times to run the function at most.  None: no limit.
            timeout: Seconds after which no new attempt begins.  None: no limit.  If not given, the option ``timeout``
                applies.

        Returns:
            A Deferred that fires with what the function returns.  It fails with the errors below, and with any other
            error of the function or of the session, which ends the attempts.

        Raises:
            WatchError: Every attempt failed with it; this is the error of the last attempt.
            ValueError: There is no key, or ``attempts`` is below 1.
            RoutingError: The keys are in several slots.

        Example:
            async def take_one(session):
                left = int(await session.get("stock"))
                return await session.transaction().set("stock", left - 1).execute()

            await client.optimistically(take_one, "stock")
        """
        router = self._router
        patience = self._given(timeout)
        return Deferred.fromCoroutine(
            optimistically(router.clock, self.options.random, lambda: self.watch(*keys), function, attempts, patience)
        )

    def script(self, source: str | bytes) -> Script[Text]:
        """Return a Lua script as a callable.

        The client sends the SHA-1 of the script, and the whole script only to a node that does not have it.
        Source: https://valkey.io/topics/eval-intro

        Args:
            source: The Lua code.

        Returns:
            A `Script`.  A call runs it on the node of its keys, and returns a Deferred.

        Example:
            greet = client.script("return ARGV[1] .. KEYS[1]")
            print(await greet("world", ["hello "]))
        """
        return Script(self, source, repeats=self.options.repeat_scripts)

    def function(self, name: str, library: str | bytes | None = None) -> Function[Text]:
        """Return a server-side function as a callable.

        Source: https://valkey.io/topics/functions-intro

        Args:
            name: The name of the function.
            library: The code of the library that holds it.  If a node does not have the function, the client loads the
                library into every primary, and calls the function again.  None: nothing is loaded.

        Returns:
            A `Function`.  A call runs it on the node of its keys, and returns a Deferred.

        Example:
            add = client.function("add", Path("lib.lua").read_text())
            print(await add("counter", [5]))
        """
        return Function(self, name, library, repeats=self.options.repeat_scripts)

    def scan_iter(
        self, match: Key | None = None, *, count: int | None = None, type: str | None = None
    ) -> AsyncIterator[Text]:
        """Iterate over the keys of the whole cluster.

        Every key that exists from the beginning to the end is given at least once, also if slots move or a primary
        fails over meanwhile.  A key can be given more than once.  docs/scans.md describes the one case
        that the client cannot see.

        Args:
            match: A glob pattern that the keys must match, such as ``"user:*"``.
            count: How many keys the server looks at in one step; a hint.  The server's default is 10.
            type: The type that the values must have, such as ``"hash"``.

        Returns:
            An asynchronous iterator over the keys: bytes, or str with the option ``encoding``.

        Raises:
            CommandTimeout: No slot was scanned completely for ``timeout`` seconds (the option).
            ReplyError: A server refused a command.  The user needs the rights to SCAN and CLUSTER NODES.
            ProtocolError: A reply to SCAN is not a cursor and keys.
            ClientClosed: The client is closed or aborted.

        Example:
            async for key in client.scan_iter("session:*", count=1000):
                await client.unlink(key)
        """
        options = _scan_options(match, count) + (("TYPE", type) if type is not None else ())
        return KeyScan(self._router, options, self.options.timeout).keys()

    async def hscan_iter(
        self, key: Key, match: Key | None = None, *, count: int | None = None
    ) -> AsyncIterator[tuple[Text, Text]]:
        """Iterate over the fields of a hash with their values.

        All that exist from the beginning to the end are given at least once.  If the slot moves or the connection is
        replaced, the scan starts again, and some are given twice.
        Source: https://valkey.io/commands/hscan/

        Args:
            key: The key.
            match: A glob pattern that the fields must match.
            count: How many fields the server looks at in one step; a hint.  The server's default is 10.

        Yields:
            The pairs of field and value.

        Raises:
            ReplyError: The key holds another type, or the server refused the command.
            ProtocolError: The reply is not a cursor and a list.
            CommandTimeout: One step took longer than the option ``timeout``.
            ClientClosed: The client is closed or aborted.
        """
        async for members in self._members("HSCAN", key, match, count):
            for item in converted(members, flat_pairs):
                yield item

    async def sscan_iter(self, key: Key, match: Key | None = None, *, count: int | None = None) -> AsyncIterator[Text]:
        """Iterate over the members of a set.

        All that exist from the beginning to the end are given at least once.  If the slot moves or the connection is
        replaced, the scan starts again, and some are given twice.
        Source: https://valkey.io/commands/sscan/

        Args:
            key: The key.
            match: A glob pattern that the members must match.
            count: How many members the server looks at in one step; a hint.  The server's default is 10.

        Yields:
            The members.

        Raises:
            ReplyError: The key holds another type, or the server refused the command.
            ProtocolError: The reply is not a cursor and a list.
            CommandTimeout: One step took longer than the option ``timeout``.
            ClientClosed: The client is closed or aborted.
        """
        async for members in self._members("SSCAN", key, match, count):
            for member in members:
                yield member

    async def zscan_iter(
        self, key: Key, match: Key | None = None, *, count: int | None = None
    ) -> AsyncIterator[tuple[Text, float]]:
        """Iterate over the members of a sorted set with their scores.

        All that exist from the beginning to the end are given at least once.  If the slot moves or the connection is
        replaced, the scan starts again, and some are given twice.
        Source: https://valkey.io/commands/zscan/

        Args:
            key: The key.
            match: A glob pattern that the members must match.
            count: How many members the server looks at in one step; a hint.  The server's default is 10.

        Yields:
            The pairs of member and score.

        Raises:
            ReplyError: The key holds another type, or the server refused the command.
            ProtocolError: The reply is not a cursor and a list.
            CommandTimeout: One step took longer than the option ``timeout``.
            ClientClosed: The client is closed or aborted.
        """
        async for members in self._members("ZSCAN", key, match, count):
            for item in converted(members, scored):
                yield item

    def _members(self, command: str, key: Key, match: Key | None, count: int | None) -> AsyncIterator[list[Any]]:
        return MemberScan(self._router, command, key, _scan_options(match, count), self.options.timeout).replies()

    def refresh_topology(self) -> Deferred[Topology]:
        """Fetch the slot map now.

        A program needs this only if it has changed the cluster itself: the client refreshes the map when needed.

        Returns:
            A Deferred that fires with the new `Topology`, or fails with one of the errors below.

        Raises:
            ClusterUnavailable: No node gave a slot map that can be used; ``attempts`` has the reason of each.
            TopologyError: A slot map lacks most of the known nodes, and another node gave a different one.
            ClientClosed: The client is closed or aborted.
        """
        refreshed: Deferred[Any] = self._router.refresh()
        return refreshed.addCallback(lambda _: self.topology)

    def reauthenticate(self) -> Deferred[None]:
        """Log in again on every open connection, with the current credentials.

        Call it when the password has changed and the option ``credentials`` did not say when that would be.  Commands
        go on meanwhile.  Connections of blocking commands and of watch sessions log in when they become free.  With
        RESP2, the connections of subscriptions are replaced, and the subscriptions report the gap.

        Returns:
            A Deferred that fires with None when every connection that is free has logged in.  It fails with the first
            of the errors below, after all have tried; the connections keep their old login, and the client tries again.

        Raises:
            AuthenticationFailed: A server refused the credentials, or the function gave none.
            CommandTimeout: A server did not answer within ``connect_timeout``.
        """
        return self._router.factory.log_in_again()

    def reload_tls(self) -> None:
        """Read the files of ``trust_root``, ``client_certificate`` and ``client_key`` again, for new connections.

        The client does this by itself when it connects and the files have changed.  Without TLS, or if the options are
        not paths, nothing happens.

        Raises:
            ValueError: A file cannot be used.  New connections use what was read before.
        """
        if self._router.factory.tls is not None:
            self._router.factory.tls.reload()

    def primaries(self) -> Iterator[Node]:
        """Iterate over the primaries of the slot map.

        If the map changes meanwhile, the iteration goes on with the new map.  It gives no node twice.
        """
        return self._visit(lambda topology: topology.primaries)

    def nodes(self) -> Iterator[Node]:
        """Iterate over the nodes of the slot map, primaries first.

        If the map changes meanwhile, the iteration goes on with the new map.  It gives no node twice.
        """
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
        """Call a function with every event of the client, from now on.

        Args:
            listener: Called with one event (`Event` lists the kinds).  It should return quickly, since commands wait
                meanwhile.  An exception that it raises is logged.

        Example:
            client.add_listener(lambda event: print(event))
        """
        self._listeners.append(listener)

    def remove_listener(self, listener: Callable[[Event], object]) -> None:
        """Stop calling a listener.

        Args:
            listener: A function that was given to `add_listener`.

        Raises:
            ValueError: The listener was not added, is removed already, or the client has closed.
        """
        self._listeners.remove(listener)

    def add_command_listener(self, listener: CommandListener) -> None:
        """Call a function with every command that is called from now on, when it has ended; for metrics and traces.

        A pipeline and a transaction are one command each.  Commands of the client itself are not reported.  As long as
        there is no such listener, it costs nothing.

        Args:
            listener: Called with one `FinishedCommand`, before the caller of the command gets the result.  It must
                return quickly: it is part of the time of every command.  An exception that it raises is logged.

        Example:
            def slow(finished):
                if finished.seconds > 0.1:
                    print(finished.name, finished.node, finished.seconds)

            client.add_command_listener(slow)
        """
        self._router.observe(listener)

    def remove_command_listener(self, listener: CommandListener) -> None:
        """Stop calling a listener of commands.

        Args:
            listener: A function that was given to `add_command_listener`.

        Raises:
            ValueError: The listener was not added, or is removed already.
        """
        self._router.stop_observing(listener)

    def close(self) -> Deferred[None]:
        """Close the client after all commands have ended.

        New commands fail with ClientClosed.  Commands that are under way go on until their reply or their deadline;
        blocking commands end as if their time were up.  To end everything at once, call `abort`.

        Returns:
            A Deferred that fires with None when every command has ended and every socket is closed.  It does not fail.
        """
        self._router.factory.thread.check()
        self._end_subscriptions("the client is closed")
        return self._end(self._router.close)

    def abort(self) -> Deferred[None]:
        """Close every connection now; unanswered commands fail with ClientClosed.

        It may be called after `close`, to end what is still under way.

        Returns:
            A Deferred that fires with None when every socket is closed.  It does not fail.
        """
        self._router.factory.thread.check()
        self._end_subscriptions("the client was aborted")
        return self._end(self._router.abort, again=True)

    def _end_subscriptions(self, why: str) -> None:
        if self._hub is not None:
            self._hub.close(ClientClosed(why))

    def _end(self, how: Callable[[], Deferred[None]], *, again: bool = False) -> Deferred[None]:
        ended: Deferred[None] = Deferred()
        first = self._closing is None
        if self._closing is None:
            # Set first: a callback of a command that ends now may call close() or abort() again.
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
            listeners = [*([self._cluster_log.note] if self.options.log else []), *self._listeners]
        for listener in listeners:
            try:
                listener(event)
            except BaseException:
                # SystemExit too must not prevent the client from closing.  The reactor also logs it and goes on.
                # Without the content of the event: channels can be secret.
                _log.failure("a listener raised an exception for {event}", event=type(event).__name__)


class _View(ClusterClient[Text]):
    """A client with other defaults; made by `ClusterClient.with_options`."""

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

    def _call(self, words: Sequence[Any], *, make: Callable[..., Call]) -> Deferred[Any]:
        return self._router.execute(words, None, self.options.timeout, self._repeatable, self._terms, make)

    def execute(self, *args: Arg, timeout: float | None = DEFAULT, repeatable: bool = False) -> Deferred[Any]:
        return self._router.execute(args, None, self._given(timeout), repeatable or self._repeatable, self._terms)

    def _subscriptions(self) -> SubscriptionHub:
        return self._client._subscriptions()

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

    Every seed is asked once, until one gives a slot map.

    Args:
        reactor: The Twisted reactor.
        url: ``valkey://user:password@host:port,host:port/db?option=value``; `Options.from_url` describes it.  Without
            a URL, pass the option ``seeds``.
        **options: Every field of `Options` is a keyword.  A keyword overrides the same option in the URL.

    Returns:
        A Deferred that fires with a `ClusterClient`.  It fails with ClusterUnavailable if no seed gave a slot map that
        can be used; the text and ``attempts`` have the reason of each seed.

    Raises:
        TypeError: At the call: there is no such option, an option has a wrong type, or the first argument is not a
            reactor.
        ValueError: At the call: the URL or the value of an option is not valid, or there are no seeds.

    Example:
        client = await connect(reactor, "valkeys://app:secret@10.0.0.1:7300", trust_root="ca.pem")
    """
    return Deferred.fromCoroutine(_connect(ClusterClient(reactor, url, **options)))


def _ignore(event: Event) -> None:
    """Take the events of a client that was garbage-collected."""


def _scan_options(match: Key | None, count: int | None) -> tuple[Arg, ...]:
    return (("MATCH", match) if match is not None else ()) + (("COUNT", count) if count is not None else ())


async def _connect(client: ClusterClient[Any]) -> ClusterClient[Any]:
    try:
        await client.refresh_topology()
    except BaseException:
        client.abort()
        raise
    return client
