"""`Website`: the port of the web site of a service.  It stays open until the service has stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint

from ..settings import ProxySettings
from .listening import close_ports, endpoint_of

if TYPE_CHECKING:
    from ..web.site import ProxySite
    from ..web.status import Source


class Website:
    """The web site of a service, if the settings have one."""

    def __init__(self, reactor: Any, settings: ProxySettings, source: Source) -> None:
        """Make a site that is not open.

        Args:
            reactor: The reactor.
            settings: The settings.
            source: What it shows.

        Raises:
            SettingsError: The endpoint is not valid.
        """
        self._description = settings.metrics
        self._endpoint = metrics_endpoint(reactor, settings)
        self._source = source
        self._site: ProxySite | None = None
        self._port: IListeningPort | None = None

    def open(self) -> list[tuple[str, Deferred[IListeningPort]]]:
        """Begin to listen.

        Returns:
            What `open_ports` needs to know; nothing if there is no site.
        """
        if self._endpoint is None:
            return []
        from ..web.site import ProxySite

        self._site = ProxySite(self._source)
        return [(self._description, self._endpoint.listen(self._site).addCallback(self._opened))]

    def _opened(self, port: IListeningPort) -> IListeningPort:
        self._port = port
        return port

    def others(self, ports: Sequence[IListeningPort]) -> list[IListeningPort]:
        """Return the ports that are not that of the site: it tells until the end that the proxy stops."""
        return [port for port in ports if port is not self._port]

    async def close(self) -> None:
        """Close the port and all connections."""
        if self._port is not None:
            await close_ports([self._port])
            self._port = None
        if self._site is not None:
            self._site.end()
            self._site = None


def metrics_endpoint(reactor: Any, settings: ProxySettings) -> IStreamServerEndpoint | None:
    """Make the endpoint of the web site; None if there is none.

    Raises:
        SettingsError: The endpoint is not valid.
    """
    return endpoint_of(reactor, "metrics", settings.metrics) if settings.metrics else None
