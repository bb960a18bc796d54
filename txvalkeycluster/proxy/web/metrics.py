"""The metrics of a proxy as text for Prometheus.

It needs the package prometheus_client: ``pip install 'txvalkeycluster[prometheus]'``.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from ..snapshot import BUCKETS, Snapshot

#: The value of the header Content-Type.
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_PREFIX = "valkey_proxy_"
_COUNTERS = {
    "clients_accepted": "Clients that were accepted.",
    "clients_refused": "Clients that were refused, because there were too many.",
    "clients_cut": "Clients that the proxy has disconnected.",
    "elements_lost": "Elements that were taken for a client that left in the same moment.",
    "subscription_gaps": "Gaps of clients' subscriptions, in which messages may be missing.",
    "logins_refused": "Logins with a wrong user or password.",
    "requests": "Requests of clients.",
    "requests_slow": "Requests that took longer than slowlog_slower_than.",
    "received_bytes": "Bytes from clients.",
    "sent_bytes": "Bytes to clients.",
    "commands_repeated": "Commands sent again after a lost connection.",
    "commands_put_off": "Commands that waited until a node could serve them.",
    "commands_timed_out": "Commands whose deadline passed.",
}
_GAUGES = {
    "clients": "Clients that are connected.",
    "logins": "Logins to the cluster that are in use.",
    "request_bytes": "Bytes of requests that are under way.",
    "scans": "Scans that are under way.",
    "pending_commands": "Commands that wait for a node or for its reply.",
    "node_connections": "Connections to nodes.",
}


class _SnapshotCollector(Collector):
    """Gives Prometheus the numbers of a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        snapshot = self._snapshot
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(_PREFIX + name, text, value=getattr(snapshot, name))
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(_PREFIX + name, text, value=getattr(snapshot, name))
        redirects = CounterMetricFamily(f"{_PREFIX}redirects", "Redirects that were followed.", labels=["kind"])
        redirects.add_metric(["moved"], snapshot.moved)
        redirects.add_metric(["asked"], snapshot.asked)
        yield redirects
        errors = CounterMetricFamily(f"{_PREFIX}errors", "Error replies of servers, by code.", labels=["code"])
        for code, count in snapshot.errors_by_label.items():
            errors.add_metric([code], count)
        yield errors
        bounds = [*map(repr, BUCKETS), "+Inf"]
        yield HistogramMetricFamily(
            f"{_PREFIX}request_duration_seconds",
            "Time of a request at the cluster, with redirects and repetitions.",
            buckets=list(zip(bounds, accumulate(snapshot.times), strict=True)),
            sum_value=snapshot.seconds,
        )


def metrics_text(snapshot: Snapshot) -> bytes:
    """Write a snapshot in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_SnapshotCollector(snapshot))
    return generate_latest(registry)
