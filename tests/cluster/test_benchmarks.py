"""The benchmarks run, and report their results correctly.  The figures themselves are not tested here."""

from __future__ import annotations

import json
import os
import shutil
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import SkipTest
from unittest.mock import Mock, patch

from rich.console import Console
from twisted.internet import reactor
from twisted.internet.task import deferLater

import benchmarks.peers
from benchmarks import pubsub, threads
from benchmarks.cluster import applies, choose, run
from benchmarks.goals import GOALS
from benchmarks.peers import NAMES, find, last_line, libvalkey_
from benchmarks.pubsub import BURST, Meter
from benchmarks.report import FLOOR, OURS, C, Results, measured_rows, save_json, save_plot, show
from benchmarks.scale import Scale
from benchmarks.workloads import (
    AT_ONCE,
    BY_HAND,
    HASHES,
    MEDIUM,
    ONE_CHANNEL,
    SHARDED,
    SMALL,
    SPLIT,
    AnyWorkload,
    Count,
    PubSub,
    Sample,
    Threaded,
    Workload,
    set_and_get,
)
from tests.cases import TestCase


class WorkloadTests(TestCase):
    timeout = 120

    async def test_every_workload(self) -> None:
        """Our client, or the one for threads, runs every workload without an error."""
        workloads = [workload for workload in choose(None) if not workload.tls]
        peers = [OURS, "ours_threads"]
        results = await run(reactor, peers, workloads, rounds=1, seconds=0.02, progress=lambda _: None)
        for workload in workloads:
            (peer,) = [peer for peer in peers if applies(peer, workload)]
            self.assertIsNone(results.error_of(peer, workload.name))
            self.assertGreater(results.samples(peer, workload.name)[0].operations, 0)

    def test_threads_without_time(self) -> None:
        """Each thread does at least one step, however short the round is, so that there are latencies."""
        workload = Threaded("threads", 4)
        stored: dict[str, bytes] = {}
        sample = threads.measure(Mock(set=stored.__setitem__, get=stored.__getitem__), workload, seconds=0)
        self.assertEqual(sample.operations, 2 * workload.threads)
        self.assertIsNotNone(sample.latencies)

    async def test_a_client_that_fails(self) -> None:
        """The error of a client that fails is recorded, and the client runs the next workload."""
        workloads = [workload for workload in choose(None) if workload.name in (SPLIT, set_and_get(1))]
        workloads.reverse()
        results = await run(reactor, [FLOOR, "nobody"], workloads, rounds=1, seconds=0.02, progress=lambda _: None)
        self.assertEqual(results.error_of(FLOOR, SPLIT), "it does not implement hash tags")
        self.assertEqual(len(results.samples(FLOOR, set_and_get(1))), 1)
        for workload in workloads:
            self.assertIn("ModuleNotFoundError", results.error_of("nobody", workload.name) or "")


