"""A short run of every fault under every kind of work; ``python -m tests.faults`` makes longer ones."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from .run import FAULTS, Run
from .work import WORK

SEED = 2026


class FaultTests(TestCase):
    timeout = 300

    async def test_every_fault_under_every_work(self) -> None:
        """Whatever happens, every Deferred fires, no reply is wrong, and only what the servers may lose is lost."""
        run = Run(reactor, seed=SEED, duration=0.0, pauses=(0.2, 2.0))
        self.addCleanup(lambda: Deferred.fromCoroutine(run.abort()))
        findings = await run.run()
        self.assertEqual([], findings.violations, f"seed {SEED}")
        self.assertEqual(set(FAULTS), set(findings.faults))
        self.assertEqual(set(WORK), {name for name, count in findings.work.items() if count.successes})
