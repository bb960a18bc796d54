"""`ClusterCollector`: the metrics of a client for Prometheus.

It needs the package prometheus_client: ``pip install 'txvalkeycluster[prometheus]'``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary, ref

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from .acceleration import fast
from .errors import ClientClosed
from .routing.observation import ObservableClient
from .statistics import FinishedCommand, Labels, NodeStatistics, Statistics

#: The upper bounds of the buckets of command times, in seconds.
DEFAULT_BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip

_PREFIX = "valkey_client_"
_OTHER = "other"
# The number of times that are put into buckets together: one by one would cost 0.1 us more for each command.
_TOGETHER = 500
# How often to read statistics that another thread changes meanwhile.
_ATTEMPTS = 20

# Name without the prefix, help text, unit, and the numbers with their labels.
_Samples = Callable[[Any], Iterable[tuple[tuple[str, ...], float]]]
_Counter = tuple[str, str, str, tuple[str, ...], _Samples]


def _one(attribute: str) -> _Samples:
    return lambda statistics: [((), getattr(statistics, attribute))]


def _by_kind(attribute: str) -> _Samples:
    kinds = ("shared", "exclusive", "subscriber")
    return lambda statistics: [((kind,), getattr(getattr(statistics, attribute), kind)) for kind in kinds]


def _errors(statistics: NodeStatistics) -> Iterable[tuple[tuple[str, ...], float]]:
    return [((code,), count) for code, count in statistics.errors.items()]


def _redirects(statistics: NodeStatistics) -> Iterable[tuple[tuple[str, ...], float]]:
    return [(("moved",), statistics.moved), (("asked",), statistics.asked)]


_OF_NODES: list[_Counter] = [
    ("commands", "Commands written, including repetitions and the client's own commands.", "", (), _one("commands")),
    ("sent_bytes", "Bytes of the commands, before TLS.", "bytes", (), _one("bytes_sent")),
    ("received_bytes", "Bytes of replies and messages, after TLS.", "bytes", (), _one("bytes_received")),
    ("errors", "Error replies by code, including those that the client handles.", "", ("code",), _errors),
    ("redirects", "Redirects that were followed.", "", ("kind",), _redirects),
    ("commands_put_off", "Commands that waited until a node could serve them.", "", (), _one("put_off")),
    ("commands_repeated", "Commands sent again after a lost connection.", "", (), _one("repeated")),
    ("commands_timed_out", "Commands whose deadline passed.", "", (), _one("timeouts")),
    ("messages", "Messages of subscriptions.", "", (), _one("messages")),
    ("connections", "Connections that finished their handshake.", "", ("kind",), _by_kind("connections")),
]
_OF_CLIENT: list[_Counter] = [
    ("topology_refreshes", "Refreshes of the slot map that were started.", "", (), _one("refreshes")),
    ("topology_refreshes_failed", "Refreshes of the slot map that failed.", "", (), _one("refreshes_failed")),
    ("messages_dropped", "Messages that a full buffer has dropped.", "", (), _one("messages_dropped")),
    ("subscriptions_lost", "Channels and patterns whose subscription was lost.", "", (), _one("lost")),
    ("subscriptions_restored", "Channels and patterns subscribed again after a loss.", "", (), _one("resubscribed")),
]
_GAUGES: list[_Counter] = [
    ("pending_commands", "Commands that wait for a node or for its reply.", "", (), _one("pending")),
    ("open_connections", "Connections that are open.", "", ("kind",), _by_kind("open")),
]
_TIMES = "command_duration_seconds"
_FAILURES = "command_failures"


class MeasurableClient(ObservableClient, Protocol):
    """A `ClusterClient`, a `BlockingClient` or an `AsyncClient`."""

    @property
    def statistics(self) -> Statistics:
        """What the client has counted."""


class ClusterCollector(Collector):
    """Gives Prometheus the statistics of a client, and how long its commands take.

    Nothing is counted twice: a scrape reads `ClusterClient.statistics`.  Only the times of commands are recorded as the
    commands end.  docs/observability.md lists the metrics.

    Several clients can use one registry.  A scrape may run in any thread, so ``start_http_server`` of prometheus_client
    and its resource for twisted.web both work.

    Example:
        from prometheus_client.twisted import MetricsResource

        collector = ClusterCollector(client)
        site = Site(MetricsResource())
    """

    def __init__(
        self,
        client: MeasurableClient,
        *,
        name: str | None = None,
        registry: CollectorRegistry | None = REGISTRY,
        command_times: bool = True,
        per_node: bool = True,
        buckets: Sequence[float] = DEFAULT_BUCKETS,
    ) -> None:
        """Begin to collect.

        Args:
            client: The client, of Twisted, of threads or of asyncio.
            name: The label ``client`` of all its metrics.  Default: the option ``client_name``, else the first seed.
            registry: Where to register.  None: nowhere; `collect` returns the metrics.
            command_times: Whether to record how long commands take.  It adds about a tenth to the CPU time of a
                command.
            per_node: Whether to give the numbers of each node, besides their sum.
            buckets: The upper bounds of the buckets of command times, in seconds, ascending.

        Raises:
            ValueError: The registry has a collector with this name already, or the buckets are not ascending.
        """
        #: The label ``client``.
        self.name = name if name is not None else client.options.client_name or str(client.options.seeds[0])
        self._client = client
        self._per_node = per_node
        self._labels = Labels(client.commands, _OTHER)
        # The last total of each counter.
        self._totals: dict[tuple[str, ...], float] = {}
        self._times = _CommandTimes(self._labels, _bounds(buckets)) if command_times else None
        self._group = _joined(registry, self) if registry is not None else None
        if self._times is not None:
            client.add_command_listener(self._times)

    def __repr__(self) -> str:
        return f"<ClusterCollector {self.name}>"

    def close(self) -> None:
        """Stop to collect, and leave the registry.  It may be called again, also after the client was closed."""
        group, self._group = self._group, None
        if group is not None:
            group.leave(self)
        times, self._times = self._times, None
        if times is not None:
            # A client of threads that is closed has no listeners any more.
            with suppress(ClientClosed):
                self._client.remove_command_listener(times)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of this client; for the registry."""
        families = _families()
        self._add_to(families)
        return _filled(families)

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without numbers; for the registry."""
        return _families().values()

    def _add_to(self, families: dict[str, Any]) -> None:
        """Add the numbers of this client to metrics that several clients share."""
        statistics = self._statistics()
        for name, _, _, _, samples in _OF_NODES + _OF_CLIENT:
            for key, value in self._coded(name, samples(statistics)).items():
                # A thread that reads while a node is being removed may not see what that node did.
                total = self._totals[name, *key] = max(value, self._totals.get((name, *key), 0))
                families[name].add_metric((self.name, *key), total)
        for name, _, _, _, samples in _GAUGES:
            for key, value in samples(statistics):
                families[name].add_metric((self.name, *key), value)
        if self._per_node:
            for address, node in statistics.nodes.items():
                for name, _, _, _, samples in _OF_NODES + _GAUGES:
                    for key, value in self._coded(name, samples(node)).items():
                        families[f"node_{name}"].add_metric((self.name, str(address), *key), value)
        if self._times is not None:
            self._times.add_to(self.name, families)

    def _coded(self, name: str, samples: Iterable[tuple[tuple[str, ...], float]]) -> dict[tuple[str, ...], float]:
        """Return the samples by their labels; errors whose code is no code become one sample."""
        if name != "errors":
            return dict(samples)
        found: dict[tuple[str, ...], float] = {}
        for (code,), count in samples:
            key = (self._labels.of_code(code),)
            found[key] = found.get(key, 0) + count
        return found

    def _statistics(self) -> Statistics:
        """Read the statistics, also in another thread than that of the reactor, which may change them meanwhile."""
        for _ in range(_ATTEMPTS):
            try:
                return self._client.statistics
            except Exception:
                # Such as "dictionary changed size during iteration".
                continue
        return self._client.statistics


def _bounds(buckets: Sequence[float]) -> list[float]:
    bounds = [float(bound) for bound in buckets]
    if not all(low < high for low, high in pairwise([-inf, *bounds])):
        raise ValueError("the buckets must be ascending numbers")
    return bounds[:-1] if bounds and bounds[-1] == inf else bounds


def _families() -> dict[str, Any]:
    """Make all metrics, without numbers, by their names without the prefix."""
    families: dict[str, Any] = {}
    for kind, listed in ((CounterMetricFamily, _OF_NODES + _OF_CLIENT), (GaugeMetricFamily, _GAUGES)):
        for name, text, unit, labels, _ in listed:
            families[name] = kind(_PREFIX + name, text, labels=("client", *labels), unit=unit)
    for kind, listed in ((CounterMetricFamily, _OF_NODES), (GaugeMetricFamily, _GAUGES)):
        for name, text, unit, labels, _ in listed:
            text = f"{text.removesuffix('.')}, by node."
            families[f"node_{name}"] = kind(
                f"{_PREFIX}node_{name}", text, labels=("client", "node", *labels), unit=unit
            )
    families[_TIMES] = HistogramMetricFamily(
        _PREFIX + _TIMES,
        "Time from the call of a command to its end, failed commands included.",
        labels=("client", "command"),
        unit="seconds",
    )
    families[_FAILURES] = CounterMetricFamily(
        _PREFIX + _FAILURES,
        "Commands that ended with an error, by the class of the error.",
        labels=("client", "command", "outcome"),
    )
    return families


class _Times(list[float]):
    """The times of one command that are not in buckets yet, and the buckets."""

    __slots__ = ("below", "bounds", "number", "total")

    def __init__(self, bounds: list[float]) -> None:
        super().__init__()
        self.bounds = bounds
        #: For each bound, how many times were not above it.
        self.below = [0] * len(bounds)
        #: How many times are in the buckets, and their sum.
        self.number = 0
        self.total = 0.0

    def sort_in(self) -> None:
        """Put the times into the buckets."""
        self.sort()
        place = 0
        for index, bound in enumerate(self.bounds):
            place = bisect_right(self, bound, place)
            self.below[index] += place
        self.number += len(self)
        self.total += sum(self)
        self.clear()

    def copy(self) -> _Times:
        """Return a copy that does not change."""
        same = type(self)(self.bounds)
        same.extend(self)
        same.below, same.number, same.total = self.below.copy(), self.number, self.total
        return same


#: The version in Python.
PythonTimes = _Times
if fast is not None and not TYPE_CHECKING:
    # It puts each time into its bucket at once.
    _Times = fast.Times


class _CommandTimes:
    """A listener of commands that keeps their times and their failures, by name."""

    def __init__(self, labels: Labels, bounds: list[float]) -> None:
        self._labels = labels
        self._bounds = bounds
        self._names = [*map(floatToGoString, bounds), "+Inf"]
        self._times: dict[str, _Times] = {}
        self._failures: dict[tuple[str, str], int] = {}
        # Held while times go into buckets, and while another thread copies them.
        self._lock = Lock()
        #: Records a command in place of `__call__`.
        self.note_time = self._recorder()

    def __call__(self, finished: FinishedCommand) -> None:
        self.note_time(finished.name, finished.seconds, finished.error)

    def _recorder(self) -> Callable[[str, float, BaseException | None], object]:
        # Local names, because this function runs for each command.
        times_of = self._times
        times_by_label, failed, sort_in = self._times_by_label, self._failed, self._sort_in

        def note_time(name: str, seconds: float, error: BaseException | None) -> None:
            try:
                times = times_of[name]
            except KeyError:
                times = times_by_label(name)
            times.append(seconds)
            if error is not None:
                failed(name, error)
            if len(times) >= _TOGETHER:
                sort_in(times)

        return note_time if fast is None else fast.TimeRecorder(note_time, times_of)

    def _times_by_label(self, name: str) -> _Times:
        label = self._labels.of_command(name)
        if label not in self._times:
            self._times[label] = _Times(self._bounds)
        return self._times[label]

    def _failed(self, name: str, error: BaseException) -> None:
        key = self._labels.of_command(name), type(error).__name__
        if key not in self._failures and len(self._failures) >= 3000:
            key = _OTHER, _OTHER
        self._failures[key] = self._failures.get(key, 0) + 1

    def _sort_in(self, times: _Times) -> None:
        with self._lock:
            times.sort_in()

    def add_to(self, client: str, families: dict[str, Any]) -> None:
        """Add the times and the failures to metrics."""
        for name in list(self._times):
            with self._lock:
                times = self._times[name].copy()
            times.sort_in()
            buckets = list(zip(self._names, [*times.below, times.number], strict=True))
            families[_TIMES].add_metric((client, name), buckets, times.total)
        for (name, outcome), count in self._failures.copy().items():
            families[_FAILURES].add_metric((client, name, outcome), count)


class _Group(Collector):
    """The collectors in one registry: each metric must come once, with the numbers of all clients."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._members: dict[str, ClusterCollector] = {}
        # The registry refers to this object.  A strong reference would keep it in `_groups` for ever.
        self._registry = ref(registry)

    def join(self, member: ClusterCollector) -> None:
        if member.name in self._members:
            raise ValueError(f"the registry has a ClusterCollector named {member.name!r} already; give another name")
        self._members[member.name] = member

    def leave(self, member: ClusterCollector) -> None:
        del self._members[member.name]
        registry = self._registry()
        if registry is not None and not self._members:
            del _groups[registry]
            registry.unregister(self)

    def collect(self) -> Iterable[Metric]:
        families = _families()
        for member in list(self._members.values()):
            member._add_to(families)
        return _filled(families)

    def describe(self) -> Iterable[Metric]:
        return _families().values()


_groups: WeakKeyDictionary[CollectorRegistry, _Group] = WeakKeyDictionary()


def _joined(registry: CollectorRegistry, member: ClusterCollector) -> _Group:
    """Add a collector to the group of a registry, and return the group."""
    group = _groups.get(registry)
    if group is None:
        group = _Group(registry)
        registry.register(group)
        _groups[registry] = group
    group.join(member)
    return group


def _filled(families: dict[str, Any]) -> list[Metric]:
    """Return the metrics that have numbers."""
    return [family for family in families.values() if family.samples]