class PubSubTests(TestCase):
    timeout = 120

    def workloads(self) -> list[AnyWorkload]:
        return [workload for workload in choose(None) if isinstance(workload, PubSub)]

    async def test_other_clients_on_twisted(self) -> None:
        """The bare Twisted loop and an iterator of our client receive the messages of every workload."""
        peers, workloads = [FLOOR, "ours_iterator"], self.workloads()
        results = await run(reactor, peers, workloads, rounds=2, seconds=0.02, progress=lambda _: None)
        for peer in peers:
            for workload in workloads:
                self.assertIsNone(results.error_of(peer, workload.name))
                for sample in results.samples(peer, workload.name):
                    self.assertEqual(sample.operations % BURST, 0)
                    self.assertGreater(sample.cpu_seconds, 0)

    async def test_only_messages(self) -> None:
        """The row of the iterator has no figures for commands, and a program in C has none for messages."""
        workloads = [*choose(set_and_get(1)), *choose(SHARDED)]
        results = await run(
            reactor, ["ours_iterator", C], [w for w in workloads if not w.tls], 1, 0.02, progress=lambda _: None
        )
        error = results.error_of("ours_iterator", set_and_get(1))
        self.assertEqual(error, "it differs from txvalkeycluster only in how it receives messages")
        self.assertEqual(results.error_of(C, SHARDED), "it receives no messages")

    def test_bursts(self) -> None:
        """A burst ends after all its messages with the right data; then the next one is published, until the end."""
        published: list[int] = []
        meter = Meter(lambda: published.append(1), warm_up=0, seconds=0)
        count = meter.counter()
        meter.start_burst()
        for _ in range(BURST - 1):
            count(SMALL)
        count(b"other data")
        self.assertEqual((meter.bursts, len(published)), (0, 1))
        count(SMALL)
        self.assertEqual((meter.bursts, len(published)), (1, 2))
        self.assertIsNone(meter.sample)
        for _ in range(BURST):
            count(SMALL)
        self.assertEqual((meter.bursts, len(published)), (2, 2))
        assert meter.sample is not None
        self.assertEqual((meter.sample.operations, meter.sample.latencies), (BURST, None))

    async def test_messages_missing(self) -> None:
        """A client that receives no messages has an error, and its subscription is ended."""
        ended: list[bool] = []

        async def end() -> None:
            ended.append(True)

        async def subscribe(channels: list[str], subscribers: list[Count], *, sharded: bool) -> Any:
            return end

        client: Any = Mock(subscribe=subscribe)
        self.patch(pubsub, "Publisher", Mock())
        self.patch(pubsub, "_PATIENCE", 0.1)

        async def sleep(seconds: float) -> None:
            await deferLater(reactor, seconds)

        [workload, *_] = self.workloads()
        assert isinstance(workload, PubSub)
        with self.assertRaisesRegex(pubsub.MessagesMissing, "burst 1 was not received within 0.1 s"):
            await pubsub.receive(client, workload, [], 0.02, sleep)
        self.assertEqual(ended, [True])

    def test_publisher_fails(self) -> None:
        """A publisher that cannot connect to a node fails, and the client does not wait for its messages."""
        [workload, *_] = self.workloads()
        assert isinstance(workload, PubSub)
        publisher = pubsub.Publisher(workload, [("127.0.0.1", 1)])
        self.addCleanup(publisher.close)
        with self.assertRaisesRegex(pubsub.MessagesMissing, "the publisher failed: ConnectionRefusedError"):
            publisher.publish()

    def test_last_line(self) -> None:
        """The error of a program is the last line that it printed.  A program that was killed printed none."""
        self.assertEqual(last_line(["Traceback:\n", " OSError: no\n", "\n"]), "OSError: no")
        self.assertEqual(last_line([]), "it printed nothing")


