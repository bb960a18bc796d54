"""The command line with clusters of real servers."""

from __future__ import annotations

import signal
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater

from tests.cluster.command_line import CommandLine
from txvalkeycluster import Options


class CommandLineTests(CommandLine):
    async def test_cluster_commands(self) -> None:
        """start, status, topology, demo and stop work on one cluster, and no cluster runs after stop."""
        self.addCleanup(self.run_command, "cluster", "stop")
        url = (await self.succeed("cluster", "start", "--primaries=2", "--password=secretword")).strip()
        self.assertEqual(len(Options.from_url(url).seeds), 4)
        self.assertIn(url, await self.succeed("cluster", "status"))
        code, _, err = await self.run_command("cluster", "start")
        self.assertEqual((code, "is already running" in err), (1, True))
        table = await self.succeed("topology", url)
        for text in ("2 shards, 4 nodes, 16384 slots, no TLS", "8192 slots (0-8191)", "replica", " ms"):
            self.assertIn(text, table)
        report = await self.succeed("demo", f"--url={url}", "--seconds=1", "--workers=5")
        self.assertIn("every value was right and every Deferred fired", " ".join(report.split()))
        self.assertNotIn("killed", report)
        self.assertEqual(await self.succeed("cluster", "stop"), "stopped default\n")
        self.assertEqual(await self.succeed("cluster", "status"), "no cluster is running\n")

    async def test_demo(self) -> None:
        """The demo of the README kills a primary, moves slots, and verifies every value."""
        report = " ".join((await self.succeed("demo", "--seconds=5")).split())
        for text in ("took over", "and back", "every value was right and every Deferred fired"):
            self.assertIn(text, report)

    async def test_servers_end_with_their_holder(self) -> None:
        """SIGKILL of the process that holds a cluster ends every server."""
        holder = self.start_command("cluster", "start", "--foreground", "--replicas=0")
        await holder.until_printed("\n")
        holder.process.send_signal(signal.SIGKILL)
        await holder.ended()
        url = holder.out
        for host, port in Options.from_url(url.strip()).seeds:
            while await self.accepts(host, port):
                await deferLater(reactor, 0.05)  # type: ignore[arg-type]

    async def accepts(self, host: str, port: int) -> bool:
        closed: Deferred[Any] = Deferred()
        once = Protocol()
        once.connectionLost = lambda reason: closed.callback(None)  # type: ignore[method-assign]
        try:
            await connectProtocol(HostnameEndpoint(reactor, host, port), once)
        except ConnectError:
            # The connection is refused, or reset by a server that is being killed.
            return False
        once.transport.loseConnection()
        await closed
        return True
