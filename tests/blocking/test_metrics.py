"""Metrics of clients for threads, which are scraped in any thread."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from tests.blocking.base import BlockingTests, in_threads
from txvalkeycluster.prometheus import ClusterCollector


class MetricsTests(BlockingTests):
    def test_scrapes(self) -> None:
        """The commands of several threads are counted; scrapes in other threads meanwhile do no harm."""
        registry = CollectorRegistry()
        client = self.client()
        collector = ClusterCollector(client, name="app", registry=registry)
        shown: list[float | None] = []

        def work(number: int) -> None:
            for key in range(50):
                client.set(f"{number}:{key}", "value")

        def scrape(number: int) -> None:
            for _ in range(20):
                shown.append(registry.get_sample_value("valkey_client_commands_total", {"client": "app"}))

        self.join([*in_threads(work, 5), *in_threads(scrape, 2)])
        self.assertEqual(len(shown), 40)
        labels = {"client": "app", "command": "SET"}
        self.assertEqual(registry.get_sample_value("valkey_client_command_duration_seconds_count", labels), 250)
        commands = registry.get_sample_value("valkey_client_commands_total", {"client": "app"})
        self.assertEqual(commands, client.statistics.commands)
        collector.close()
        self.assertEqual(list(registry.collect()), [])

    def test_close_after_the_client(self) -> None:
        """The last numbers can be scraped after the end of the client, and the collector can be closed."""
        registry = CollectorRegistry()
        client = self.client()
        collector = ClusterCollector(client, name="app", registry=registry)
        client.get("a")
        client.close()
        labels = {"client": "app", "command": "GET"}
        self.assertEqual(registry.get_sample_value("valkey_client_command_duration_seconds_count", labels), 1)
        collector.close()
        self.assertEqual(list(registry.collect()), [])
