"""`ClusterInstrumentation`: the traces and the metrics of a client for OpenTelemetry.

It needs the package opentelemetry-api: ``pip install 'txvalkeycluster[opentelemetry]'``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address

from opentelemetry.context import get_current
from opentelemetry.metrics import MeterProvider, NoOpHistogram, get_meter
from opentelemetry.trace import NoOpTracer, SpanKind, Status, StatusCode, TracerProvider, get_tracer

from .address import Address
from .errors import ClientClosed, ReplyError
from .routing.observation import ObservableClient
from .statistics import FinishedCommand, Labels

#: The upper bounds of the buckets of durations in seconds, which the semantic conventions advise.
#: Source: https://opentelemetry.io/docs/specs/semconv/db/database-metrics/
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)

_NAME = "txvalkeycluster"
# The version of the conventions in which those for databases are stable.
_SCHEMA = "https://opentelemetry.io/schemas/1.33.0"
# A name that the command table does not know can be an argument of the application.  The conventions have this word for
# an error of an unknown kind.
_OTHER = "_OTHER"
_BATCHES = ("PIPELINE ", "MULTI ")

_Attributes = dict[str, str | int]


class ClusterInstrumentation:
    """Makes one span for each finished command of a client, and records how long it took.

    Names and attributes follow https://opentelemetry.io/docs/specs/semconv/db/redis/.  No key, no value and no text of
    an error is recorded.  A span is made when the command has ended.  Its parent is the span that was current at the
    call, and the current span of the caller never changes.

    Example:
        instrumentation = ClusterInstrumentation(client)
    """

    def __init__(
        self,
        client: ObservableClient,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        """Begin to observe the client.

        Args:
            client: The client, of Twisted, of threads or of asyncio.
            tracer_provider: What makes the spans.  Default: the global provider.
            meter_provider: What records the histogram.  Default: the global provider.
        """
        self._client = client
        self._tracer = get_tracer(_NAME, tracer_provider=tracer_provider, schema_url=_SCHEMA)
        self._durations = get_meter(_NAME, meter_provider=meter_provider, schema_url=_SCHEMA).create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._labels = Labels(client.commands, _OTHER)
        self._traces = not isinstance(self._tracer, NoOpTracer)
        self._measures = not isinstance(self._durations, NoOpHistogram)
        # Whether the address of a node is that of the connection.
        self._connects_directly = client.options.address_map is None and client.options.endpoint_for is None
        # What all commands have in common.
        self._common: _Attributes = {"db.system.name": "redis", "db.namespace": str(client.options.db)}
        # The attributes of successful commands, by name and node.
        self._known: dict[tuple[str, Address | None], _Attributes] = {}
        self._listener: Callable[[FinishedCommand], None] | None = self._note
        client.add_command_listener(self._listener)

    def close(self) -> None:
        """Stop to observe the client.  It may be called again, also after the client was closed."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # A client of threads that is closed has no listeners any more.
            with suppress(ClientClosed):
                self._client.remove_command_listener(listener)

    def _note(self, finished: FinishedCommand) -> None:
        if not self._traces and not self._measures:
            return
        end = time.time_ns()
        name = finished.name
        if finished.commands == 1 and name.startswith(_BATCHES):
            # The conventions: a batch with one command is not a batch.
            name = name.partition(" ")[2]
        attributes = self._attributes_of(self._labels.of_command(name), finished.node)
        error = finished.error
        if error is not None:
            attributes = attributes | self._attributes_of_error(error)
        # The context of the caller also lets a metric point to its trace.
        context = finished.context.run(get_current)
        if self._measures:
            self._durations.record(finished.seconds, attributes, context=context)
        if not self._traces:
            return
        span = self._tracer.start_span(
            str(attributes["db.operation.name"]),
            context=context,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=end - int(finished.seconds * 1e9),
            # The error is recorded as attributes, because its text can contain an argument.
            record_exception=False,
        )
        if not span.is_recording():
            return
        if finished.commands > 1 or (not finished.commands and error is None):
            span.set_attribute("db.operation.batch.size", finished.commands)
        if finished.attempts > 1:
            # The conventions have no attribute for this.
            span.set_attribute("txvalkeycluster.attempts", finished.attempts)
        if error is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)

    def _attributes_of(self, name: str, node: Address | None) -> _Attributes:
        """Return the attributes of a successful command.  Nobody changes the dictionary afterwards."""
        key = name, node
        attributes = self._known.get(key)
        if attributes is None:
            if len(self._known) >= 10_000:
                # Nodes that have left the cluster must not stay in memory.
                self._known.clear()
            attributes = self._known[key] = self._common | {"db.operation.name": name}
            if node is not None:
                attributes["server.address"] = node.host
                attributes["server.port"] = node.port
                if self._connects_directly and _is_ip(node.host):
                    attributes["network.peer.address"] = node.host
                    attributes["network.peer.port"] = node.port
        return attributes

    def _attributes_of_error(self, error: BaseException) -> _Attributes:
        if isinstance(error, ReplyError):
            code = self._labels.of_code(error.code)
            return {"db.response.status_code": code, "error.type": code}
        return {"error.type": type(error).__name__}


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
