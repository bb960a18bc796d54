"""A client does the same with and without the C extension: what it sends, what callers get, and in which order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.cases import SynchronousTestCase
from txvalkeycluster.acceleration import SWITCH, fast

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("TXVALKEYCLUSTER_SEED", "2026"))
WORLDS = int(os.environ.get("TXVALKEYCLUSTER_WORLDS", "30"))


class SameClientTests(SynchronousTestCase):
    if fast is None:
        skip = "there is no C extension"

    def transcript(self, switch: str) -> list[str]:
        """Return the lines of `transcript`."""
        command = [sys.executable, "-m", "tests.acceleration.transcript", str(SEED), str(WORLDS)]
        environment = {**os.environ, SWITCH: switch, "PYTHONHASHSEED": "0"}
        ended = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
        return ended.stdout.splitlines()

    def test_the_same_transcripts(self) -> None:
        """Random programs with random replies have the same transcripts."""
        in_c, in_python = self.transcript("0"), self.transcript("1")
        self.assertGreater(len(in_c), 200 * WORLDS)
        for number, (one, other) in enumerate(zip(in_c, in_python, strict=False)):
            self.assertEqual(one, other, f"line {number} of the transcripts from seed {SEED}")
        self.assertEqual(len(in_c), len(in_python))
