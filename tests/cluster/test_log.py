"""The log of a service: what happens to a real cluster, told once."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import formatEvent

from tests.cluster.base import ClusterTests
from tests.logs import observe_log
from txvalkeycluster import ClusterService, NodeConnectFailed, ValkeyError
from txvalkeycluster.testing import Server

NAME = "the-service-of-this-test"


class StoryTests(ClusterTests):
    options: ClassVar[dict[str, Any]] = {"password": "secret-of-the-cluster"}

    def setUp(self) -> Any:
        self.lines: list[str] = []

        def observe(event: Any) -> None:
            if event.get("client") == NAME:
                level, namespace = event["log_level"].name, event["log_namespace"]
                self.lines.append(f"{namespace.rpartition('.')[2]} {level}: {formatEvent(event)}")

        observe_log(self, observe)
        return Deferred.fromCoroutine(super().setUp())

    async def logged(self, text: str) -> str:
        """Wait until a line contains a text; remove the lines up to it, and return it."""
        while True:
            for number, line in enumerate(self.lines):
                if text in line:
                    del self.lines[: number + 1]
                    return line
            await deferLater(reactor, 0.02)

    async def test_from_a_cluster_that_is_down_to_a_refused_login(self) -> None:
        """The cluster is down at first, loses a primary, fails over, and refuses a login."""
        cluster = self.cluster
        for server in cluster.servers:
            await cluster.kill(server)
        quick: Any = {"backoff_max": 0.2, "refresh_interval": 0.1, "refresh_period": 0.3}
        service = ClusterService(reactor, cluster.url, client_name=NAME, timeout=30.0, **quick)
        self.addCleanup(service.stopService)
        history = self.lines_kept()
        service.startService()
        await self.logged("topology error: cannot reach the cluster: no node gave a slot map; ")
        while service.client.statistics.refreshes_failed < 10:
            await deferLater(reactor, 0.02)
        self.assertEqual(self.lines, [])

        await self.all_up(cluster.servers)
        client = await service.whenReady()
        await self.logged("topology info: reached the cluster; ")
        while len(client.topology.nodes) < 6:
            await client.refresh_topology()
        keys = [f"key-{number}" for number in range(50)]
        working: Any = LoopingCall(lambda: [client.get(key).addErrback(self.expected) for key in keys])
        working.start(0.02)
        self.addCleanup(lambda: working.running and working.stop())
        await client.pipeline().get(keys[0]).execute()

        victim = cluster.servers[0]
        await cluster.kill(victim)
        await self.logged(f"127.0.0.1:{victim.port}")
        await self.logged(f"is the primary of 5461 slots now, after 127.0.0.1:{victim.port}")
        await self.logged("commands info: no command waits for long any more")

        other = cluster.servers[1]
        failed: Deferred[Any] = Deferred()
        client.add_listener(lambda event: self.note(event, failed))
        await cluster.ask(other, "CONFIG", "SET", "requirepass", "another-secret")
        await cluster.ask(other, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await failed
        line = await self.logged("nodes error: the login at ")
        self.assertTrue(line.startswith(f"nodes error: the login at 127.0.0.1:{other.port} failed: "), line)
        self.assertIn("WRONGPASS", line)
        working.stop()
        await service.stopService()

        story = "\n".join(history)
        self.assertLess(len(history), 20, story)
        self.assertNotIn("secret", story)
        self.assertNotIn("key-", story)

    def lines_kept(self) -> list[str]:
        """Return a list that gets every line from now on, also those that `logged` has removed."""
        history: list[str] = []

        def observe(event: Any) -> None:
            if event.get("client") == NAME:
                history.append(formatEvent(event))

        observe_log(self, observe)
        return history

    async def all_up(self, servers: list[Server]) -> None:
        for server in servers:
            await self.cluster.restart(server)
        await self.cluster.wait_until_whole()

    def note(self, event: object, failed: Deferred[Any]) -> None:
        if isinstance(event, NodeConnectFailed) and not failed.called:
            failed.callback(None)

    def expected(self, failure: Any) -> None:
        failure.trap(ValkeyError)

    async def test_a_quiet_day(self) -> None:
        """Commands, refreshes of the slot map and unused connections that the server closes leave no line."""
        service = ClusterService(reactor, self.cluster.url, client_name=NAME, refresh_period=0.1, refresh_interval=0.05)
        self.addCleanup(service.stopService)
        service.startService()
        client = await service.whenReady()
        for node in client.nodes():
            await client.execute_on(node, "PING")
        self.lines.clear()
        for _ in range(3):
            for server in self.cluster.servers[:3]:
                await self.cluster.ask(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            before = client.statistics.refreshes
            while client.statistics.refreshes < before + 5:
                await deferLater(reactor, 0.02)
            await client.set("key", "value")
            self.assertEqual(await client.get("key"), b"value")
            await client.pipeline().get("a").get("b").get("c").execute()
        await service.stopService()
        self.assertEqual(self.lines, [])
