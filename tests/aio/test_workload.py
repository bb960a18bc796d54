"""The verified workload on asyncio and uvloop, through everything that can happen to a cluster."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.aio.base import AioTests
from txvalkeycluster import aio
from txvalkeycluster.aio import loops
from txvalkeycluster.testing import Report, Workload


class _WithDeferreds:
    """Gives the replies of a client as Deferreds, as the workload wants them."""

    def __init__(self, client: aio.AsyncClient[bytes]) -> None:
        self._client = client
        self.options = client.options

    def execute(self, *words: Any) -> Deferred[Any]:
        return Deferred.fromFuture(self._client.execute(*words))


class _Load:
    """A workload in another thread."""

    def __init__(self, url: str, prefix: str) -> None:
        self._url, self._prefix = url, prefix
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self.workload: Workload | None = None

    async def run(self) -> Report:
        """Run the workload until `stop`; for the other thread."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with await aio.connect(self._url) as client:
            adapter: Any = _WithDeferreds(client)
            workload = Workload(loops._uses[self._loop].reactor, adapter, prefix=self._prefix)
            workload.start()
            self.workload = workload
            await self._stop.wait()
            return await Deferred.fromCoroutine(workload.stop()).asFuture(self._loop)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)


class WorkloadTests(AioTests):
    async def through(self, loop: str, change: Any) -> Report:
        """Run the workload while the cluster changes; return its report, in which all values were right."""
        load = _Load(self.cluster.url, change.__name__)
        running = self.run_in_thread(load.run, loop=loop, debug=False)
        try:
            while load.workload is None:
                await deferLater(reactor, 0.01)
            await self.progress(load.workload)
            await change(load.workload)
            await self.progress(load.workload)
        finally:
            load.stop()
        report: Report = await running
        self.assertEqual((report.wrong, report.unfired), ([], 0))
        return report

    async def changes(self, loop: str) -> None:
        cluster = self.cluster

        async def failover(_: Workload) -> None:
            await cluster.failover(cluster.servers[3])

        async def reshard(_: Workload) -> None:
            one, other, *_rest = await cluster.primaries()
            (slots, *_more) = await cluster.ranges_of(one)
            await cluster.migrate_by_key(slots[:200], one, other)

        async def kill(workload: Workload) -> None:
            (victim, *_rest) = await cluster.primaries()
            await self.expect_losses(workload, victim)
            await cluster.kill(victim)
            await cluster.wait_for_takeover(victim)

        for change in (failover, reshard):
            report = await self.through(loop, change)
            self.assertEqual(report.errors, {}, change.__name__)
        report = await self.through(loop, kill)
        # A write on its way to the primary that died may have been executed.  Reads are sent again.
        self.assertEqual([kind for kind in report.errors if kind != "SET: ConnectionLost, maybe executed"], [])

    async def test_asyncio(self) -> None:
        """A failover, a resharding and a SIGKILL have the same results as with Deferreds."""
        await self.changes("asyncio")

    async def test_uvloop(self) -> None:
        """The same with uvloop."""
        await self.changes("uvloop")
