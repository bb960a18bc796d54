"""The pages for people who know another client: tables are complete, and each line of code in them runs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from twisted.internet import reactor
from twisted.trial.unittest import SkipTest

from tests.cases import SynchronousTestCase
from tests.cluster.c_api import ERRORS, NAMES
from tests.cluster.command_line import ROOT, CommandLine
from tests.cluster.test_documents import ADDRESS, printed_by
from txvalkeycluster.testing import LocalCluster
from txvalkeycluster.testing.terminator import Certificates

C_PAGE = ROOT / "docs/coming-from-libvalkeycluster.md"
REDIS_PAGE = ROOT / "docs/coming-from-redis-py.md"
TXREDISAPI_PAGE = ROOT / "docs/coming-from-txredisapi.md"
#: The section whose lines use the client for threads.
BLOCKING = "Synchronous functions"

# What the lines can use, as the page says.
SURROUNDINGS = """
import ast, importlib.metadata, inspect, json, random, socket, sys
from importlib.util import find_spec
import txvalkeycluster
from txvalkeycluster import *
from txvalkeycluster import blocking
from txvalkeycluster.testing import LocalCluster

defined = {**globals(), "seen": []}
failures = []

def check(line, result):
    # A comment says what the line gives.
    expected = line.partition("  # ")[2]
    if expected and str(result) != expected:
        failures.append(f"{line}: it is {result}")

