"""The metrics of a proxy, as Prometheus reads them."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import fields
from typing import Any, ClassVar

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor
from twisted.web.client import Agent, readBody

from tests.cases import SynchronousTestCase
from tests.proxy.operation import OperationTests, TwistdProxy
from tests.proxy.programs import HOST, ROOT, PlainClient, until
from txvalkeycluster.proxy.snapshot import BUCKETS, GAUGES, Snapshot
from txvalkeycluster.proxy.web.metrics import metrics_text
from txvalkeycluster.testing.ports import free_ports

_PREFIX = "valkey_proxy_"


def samples_of(text: str) -> dict[str, float]:
    """Parse metrics; return the values by name and labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = "".join(f",{name}={value}" for name, value in sample.labels.items())
            found[sample.name.removeprefix(_PREFIX) + labels] = sample.value
    return found


class MetricsTests(OperationTests):
    async def proxy(self, workers: int) -> TwistdProxy:
        self.port, self.metrics = free_ports(HOST, 2)
        proxy = self.start(
            f"--listen=tcp:{self.port}:interface={HOST}",
            f"--metrics=tcp:{self.metrics}:interface={HOST}",
            f"--workers={workers}",
        )
        await self.ready(proxy, self.port, workers)
        return proxy

    async def get(self, path: str = "metrics") -> tuple[int, str]:
        """Ask the web site; return the status and the text."""
        agent: Any = Agent(reactor)  # type: ignore[no-untyped-call]
        response = await agent.request(b"GET", f"http://{HOST}:{self.metrics}/{path}".encode())
        text: bytes = await readBody(response)
        return response.code, text.decode()

    async def scrape(self) -> dict[str, float]:
        status, text = await self.get()
        self.assertEqual(status, 200, text)
        return samples_of(text)

    async def clients_at_all(self, workers: int) -> list[PlainClient]:
        """Return clients, at least one at each worker."""
        clients: list[PlainClient] = []
        seen: set[int] = set()
        while len(seen) < max(workers, 1):
            clients.append(await self.plain(self.port))
            number = await clients[-1].call("CLIENT", "ID")
            seen.add(number % 4096 if workers else 0)
        return clients

    async def totals(self, workers: int) -> TwistdProxy:
        """Compare the metrics with what the clients have done."""
        proxy = await self.proxy(workers)
        before = await self.scrape()
        clients = await self.clients_at_all(workers)
        # One of them comes as the error of a server.
        for number, each in enumerate(clients):
            await each.batch(("SET", f"key{number}", "x"), ("GET", f"key{number}"), ("INCR", f"key{number}"))
        count = len(clients)
        now = await self.scrape()
        self.assertEqual(now["clients"], count)
        self.assertEqual(now["clients_accepted_total"] - before["clients_accepted_total"], count)
        self.assertEqual(now["requests_total"] - before["requests_total"], 4 * count)
        self.assertEqual(now["errors_total,code=ERR"], count)
        self.assertIn(now["node_connections"], range(1, 3 * max(workers, 1) + 1))
        # CLIENT ID is answered by the proxy.
        seconds = "request_duration_seconds"
        self.assertEqual(now[f"{seconds}_count"] - before[f"{seconds}_count"], 3 * count)
        self.assertEqual(now[f"{seconds}_bucket,le=+Inf"], now[f"{seconds}_count"])
        self.assertGreater(now[f"{seconds}_sum"], before[f"{seconds}_sum"])
        self.assertEqual(now["request_bytes"], 0)
        # What ended clients have done stays.
        for each in clients:
            each.close()
            await each.lost
        while (ended := await self.scrape())["clients"]:
            pass
        for name in ("clients_accepted_total", "requests_total", "received_bytes_total", "sent_bytes_total"):
            self.assertEqual(ended[name], now[name], name)
        self.assertEqual((await self.get("other"))[0], 404)
        # A scrape every few seconds must not fill the log.
        for noise in ("/metrics", "OneShotFactory", "Starting factory"):
            self.assertNotIn(noise, proxy.log)
        return proxy

    async def test_one_process(self) -> None:
        """A scrape can be parsed, and its totals are right, also over clients that have ended."""
        await self.totals(0)

    async def test_workers(self) -> None:
        """The same over several processes."""
        await self.totals(2)

    async def test_ended_workers(self) -> None:
        """No total gets smaller when workers are replaced or killed."""
        proxy = await self.totals(2)
        before = await self.scrape()
        old = proxy.workers
        proxy.kill(signal.SIGHUP)
        await until(lambda: len(proxy.workers) == 2 and not set(old) & set(proxy.workers))
        replaced = await self.scrape()
        self.assertEqual(self.counters(replaced), self.counters(before))
        victim = proxy.workers[0]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: victim not in proxy.workers)
        killed = await self.scrape()
        self.assertEqual(self.counters(killed), self.counters(before))

    def counters(self, samples: dict[str, float]) -> dict[str, float]:
        """Return the numbers that only grow."""
        return {name: value for name, value in samples.items() if name not in GAUGES}

    async def test_a_worker_that_does_not_answer(self) -> None:
        """A scrape fails, since totals without this worker would be wrong."""
        proxy = await self.proxy(2)
        os.kill(proxy.workers[0], signal.SIGSTOP)
        status, text = await self.get()
        self.assertEqual(status, 500)
        self.assertIn("does not answer", text)
        os.kill(proxy.workers[0], signal.SIGCONT)
        self.assertEqual((await self.get())[0], 200)


