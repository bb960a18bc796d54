"""Check the documents: every sample runs, tables are complete, and the names of tests and files exist."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import get_args

import click
from twisted.internet.task import Clock
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.reflect import namedAny

import txvalkeycluster
from tests.cases import SynchronousTestCase
from tests.cluster.base import ClusterTests
from tests.cluster.command_line import CommandLine, first_of_six
from txvalkeycluster import ClusterClient, Event, FinishedCommand, LostReason, Options, Statistics, ValkeyError
from txvalkeycluster.cli.group import group
from txvalkeycluster.commands.overrides import REFUSED
from txvalkeycluster.prometheus import ClusterCollector

ROOT = Path(__file__).parents[2]

# The surroundings of a sample.
#: The sample is a complete program.
PROGRAM = "program"
#: The sample runs inside a coroutine, with ``reactor`` and a connected ``client`` that decodes replies as UTF-8.
CLIENT = "client"
#: The sample is a file for twistd: it defines ``application``, which has a ClusterService.
APPLICATION = "application"
#: The sample is an application of a web framework.  It is only compiled: the tests do not install the frameworks, which
#: have dependencies in other languages.  docs/asyncio.md was run by hand with FastAPI 0.165 and Quart 0.22.
FRAMEWORK = "framework"
#: A test of its own runs the sample: tests.cluster.test_tutorial.
STEP = "step"
#: The sample is a complete program that needs the output of the page's ``python -m gencmd`` line.
GENERATED = "generated"

#: Every page, and the surroundings of each of its samples, in order.
SAMPLES: dict[str, list[str]] = {
    "README.md": [PROGRAM],
    "docs/architecture.md": [],
    "docs/asyncio.md": [PROGRAM, FRAMEWORK, FRAMEWORK],
    "docs/benchmarks.md": [],
    "docs/blocking.md": [PROGRAM, CLIENT],
    "docs/bulk-loading.md": [CLIENT] * 2,
    "docs/cli.md": [],
    "docs/client.md": [CLIENT] * 4,
    "docs/coming-from-libvalkeycluster.md": [],
    "docs/coming-from-redis-py.md": [PROGRAM],
    "docs/coming-from-txredisapi.md": [PROGRAM],
    "docs/command-versions.md": [],
    "docs/commands.md": [PROGRAM, CLIENT],
    "docs/connections.md": [CLIENT],
    "docs/credentials.md": [CLIENT] * 3,
    "docs/delivery.md": [CLIENT],
    "docs/extension.md": [],
    "docs/index.md": [],
    "docs/keyspace-events.md": [CLIENT] * 3,
    "docs/kubernetes.md": [CLIENT],
    "docs/modules.md": [PROGRAM, GENERATED],
    "docs/nat.md": [PROGRAM, CLIENT],
    "docs/observability.md": [CLIENT] * 5,
    "docs/options.md": [],
    "docs/pipelines.md": [CLIENT] * 3,
    "docs/proxy-commands.md": [],
    "docs/proxy-operation.md": [],
    "docs/proxy.md": [PROGRAM, CLIENT],
    "docs/pubsub.md": [CLIENT] * 4,
    "docs/reactors.md": [PROGRAM, PROGRAM, PROGRAM],
    "docs/scans.md": [CLIENT] * 2,
    "docs/scripts.md": [CLIENT] * 2,
    "docs/service.md": [APPLICATION, APPLICATION, PROGRAM, PROGRAM],
    "docs/test-suite.md": [],
    "docs/testing.md": [PROGRAM] * 2,
    "docs/threads.md": [PROGRAM] * 2,
    "docs/tls.md": [PROGRAM],
    "docs/transactions.md": [CLIENT] * 3,
    "docs/troubleshooting.md": [CLIENT],
    "docs/tutorial.md": [STEP] * 4,
    "docs/upstream/hiredis-py.md": [],
    "docs/upstream/twisted.md": [],
    "docs/versions.md": [],
    "docs/workers.md": [CLIENT] * 4,
}
# Warnings are errors, except those that Twisted causes when it uses certificates.
WARNINGS = ("-W", "error", "-W", "ignore:Passing pyOpenSSL:DeprecationWarning")
# The address in the samples.
ADDRESS = "127.0.0.1:7000"

# Runs a sample with the surroundings CLIENT.  Arguments: the name of the sample, the sample, and the URL of a cluster.
RUN_WITH_CLIENT = """
import ast, inspect, sys
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from txvalkeycluster import connect

