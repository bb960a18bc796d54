"""The workload of the tests when its client is closed."""

from __future__ import annotations

from tests.scripted.base import ScriptedTests
from txvalkeycluster.testing import Workload


class WorkloadTests(ScriptedTests):
    async def test_close_and_abort(self) -> None:
        """Each worker ends at its first ClientClosed, and the report counts that error."""
        for how in ("close", "abort"):
            client = await self.client()
            workload = Workload(self.cluster.reactor, client, workers=3, prefix=how)
            workload.start()
            await self.until(lambda: workload.report.commands > 100)  # noqa: B023
            await getattr(client, how)()
            report = await workload.stop()
            self.assertTrue(report.sound)
            self.assertEqual(report.errors.total(), 3)
            self.assertEqual({kind.partition(": ")[2].partition(",")[0] for kind in report.errors}, {"ClientClosed"})
