"""`ProxyService`: a proxy as a Twisted service."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from .server import ProxyServer
from .settings import ProxySettings

_log = Logger()


class ProxyService(Service):
    """A proxy that starts and stops with a Twisted application.

    Example:
        application = Application("proxy")
        ProxyService(reactor, ProxySettings(cluster="valkey://10.0.0.1:7000")).setServiceParent(application)
    """

    def __init__(self, reactor: Any, settings: ProxySettings) -> None:
        """Make a proxy that does not listen yet.

        Args:
            reactor: The Twisted reactor.
            settings: The settings.

        Raises:
            ValueError: An endpoint or the file of users is not valid.
            OSError: The file of users cannot be read.
        """
        self._reactor = reactor
        self._settings = settings
        self._endpoints = [serverFromString(reactor, each) for each in settings.listen]  # type: ignore[no-untyped-call]
        self.server = ProxyServer(reactor, settings)
        #: The ports that are open.
        self.ports: list[IListeningPort] = []
        self._starting: Deferred[Any] | None = None

    def privilegedStartService(self) -> None:
        """Open the ports, as root if there are privileges."""
        self._listen()

    def startService(self) -> None:
        """Open the ports, and connect to the cluster."""
        if self.running:
            return
        super().startService()  # type: ignore[no-untyped-call]
        self._listen()
        self.server.start()

    def _listen(self) -> None:
        if self._starting is None:
            listening = [endpoint.listen(self.server) for endpoint in self._endpoints]
            self._starting = DeferredList([each.addCallbacks(self._opened, self._failed) for each in listening])

    def whenListening(self) -> Deferred[list[IListeningPort]]:
        """Return a Deferred that fires with the open ports when every endpoint is open or has failed."""
        assert self._starting is not None
        waiter: Deferred[Any] = Deferred()
        self._starting.chainDeferred(waiter)
        return waiter.addCallback(lambda _: self.ports)

    def _opened(self, port: IListeningPort) -> None:
        self.ports.append(port)

    def _failed(self, failure: Any) -> None:
        _log.failure("the proxy cannot listen", failure)
        self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Close the ports, let the requests of the clients end, and disconnect.

        Returns:
            A Deferred that fires with None when everything has ended, at the latest after ``stop_timeout``.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        ports, self.ports = self.ports, []
        self._starting = None
        await DeferredList([Deferred.fromCoroutine(_close(port)) for port in ports])
        late: Deferred[None] = Deferred()
        limit = self._reactor.callLater(self._settings.stop_timeout, late.callback, None)
        await DeferredList([self.server.stop(), late], fireOnOneCallback=True)
        if limit.active():
            limit.cancel()
        else:
            self.server.abort()
        await self.server.close()


async def _close(port: Any) -> None:
    await port.stopListening()
