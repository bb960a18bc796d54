"""docs/tutorial.md: each step works as printed, but for the ports."""

from __future__ import annotations

import re

from twisted.internet import reactor
from twisted.web.client import Agent, readBody

from tests.cluster.command_line import CommandLine, first_of_six
from tests.cluster.test_documents import ROOT, printed_by, samples_of
from txvalkeycluster.testing.ports import free_ports

PAGE = "docs/tutorial.md"


class TutorialTests(CommandLine):
    def setUp(self) -> None:
        super().setUp()
        self.first = first_of_six()
        [self.port] = free_ports("127.0.0.1", 1)
        self.lines = re.findall(r"^    (.+)$", (ROOT / PAGE).read_text(), re.M)

    def here(self, text: str) -> str:
        """Return a text of the page with the ports of this test."""
        text = re.sub(r"\b700(\d)\b", lambda found: str(self.first + int(found[1])), text)
        return re.sub(r"\b8080\b", str(self.port), text)

    def command(self, program: str) -> list[str]:
        """Return the arguments of the page's only line that calls a program with these first words."""
        [line] = [each for each in self.lines if each.startswith(program)]
        return self.here(line.removeprefix(program)).split()

    async def visit(self) -> tuple[int, str]:
        [line] = [each for each in self.lines if "curl" in each]
        url = re.findall(r"http://\S+/", self.here(line))[0]
        response = await Agent(reactor).request(b"GET", url.encode())  # type: ignore[no-untyped-call]
        return response.code, (await readBody(response)).decode()

    async def test_every_step(self) -> None:
        """The service counts on while the primary is killed, and the page shows the lines of the log."""
        first, service, kill, test = map(self.here, samples_of(PAGE))
        self.addCleanup(self.run_command, "cluster", "stop")
        await self.succeed("cluster", "start", *self.command("txvalkeycluster cluster start"))
        shown = await self.succeed("topology", *self.command("txvalkeycluster topology"))
        self.assertEqual(self.form(shown), self.form(self.here(self.block("3 shards"))))
        self.assertEqual(await self.run_python("-c", first), (0, printed_by(first), ""))

        (self.temporary / "visits.tac").write_text(service)
        words = self.command("twistd")
        options = [*words[:-1], words[-1].replace("visits.tac", str(self.temporary / "visits.tac")), "--pidfile="]
        twistd = self.start_python("-c", "from twisted.scripts.twistd import run; run()", *options)
        await twistd.until_printed(f"Site starting on {self.port}")
        self.assertRegex((await self.visit())[1], r"^visit 1 \(\d+\.\d\d s\)\n$")

        self.assertEqual(await self.run_python("-c", kill), (0, printed_by(kill), ""))
        self.assertEqual((await self.visit())[0], 200)
        self.assertRegex((await self.visit())[1], "^visit 3 ")
        for line in self.here(self.block("cannot connect")).splitlines():
            if "commands wait" not in line:
                await twistd.until_printed(line)
        twistd.process.terminate()
        await twistd.ended()

        (self.temporary / "test_visits.py").write_text(test)
        [line] = [each for each in self.lines if each.startswith("python -m twisted.trial")]
        code, out, err = await self.run_python(*line.split()[1:], path=self.temporary)
        self.assertEqual(code, 0, out + err)
        self.assertIn("stopped", await self.succeed("cluster", "stop", *self.command("txvalkeycluster cluster stop")))

    def block(self, start: str) -> str:
        """Return the block of the page that begins with a text."""
        blocks = re.findall(r"^```.*?\n(.*?)^```$", (ROOT / PAGE).read_text(), re.M | re.S)
        return next(str(each) for each in blocks if each.startswith(start))

    def form(self, topology: str) -> str:
        """Return what ``topology`` prints without what is different each time."""
        return re.sub(r"[0-9a-f]{8}|\d+\.\d+ ms| +", " ", topology).strip()
