"""Spans of clients for threads: their parent is the current span of the calling thread."""

from __future__ import annotations

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

from tests.blocking.base import BlockingTests, in_threads
from txvalkeycluster.opentelemetry import ClusterInstrumentation


class TracingTests(BlockingTests):
    def test_the_parent(self) -> None:
        """Each thread keeps its current span, which is the parent of the spans of its commands."""
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        client = self.client()
        instrumentation = ClusterInstrumentation(client, tracer_provider=provider, meter_provider=NoOpMeterProvider())
        kept = []

        def work(number: int) -> None:
            with provider.get_tracer("test").start_as_current_span(f"parent {number}") as own:
                for key in range(20):
                    client.set(f"{number}:{key}", "value")
                client.pipeline().get("a").get("b").execute()
                client.pipeline().stream([("GET", "a")], lambda index, result: None)
                client.transaction().get("{t}a").get("{t}b").execute()
                with client.watch(f"{number}:w") as session:
                    session.get(f"{number}:w")
                kept.append(get_current_span() is own)

        self.join(in_threads(work, 5))
        self.assertEqual(kept, [True] * 5)
        spans = exporter.get_finished_spans()
        parents = {span.context.span_id: span.name for span in spans if span.parent is None}
        self.assertEqual(sorted(parents.values()), [f"parent {number}" for number in range(5)])
        counts = dict.fromkeys(parents.values(), 0)
        for span in spans:
            if span.parent is not None:
                counts[parents[span.parent.span_id]] += 1
        self.assertEqual(set(counts.values()), {24})
        instrumentation.close()
        client.get("a")
        self.assertEqual(len(exporter.get_finished_spans()), len(spans))

    def test_close_after_the_client(self) -> None:
        client = self.client()
        instrumentation = ClusterInstrumentation(client)
        client.close()
        instrumentation.close()