async def main(reactor, name, sample, url):
    code = compile(sample, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    async with await connect(reactor, url, encoding="utf-8") as client:
        running = eval(code, {"reactor": reactor, "client": client})
        if code.co_flags & inspect.CO_COROUTINE:
            await running

react(lambda reactor: ensureDeferred(main(reactor, *sys.argv[1:])))
"""

# Runs a sample with the surroundings APPLICATION until it is ready.  Arguments: the name of the sample, the sample.
RUN_APPLICATION = """
import sys
from twisted.application.service import IService, MultiService
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from txvalkeycluster import ClusterService

def below(service):
    for child in service if isinstance(service, MultiService) else ():
        yield child
        yield from below(child)

async def main(reactor, name, sample):
    defined = {}
    exec(compile(sample, name, "exec"), defined)
    application = IService(defined["application"])
    application.privilegedStartService()
    application.startService()
    (cluster,) = (each for each in below(application) if isinstance(each, ClusterService))
    await (await cluster.whenReady()).ping()
    await application.stopService()

react(lambda reactor: ensureDeferred(main(reactor, *sys.argv[1:])))
"""


def pages() -> list[str]:
    """Return the README and all pages below docs/, relative to the root."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page.relative_to(ROOT).as_posix() for page in found]


def samples_of(page: str) -> list[str]:
    """Return the Python samples of a page.

    Raises:
        ValueError: There is a block of code in a language that the tests do not know.
    """
    samples = []
    for language, block in re.findall(r"^```(.*?)\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S):
        if language == "python":
            samples.append(block)
        elif language:
            raise ValueError(f"{page} has a block in the language {language!r}; only python, or none, is known")
    return samples


def printed_by(sample: str) -> str:
    """Return the output that a sample promises: the comments behind its calls of ``print``.

    Raises:
        ValueError: A line with ``print`` has no such comment.
    """
    lines = []
    for line in sample.splitlines():
        if "print(" in line:
            found = re.fullmatch(r" *print\(.*\)  # (.+)", line)
            if found is None:
                raise ValueError(f"no comment says what this line prints: {line}")
            lines.append(found[1] + "\n")
    return "".join(lines)


class SampleTests(ClusterTests):
    timeout = 300

    async def test_every_sample(self) -> None:
        """Every sample ends without an error or a warning, and prints what its comments say."""
        client = await self.connect()
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        for name in ("gencmd", "examples"):
            (folder / name).symlink_to(ROOT / name)
        failures = []
        for page, surroundings in SAMPLES.items():
            await client.flushall()
            for number, (sample, kind) in enumerate(zip(samples_of(page), surroundings, strict=True), 1):
                failure = await self.run_sample(f"{page}, sample {number}", sample, kind, folder)
                failures += [failure] if failure else []
        self.assertEqual(failures, [], "\n\n".join(failures))

    async def run_sample(self, name: str, sample: str, kind: str, folder: Path) -> str:
        """Run one sample; return why it failed, or nothing."""
        url = f"valkey://{self.cluster.addresses[0]}"
        program = sample.replace(ADDRESS, str(self.cluster.addresses[0]))
        if kind in (FRAMEWORK, STEP):
            compile(program, name, "exec")
            return ""
        words = [program]
        if kind == CLIENT:
            words = [RUN_WITH_CLIENT, name, program, url]
        elif kind == APPLICATION:
            words = [RUN_APPLICATION, name, program]
        if kind == GENERATED:
            for line in re.findall(r"^    python (-m gencmd .*)$", (ROOT / name.partition(",")[0]).read_text(), re.M):
                _, error, code = await self.python(shlex.split(line), folder)
                if code:
                    return f"{name}: {line}: {error}"
        out, error, code = await self.python([*WARNINGS, "-c", *words], folder)
        if code or error:
            return f"{name}: exit status {code}, {error}"
        expected = printed_by(sample)
        return "" if out == expected else f"{name} prints {out!r}, and its comments say {expected!r}"

    async def python(self, words: list[str], folder: Path) -> tuple[str, str, int]:
        running = getProcessOutputAndValue(sys.executable, words, path=str(folder))  # type: ignore[no-untyped-call]
        out, error, code = await running
        return out.decode(), error.decode(), code


class FirstContactTests(CommandLine):
    async def test_first_screen(self) -> None:
        """The README's line starts a cluster, and the README's program runs on it as it is, but for the ports."""
        text = (ROOT / "README.md").read_text()
        words, port = re.findall(r"^    txvalkeycluster (cluster start --first-port=(\d+))$", text, re.M)[0]
        self.assertEqual(ADDRESS, f"127.0.0.1:{port}")
        other = str(first_of_six())
        self.addCleanup(self.run_command, "cluster", "stop")
        url = await self.succeed(*words.replace(port, other).split())
        self.assertTrue(url.startswith(f"valkey://127.0.0.1:{other},127.0.0.1:"), url)
        [sample] = samples_of("README.md")
        result = await self.run_python("-c", sample.replace(f":{port}", f":{other}"))
        self.assertEqual(result, (0, printed_by(sample), ""))

    def test_two_commands(self) -> None:
        """The README has the two commands that CI and visitors use."""
        lines = (ROOT / "README.md").read_text().splitlines()
        for command in ("tox -e demo", "tox"):
            self.assertIn(f"    python3 -m pip install tox && {command}", lines)


class PageTests(SynchronousTestCase):
    """What can be checked without a cluster."""

    def test_every_page_is_known(self) -> None:
        """`SAMPLES` has every page, and the surroundings of each of its samples."""
        self.assertEqual(sorted(SAMPLES), sorted(pages()))
        counts = {page: len(surroundings) for page, surroundings in SAMPLES.items()}
        self.assertEqual(counts, {page: len(samples_of(page)) for page in pages()})
        self.assertLessEqual(
            {kind for kinds in SAMPLES.values() for kind in kinds},
            {PROGRAM, CLIENT, APPLICATION, FRAMEWORK, STEP, GENERATED},
        )
        for page in pages():
            for sample in samples_of(page):
                printed_by(sample)

    def test_the_index(self) -> None:
        """docs/index.md, from which the navigation of the site is made, lists every page once."""
        listed = re.findall(r"^- \[.*?\]\(([^)#]+)\)", (ROOT / "docs/index.md").read_text(), re.M)
        found = [(ROOT / "docs" / page).resolve().relative_to(ROOT).as_posix() for page in listed]
        there = {*pages(), *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/api").glob("*.rst"))}
        there |= {path.name for path in ROOT.glob("*.md")} | {"examples/README.md"}
        self.assertEqual(sorted(found), sorted(there - {"docs/index.md"}))

    def test_the_api_reference(self) -> None:
        """docs/api has everything that the package exports, and each public module."""
        text = "".join(page.read_text() for page in (ROOT / "docs/api").glob("*.rst"))
        single = set(re.findall(r"^\.\. auto(?:class|function|data):: (?:\w+\.)*(\w+)$", text, re.M))
        modules = set(re.findall(r"^\.\. automodule:: (\S+)$", text, re.M))
        exported = {name: getattr(txvalkeycluster, name) for name in txvalkeycluster.__all__}
        missing = {name for name, each in exported.items() if getattr(each, "__module__", "") not in modules} - single
        self.assertEqual(missing, set())
        self.assertEqual(single - set(exported), {"Commands"})
        self.assertLessEqual(
            {
                f"txvalkeycluster.{name}"
                for name in ("aio", "blocking", "opentelemetry", "prometheus", "proxy", "testing")
            },
            modules,
        )

    def test_what_a_sample_prints(self) -> None:
        """A line that prints needs a comment with the output."""
        self.assertEqual(printed_by("a = 1\nif a:\n    print(a, '#')  # 1 #\nprint(2)  # 2\n"), "1 #\n2\n")
        self.assertRaises(ValueError, printed_by, "print(1)\n")

    def test_names_of_tests_exist(self) -> None:
        """Every module, class or test that a page names exists."""
        text = "".join((ROOT / page).read_text() for page in pages())
        named = set(re.findall(r"(?<![\w/.])tests\.[a-z]\w*(?:\.\w+)*", text))
        self.assertGreater(len(named), 5)
        for name in sorted(named):
            namedAny(name)  # type: ignore[no-untyped-call]

    def test_paths_exist(self) -> None:
        """Every Python file that docs/architecture.md names exists."""
        named = set(re.findall(r"`([\w/]+\.pyi?)`", (ROOT / "docs/architecture.md").read_text()))
        self.assertGreater(len(named), 20)
        missing = [name for name in named if not (ROOT / "txvalkeycluster" / name).exists()]
        self.assertEqual(missing, [])

    def test_every_package_is_in_the_architecture(self) -> None:
        """The table of docs/architecture.md has each package and module of the top level, and no other."""
        rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/architecture.md").read_text(), re.M)
        package = ROOT / "txvalkeycluster"
        there = {path.stem for path in package.glob("*.py")}
        there |= {path.parent.name for path in package.glob("*/__init__.py")}
        named = {name for row in rows for name in re.findall(r"`(\w+)/?`", row)}
        self.assertEqual(named, there - {"__init__", "__main__"})

    def test_the_command_line(self) -> None:
        """docs/cli.md has each command with each of its options and their help, and no other command."""
        headings = re.findall(r"^## (txvalkeycluster.*)$", (ROOT / "docs/cli.md").read_text(), re.M)
        commands = dict(self.commands_of(group, "txvalkeycluster"))
        self.assertEqual(headings, list(commands))
        for name, command in commands.items():
            shown = " ".join(self.section("docs/cli.md", f"## {name}\n").split())
            for option in (each for each in command.params if isinstance(each, click.Option)):
                for text in (*option.opts, *option.secondary_opts, *filter(None, [option.help])):
                    self.assertIn(" ".join(text.split()), shown)

    def commands_of(self, command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
        """Yield a command with its name, and all commands below it."""
        yield name, command
        if isinstance(command, click.Group):
            for word, child in command.commands.items():
                yield from self.commands_of(child, f"{name} {word}")

    def test_every_option_is_documented(self) -> None:
        """docs/options.md has each option, and no other."""
        rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/options.md").read_text(), re.M)
        named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        self.assertEqual(named, {field.name for field in fields(Options)})

    def test_every_refusal_is_documented(self) -> None:
        """docs/commands.md lists each refused command, and no other."""
        table = (ROOT / "docs/commands.md").read_text().partition("## Refused")[2]
        rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")][2:]
        self.assertEqual({name for row in rows for name in row.strip().split(", ")}, set(REFUSED))

    def test_every_event_is_documented(self) -> None:
        """docs/client.md has each event with its attributes, and no other."""
        table = self.section("docs/client.md", "## Events")
        rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
        documented = {name.strip(" `"): re.findall(r"`(\w+)`", attributes) for name, attributes in rows}
        events = {event.__name__: [field.name for field in fields(event)] for event in get_args(Event)}
        self.assertEqual(documented, events)

    def test_every_reason_of_a_loss_is_documented(self) -> None:
        """docs/pubsub.md has each `LostReason`, and no other."""
        named = re.findall(r"^\| `LostReason\.(\w+)` \|", (ROOT / "docs/pubsub.md").read_text(), re.M)
        self.assertEqual(named, [reason.name for reason in LostReason])

    def test_every_counter_is_documented(self) -> None:
        """docs/observability.md has each counter of `Statistics`, and no other."""
        named = re.findall(r"^\| `(\w+)` \|", self.section("docs/observability.md", "## Statistics"), re.M)
        self.assertEqual(named, [field.name for field in fields(Statistics)])

    def test_every_attribute_of_a_finished_command_is_documented(self) -> None:
        """docs/observability.md has each attribute of `FinishedCommand`, and no other."""
        section = self.section("docs/observability.md", "## Listeners of commands")
        named = re.findall(r"^\| `(\w+)` \|", section, re.M)
        self.assertEqual(named, [field.name for field in fields(FinishedCommand)])

    def test_every_metric_is_documented(self) -> None:
        """docs/observability.md has each metric with its type and its labels, and no other."""
        section = self.section("docs/observability.md", "## Prometheus")
        rows = re.findall(r"^\| `(\w+)` \| (\w+) \|(.*?)\|", section, re.M)
        documented = {name: (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in rows}
        metrics, of_nodes = {}, set()
        for metric in ClusterCollector(self.unconnected(), registry=None).describe():
            name = metric.name.removeprefix("valkey_client_") + "_total" * (metric.type == "counter")
            if name.startswith("node_"):
                of_nodes.add(name.removeprefix("node_"))
            else:
                metrics[name] = (metric.type, metric._labelnames[1:])  # type: ignore[attr-defined]
        self.assertEqual(documented, {name: (kind, list(labels)) for name, (kind, labels) in metrics.items()})
        self.assertEqual(list(documented)[: len(of_nodes)], [name for name in documented if name in of_nodes])
        self.assertEqual(len(of_nodes), 12)
        self.assertIn("The first twelve metrics also exist per node", section)

    def unconnected(self) -> ClusterClient[bytes]:
        """Return a client that is not connected."""
        client = ClusterClient(Clock(), "valkey://node:7000")
        self.addCleanup(client.abort)
        return client

    def test_every_argument_of_with_options_is_documented(self) -> None:
        """docs/client.md has each argument of `with_options`, and no other."""
        named = re.findall(r"^\| `(\w+)` \|", self.section("docs/client.md", "## Deadlines"), re.M)
        self.assertEqual(named, list(inspect.signature(ClusterClient.with_options).parameters)[1:])

    def test_every_error_is_documented(self) -> None:
        """docs/delivery.md names each error that a program can meet."""
        text = (ROOT / "docs/delivery.md").read_text()
        public = [getattr(txvalkeycluster, name) for name in txvalkeycluster.__all__]
        errors = [each for each in public if isinstance(each, type) and issubclass(each, ValkeyError)]
        self.assertGreater(len(errors), 15)
        self.assertEqual([error.__name__ for error in errors if f"`{error.__name__}`" not in text], [])

    def test_the_comparison_has_the_measured_figures(self) -> None:
        """The CPU figures in the README's comparison are those of docs/benchmarks.md."""
        measured = self.row("docs/benchmarks.md", "50 in flight")
        names = self.row("docs/benchmarks.md", "workload")
        figures = {
            name.rstrip("¹²"): re.sub(r".*\((.*)\)", r"\1 us", cell) for name, cell in zip(names, measured, strict=True)
        }
        compared = dict(
            zip(self.row("README.md", ""), self.row("README.md", "CPU per command, 50 in flight"), strict=True)
        )
        del compared["libvalkey (C)"]
        # A client that could not run has no figure in both.
        compared = {name: cell for name, cell in compared.items() if cell}
        self.assertGreater(len(compared), 3)
        self.assertEqual(compared, {name: figures[name] for name in compared})

    def row(self, page: str, first: str) -> list[str]:
        """Return the other cells of the first row of a page that begins with a cell."""
        rows = re.findall(rf"^\| {re.escape(first)} ?\|(.*)\|$", (ROOT / page).read_text(), re.M)
        return [cell.strip() for cell in rows[0].split("|")]

    def section(self, page: str, heading: str) -> str:
        """Return the text of a page from a heading to the next one of the same level."""
        return re.split(r"^## ", (ROOT / page).read_text().partition(heading)[2], flags=re.M)[0]
