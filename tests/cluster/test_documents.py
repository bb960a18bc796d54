"""What the documents say: every sample runs, every option is there."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue

from tests.cluster.base import ClusterTests
from txvalkeycluster import Options

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class DocumentTests(ClusterTests):
    async def test_every_sample_runs(self) -> None:
        """Each Python block is a program that ends well, on a cluster in the place of the one it names."""
        printed = {}
        for document in DOCUMENTS:
            for number, sample in enumerate(re.findall(r"```python\n(.*?)```", document.read_text(), re.S)):
                program = sample.replace("127.0.0.1:7000", str(self.cluster.addresses[0]))
                out, err, code = await getProcessOutputAndValue(sys.executable, ["-W", "error", "-c", program])
                self.assertEqual((code, err), (0, b""), f"{document.name}, sample {number}: {err.decode()}")
                printed[document.name] = out
        self.assertEqual(printed, {"README.md": b"b'hello'\n", "testing.md": b"True {}\n"})

    def test_every_option_is_documented(self) -> None:
        """docs/options.md has each option, and no other."""
        rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/options.md").read_text(), re.M)
        named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        self.assertEqual(named, {field.name for field in fields(Options)})

    def test_no_link_leads_nowhere(self) -> None:
        """Links between the documents."""
        for document in DOCUMENTS:
            for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
                self.assertTrue((document.parent / target).exists(), f"{document.name}: {target}")
