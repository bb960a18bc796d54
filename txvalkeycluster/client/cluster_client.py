"""`ClusterClient`, the object that an application uses, and `connect`, which makes one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, Unpack, overload
from weakref import WeakMethod

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from ..commands import CommandTable
from ..commands.converters import Convert
from ..commands.encoder import Arg
from ..commands.method_support import Text
from ..commands.methods import Commands
from ..errors import ClientClosed
from ..events import Closed, Event
from ..log import ClusterLog
from ..options import DEFAULT, ClientOptions, Options, options_of_client
from ..pubsub.hub import SubscriptionHub
from ..pubsub.methods import SubscriptionMethods
from ..relay.methods import RelayMethods
from ..requests.request import Call
from ..routing.planned_commands import Terms
from ..routing.router import Router
from ..statistics import Statistics
from .composite_methods import CompositeMethods
from .listener_methods import ListenerMethods
from .node_methods import NodeMethods
from .scan_methods import ScanMethods


class ClusterClient(
    CompositeMethods[Text],
    ScanMethods[Text],
    NodeMethods[Text],
    ListenerMethods[Text],
    Commands[Text],
    SubscriptionMethods[Text],
    RelayMethods,
):
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


async def _connect(client: ClusterClient[Any]) -> ClusterClient[Any]:
    try:
        await client.refresh_topology()
    except BaseException:
        client.abort()
        raise
    return client
