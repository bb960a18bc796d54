"""Failovers and changed addresses under load."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from zope.interface import implementer

from tests.cluster.base import ClusterTests
from txvalkeycluster.testing import Workload


@implementer(IHostnameResolver, IHostResolution)
class OneName:
    """A resolver that knows one name, whose IP address the test can change."""

    name = "cluster.test"

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.asked = 0

    def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *_: Any) -> Any:
        receiver.resolutionBegan(self)
        if hostName == self.name:
            self.asked += 1
            receiver.addressResolved(IPv4Address("TCP", self.ip, portNumber))
        receiver.resolutionComplete()
        return self

    def cancel(self) -> None:
        """Do nothing: every resolution has ended."""


class FailoverTests(ClusterTests):
    async def test_sigkill_of_a_primary(self) -> None:
        """Only writes that were sent and not answered fail, and say that they may have been executed."""
        victim = self.cluster.servers[0]

        async def kill(workload: Workload) -> None:
            await self.expect_losses(workload, victim)
            await self.cluster.kill(victim)
            await self.cluster.wait_for_takeover(victim)

        report = await self.under_load(kill)
        self.assertLessEqual(set(report.errors), {"SET: ConnectionLost, maybe executed"})
        self.assertLessEqual(sum(report.errors.values()), 50)

    async def test_graceful_failover(self) -> None:
        """A graceful failover causes no error."""

        async def hand_over(_: Workload) -> None:
            for replica in (self.cluster.servers[3], self.cluster.servers[0]) * 2:
                await self.cluster.failover(replica)
                await self.cluster.wait_until_whole()

        report = await self.under_load(hand_over)
        self.assertEqual((dict(report.errors), report.older), ({}, 0))

    async def test_a_paused_primary(self) -> None:
        """If a primary hangs, the writes that were sent to it fail, and later commands go to its replica."""
        client = await self.connect(unresponsive_after=1.0)
        victim = self.cluster.servers[1]

        async def pause(workload: Workload) -> None:
            await self.expect_losses(workload, victim)
            await self.cluster.pause(victim)
            await self.cluster.wait_for_takeover(victim)

        report = await self.under_load(pause, client)
        self.assertLessEqual(set(report.errors), {"SET: ConnectionLost, maybe executed"})
        await self.cluster.resume(victim)

    async def test_every_address_changed(self) -> None:
        """The client finds a cluster that came back on other ports through its seed."""
        moved: dict[Any, Any] = {}
        seed = ("cluster.invalid", 1)
        moved[seed] = self.cluster.addresses[0]
        client = await self.connect(seeds=(seed,), address_map=moved)
        await client.execute("SET", "k", "v")
        before = {node.address for node in client.topology.nodes}

        async def restart(workload: Workload) -> None:
            await self.cluster.restart_elsewhere()
            moved[seed] = self.cluster.addresses[0]
            await client.execute("SET", "k", "v", timeout=60)

        workload = Workload(self.cluster.reactor, client)
        workload.start()
        await self.progress(workload)
        await restart(workload)
        await self.progress(workload)
        report = await workload.stop()
        self.assertEqual(report.unfired, 0)
        after = {node.address for node in client.topology.nodes}
        self.assertFalse(before & after)

    async def test_the_name_of_the_seed_is_resolved_again(self) -> None:
        """The client finds a cluster that came back at other IP addresses by the host name of its seed."""
        names = OneName("127.0.0.1")
        installer: Any = reactor
        self.addCleanup(installer.installNameResolver, installer.installNameResolver(names))
        client = await self.connect(seeds=((names.name, self.cluster.servers[0].port),))
        await client.execute("SET", "k", "v")
        before = {node.address for node in client.topology.nodes}
        await self.cluster.restart_elsewhere("127.0.0.2")
        names.ip = "127.0.0.2"
        asked = names.asked
        await client.execute("SET", "k", "w", timeout=60)
        self.assertEqual(await client.execute("GET", "k", timeout=60), b"w")
        self.assertGreater(names.asked, asked)
        after = {node.address for node in client.topology.nodes}
        self.assertEqual({address and address.host for address in after}, {"127.0.0.2"})
        self.assertFalse(before & after)
