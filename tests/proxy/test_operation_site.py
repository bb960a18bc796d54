"""The web site of a proxy: its pages, health checks, and what it says while the proxy starts and stops."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
from collections.abc import Callable
from importlib.resources import files
from typing import Any, ClassVar
from unittest.mock import patch

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent
from twisted.python.failure import Failure
from twisted.web.client import Agent, readBody

from tests.cases import SynchronousTestCase
from tests.logs import observe_log
from tests.proxy.operation import OperationTests, TwistdProxy
from tests.proxy.programs import HOST, pause, until
from txvalkeycluster.proxy.snapshot import Snapshot
from txvalkeycluster.proxy.web.site import ProxySite
from txvalkeycluster.proxy.web.status import Readiness
from txvalkeycluster.testing.ports import free_ports

PAGES = ("", "status.css", "status.js", "status.json", "metrics", "healthz", "readyz")


class FakeProxy:
    """A proxy of which the test decides what it knows."""

    def __init__(self) -> None:
        self.snapshot: Callable[[], Deferred[Snapshot]] = lambda: succeed(Snapshot(requests=7))
        self.status: Callable[[], Deferred[dict[str, Any]]] = lambda: succeed({"text": "</script>é"})
        self.readiness: Callable[[], Deferred[Readiness]] = lambda: succeed(Readiness(True, "yes"))


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.source = FakeProxy()
        self.site: Any = ProxySite(self.source)
        self.site.wrappedFactory.timeOut = None

    def ask(self, path: str, method: str = "GET") -> tuple[Any, Any]:
        """Send a request; return its connection, and what the reply is written to."""
        channel = self.site.buildProtocol(None)
        transport = StringTransport()  # type: ignore[no-untyped-call]
        channel.makeConnection(transport)
        channel.dataReceived(f"{method} /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return channel, transport

    def get(self, path: str) -> tuple[int, dict[str, str], str]:
        """Return the status, the headers and the content of a page."""
        _, transport = self.ask(path)
        head, _, content = transport.value().partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), headers, content.decode()

    def test_pages(self) -> None:
        """Each has a type, and headers that allow only what the site itself has."""
        types = {}
        for path in PAGES:
            status, headers, content = self.get(path)
            self.assertEqual(status, 200, path)
            self.assertTrue(content)
            types[path] = headers["content-type"].partition(";")[0]
            policy = dict(each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";"))
            self.assertEqual(policy["default-src"], "'none'")
            self.assertEqual(policy["script-src"], "'self'")
            self.assertNotIn("unsafe", headers["content-security-policy"])
            self.assertEqual(headers["x-content-type-options"], "nosniff")
            self.assertEqual(headers["cache-control"], "no-store")
        self.assertEqual(
            types,
            {
                "": "text/html",
                "status.css": "text/css",
                "status.js": "text/javascript",
                "status.json": "application/json",
                "metrics": "text/plain",
                "healthz": "text/plain",
                "readyz": "text/plain",
            },
        )
        self.assertEqual(self.get("other")[0], 404)
        self.assertEqual(json.loads(self.get("status.json")[2]), {"text": "</script>é"})
        self.assertIn("valkey_proxy_requests_total 7.0", self.get("metrics")[2])

    def test_nothing_from_elsewhere(self) -> None:
        """The page loads nothing from other hosts, and puts nothing into the page but text."""
        page = {each.name: each.read_text() for each in files("txvalkeycluster.proxy.web").joinpath("page").iterdir()}
        self.assertEqual(set(page), {"index.html", "status.css", "status.js"})
        for text in page.values():
            self.assertNotRegex(text, r"https?://|url\(|@import|//cdn")
        self.assertNotRegex(page["status.js"], r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(")
        self.assertNotRegex(page["index.html"], r"<style|style=|\son\w+=|<script>")
        used = set(re.findall(r'byId\("([\w-]+)"\)', page["status.js"]))
        self.assertGreater(len(used), 20)
        self.assertEqual({name for name in used if f'id="{name}"' not in page["index.html"]}, set())

    def test_readiness(self) -> None:
        """The status of HTTP says it for machines, and the text for people."""
        self.assertEqual(self.get("readyz")[::2], (200, "yes\n"))
        self.source.readiness = lambda: succeed(Readiness(False, "no\udcff"))
        self.assertEqual(self.get("readyz")[::2], (503, "no?\n"))
        self.assertEqual(self.get("healthz")[0], 200)

    def test_a_failure(self) -> None:
        """It is an error of HTTP with the reason."""
        taking: Deferred[Snapshot] = Deferred()
        self.source.snapshot = lambda: taking
        _, transport = self.ask("metrics")
        taking.errback(ValueError("worker 3 does not answer"))
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 500 "))
        self.assertTrue(transport.value().endswith(b"\r\n\r\nValueError: worker 3 does not answer\n"))

    def test_a_client_that_goes_away(self) -> None:
        """What it has asked for is not needed any more, and nothing is logged as an error."""
        cancelled: list[object] = []
        self.source.snapshot = lambda: Deferred(cancelled.append)
        channel, transport = self.ask("metrics")
        channel.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(transport.value(), b"")

    def test_other_methods(self) -> None:
        """Only GET and HEAD are possible."""
        for path in PAGES:
            self.assertTrue(self.ask(path, "POST")[1].value().startswith(b"HTTP/1.1 405 "))
            _, transport = self.ask(path, "HEAD")
            self.assertTrue(transport.value().startswith(b"HTTP/1.1 200 "))
            self.assertTrue(transport.value().endswith(b"\r\n\r\n"))

    def test_the_end(self) -> None:
        """Connections that browsers keep open are closed."""
        transports = [self.ask("healthz")[1] for _ in range(2)]
        self.site.end()
        self.assertTrue(all(each.disconnecting for each in transports))

    def test_metrics_without_their_package(self) -> None:
        """Everything else works; the log and the page say what is missing."""
        find = importlib.util.find_spec
        lines: list[str | None] = []
        observe_log(self, lambda event: lines.append(formatEvent(event)))

        def missing(name: str, *others: Any) -> Any:
            return None if name == "prometheus_client" else find(name, *others)

        with patch("txvalkeycluster.proxy.web.site.find_spec", missing):
            self.site = ProxySite(self.source)
        self.site.wrappedFactory.timeOut = None
        status, _, text = self.get("metrics")
        self.assertEqual(status, 501)
        self.assertIn("pip install 'txvalkeycluster[prometheus]'", text)
        self.assertEqual(lines, [text.strip()])
        self.assertEqual(self.get("readyz")[0], 200)


class HealthTests(OperationTests):
    """Proxies that run."""

    options: ClassVar[dict[str, Any]] = {"replicas": 1}

    async def proxy(self, workers: int, *words: str) -> TwistdProxy:
        self.port, self.web = free_ports(HOST, 2)
        listen = (f"--listen=tcp:{self.port}:interface={HOST}", f"--metrics=tcp:{self.web}:interface={HOST}")
        return self.start(*listen, f"--workers={workers}", *words)

    async def get(self, path: str) -> tuple[int, str]:
        """Return the status and the content of a page; the status is 0 if there is no web site."""
        agent: Any = Agent(reactor)  # type: ignore[no-untyped-call]
        try:
            response = await agent.request(b"GET", f"http://{HOST}:{self.web}/{path}".encode())
        except ConnectError:
            return 0, ""
        content: bytes = await readBody(response)
        return response.code, content.decode()

    async def status(self) -> dict[str, Any]:
        """Return what the status page shows."""
        code, text = await self.get("status.json")
        self.assertEqual(code, 200, text)
        shown: dict[str, Any] = json.loads(text)
        return shown

    async def ready_is(self, code: int) -> str:
        """Wait until the proxy is ready, or is not; return the reason."""
        while True:
            found, text = await self.get("readyz")
            if found == code:
                return text
            self.assertIn(found, (0, 200, 503), text)
            await pause(0.02)

    async def whole_life(self, workers: int) -> None:
        """Start a proxy, use it, lose the cluster, and stop it."""
        proxy = await self.proxy(workers)
        await self.ready_is(200)
        self.assertEqual(await self.get("readyz"), (200, "the proxy serves requests for all slots\n"))
        await self.ready(proxy, self.port, workers)
        client = await self.plain(self.port)
        for number in range(50):
            await client.call("SET", f"key{number}", number)
        await client.call("INCRBY", "key1", "x")
        shown = await self.status()
        self.assertEqual((shown["ready"], shown["numbers"]["clients"]), (True, 1))
        self.assertGreaterEqual(shown["numbers"]["requests"], 51)
        self.assertEqual(shown["numbers"]["errors"], {"ERR": 1})
        self.assertEqual(len(shown["workers"]), workers)
        primaries = {f"{HOST}:{each.port}" for each in await self.cluster.primaries()}
        self.assertEqual({shard["primary"]["address"] for shard in shown["shards"]}, primaries)
        self.assertEqual([len(shard["replicas"]) for shard in shown["shards"]], [1, 1, 1])
        self.assertEqual(sum(shard["slot_count"] for shard in shown["shards"]), 16384)
        self.assertGreaterEqual(sum(shown["nodes"][address]["commands"] for address in primaries), 51)
        events = [each["text"] for each in shown["events"]]
        self.assertEqual(events.count("reached the cluster; it has 3 primaries and 6 nodes"), 1)

        primary, *_ = await self.cluster.primaries()
        (replica,) = await self.cluster.replicas_of(primary)
        await self.cluster.failover(replica)
        for number in range(50):
            await client.call("SET", f"key{number}", number)
        text = f"{HOST}:{replica.port} is the primary of 5461 slots now, after {HOST}:{primary.port}"
        while text not in [each["text"] for each in (await self.status())["events"]]:
            await pause(0.02)

        for server in self.cluster.servers:
            await self.cluster.kill(server)
        calling = [(await self.plain(self.port)).call("GET", "key1") for _ in range(4)]
        self.assertIn("the cluster cannot be reached: ", await self.ready_is(503))
        self.assertEqual((await self.get("healthz"))[0], 200)
        proxy.kill(signal.SIGTERM)
        self.assertIn("the proxy is stopping", await self.ready_is(503))
        self.assertEqual((await self.get("healthz"))[0], 200)
        self.assertFalse((await self.status())["ready"])
        self.assertEqual((await self.get("metrics"))[0], 200)
        proxy.kill(signal.SIGTERM)
        self.assertEqual(await proxy.ended(), -signal.SIGTERM)
        for each in calling:
            each.addErrback(lambda _: None)
        self.assertEqual((await self.get("healthz"))[0], 0)
        self.assertNotIn("Traceback", proxy.log)
        self.assertNotIn("readyz", proxy.log)

    async def test_one_process(self) -> None:
        """The site says the truth from the start to the end."""
        await self.whole_life(0)

    async def test_workers(self) -> None:
        """The same with several processes."""
        await self.whole_life(2)

    async def test_a_worker_that_does_not_answer(self) -> None:
        """The proxy is ready, since the others accept clients; the page shows which one it is."""
        proxy = await self.proxy(2)
        await self.ready(proxy, self.port, 2)
        os.kill(proxy.workers[0], signal.SIGSTOP)
        for _ in range(4):
            self.assertEqual((await self.get("readyz"))[0], 200)
        shown = await self.status()
        self.assertEqual(sorted(each["state"] for each in shown["workers"]), ["no answer", "running"])
        self.assertTrue(shown["ready"])
        os.kill(proxy.workers[1], signal.SIGSTOP)
        code, text = await self.get("readyz")
        self.assertEqual(code, 503)
        self.assertIn("does not answer", text)
        self.assertFalse((await self.status())["ready"])
        for each in proxy.workers:
            os.kill(each, signal.SIGCONT)
        await self.ready_is(200)

    async def test_a_worker_that_has_ended(self) -> None:
        """It is an event, and what it has seen stays."""
        proxy = await self.proxy(1)
        await self.ready(proxy, self.port, 1)
        (worker,) = proxy.workers
        os.kill(worker, signal.SIGKILL)
        await until(lambda: len(proxy.workers) == 1 and proxy.workers != [worker])
        await self.ready(proxy, self.port, 1)
        events = [each["text"] for each in (await self.status())["events"]]
        self.assertIn("reached the cluster; it has 3 primaries and 6 nodes", events)
        self.assertTrue(any(each.startswith("worker 1 has ended: ") for each in events), events)