class CTests(TestCase):
    timeout = 300

    def test_a_program_that_fails_without_a_word(self) -> None:
        """The error of the program in C has its exit status then."""
        [workload] = [each for each in choose(set_and_get(1)) if isinstance(each, Workload) and not each.tls]
        with (
            patch.object(libvalkey_, "build", return_value=shutil.which("false")),
            self.assertRaisesRegex(RuntimeError, "^the program ended with status 1$"),
        ):
            libvalkey_.measure([("127.0.0.1", 1)], None, workload, 0.02, Path())

    async def test_workloads_of_c(self) -> None:
        """The program in C does these workloads, and gives the reason why it cannot do another."""
        names = (set_and_get(1), set_and_get(50), MEDIUM, SPLIT, BY_HAND, HASHES, AT_ONCE)
        workloads = [workload for workload in choose(None) if workload.name in names]
        results = await run(reactor, [C], workloads, rounds=1, seconds=0.02, progress=lambda _: None)
        error = results.error_of(C, set_and_get(1)) or ""
        if error.startswith("not compiled"):
            raise SkipTest(error)
        for name in names:
            if name == SPLIT:
                self.assertIn("does not split", results.error_of(C, name) or "")
            else:
                self.assertIsNone(results.error_of(C, name))
                sample = results.samples(C, name)[0]
                self.assertGreater(sample.operations, 0)
                self.assertGreater(sample.cpu_seconds, 0)
                assert sample.latencies
                self.assertEqual(sorted(sample.latencies), list(sample.latencies))

    def build(self, folder: str, **environment: str) -> str:
        """Return the error of a build with these environment variables."""
        Path(folder).mkdir(exist_ok=True)
        with patch.dict(os.environ, environment):
            return str(self.assertRaises(libvalkey_.NotBuilt, libvalkey_.build, Path(folder)))

    def test_no_compiler(self) -> None:
        """Without a compiler the reason is reported, and the next workload does not try again."""
        folder = self.mktemp()
        reason = "not compiled: there is no C compiler; install cc or set CC"
        self.assertEqual(self.build(folder, PATH="", CC=""), reason)
        self.assertEqual(self.build(folder), reason)

    def test_no_source(self) -> None:
        """Without the source of the cluster API the reason is reported."""
        empty = self.mktemp()
        Path(empty).mkdir()
        error = self.build(self.mktemp(), CC="cc", LIBVALKEY_SOURCE=empty)
        self.assertIn("does not contain src/cluster.c", error)
        Path(empty, "file.tar.gz").write_text("no archive")
        error = self.build(self.mktemp(), CC="cc", LIBVALKEY_SOURCE=str(Path(empty, "file.tar.gz")))
        self.assertIn("file.tar.gz is no sdist of libvalkey", error)

    def test_compiler_fails(self) -> None:
        """The error of a compiler that fails is reported."""
        source = Path(self.mktemp(), "libvalkey-1")
        (source / "src").mkdir(parents=True)
        (source / "src" / "cluster.c").touch()
        error = self.build(self.mktemp(), CC="no-such-compiler", LIBVALKEY_SOURCE=str(source.parent))
        self.assertIn("compiling libvalkey failed", error)
        self.assertIn("no-such-compiler", error)


class NameTests(TestCase):
    def test_every_client_has_a_name(self) -> None:
        """The names are those of the modules, and each can be given on the command line."""
        folder = Path(benchmarks.peers.__file__).parent
        self.assertEqual({file.stem for file in folder.glob("*.py")} - {"__init__", "common"}, set(NAMES))
        for word, peer in (("valkey-glide", "glide_"), ("coredis", "coredis_"), ("valkey_py", "valkey_py")):
            self.assertEqual(find(word), peer)
        error = self.assertRaises(LookupError, find, "valkye-py")
        self.assertIn("there is no client 'valkye-py'; the clients are floor, ours,", str(error))


