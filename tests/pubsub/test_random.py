"""Random subscriptions, publications and faults.  Each failure names a seed, which can be repeated alone.

Example:
    TXVALKEYCLUSTER_SEED=17 python -m twisted.trial tests.pubsub.test_random
"""

from __future__ import annotations

import os
import time

from tests.memory import MemoryTests
from tests.pubsub.random_world import World

SEED = os.environ.get("TXVALKEYCLUSTER_SEED")
SEEDS = int(os.environ.get("TXVALKEYCLUSTER_SEEDS", "1000000"))
# The seconds that the test may take if no number of seeds is given.
_BUDGET = 5.0


class RandomTests(MemoryTests):
    """Many small worlds."""

    def test_random(self) -> None:
        """Every gap is reported, nothing comes twice, and nothing is left behind."""
        if SEED is not None:
            self.live(int(SEED))
            return
        started = time.monotonic()
        for seed in range(SEEDS):
            if seed and SEEDS == 1000000 and time.monotonic() - started > _BUDGET:
                break
            self.live(seed)

    def live(self, seed: int) -> None:
        """Run one seed."""
        self.setUp()
        world = World(self, seed)
        try:
            world.live()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        errors = self.flushLoggedErrors()
        if world.violations or errors:
            raise AssertionError("\n".join([f"seed {seed}:", *world.violations, *(e.getTraceback() for e in errors)]))
