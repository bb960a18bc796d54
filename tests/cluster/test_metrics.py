"""Metrics of a client on a real cluster, scraped over HTTP while nodes fail."""

from __future__ import annotations

import urllib.request
from collections import Counter
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.twisted import MetricsResource
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.web.client import Agent, readBody
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.cluster.base import ClusterTests
from txvalkeycluster import ByKind, ClusterClient, FinishedCommand, Statistics
from txvalkeycluster.prometheus import ClusterCollector
from txvalkeycluster.testing import Workload

PREFIX = "valkey_client_"
#: A metric without the prefix, and its labels without ``client``.
Key = tuple[str, frozenset[tuple[str, str]]]
#: The numbers of a scrape.
Numbers = dict[Key, float]


def numbers_of(text: str) -> Numbers:
    """Return the numbers of a scrape; each metric must come once."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    return {
        (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items() - {("client", "app")})): sample.value
        for family in families
        for sample in family.samples
    }


class MetricsTests(ClusterTests):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.client: ClusterClient[bytes] = await self.connect()
        self.registry = CollectorRegistry()
        self.collector = ClusterCollector(self.client, name="app", registry=self.registry)
        self.addCleanup(self.collector.close)
        self.finished: Counter[tuple[str, str]] = Counter()
        self.client.add_command_listener(self.count)
        root: Any = Resource()  # type: ignore[no-untyped-call]
        root.putChild(b"metrics", MetricsResource(self.registry))  # type: ignore[no-untyped-call]
        site: Any = Site(root)  # type: ignore[no-untyped-call]
        self.port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        #: Whether `scrape_until_stopped` ends.
        self.stopped = False

    def count(self, finished: FinishedCommand) -> None:
        self.finished[finished.name, "" if finished.error is None else type(finished.error).__name__] += 1

    async def scrape(self) -> Numbers:
        """Scrape the resource for twisted.web."""
        agent: Any = Agent(reactor)  # type: ignore[no-untyped-call]
        response = await agent.request(b"GET", f"http://127.0.0.1:{self.port.getHost().port}/metrics".encode())
        text = (await readBody(response)).decode()
        self.assertEqual(response.code, 200, text)
        return numbers_of(text)

    async def scrape_until_stopped(self) -> int:
        """Scrape again and again; no counter of the client may fall.  Return how often."""
        last: Numbers = {}
        scrapes = 0
        while not self.stopped:
            now = await self.scrape()
            for key, value in last.items():
                name, labels = key
                counts = name.endswith(("_total", "_bucket", "_count"))
                if counts and not any(label == "node" for label, _ in labels):
                    self.assertGreaterEqual(now.get(key, -1), value, (name, labels))
            last = now
            scrapes += 1
        return scrapes

    def agree(self, numbers: Numbers, statistics: Statistics) -> None:
        """Check that a scrape has the numbers of the statistics, and those of the finished commands."""

        def value(name: str, **labels: str) -> float:
            return numbers.get((name, frozenset(labels.items())), 0)

        self.assertEqual(value("commands_total"), statistics.commands)
        self.assertEqual(value("sent_bytes_total"), statistics.bytes_sent)
        self.assertEqual(value("received_bytes_total"), statistics.bytes_received)
        self.assertEqual(value("commands_repeated_total"), statistics.repeated)
        self.assertEqual(value("redirects_total", kind="moved"), statistics.moved)
        self.assertEqual(value("open_connections", kind="shared"), statistics.open.shared)
        self.assertEqual(value("connections_total", kind="shared"), statistics.connections.shared)
        self.assertEqual(
            {dict(labels)["code"]: count for (name, labels), count in numbers.items() if name == "errors_total"},
            statistics.errors,
        )
        ended: Counter[str] = Counter()
        for (name, error), count in self.finished.items():
            ended[name] += count
            if error:
                self.assertEqual(value("command_failures_total", command=name, outcome=error), count, (name, error))
        shown = {
            dict(labels)["command"]: count
            for (name, labels), count in numbers.items()
            if name == "command_duration_seconds_count"
        }
        self.assertEqual(shown, dict(ended))

    async def test_a_failover(self) -> None:
        """Scrapes under load, while a primary is killed and a graceful failover follows, show only what happened."""
        victim, replica = self.cluster.servers[0], self.cluster.servers[4]
        scraping = Deferred.fromCoroutine(self.scrape_until_stopped())

        async def change(workload: Workload) -> None:
            await self.expect_losses(workload, victim)
            await self.cluster.kill(victim)
            await self.cluster.wait_for_takeover(victim)
            await self.cluster.failover(replica)
            await self.cluster.wait_until_whole()

        report = await self.under_load(change, self.client)
        self.stopped = True
        self.assertGreater(await scraping, 3)
        await self.client.refresh_topology()
        statistics = self.client.statistics
        self.agree(await self.scrape(), statistics)
        lost = sum(count for (name, error), count in self.finished.items() if error)
        self.assertEqual(lost, sum(report.errors.values()))
        self.assertGreater(statistics.commands, report.commands)
        self.assertEqual(statistics.pending, 0)

    async def test_client_kill(self) -> None:
        """Connections that the server closes are made again; both are counted, and what was repeated."""
        await gatherResults([self.client.set(f"key:{number}", number) for number in range(500)])
        self.assertEqual(self.client.statistics.connections, ByKind(shared=3))
        reads = [self.client.get(f"key:{number}") for number in range(500)]
        other = await self.connect()
        for node in other.primaries():
            await other.execute_on(node, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        self.assertEqual(await gatherResults(reads), [b"%d" % number for number in range(500)])
        await gatherResults([self.client.get(f"key:{number}") for number in range(500)])
        statistics = self.client.statistics
        self.assertGreaterEqual(statistics.connections.shared, 6)
        self.assertGreaterEqual(statistics.open.shared, 3)
        numbers = await self.scrape()
        self.agree(numbers, statistics)
        by_node = [
            count
            for (name, labels), count in numbers.items()
            if name == "node_connections_total" and ("kind", "shared") in labels
        ]
        self.assertEqual(sum(by_node), statistics.connections.shared)

    async def test_scrapes_in_threads(self) -> None:
        """The server of prometheus_client, which has threads of its own, shows the same; also while nodes change."""
        server, thread = start_http_server(0, "127.0.0.1", self.registry)
        url = f"http://127.0.0.1:{server.server_port}/metrics"

        def read() -> Numbers:
            with urllib.request.urlopen(url) as response:
                return numbers_of(response.read().decode())

        def read_often() -> int:
            scrapes = 0
            while not self.stopped:
                read()
                scrapes += 1
            return scrapes

        def end() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        try:
            reading = gatherResults([deferToThread(read_often) for _ in range(3)])
            workload = Workload(reactor, self.client)
            workload.start()
            await self.progress(workload)
            for replica in (self.cluster.servers[3], self.cluster.servers[0]):
                await self.cluster.failover(replica)
                await self.cluster.wait_until_whole()
            report = await workload.stop()
            self.stopped = True
            self.assertGreater(min(await reading), 0)
            self.assertEqual((report.wrong, report.unfired, dict(report.errors)), ([], 0, {}))
            statistics = self.client.statistics
            self.agree(await deferToThread(read), statistics)
        finally:
            self.stopped = True
            await deferToThread(end)
