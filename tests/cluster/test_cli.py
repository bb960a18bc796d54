"""The command line with clusters of real servers."""

from __future__ import annotations

import signal

from tests.cluster.command_line import CommandLine, accepts, pause
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
        for _, port in Options.from_url(url.strip()).seeds:
            while accepts(port):
                await pause()
