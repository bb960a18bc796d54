"""The object that an application uses.

- ``cluster_client``: `ClusterClient`, with ``execute``, views and the end of a client; `connect`, which makes one.
- ``composite_methods``, ``scan_methods``, ``node_methods``, ``listener_methods``: its other methods by subject.  Those
  of single commands are in ``commands``, those of subscriptions in ``pubsub``, those for proxies in ``relay``.
- ``base``: what all of them share.
"""

from .cluster_client import ClusterClient, connect

__all__ = ["ClusterClient", "connect"]
