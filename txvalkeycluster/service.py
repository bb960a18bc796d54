"""`ClusterService`: a client that starts and stops with a Twisted application."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, Unpack, overload

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from .client import ClusterClient
from .errors import ClientClosed, ClusterUnavailable, TopologyError
from .options import ClientOptions

_log = Logger()
_Text = TypeVar("_Text", bound=bytes | str)


class ClusterService(MultiService, Generic[_Text]):
    """A service that owns a `ClusterClient`.

    It connects when it starts, and goes on trying for as long as the cluster cannot be reached.  When it stops, it lets
    the commands that are under way end.

    Any number of services can use its client.  Those that still need it while they stop must be its children
    (``worker.setServiceParent(cluster)``): it starts them after itself, and closes the client only when their
    ``stopService`` has ended.  The services of a plain MultiService all stop at the same time.

    Example:
        application = Application("counter")
        cluster = ClusterService(reactor, "valkey://10.0.0.1:7000,10.0.0.2:7000", encoding="utf-8")
        cluster.setServiceParent(application)
    """

    @overload
    def __init__(
        self: ClusterService[str],
        reactor: IReactorTime,
        url: str | None = None,
        *,
        stop_timeout: float = 10.0,
        encoding: str,
        **options: Unpack[ClientOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: ClusterService[bytes],
        reactor: IReactorTime,
        url: str | None = None,
        *,
        stop_timeout: float = 10.0,
        encoding: None = None,
        **options: Unpack[ClientOptions],
    ) -> None: ...

    def __init__(
        self, reactor: IReactorTime, url: str | None = None, *, stop_timeout: float = 10.0, **options: Any
    ) -> None:
        """Make the service with its first client, which does not connect yet.

        Args:
            reactor: The Twisted reactor.
            url: As for `connect`.
            stop_timeout: How long its children and the commands may take to end after the service was told to stop,
                in seconds.  Then the client is aborted.
            **options: Every field of `Options` is a keyword.

        Raises:
            TypeError: As for `ClusterClient`.
            ValueError: As for `ClusterClient`, or ``stop_timeout`` is below 0.
        """
        if not stop_timeout >= 0:
            raise ValueError(f"stop_timeout is {stop_timeout!r}; it must be at least 0")
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._make = lambda: ClusterClient[Any](reactor, url, **options)
        self._stop_timeout = stop_timeout
        self._client: ClusterClient[Any] = self._make()  # type: ignore[no-untyped-call]
        self._used = False
        self._connecting: Deferred[None] | None = None
        self._ready = False
        self._waiters: list[Deferred[ClusterClient[_Text]]] = []

    def __repr__(self) -> str:
        state = "ready" if self._ready else "connecting" if self.running else "stopped"
        return f"<ClusterService {state} {self._client!r}>"

    @property
    def client(self) -> ClusterClient[_Text]:
        """The client.

        It is usable from the beginning: a command waits until the cluster can be reached, or its deadline passes.  A
        service that is started again has a new client, so do not keep the client for longer than one use.
        """
        return self._client

    def whenReady(self) -> Deferred[ClusterClient[_Text]]:
        """Wait until the client knows the cluster.

        Returns:
            A Deferred that fires with the client when it has a slot map; at once if it has one.  It fails with
            ClientClosed if the service is stopped before.
        """
        if self._ready:
            return succeed(self._client)
        if self._used and not self.running:
            return fail(ClientClosed("the service is stopped"))
        waiter: Deferred[ClusterClient[_Text]] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    def startService(self) -> None:
        """Begin to connect, and start the children.  It does not fail if the cluster cannot be reached."""
        if self.running:
            return
        if self._used:
            self._client = self._make()  # type: ignore[no-untyped-call]
        self._used = True
        self._connecting = Deferred.fromCoroutine(self._connect(self._client))
        self._connecting.addErrback(_expect_the_end)
        super().startService()  # type: ignore[no-untyped-call]

    async def _connect(self, client: ClusterClient[Any]) -> None:
        failures = 0
        while True:
            try:
                await client.refresh_topology()
                break
            except (ClusterUnavailable, TopologyError):
                # The client has logged it.
                failures += 1
            await deferLater(self._reactor, client.options.backoff(failures))
        self._ready = True
        # A waiter may stop the service.
        while self._ready and self._waiters:
            self._waiters.pop(0).callback(client)

    def stopService(self) -> Deferred[None]:
        """Stop the children, then close the client; abort it if that takes longer than ``stop_timeout``.

        Returns:
            A Deferred that fires with None when the children have stopped, every command has ended and every socket is
            closed.  After ``stop_timeout`` it does not wait for the children.
        """
        self._used, self._ready = True, False
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        waiters, self._waiters = self._waiters, []
        stopped: Deferred[Any] = super().stopService()  # type: ignore[no-untyped-call]
        ended = Deferred.fromCoroutine(self._end(self._client, stopped))
        for waiter in waiters:
            waiter.errback(ClientClosed("the service was stopped"))
        return ended

    async def _end(self, client: ClusterClient[Any], children: Deferred[Any]) -> None:
        late: Deferred[None] = Deferred()

        def too_late() -> None:
            _log.warn(
                "the service has not stopped within {seconds:g} s, and its client is aborted: {pending} commands wait, "
                "and the child services have {children}",
                seconds=self._stop_timeout,
                pending=client.statistics.pending,
                children="stopped" if children.called else "not stopped",
            )
            client.abort()
            late.callback(None)

        limit = self._reactor.callLater(self._stop_timeout, too_late)
        await DeferredList([children, late], fireOnOneCallback=True)
        await client.close()
        if limit.active():
            limit.cancel()


def _expect_the_end(failure: Failure) -> None:
    """Ignore that the service was stopped, or the client was closed by the application."""
    failure.trap(CancelledError, ClientClosed)  # type: ignore[no-untyped-call]
