"""A proxy: programs connect to it as to a single server, and it uses a cluster.

- ``tap``: the options of ``twistd valkey-proxy``.  ``settings``: all settings.  ``service``: the Twisted service.
- ``supervisor``, ``worker``, ``peers``: several processes.  ``listening``, ``mutual_tls``: endpoints and ports.
- ``snapshot``: what the proxy counts.  ``history``, ``watch``: what it sees of the cluster.  ``status``: both together.
- ``site``, ``metrics``, ``page/``: the web site with the status page.  ``json_log``: the log as JSON.
- ``server``: what all clients share.  ``session``: one client.
- ``request_framer``, ``inline``, ``numbers``: bytes of a client to requests.  ``replies``: values to bytes.
- ``handling``: starts a request.  ``dispatch``: what happens to each command.  ``upstream``: the way to the cluster.
  ``mget``: MGET over slots.
- ``transactions``: MULTI and WATCH.  ``blocking``, ``several_slots``, ``list_waits``: commands that block.
  ``subscriptions``: SUBSCRIBE.
- ``connection_commands``, ``server_commands``, ``clients``, ``info``, ``scans``: what the proxy answers itself.
- ``users``: the proxy's own users.
"""

from __future__ import annotations

from .service import ProxyService
from .settings import ProxySettings, SettingsError

__all__ = ["ProxyService", "ProxySettings", "SettingsError"]