def compiled(line):
    code = line.partition("  # ")[0]
    try:
        return compile(code, line, "eval", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return compile(code, line, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

async def run(lines):
    for line in lines:
        code = compiled(line)
        result = eval(code, defined)
        check(line, await result if code.co_flags & inspect.CO_COROUTINE else result)
"""
# Runs lines with a blocking client.  Arguments: the URL, and the lines as JSON.
RUN_BLOCKING = (
    SURROUNDINGS
    + """
url, lines = sys.argv[1:]
with blocking.connect(url, encoding="utf-8") as defined["client"]:
    for line in json.loads(lines):
        check(line, eval(compiled(line), defined))
    for made in (each for each in defined.values() if isinstance(each, blocking.BlockingClient)):
        made.close()
sys.exit("\\n".join(failures) or 0)
"""
)
# Runs lines in a coroutine, with a client of Twisted.
RUN_CLIENT = (
    SURROUNDINGS
    + """
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

async def main(reactor, url, lines):
    made = []

    class Noted(ClusterClient):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)

    async with await connect(reactor, url, encoding="utf-8") as client:
        defined.update(reactor=reactor, client=client, ClusterClient=Noted)
        await run(json.loads(lines))
        for each in made:
            await each.close()
    sys.exit("\\n".join(failures) or 0)

react(lambda reactor: ensureDeferred(main(reactor, *sys.argv[1:])))
"""
)
# Runs lines with the client for asyncio.
RUN_ASYNCIO = (
    SURROUNDINGS
    + """
import asyncio
from txvalkeycluster import aio

async def main(url, lines):
    async with await aio.connect(url, encoding="utf-8") as defined["client"]:
        await run(json.loads(lines))
    sys.exit("\\n".join(failures) or 0)

asyncio.run(main(*sys.argv[1:]))
"""
)
# Runs lines of redis-py.
RUN_REDIS = (
    SURROUNDINGS
    + """
import asyncio
from redis.asyncio.cluster import RedisCluster

async def main(url, lines):
    address = url.removeprefix("valkey://").partition(",")[0]
    async with RedisCluster.from_url(f"redis://{address}", decode_responses=True) as defined["client"]:
        await run(json.loads(lines))
    sys.exit("\\n".join(failures) or 0)

asyncio.run(main(*sys.argv[1:]))
"""
)
# Runs lines of txredisapi.
RUN_TXREDISAPI = (
    SURROUNDINGS
    + """
import txredisapi
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

async def main(reactor, url, lines):
    host, _, port = url.removeprefix("valkey://").partition(",")[0].partition(":")
    defined["client"] = client = await txredisapi.Connection(host, int(port))
    await run(json.loads(lines))
    await client.disconnect()
    sys.exit("\\n".join(failures) or 0)

react(lambda reactor: ensureDeferred(main(reactor, *sys.argv[1:])))
"""
)


class Row(NamedTuple):
    """A row of a table of the page about the C library."""

    section: str
    names: str
    here: str
    line: str


def rows() -> Iterator[Row]:
    """Return the rows of all tables with lines of code.

    Raises:
        ValueError: A row has no line of code.
    """
    for section in re.split(r"^## ", C_PAGE.read_text(), flags=re.M)[1:]:
        title = section.partition("\n")[0]
        for names, here, line in re.findall(r"^\| (.*?) \| (.*?)\| (.*) \|$", section, re.M):
            if line in ("a line", "---"):
                continue
            found = re.fullmatch("`(.+)`", line)
            if found is None:
                raise ValueError(f"there is no line of code for {names}")
            yield Row(title, names, here, found[1])


class CompletenessTests(SynchronousTestCase):
    def test_every_name_of_the_c_library(self) -> None:
        """The first column of the tables has every name and every error text of the C library."""
        first = "\n".join(row.names for row in rows())
        named = set(re.findall(r"`([^`]+)`", first))
        self.assertGreater(len(NAMES), 190)
        self.assertEqual(len(NAMES), len(set(NAMES)))
        self.assertEqual(sorted(set(NAMES) - named), [])
        self.assertEqual([text for text in ERRORS if f'"{text}"' not in first], [])

    def test_every_row_says_what_it_is_here(self) -> None:
        """A row has a name, an explanation, and a line of code; only a target that speaks for itself has no words."""
        empty = [row.names for row in rows() if not row.here.strip()]
        self.assertEqual(empty, ["`make test`", "`make stop`"])


class PythonTests(CommandLine):
    """The pages about redis-py and txredisapi: what they say about both sides is true."""

    timeout = 300

    async def test_redis_py(self) -> None:
        """The lines and programs of redis-py and of this library give what their comments say."""
        version = metadata.version("redis")
        if not (8, 1) <= tuple(map(int, version.split(".")[:2])) < (9, 0):
            raise SkipTest(f"the page is about redis-py 8.1, and this is {version}")
        await self.compare(REDIS_PAGE, RUN_REDIS, RUN_ASYNCIO, LocalCluster(reactor, replicas=0))

    async def test_txredisapi(self) -> None:
        """The same for txredisapi, on a cluster of one node."""
        await self.compare(TXREDISAPI_PAGE, RUN_TXREDISAPI, RUN_CLIENT, LocalCluster(reactor, primaries=1, replicas=0))

    async def compare(self, page: Path, theirs: str, ours: str, cluster: LocalCluster) -> None:
        self.addCleanup(cluster.stop)
        await cluster.start()
        client = cluster.client()
        self.addCleanup(client.abort)
        host, port = cluster.addresses[0]
        rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| .*\|$", page.read_text(), re.M)
        rows = [(one, other) for one, other in rows if "client." in one and "  # " in one]
        self.assertGreater(len(rows), 20)
        for program, lines in ((theirs, [one for one, _ in rows]), (ours, [other for _, other in rows])):
            await client.flushall()
            result = await self.run_python("-c", program, cluster.url, json.dumps(lines))
            self.assertEqual(result, (0, "", ""), result[2])
        # tests.cluster.test_documents runs the program of this library.
        await client.flushall()
        [before] = re.findall(r"^```\n(.*?)^```$", page.read_text(), re.M | re.S)
        program = before.replace(ADDRESS, f"{host}:{port}").replace('"127.0.0.1", 7000', f'"{host}", {port}')
        result = await self.run_python("-c", program)
        self.assertEqual(result, (0, printed_by(before), ""), result[2])


class LineTests(CommandLine):
    timeout = 300

    async def test_every_line_runs(self) -> None:
        """Each line of Python runs on a cluster, and gives what its comment says."""
        cluster = LocalCluster(reactor)
        self.addCleanup(cluster.stop)
        await cluster.start()
        folder = self.folder()
        by_section: dict[str, list[str]] = {}
        for row in rows():
            if not row.line.startswith("$ "):
                lines = by_section.setdefault(BLOCKING if row.section == BLOCKING else "", [])
                lines.append(row.line.replace(ADDRESS, str(cluster.addresses[0])))
        for section, lines in by_section.items():
            program = RUN_BLOCKING if section == BLOCKING else RUN_CLIENT
            result = await self.run_python("-W", "error", "-c", program, cluster.url, json.dumps(lines), path=folder)
            self.assertEqual(result, (0, "", ""), result[2])

    async def test_every_line_for_the_shell(self) -> None:
        """The programs, options, environments, extras and suites in the lines for the shell exist."""
        lines = [row.line.removeprefix("$ ") for row in rows() if row.line.startswith("$ ")]
        self.assertGreater(len(lines), 10)
        folder = self.folder()
        for line in lines:
            match shlex.split(line):
                case ["tox"]:
                    pass
                case ["tox", "-e", name]:
                    self.assertRegex(
                        (ROOT / "tox.ini").read_text(), rf"(?m)^(\[testenv:{name}\]|envlist = .*\b{name}\b)"
                    )
                case ["python", "-m", "tests", suite]:
                    self.assertTrue((ROOT / suite.replace(".", "/")).is_dir(), suite)
                case ["python", "-m", "gencmd", *words]:
                    code, out, err = await self.run_python("-m", "gencmd", *words, path=folder)
                    self.assertEqual(code, 0, out + err)
                case ["txvalkeycluster", *words]:
                    # Options are read before --help shows the help.
                    self.assertIn("Usage: ", await self.succeed(*words, "--help"))
                case ["python3", "-m", "pip", "install", where]:
                    extra = where.removeprefix(".").strip("[]")
                    self.assertRegex((ROOT / "setup.cfg").read_text(), rf"(?m)^{extra or 'install_requires'} =$")
                case ["python", path]:
                    # tests/examples runs it.
                    self.assertTrue((ROOT / path).exists(), path)
                case _:
                    self.fail(f"the test does not know how to check {line!r}")

    def folder(self) -> Path:
        """Return a folder with the files that the lines name."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        for name in ("gencmd", "examples"):
            (folder / name).symlink_to(ROOT / name)
        certificates = Certificates.make("127.0.0.1")
        (folder / "ca.pem").write_bytes(certificates.authority)
        (folder / "client.pem").write_bytes(certificates.client)
        (folder / "client.key").write_bytes(certificates.client)
        return folder
