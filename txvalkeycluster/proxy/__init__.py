"""A proxy: programs connect to it as to a single server, and it uses a cluster.

- ``server``: what all clients share.  ``upstream``: the way to the cluster.
- ``session``: one client, from its requests to its replies; ``client_state``: its login, modes and transaction;
  ``client_connection``: its transport.
- ``request_framer``, ``inline``, ``numbers``: bytes of a client to requests.  ``replies``: values to bytes.
- ``poller``: reads from the clients in place of the reactor.
- ``commands/``: what the proxy does with each command.
- ``process/``: the service, the plugin of twistd, several processes.  ``settings``: all settings.
- ``web/``: the status page and metrics.  ``snapshot``: what the proxy counts.
- ``users``: the proxy's own users.  ``slowlog``: the slow requests.
"""

from __future__ import annotations

from .process.service import ProxyService
from .settings import ProxySettings, SettingsError

__all__ = ["ProxyService", "ProxySettings", "SettingsError"]
