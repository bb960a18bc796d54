"""The web site of the proxy: a status page, health checks and metrics.

- ``site``, ``page/``: the site and its page.  ``metrics``: the text for Prometheus.
- ``history``, ``cluster_watch``: what the proxy sees of the cluster.  ``status``: what the page shows.
"""
