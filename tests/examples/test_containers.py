"""The configuration in docs/kubernetes.md, run as plain processes."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

from tests.cluster.command_line import ROOT
from tests.examples.base import EXAMPLES, TWISTD, ExampleTests

PAGE = (ROOT / "docs/kubernetes.md").read_text()


def found(pattern: str) -> str:
    """Return the only place of the page that matches; it is the first group."""
    (match,) = re.findall(pattern, PAGE, re.M)
    return str(match)


class ContainerTests(ExampleTests):
    def lay_out(self) -> Path:
        """Copy the files of the image to a folder, which is in place of its root; return the folder."""
        folder = self.folder / "image"
        for name in found(r"^    COPY (.+) /app/$").split():
            (folder / "app").mkdir(parents=True, exist_ok=True)
            shutil.copy(EXAMPLES / "counter" / name, folder / "app")
        return folder

    async def test_the_image(self) -> None:
        """The entry point starts the counter; the probes are answered; SIGTERM ends it."""
        folder = self.lay_out()
        variables = dict(word.split("=", 1) for word in found(r"^    ENV (.+)$").split())
        self.assertEqual(variables["COUNTER_LISTEN"], "tcp:8080")
        self.environment["COUNTER_LISTEN"] = "tcp:0:interface=127.0.0.1"
        self.environment["PYTHONPATH"] = f"{ROOT}:{folder}{variables['PYTHONPATH']}"
        program, *words = json.loads(found(r"^    ENTRYPOINT (.+)$"))
        self.assertEqual(program, "twistd")
        start = [*TWISTD[:2], *(word.replace("/app/", f"{folder}/app/") for word in words)]
        counter = self.start_example(*start)
        site = await self.site_of(counter)
        for probe in ("readinessProbe", "livenessProbe"):
            path, port = re.findall(rf"^    {probe}: {{httpGet: {{path: (\S+), port: (\d+)}}", PAGE, re.M)[0]
            self.assertEqual(port, "8080")
            await self.until_status(f"{site}{path}", 200)
        self.assertEqual((await self.http("POST", f"{site}/counters/visits"))[0], 200)
        self.assertEqual(await self.terminate(counter), -signal.SIGTERM)

    async def test_the_grace_period(self) -> None:
        """It is longer than the counter waits for its requests."""
        source = (EXAMPLES / "counter/counter_service.py").read_text()
        (stop_timeout,) = re.findall(r'"stop-timeout", None, ([0-9.]+)', source)
        self.assertLess(float(stop_timeout), float(found(r"^    terminationGracePeriodSeconds: (\d+)$")))

    async def test_servers_that_announce_names(self) -> None:
        """With the settings of the page, the client uses the names of the pods."""
        settings = dict(re.findall(r"^    (cluster-(?:announce-hostname|preferred-endpoint-type)) (\S+)$", PAGE, re.M))
        self.assertEqual(len(settings), 2)
        for server in self.cluster.servers:
            for name, value in settings.items():
                # Here, all names must lead to this machine.
                shown = "localhost" if name == "cluster-announce-hostname" else value
                await self.cluster.ask(server, "CONFIG", "SET", name, shown)

        async def named() -> bool:
            await self.client.refresh_topology()
            return {node.host for node in self.client.nodes()} == {"localhost"}

        await self.until(named)
        self.assertEqual(await self.client.set("page", "welcome"), "OK")
        self.assertEqual(await self.client.get("page"), "welcome")
