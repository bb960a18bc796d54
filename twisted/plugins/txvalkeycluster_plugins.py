"""The plugin ``valkey-proxy`` of twistd, the endpoint ``mtls`` that it can listen on, and a reactor for Linux.

Twisted imports this file in every program that looks for plugins, so it imports nothing of the package.
"""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer

valkey_proxy = ServiceMaker(
    "valkey-proxy",
    "txvalkeycluster.proxy.process.tap",
    "A proxy that lets any program use a Valkey cluster as a single server.",
    "valkey-proxy",
)
valkey_epoll = Reactor(
    "valkey-epoll",
    "txvalkeycluster.epollreactor",
    "Twisted's epoll reactor, but it reads from TCP connections with less work (Linux).",
)


@implementer(IPlugin, IStreamServerEndpointStringParser)
class _MutualTLS:
    prefix = "mtls"

    def parseStreamServer(self, reactor, *args, **options):  # type: ignore[no-untyped-def]
        from txvalkeycluster.proxy.process.mutual_tls import mutual_tls_endpoint

        return mutual_tls_endpoint(reactor, *args, **options)


mutual_tls = _MutualTLS()
