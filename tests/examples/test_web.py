"""The examples with a web server: the counter as a .tac file and as a plugin, and the rate limiter."""

from __future__ import annotations

import re
import shutil
import signal
from typing import Any

from twisted.internet.defer import ensureDeferred

from tests.cluster.command_line import Running
from tests.examples.base import EXAMPLES, TWISTD, ExampleTests, load

LISTEN = "--listen=tcp:0:interface=127.0.0.1"


class CounterTests(ExampleTests):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.environment["COUNTER_LISTEN"] = "tcp:0:interface=127.0.0.1"

    def start_tac(self) -> Running:
        return self.start_example(*TWISTD, f"--python={EXAMPLES / 'counter/counter.tac'}")

    async def test_requests(self) -> None:
        """The counter counts, refuses what is no number or no name, and shows its metrics.

        A request that is being answered when SIGTERM comes gets its answer.
        """
        counter = self.start_tac()
        site = await self.site_of(counter)
        await self.until_status(f"{site}/readyz", 200)
        visits = f"{site}/counters/visits"
        self.assertEqual((await self.http("GET", visits))[:2], (200, {"name": "visits", "value": 0}))
        self.assertEqual((await self.http("POST", visits))[:2], (200, {"name": "visits", "value": 1}))
        self.assertEqual((await self.http("POST", visits, b'{"by": 5}'))[:2], (200, {"name": "visits", "value": 6}))
        self.assertEqual((await self.http("GET", visits))[:2], (200, {"name": "visits", "value": 6}))
        self.assertEqual(await self.client.get("counter:visits"), "6")
        for body in (b"5", b"[]", b'{"by": "5"}', b'{"by": true}', b'{"by": 9999999999}', b"{", b"[" * 900, b"\xff"):
            self.assertEqual((await self.http("POST", visits, body))[0], 400, body)
        for method, path in (("GET", "a%20b"), ("GET", "a/b"), ("GET", ""), ("DELETE", "a")):
            self.assertEqual((await self.http(method, f"{site}/counters/{path}"))[0], 404, path)
        self.assertEqual((await self.http("GET", f"{site}/other"))[0], 404)
        self.assertEqual((await self.http("HEAD", visits))[:2], (200, ""))
        self.assertEqual((await self.http("GET", f"{site}/healthz"))[:2], (200, {"status": "alive"}))
        status, metrics, _ = await self.http("GET", f"{site}/metrics")
        self.assertEqual(status, 200)
        for line in (
            r'valkey_client_commands_total{client="counter"} \d+\.0',
            r'valkey_client_command_duration_seconds_count{client="counter",command="INCRBY"} 2\.0',
        ):
            self.assertRegex(metrics, f"(?m)^{line}$")
        # A key that the counter did not make.
        await self.client.set("counter:text", "text")
        answer = await self.http("POST", f"{site}/counters/text")
        self.assertEqual(answer[:2], (503, {"error": "no answer", "maybe_counted": False}))

        for server in self.cluster.servers:
            await self.cluster.pause(server)
        last = ensureDeferred(self.http("POST", f"{site}/counters/last"))

        async def arrived() -> object:
            _, metrics, _ = await self.http("GET", f"{site}/metrics")
            return re.search(r'(?m)^valkey_client_pending_commands{client="counter"} [1-9]', metrics)

        await self.until(arrived)
        counter.process.send_signal(signal.SIGTERM)
        await counter.until_printed("Received SIGTERM")
        for server in self.cluster.servers:
            await self.cluster.resume(server)
        self.assertEqual((await last)[:2], (200, {"name": "last", "value": 1}))
        self.assertEqual(await counter.ended(), -signal.SIGTERM)

    async def test_a_cluster_that_stops(self) -> None:
        """While the cluster is down, the counter is alive and not ready; also if it was down at the start."""
        first = self.start_tac()
        site = await self.site_of(first)
        await self.until_status(f"{site}/readyz", 200)
        for server in self.cluster.servers:
            await self.cluster.kill(server)
        second = self.start_tac()
        other = await self.site_of(second)
        body = await self.until_status(f"{site}/readyz", 503)
        self.assertEqual(body, {"status": "the cluster does not answer"})
        body = await self.until_status(f"{other}/readyz", 503)
        self.assertEqual(body, {"status": "the cluster is not known yet"})
        for each in (site, other):
            self.assertEqual((await self.http("GET", f"{each}/healthz"))[0], 200)
        for server in self.cluster.servers:
            await self.cluster.restart(server)
        for each in (site, other):
            await self.until_status(f"{each}/readyz", 200)
        for program in (first, second):
            self.assertEqual(await self.terminate(program), -signal.SIGTERM)

    async def test_plugin(self) -> None:
        """The counter runs as a plugin of twist and of twistd.  It ends at once if it cannot run."""
        # Twisted writes its list of plugins into the folder.
        folder = self.folder / "counter"
        shutil.copytree(EXAMPLES / "counter", folder)
        self.environment["PYTHONPATH"] = self.environment["PYTHONPATH"].replace(str(EXAMPLES / "counter"), str(folder))
        programs = [self.start_example(*words, "counter", LISTEN) for words in (TWISTD, ("-m", "twisted"))]
        for value, program in enumerate(programs, 1):
            site = await self.site_of(program)
            await self.until_status(f"{site}/readyz", 200)
            self.assertEqual((await self.http("POST", f"{site}/counters/a"))[1], {"name": "a", "value": value})
        port = site.rpartition(":")[2]
        for words in (TWISTD, ("-m", "twisted")):
            failed = self.start_example(*words, "counter", f"--listen=tcp:{port}:interface=127.0.0.1")
            self.assertNotEqual(await failed.ended(), 0)
            self.assertIn("Address already in use", failed.out + failed.err)
        for program in programs:
            self.assertEqual(await self.terminate(program), -signal.SIGTERM)
        del self.environment["VALKEY_URL"]
        failed = self.start_example("-m", "twisted", "counter")
        self.assertNotEqual(await failed.ended(), 0)
        self.assertIn("give --url, or set VALKEY_URL", failed.out + failed.err)


