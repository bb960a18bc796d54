"""The exit status of a command that a signal has ended."""

from __future__ import annotations

import subprocess
import sys

from tests.cases import SynchronousTestCase

# The alarm comes while Python frees what is left, when it has given up its signal handlers.
SLOW_END = """
import sys, time
from txvalkeycluster.cli import signals

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(1.5)

slow = Slow()
signals._GRACE = 1
signals.leave_at_last(2)
sys.exit(130)
"""
# The work is not undone in time.
HANGS = """
import time
from txvalkeycluster.cli import signals

signals._GRACE = 1
signals.leave_at_last(2)
while True:
    time.sleep(1)
"""


class SignalTests(SynchronousTestCase):
    def test_the_end_takes_long(self) -> None:
        """It is that of the signal, also if Python takes long to end, or if the work is not undone in time."""
        for program in (SLOW_END, HANGS):
            ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
            self.assertEqual((ended.returncode, ended.stdout, ended.stderr), (130, "", ""))
