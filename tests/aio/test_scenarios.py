"""Every scenario, on asyncio and on uvloop, against real servers."""

from __future__ import annotations

import traceback
from importlib import import_module
from inspect import getmembers, iscoroutinefunction
from pkgutil import iter_modules
from typing import Any

from tests.aio import scenarios
from tests.aio.base import LOOPS, AioTests


def _all() -> list[Any]:
    modules = [import_module(f"{scenarios.__name__}.{each.name}") for each in iter_modules(scenarios.__path__)]
    found = [(module, each) for module in modules for _, each in getmembers(module, iscoroutinefunction)]
    return [each for module, each in found if each.__module__ == module.__name__]


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
