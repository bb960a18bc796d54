"""A short run of every fault under every kind of work; ``python -m tests.faults`` makes longer ones."""

from __future__ import annotations

import os

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.cases import TestCase
from tests.cluster.command_line import ROOT, output_of

from .run import FAULTS, Run
from .work import WORK

SEED = 2026
# In seconds.  A run by hand has a limit of 2; a machine that runs other tests at the same time can be slower.
HEALTHY = 10.0


class FaultTests(TestCase):
    timeout = 300

    async def test_every_fault_under_every_work(self) -> None:
        """During every fault all Deferreds fire, no reply is wrong, and only the losses of the servers occur."""
        run = Run(reactor, seed=SEED, duration=0.0, pauses=(0.2, 2.0), healthy=HEALTHY)
        self.addCleanup(lambda: Deferred.fromCoroutine(run.abort()))
        findings = await run.run()
        self.assertEqual([], findings.violations, f"seed {SEED}")
        self.assertEqual(set(FAULTS), set(findings.faults))
        self.assertEqual(set(WORK), {name for name, count in findings.work.items() if count.successes})

    async def test_the_command(self) -> None:
        """``python -m tests.faults`` runs the chosen faults and work, prints the results, and exits with status 0."""
        words = ("-m", "tests.faults", "--duration=0", f"--healthy={HEALTHY}", "--faults=cut", "--work=counters")
        out, err, status = await output_of(words, os.environ, ROOT)
        self.assertEqual((status, err), (0, ""))
        self.assertIn("no violation with seed 1", out)
