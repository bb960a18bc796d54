"""The base of tests that run the programs of ``examples/`` as a user does, on a cluster of real servers."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from importlib.util import module_from_spec, spec_from_file_location
from io import BytesIO
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.web.client import Agent, FileBodyProducer, readBody
from twisted.web.http_headers import Headers

from tests.cluster.command_line import ROOT, CommandLine, Running, pause
from txvalkeycluster.testing import LocalCluster

EXAMPLES = ROOT / "examples"
TWISTD = ("-c", "from twisted.scripts.twistd import run; run()", "--nodaemon", "--pidfile=")
SECRET = "secretword"


class ExampleTests(CommandLine):
    """Each test has a cluster with a password.  No program may write the password anywhere."""

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.programs: list[Running] = []
        self.addCleanup(self.expect_no_secret)
        self.cluster = LocalCluster(reactor, replicas=0, password=SECRET)
        self.addCleanup(self.cluster.stop)
        await self.cluster.start()
        self.client = self.cluster.client(encoding="utf-8", encoding_errors="backslashreplace")
        self.addCleanup(self.client.abort)
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.environment |= {
            "VALKEY_URL": self.cluster.url,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, EXAMPLES / "counter", self.folder))),
            # Output goes to a file, and the tests wait for it.
            "PYTHONUNBUFFERED": "1",
        }

    def expect_no_secret(self) -> None:
        for program in self.programs:
            self.assertNotIn(SECRET, program.out + program.err)

    def start_example(self, *words: str) -> Running:
        """Start Python with these words."""
        program = self.start_python(*words)
        self.programs.append(program)
        return program

    async def run_example(self, name: str, *words: str) -> tuple[int, str, str]:
        """Run an example to its end.  Return its exit status, stdout and stderr."""
        program = self.start_example(str(EXAMPLES / name), *words)
        return await program.ended(), program.out, program.err

    async def terminate(self, program: Running) -> int:
        """Send SIGTERM, and wait for the end.  Return the exit status.  Nothing may have gone wrong."""
        program.process.send_signal(signal.SIGTERM)
        status = await program.ended()
        for text in ("Traceback", "Unhandled"):
            self.assertNotIn(text, program.out + program.err)
        return status

    async def site_of(self, program: Running) -> str:
        """Wait until a program listens.  Return its URL."""
        pattern = re.compile(r"Site starting on (\d+)")
        await program.until(lambda: pattern.search(program.out))
        return f"http://127.0.0.1:{pattern.findall(program.out)[0]}"

    async def http(self, method: str, url: str, body: bytes = b"") -> tuple[int, Any, dict[str, str]]:
        """Send a request.  Return the status, the body (decoded if it is JSON), and the headers."""
        agent: Any = Agent(reactor)  # type: ignore[no-untyped-call]
        producer = FileBodyProducer(BytesIO(body)) if body else None  # type: ignore[no-untyped-call]
        response = await agent.request(method.encode(), url.encode(), Headers({}), producer)
        text = (await readBody(response)).decode()
        headers = {name.decode().lower(): values[-1].decode() for name, values in response.headers.getAllRawHeaders()}
        if headers["content-type"] == "application/json" and text:
            return response.code, json.loads(text), headers
        return response.code, text, headers

    async def until_status(self, url: str, wanted: int) -> Any:
        """Repeat a GET until it has a status.  Return the body."""
        while True:
            status, body, _ = await self.http("GET", url)
            if status == wanted:
                return body
            await pause()

    async def until(self, condition: Callable[[], Awaitable[object]]) -> None:
        """Wait until an async function returns something true.  The deadline is that of the test."""
        while not await condition():
            await pause()


def load(name: str) -> Any:
    """Import a module of ``examples/``, which is no package."""
    spec = spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
