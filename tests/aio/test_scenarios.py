"""Every scenario, on asyncio and on uvloop, against real servers."""

from __future__ import annotations

import inspect
import traceback
from typing import Any

from tests.aio import scenarios
from tests.aio.base import LOOPS, AioTests


def _all() -> list[Any]:
    helpers = (scenarios.raises, scenarios.until, scenarios.blocked, scenarios.pause, scenarios.until_blocked)
    found = [each for _, each in inspect.getmembers(scenarios, inspect.iscoroutinefunction)]
    return [each for each in found if each.__module__ == scenarios.__name__ and each not in helpers]


class ScenarioTests(AioTests):
    async def check(self, loop: str) -> None:
        """Run every scenario on one kind of loop; fail with all that failed."""
        client = await self.connect()
        url = f"valkey://{self.cluster.addresses[0]}"
        failures = []
        for scenario in _all():
            await client.flushall()
            try:
                await self.run_in_thread(scenario, url, loop=loop)
            except Exception:
                failures.append(f"{scenario.__name__} on {loop}:\n{traceback.format_exc()}")
        self.assertEqual(failures, [], "\n\n".join(failures))

    async def test_asyncio(self) -> None:
        """Every scenario holds on asyncio, and leaves no task, thread or file."""
        await self.check("asyncio")

    async def test_uvloop(self) -> None:
        """Every scenario holds on uvloop, and leaves no task, thread or file."""
        await self.check("uvloop")

    def test_loops(self) -> None:
        """There is a test for each kind of loop."""
        self.assertEqual(set(LOOPS), {"asyncio", "uvloop"})