class RateLimiterTests(ExampleTests):
    async def test_two_servers(self) -> None:
        """Two servers share a limit, and answer 429 above it.  Without the cluster they let every request pass."""
        words = (str(EXAMPLES / "rate_limiter.py"), LISTEN, "--rate=0.001", "--burst=3")
        programs = [self.start_example(*words) for _ in range(2)]
        first, second = [await self.site_of(program) for program in programs]
        self.assertEqual((await self.http("GET", first))[:2], (200, "2 more\n"))
        self.assertEqual((await self.http("GET", second))[:2], (200, "1 more\n"))
        self.assertEqual((await self.http("GET", first))[:2], (200, "0 more\n"))
        for site in (first, second):
            status, _, headers = await self.http("GET", site)
            self.assertEqual(status, 429)
            self.assertIn(int(headers["retry-after"]), range(900, 1001))
        await self.check_bucket()
        for server in self.cluster.servers:
            await self.cluster.kill(server)
        await self.until_status(first, 200)
        await programs[0].until_printed("the limiter web cannot count, and allows all")
        for program in programs:
            self.assertEqual(await self.terminate(program), 0)

    async def check_bucket(self) -> None:
        """Check that a bucket fills again, takes several tokens at once or none, and expires when it is full."""
        module = load("rate_limiter")
        limiter = module.RateLimiter(self.client, "test", rate=20.0, burst=5)
        self.assertEqual(await limiter.take("a", 5), module.Decision(True, 0, 0.0))
        refused = await limiter.take("a", 5)
        self.assertFalse(refused.allowed)
        self.assertTrue(0 < refused.retry_after <= 0.25, refused)
        self.assertTrue((await limiter.take("b")).allowed)

        async def full() -> bool:
            return bool((await limiter.take("a", 5)).allowed)

        await self.until(full)
        self.assertTrue(0 < await self.client.pttl("limit:test:a") <= 1250)
        # More than a bucket holds is never allowed, and takes nothing.
        refused = await limiter.take("a", 6)
        self.assertFalse(refused.allowed)
        for arguments in ({"rate": 0.0, "burst": 1}, {"rate": 1.0, "burst": 0}):
            wrong: dict[str, Any] = arguments
            self.assertRaises(ValueError, module.RateLimiter, self.client, "test", **wrong)