class SnapshotTests(SynchronousTestCase):
    numbers: ClassVar[dict[str, Any]] = {
        each.name: number for number, each in enumerate(fields(Snapshot), 1) if each.type in ("int", "float")
    }

    def snapshot(self) -> Snapshot:
        return Snapshot(**self.numbers, errors={"ERR": 2}, times=list(range(len(BUCKETS) + 1)))

    def test_add(self) -> None:
        """All numbers are added."""
        total = self.snapshot()
        total.add(Snapshot(**self.numbers, errors={"ERR": 1, "OOM": 1}, times=[1] * (len(BUCKETS) + 1)))
        expected = {name: 2 * value for name, value in self.numbers.items()}
        self.assertEqual(
            total,
            Snapshot(**expected, errors={"ERR": 3, "OOM": 1}, times=[number + 1 for number in range(len(BUCKETS) + 1)]),
        )

    def test_without_gauges(self) -> None:
        """Only what has been done remains of a proxy that has ended."""
        ended = self.snapshot().without_gauges()
        self.assertEqual({name for name in self.numbers if getattr(ended, name) == 0}, set(GAUGES))
        self.assertEqual((ended.errors, ended.times), (self.snapshot().errors, self.snapshot().times))

    def test_json(self) -> None:
        """A worker can be of another version of this package: it tells more numbers or fewer."""
        values = json.loads(json.dumps(self.snapshot().as_json()))
        self.assertEqual(Snapshot.from_json(values), self.snapshot())
        self.assertEqual(Snapshot.from_json({**values, "new": 1}), self.snapshot())
        del values["requests"]
        self.assertEqual(Snapshot.from_json(values).requests, 0)
        other = Snapshot.from_json({**values, "times": [1, 2]})
        self.assertEqual((other.times, other.seconds), (Snapshot().times, 0.0))
        other.add(self.snapshot())

    def test_which_metrics(self) -> None:
        """Each number is a metric: a counter if it only grows, and else a gauge."""
        kinds = {
            family.name.removeprefix(_PREFIX): family.type
            for family in text_string_to_metric_families(metrics_text(self.snapshot()).decode())
        }
        self.assertEqual({name for name, kind in kinds.items() if kind == "gauge"}, set(GAUGES))
        special = {"moved", "asked", "errors", "times", "seconds"}
        counters = {each.name for each in fields(Snapshot)} - set(GAUGES) - special
        self.assertEqual(
            {name for name, kind in kinds.items() if kind == "counter"}, {*counters, "redirects", "errors"}
        )
        self.assertEqual({name for name, kind in kinds.items() if kind == "histogram"}, {"request_duration_seconds"})

    def test_the_documentation(self) -> None:
        """Each metric that docs/proxy-operation.md names exists."""
        text = (ROOT / "docs" / "proxy-operation.md").read_text().partition("### Metrics")[2].partition("## Logs")[0]
        rows = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| "))
        named = {name for name in re.findall(r"\w+_\w+|clients", rows) if not name.startswith("max_")}
        self.assertGreater(len(named), 10)
        there = {name.partition(",")[0] for name in samples_of(metrics_text(self.snapshot()).decode())}
        self.assertEqual(named - there, set())

    def test_strange_codes(self) -> None:
        """The code of an error can be any text of a script.  Nothing of it is shown."""
        errors = {'a"b\\c\nd': 1, "é": 2, "secret": 4, "OOM": 8, "other": 16, "X" * 41: 32}
        self.assertEqual(Snapshot(errors=errors).errors_by_label, {"other": 55, "OOM": 8})
        found = samples_of(metrics_text(Snapshot(errors=errors)).decode())
        self.assertEqual((found["errors_total,code=other"], found["errors_total,code=OOM"]), (55, 8))
