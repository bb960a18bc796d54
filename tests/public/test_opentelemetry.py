"""Spans and the duration histogram: what they contain, and which span is their parent."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode, get_current_span
from twisted.internet.defer import Deferred, gatherResults

from tests.memory import MemoryTests
from tests.scripted.base import moved, transactional
from txvalkeycluster import Address, CommandTimeout, ReplyError
from txvalkeycluster.opentelemetry import BUCKETS, ClusterInstrumentation
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE

SECRET = "secret"


class InstrumentationTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.addCleanup(self.meters.shutdown)
        self.connected = self.client()
        self.instrumentation = self.instrument(self.connected)
        self.key = self.key_of(self.nodes[0])

    def instrument(self, client: Any) -> ClusterInstrumentation:
        return ClusterInstrumentation(client, tracer_provider=self.tracers, meter_provider=self.meters)

    def answer(self, name: bytes, reply: Any) -> None:
        """Let the first node answer a command with a reply."""
        self.nodes[0].script = lambda node, words, connection: reply if words[0] == name else DEFAULT_REPLY

    def spans(self) -> list[ReadableSpan]:
        """Return the spans since the last call."""
        spans = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return spans

    def span(self) -> ReadableSpan:
        """Return the only span since the last call."""
        (span,) = self.spans()
        return span

    def points(self) -> list[HistogramDataPoint]:
        """Return the numbers of the histogram, one for each set of attributes."""
        data: Any = self.reader.get_metrics_data()
        (metric,) = [
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name.startswith("db.")
        ]
        self.assertEqual((metric.name, metric.unit), ("db.client.operation.duration", "s"))
        return list(metric.data.data_points)

    def usual(self, name: str) -> dict[str, Any]:
        """Return the attributes of a successful command at the first node."""
        return {
            "db.system.name": "redis",
            "db.namespace": "0",
            "db.operation.name": name,
            "server.address": "node",
            "server.port": 7000,
        }

    def test_a_command(self) -> None:
        """The span and the histogram have the name, the node and the time, and neither key nor value."""
        self.answer(b"SET", SILENCE)
        before = time.time_ns()
        done = self.connected.set(self.key, SECRET)
        self.advance(0.25)
        self.nodes[0].connections[0].write(b"+OK\r\n")
        self.assertEqual(self.result_of(done), b"OK")
        span = self.span()
        self.assertEqual((span.name, span.kind, span.parent), ("SET", SpanKind.CLIENT, None))
        self.assertEqual(span.attributes, self.usual("SET"))
        self.assertEqual((span.status.status_code, span.events), (StatusCode.UNSET, ()))
        assert span.start_time is not None and span.end_time is not None
        self.assertLess(abs(span.end_time - span.start_time - 250_000_000), 1000)
        self.assertTrue(before <= span.end_time <= time.time_ns())
        (point,) = self.points()
        self.assertEqual(point.attributes, self.usual("SET"))
        self.assertEqual(tuple(point.explicit_bounds), BUCKETS)
        self.assertEqual((point.count, list(point.bucket_counts)), (1, [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]))
        self.assertLess(abs(point.sum - 0.25), 1e-6)

    def test_the_numbered_database(self) -> None:
        self.instrument(client := self.client(db=3))
        self.result_of(client.get(self.key))
        self.assertEqual((self.span().attributes or {})["db.namespace"], "3")

    def test_the_address_of_the_connection(self) -> None:
        """It is recorded if the node has an IP address, and the client connects to that."""
        for index, node in enumerate(self.nodes):
            node.address = Address("10.0.0.1", 7000 + index)
            self.network.add(node)
        peer = {"network.peer.address": "10.0.0.1", "network.peer.port": 7000}
        address = {"server.address": "10.0.0.1", "server.port": 7000}
        for direct in (False, True):
            client = self.client()
            # In memory, all clients have the option ``endpoint_for``.
            options = replace(client.options, endpoint_for=None) if direct else client.options
            self.patch(client, "options", options)
            self.instrument(client)
            self.result_of(client.get(self.key))
            self.assertEqual(self.span().attributes, self.usual("GET") | address | (peer if direct else {}))

    def test_an_error_reply(self) -> None:
        """The code is an attribute. The text, which can contain an argument, is recorded nowhere."""
        self.answer(b"INCR", f"-WRONGTYPE {SECRET} is no number\r\n".encode())
        self.error_of(self.connected.incr(self.key), ReplyError)
        span = self.span()
        failed = self.usual("INCR") | {"db.response.status_code": "WRONGTYPE", "error.type": "WRONGTYPE"}
        self.assertEqual(span.attributes, failed)
        self.assertEqual((span.status.status_code, span.status.description), (StatusCode.ERROR, None))
        self.assertEqual([point.attributes for point in self.points()], [failed])
        self.assertNotIn(SECRET, span.to_json())
        # The attributes of the next command are not those of the error.
        self.nodes[0].script = None
        self.result_of(self.connected.incr(self.key))
        self.assertEqual(self.span().attributes, self.usual("INCR"))

    def test_a_code_that_is_no_code(self) -> None:
        """A script can return any text as its error."""
        self.answer(b"EVAL", f"-{SECRET}\r\n".encode())
        self.error_of(self.connected.eval("return 1", [self.key]), ReplyError)
        span = self.span()
        self.assertEqual((span.attributes or {})["error.type"], "_OTHER")
        self.assertNotIn(SECRET, span.to_json())

    def test_another_error(self) -> None:
        """Its class is the type; there is no code."""
        self.answer(b"GET", SILENCE)
        self.error_of(self.connected.with_options(timeout=0.05).get(self.key), CommandTimeout)
        self.assertEqual(self.span().attributes, self.usual("GET") | {"error.type": "CommandTimeout"})

    def test_a_name_that_is_an_argument(self) -> None:
        """An unknown command whose name contains an argument gets the name _OTHER."""
        for node in self.nodes:
            node.script = lambda node, words, connection: b"*0\r\n" if words[0] == b"COMMAND" else DEFAULT_REPLY
        done = self.connected.execute(f"get {SECRET}")
        self.advance(1)
        done.addErrback(lambda failure: None)
        self.result_of(done)
        span = self.span()
        self.assertEqual(span.name, "_OTHER")
        self.assertNotIn(SECRET, span.to_json())

    def test_after_a_redirect(self) -> None:
        """There is one span for all attempts, with the node of the last one."""
        self.answer(b"GET", moved(self.key, self.nodes[1].address))
        self.result_of(self.connected.get(self.key))
        expected = self.usual("GET") | {"server.port": 7001, "txvalkeycluster.attempts": 2}
        self.assertEqual(self.span().attributes, expected)

    def test_a_pipeline(self) -> None:
        """A pipeline is one span without a node, with the number of its commands."""
        pipeline = self.connected.pipeline()
        for node in self.nodes:
            pipeline.get(self.key_of(node))
        self.result_of(pipeline.execute())
        span = self.span()
        expected = {"db.system.name": "redis", "db.namespace": "0", "db.operation.name": "PIPELINE GET"}
        self.assertEqual((span.name, span.attributes), ("PIPELINE GET", expected | {"db.operation.batch.size": 3}))
        self.assertEqual([point.attributes for point in self.points()], [expected])
        self.result_of(self.connected.pipeline().get(self.key).set(self.key, 1).execute())
        self.assertEqual(self.span().name, "PIPELINE")

    def test_a_batch_with_one_command(self) -> None:
        """The conventions say that this is not a batch."""
        self.nodes[0].script = transactional
        for batch in (self.connected.pipeline(), self.connected.transaction()):
            self.result_of(batch.get(self.key).execute())
            span = self.span()
            self.assertEqual((span.name, (span.attributes or {})["db.operation.name"]), ("GET", "GET"))
            self.assertNotIn("db.operation.batch.size", span.attributes or {})

    def test_an_empty_pipeline(self) -> None:
        """It is a batch of the size 0."""
        self.result_of(self.connected.pipeline().execute())
        span = self.span()
        self.assertEqual((span.name, (span.attributes or {})["db.operation.batch.size"]), ("PIPELINE", 0))

    def test_a_stream_that_fails(self) -> None:
        """The number of its commands is unknown."""

        def each(index: int, result: object) -> None:
            raise ZeroDivisionError

        self.error_of(self.connected.stream([("GET", self.key)], each), ZeroDivisionError)
        span = self.span()
        self.assertEqual((span.name, (span.attributes or {})["error.type"]), ("PIPELINE", "ZeroDivisionError"))
        self.assertNotIn("db.operation.batch.size", span.attributes or {})

    def test_a_transaction(self) -> None:
        self.nodes[0].script = transactional
        self.result_of(self.connected.transaction().get(self.key).set(self.key, 1).execute())
        span = self.span()
        self.assertEqual((span.name, span.attributes), ("MULTI", self.usual("MULTI") | {"db.operation.batch.size": 2}))

    def test_the_parent(self) -> None:
        """The span that was current at the call is the parent, also if another one is current at the end."""
        tracer = self.tracers.get_tracer("test")
        with tracer.start_as_current_span("parent") as parent:
            done = self.connected.get(self.key)
        with tracer.start_as_current_span("another"):
            self.result_of(done)
        (span,) = [span for span in self.spans() if span.name == "GET"]
        self.assertEqual(span.parent, parent.get_span_context())

    def test_the_current_span_stays(self) -> None:
        """After an ``await``, the current span of each coroutine is its own, and it is the parent of its commands."""
        tracer = self.tracers.get_tracer("test")
        kept: list[bool] = []

        async def work(number: int) -> None:
            with tracer.start_as_current_span(f"parent {number}") as own:
                for turn in range(3):
                    await self.connected.set(self.key_of(self.nodes[(number + turn) % 3]), number)
                    kept.append(get_current_span() is own)
                await self.connected.pipeline().get(self.key).execute()
                await self.connected.delete(*map(self.key_of, self.nodes))
                kept.append(get_current_span() is own)

        self.result_of(gatherResults([Deferred.fromCoroutine(work(number)) for number in range(5)]))
        self.assertEqual(kept, [True] * 20)
        spans = self.spans()
        parents = {span.context.span_id: span.name for span in spans if span.name.startswith("parent")}
        counts = dict.fromkeys(parents.values(), 0)
        for span in spans:
            if span.parent is not None:
                counts[parents[span.parent.span_id]] += 1
        self.assertEqual(counts, {f"parent {number}": 5 for number in range(5)})
        self.assertFalse(get_current_span().is_recording())

    def test_close(self) -> None:
        """After close there are no more spans, and the client uses the way without a listener."""
        self.instrumentation.close()
        self.instrumentation.close()
        self.result_of(self.connected.get(self.key))
        self.assertEqual(self.spans(), [])
        self.assertIsNone(self.connected._router.observation)

    def test_close_after_the_client(self) -> None:
        self.result_of(self.connected.close())
        self.instrumentation.close()

    def test_nothing_is_recorded(self) -> None:
        """Without a tracer, there is only the histogram; without a meter, only spans; without both, nothing."""
        self.instrumentation.close()
        for tracers, meters in ((NoOpTracerProvider(), self.meters), (self.tracers, NoOpMeterProvider())):
            instrumentation = ClusterInstrumentation(self.connected, tracer_provider=tracers, meter_provider=meters)
            self.result_of(self.connected.get(self.key))
            instrumentation.close()
            traced = tracers is self.tracers
            self.assertEqual(len(self.spans()), int(traced))
        (point,) = self.points()
        self.assertEqual(point.count, 1)
        instrumentation = ClusterInstrumentation(
            self.connected, tracer_provider=NoOpTracerProvider(), meter_provider=NoOpMeterProvider()
        )
        self.result_of(self.connected.get(self.key))
        instrumentation.close()
        self.assertEqual(instrumentation._known, {})

    def test_a_span_that_is_not_sampled(self) -> None:
        """It is neither filled nor ended; the histogram has the command."""
        self.instrumentation.close()
        sampler = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
        sampler.add_span_processor(SimpleSpanProcessor(self.exporter))
        ClusterInstrumentation(self.connected, tracer_provider=sampler, meter_provider=self.meters)
        self.result_of(self.connected.get(self.key))
        self.assertEqual(self.spans(), [])
        self.assertEqual([point.count for point in self.points()], [1])

    def test_the_global_providers(self) -> None:
        """Without providers, the global ones are used, which do nothing by default."""
        client = self.client()
        instrumentation = ClusterInstrumentation(client)
        self.result_of(client.get(self.key))
        instrumentation.close()
        self.assertEqual(self.spans(), [])