class ReportTests(TestCase):
    def sample(self, rate: float, cpu_us: float) -> Sample:
        return Sample(int(rate), 1.0, rate * cpu_us / 1e6, (0.001, 0.002, 0.003))

    def results(self) -> Results:
        name = set_and_get(50)
        peers = [FLOOR, OURS, "slow", "fast", "broken", "txredisapi_", C]
        results = Results(peers, [name, SPLIT, BY_HAND, AT_ONCE, ONE_CHANNEL])
        for factor in (1.0, 2.0, 0.5):
            for peer, rate, cpu in ((FLOOR, 100, 5), (OURS, 90, 6), ("slow", 10, 9), ("fast", 30, 8)):
                results.add(peer, name, self.sample(rate * factor, cpu * factor))
            results.add("txredisapi_", name, self.sample(1000, 1))
            results.add(C, name, self.sample(2000 * factor, 2 * factor))
            for workload, rate in ((SPLIT, 40), (BY_HAND, 50)):
                results.add(OURS, workload, self.sample(rate * factor, 1))
        for peer, rate, cpu in ((FLOOR, 100, 5), (OURS, 100, 6), ("slow", 10, 18), ("fast", 30, 24)):
            results.add(peer, ONE_CHANNEL, Sample(rate, 1.0, rate * cpu / 1e6, None))
        results.add("broken", name, "OSError: no")
        return results

    def test_ratios_are_of_the_same_round(self) -> None:
        """Ratios compare figures of the same round, so that a slow round does not change them."""
        results, name = self.results(), set_and_get(50)
        self.assertEqual(results.fastest_peer(name), "fast")
        self.assertEqual(round(results.ratio((OURS, name), (FLOOR, name), "cpu") or 0, 6), 1.2)
        figures = results.as_json()[name]
        self.assertEqual(round(figures["rate_by_fastest_peer"], 6), 3.0)
        self.assertEqual(round(figures["cpu_by_c"], 6), 3.0)
        self.assertEqual(figures["clients"]["broken"], {"name": "broken", "error": "OSError: no"})
        self.assertEqual(figures["clients"][C]["name"], "libvalkey (C)")
        self.assertEqual(figures["clients"][OURS]["rate"], {"median": 90, "least": 45, "most": 180})

    def test_goals(self) -> None:
        """Each goal is reached or not, or is None if its figures were not measured."""
        results = self.results()
        scale = Scale({
            "map": {"changed: longest stall ms": 3.0, "same: longest stall ms": 5.0},
            "waiting": {"bytes per command, without its payload": 300.0},
            "large values": {"10 MiB: CPU ms/MiB": 1.0, "100 MiB: CPU ms/MiB": 2.0},
        })  # fmt: skip
        judged: dict[str, Any] = {}
        for goal in GOALS:
            value = goal.figure(results, scale)
            judged[goal.name] = None if value is None else goal.reached(value)
        self.assertEqual(len(judged), len(GOALS))
        self.assertEqual(judged["rate / rate of the fastest other cluster client, 50 in flight"], False)
        self.assertEqual(judged["CPU per command / CPU of the bare Twisted loop, 50 in flight"], False)
        self.assertIsNone(judged["CPU per command / CPU of the bare Twisted loop, 1 in flight"])
        self.assertEqual(judged["MGET of 100 keys in 3 slots, time / time of 3 MGETs by hand"], True)
        self.assertEqual(judged["CPU per message / CPU of the bare Twisted loop, one channel"], True)
        self.assertIsNone(judged["CPU per message / CPU of the bare Twisted loop, 1,000 sharded channels"])
        self.assertEqual(judged["CPU of the cheapest other cluster client / CPU per message, one channel"], True)
        self.assertEqual(judged["value of 100 MiB, CPU per byte / CPU per byte of 10 MiB"], False)

    def test_shown_and_saved(self) -> None:
        """Tables and JSON name each client that failed, with its error.  Messages have no latencies."""
        shown = StringIO()
        results = self.results()
        show(results, Console(file=shown, width=120))
        self.assertIn("broken: OSError: no", shown.getvalue())
        self.assertIn("CPU of txvalkeycluster / CPU of bare Twisted loop: 1.20", shown.getvalue())
        self.assertIn("CPU of txvalkeycluster / CPU of libvalkey (C): 3.00", shown.getvalue())
        self.assertIn("CPU us per operation, Python and C", shown.getvalue())
        self.assertIn(f"{AT_ONCE}: no client has figures", shown.getvalue())
        self.assertEqual(shown.getvalue().count("p99.9 ms"), 3)
        path = Path(self.mktemp())
        save_json(results.as_json(), path)
        clients = json.loads(path.read_text())[set_and_get(50)]["clients"]
        self.assertEqual(set(clients), set(results.peers))
        self.assertEqual(clients[FLOOR]["rate"]["median"], 100)

    def test_plot(self) -> None:
        """The picture has no empty frames, and without any figures there is no picture."""
        try:
            import matplotlib
        except ImportError:
            raise SkipTest("matplotlib is not installed") from None
        self.assertTrue(matplotlib.__version__)
        results = self.results()
        self.assertEqual(list(measured_rows(results)), [set_and_get(50), SPLIT, BY_HAND, ONE_CHANNEL])
        names = [row["name"] for row in measured_rows(results)[set_and_get(50)]]
        self.assertEqual(names, ["bare Twisted loop", "txvalkeycluster", "slow", "fast", "txredisapi", "libvalkey (C)"])
        path = Path(self.mktemp())
        self.assertTrue(save_plot(results, path))
        self.assertTrue(path.read_bytes().startswith(b"\x89PNG"))
        empty = Path(self.mktemp())
        self.assertFalse(save_plot(Results([OURS], [AT_ONCE]), empty))
        self.assertFalse(empty.exists())
