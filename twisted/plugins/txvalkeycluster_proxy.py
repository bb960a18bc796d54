"""The plugin ``valkey-proxy`` of twistd."""

from twisted.application.service import ServiceMaker

valkey_proxy = ServiceMaker(
    "valkey-proxy",
    "txvalkeycluster.proxy.tap",
    "A proxy that lets any program use a Valkey cluster as a single server.",
    "valkey-proxy",
)
