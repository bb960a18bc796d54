"""What the documents say: every sample runs, every option is there."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue

from tests.cluster.base import ClusterTests
from txvalkeycluster import Options
from txvalkeycluster.commands.overrides import REFUSED

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

PRINTED = {
    "README.md": "b'hello'\n",
    "testing.md": "True {}\n",
    "commands.md": """{'name': 'Ada', 'born': '1815'}
[('bob', 5.5), ('ada', 7.0)]
[1, 1, 'words']
[1, 1]
['OK']
hello world
['{cart}items', '{cart}list']
('{cart}list', 'apple')
[b'a', b'b']
""",
    "modules.md": """['key']
['{k}1', '{k}2']
generated.py: 24 lines
methods.py: 42 lines
Deferred[float] True
""",
}


class DocumentTests(ClusterTests):
    async def test_every_sample_runs(self) -> None:
        """Each Python block is a program that ends well, on a cluster in the place of the one it names."""
        printed: dict[str, str] = {}
        folder = Path(self.mktemp())
        folder.mkdir()
        for name in ("gencmd", "examples"):
            (folder / name).symlink_to(ROOT / name)
        for document in DOCUMENTS:
            for number, sample in enumerate(re.findall(r"```python\n(.*?)```", document.read_text(), re.S)):
                program = sample.replace("127.0.0.1:7000", str(self.cluster.addresses[0]))
                command = ["-W", "error", "-c", program]
                out, err, code = await getProcessOutputAndValue(sys.executable, command, path=str(folder))
                self.assertEqual((code, err), (0, b""), f"{document.name}, sample {number}: {err.decode()}")
                printed[document.name] = printed.get(document.name, "") + out.decode()
        self.maxDiff = None
        self.assertEqual(printed, PRINTED)

    def test_every_option_is_documented(self) -> None:
        """docs/options.md has each option, and no other."""
        rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/options.md").read_text(), re.M)
        named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        self.assertEqual(named, {field.name for field in fields(Options)})

    def test_every_refusal_is_documented(self) -> None:
        """docs/commands.md lists each refused command, and no other."""
        rows = (ROOT / "docs/commands.md").read_text().partition("## Refused")[2].splitlines()[4:]
        named = {name for row in rows if row.startswith("|") for name in row.split("|")[1].strip().split(", ")}
        self.assertEqual(named, set(REFUSED))

    def test_no_link_leads_nowhere(self) -> None:
        """Links between the documents."""
        for document in DOCUMENTS:
            for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
                self.assertTrue((document.parent / target).exists(), f"{document.name}: {target}")
