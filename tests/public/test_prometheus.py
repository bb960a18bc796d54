"""`ClusterCollector`: what a scrape shows, from any thread, for one client and for several."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from twisted.internet.defer import Deferred, gatherResults

from tests.memory import MemoryTests
from tests.scripted.base import ask, moved
from txvalkeycluster import ClusterClient, CommandTimeout, ReplyError
from txvalkeycluster import prometheus as module
from txvalkeycluster.prometheus import DEFAULT_BUCKETS, ClusterCollector
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE

SECRET = "secret"
COUNTERS = {
    "commands": "commands",
    "sent_bytes": "bytes_sent",
    "received_bytes": "bytes_received",
    "commands_put_off": "put_off",
    "commands_repeated": "repeated",
    "commands_timed_out": "timeouts",
    "messages": "messages",
}
OF_THE_CLIENT = {
    "topology_refreshes": "refreshes",
    "topology_refreshes_failed": "refreshes_failed",
    "messages_dropped": "messages_dropped",
    "subscriptions_lost": "lost",
    "subscriptions_restored": "resubscribed",
}


class CollectorTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.registry = CollectorRegistry(auto_describe=True)
        self.node, self.other = self.nodes[0], self.nodes[1]
        self.key = self.key_of(self.node)

    def collected(self, name: str = "app", client: ClusterClient[bytes] | None = None, **how: Any) -> ClusterCollector:
        """Return a collector of a client, by default of a new one."""
        self.connected = client or self.client()
        return ClusterCollector(self.connected, name=name, registry=self.registry, **how)

    def answer(self, name: bytes, reply: Any) -> None:
        """Let the first node answer a command with a reply."""
        self.node.script = lambda node, words, connection: reply if words[0] == name else DEFAULT_REPLY

    def value(self, name: str, **labels: str) -> float | None:
        """Return a number of the client with the name ``app``, or of another one; None if it is not shown."""
        return self.registry.get_sample_value(f"valkey_client_{name}", {"client": "app", **labels})

    def names(self) -> set[str]:
        """Return the names of all metrics that are shown, without the prefix."""
        return {family.name.removeprefix("valkey_client_") for family in parse(self.text())}

    def text(self) -> str:
        """Return what Prometheus gets."""
        return generate_latest(self.registry).decode()

    # ---- the statistics

    def test_totals(self) -> None:
        """Every total is that of the statistics."""
        self.collected()
        self.answer(b"GET", moved(self.key, self.other.address))
        self.result_of(gatherResults([self.connected.get(self.key), self.connected.set(self.key, "v")]))
        self.result_of(self.connected.ssubscribe(self.key_of(self.nodes[2]), listener=lambda item: None).ready())
        statistics = self.connected.statistics
        for name, attribute in {**COUNTERS, **OF_THE_CLIENT}.items():
            self.assertEqual(self.value(f"{name}_total"), getattr(statistics, attribute), name)
        self.assertEqual(self.value("pending_commands"), 0)
        for kind in ("shared", "exclusive", "subscriber"):
            self.assertEqual(self.value("connections_total", kind=kind), getattr(statistics.connections, kind))
            self.assertEqual(self.value("open_connections", kind=kind), getattr(statistics.open, kind))
        self.assertGreater(statistics.commands, 5)
        self.assertEqual(statistics.open.subscriber, 1)

    def test_numbers_of_nodes(self) -> None:
        """The numbers of each node have its address as a label."""
        self.collected()
        self.result_of(self.connected.set(self.key, "v" * 100))
        for address, node in self.connected.statistics.nodes.items():
            for name, attribute in COUNTERS.items():
                shown = self.value(f"node_{name}_total", node=str(address))
                self.assertEqual(shown, getattr(node, attribute), f"{name} of {address}")
            self.assertEqual(self.value("node_pending_commands", node=str(address)), node.pending)
            for kind in ("shared", "exclusive", "subscriber"):
                labels = {"node": str(address), "kind": kind}
                self.assertEqual(self.value("node_connections_total", **labels), getattr(node.connections, kind))
                self.assertEqual(self.value("node_open_connections", **labels), getattr(node.open, kind))

    def test_without_nodes(self) -> None:
        self.collected(per_node=False)
        self.assertEqual({name for name in self.names() if name.startswith("node_")}, set())
        self.assertIn("commands", self.names())

    def test_a_node_that_leaves(self) -> None:
        """Its numbers are not shown any more; the totals have them."""
        self.collected(client=self.client(seeds=str(self.other.address)))
        self.result_of(self.connected.set(self.key, "v"))
        before = self.value("commands_total")
        assert before is not None
        self.cluster.nodes = [node for node in self.nodes if node is not self.node]
        self.cluster.ranges = [(0, 8191, self.other), (8192, 16383, self.nodes[2])]
        self.result_of(self.connected.refresh_topology())
        self.assertIsNone(self.value("node_commands_total", node=str(self.node.address)))
        self.assertGreaterEqual(self.value("commands_total") or 0, before)

    def test_redirects_and_errors(self) -> None:
        """Redirects have their kind, and errors their code, if it looks like one."""
        self.collected()
        for reply in (
            ask(self.key, self.other.address),
            moved(self.key, self.other.address),
            b"-WRONGTYPE no\r\n",
            f"-{SECRET} {SECRET}\r\n".encode(),
            b"-user:17 is wrong\r\n",
        ):
            self.answer(b"GET", reply)
            self.result_of(self.connected.get(self.key).addErrback(lambda _: None))
            self.result_of(self.connected.refresh_topology())
        self.assertEqual(self.value("redirects_total", kind="moved"), 1)
        self.assertEqual(self.value("redirects_total", kind="asked"), 1)
        found = {code: self.value("errors_total", code=code) for code in ("MOVED", "ASK", "WRONGTYPE", "other")}
        self.assertEqual(found, {"MOVED": 1, "ASK": 1, "WRONGTYPE": 1, "other": 2})
        self.assertEqual(self.value("node_errors_total", code="other", node=str(self.node.address)), 2)
        self.assertNotIn(SECRET, self.text())

    # ---- the times of commands

    def test_the_time_of_a_command(self) -> None:
        """A command is in the buckets whose bounds are not below its time."""
        self.collected()
        self.answer(b"SET", SILENCE)
        waiting = self.connected.set(self.key, "v")
        self.advance(0.25)
        self.node.connections[0].write(b"+OK\r\n")
        self.result_of(waiting)
        self.result_of(self.connected.get(self.key))
        buckets = {bound: self.bucket("SET", bound) for bound in ("0.0001", "0.1", "0.5", "10.0", "+Inf")}
        self.assertEqual(buckets, {"0.0001": 0, "0.1": 0, "0.5": 1, "10.0": 1, "+Inf": 1})
        self.assertEqual(self.bucket("GET", "0.0001"), 1)
        self.assertEqual(self.value("command_duration_seconds_count", command="SET"), 1)
        self.assertEqual(round(self.value("command_duration_seconds_sum", command="SET") or 0, 6), 0.25)

    def bucket(self, command: str, bound: str) -> float | None:
        return self.value("command_duration_seconds_bucket", command=command, le=bound)

    def test_a_time_at_a_bound(self) -> None:
        """It belongs to the bucket with that bound."""
        self.collected(buckets=[0.25, 0.5])
        self.answer(b"SET", SILENCE)
        for seconds in (0.25, 0.5, 0.75):
            waiting = self.connected.set(self.key, "v")
            self.network.settle()
            self.clock.advance(seconds)
            self.node.connections[0].write(b"+OK\r\n")
            self.result_of(waiting)
        self.assertEqual([self.bucket("SET", bound) for bound in ("0.25", "0.5", "+Inf")], [1, 2, 3])

    def test_many_commands(self) -> None:
        """Times that were put into buckets, and those that were not yet, are counted once, at every scrape."""
        self.collected(buckets=[0.005, 0.015, 0.025])
        self.answer(b"SET", SILENCE)
        times = [0.0, 0.01, 0.02, 0.03]
        together = 170
        for turn in range(8):
            waiting = gatherResults([self.connected.set(self.key, "v") for _ in range(together)])
            self.network.settle()
            self.clock.advance(times[turn % 4])
            self.node.connections[0].write(b"+OK\r\n" * together)
            self.result_of(waiting)
            expected = [(turn + 4 - index) // 4 * together for index in range(4)]
            cumulative = [sum(expected[: index + 1]) for index in range(4)]
            for _ in range(2):
                shown = [self.bucket("SET", bound) for bound in ("0.005", "0.015", "0.025", "+Inf")]
                self.assertEqual(shown, cumulative)
                total = sum(time * count for time, count in zip(times, expected, strict=True))
                self.assertEqual(
                    round(self.value("command_duration_seconds_sum", command="SET") or 0, 6), round(total, 6)
                )

    def test_failures(self) -> None:
        """A command that fails is in the histogram, and is counted by the class of its error."""
        self.collected()
        self.answer(b"INCR", b"-WRONGTYPE no\r\n")
        for _ in range(2):
            self.error_of(self.connected.incr(self.key), ReplyError)
        self.answer(b"INCR", SILENCE)
        self.connected.execute("INCR", self.key, timeout=0.1).addErrback(lambda _: None)
        self.advance(0.2)
        self.result_of(self.connected.get(self.key_of(self.other)))
        self.assertEqual(self.value("command_failures_total", command="INCR", outcome="ReplyError"), 2)
        self.assertEqual(self.value("command_failures_total", command="INCR", outcome="CommandTimeout"), 1)
        self.assertIsNone(self.value("command_failures_total", command="GET", outcome="ReplyError"))
        self.assertEqual(self.value("command_duration_seconds_count", command="INCR"), 3)

    def test_names_of_commands(self) -> None:
        """What is not the name of a command is ``other``, also if it cannot be shown at all."""
        for node in self.nodes:
            node.script = lambda node, words, connection: b"*0\r\n" if words[0] == b"COMMAND" else DEFAULT_REPLY
        self.collected()
        for name in (f"get {SECRET}", "\udc80", "a\nb", "x" * 1000):
            self.result_of(self.connected.execute(name).addErrback(lambda _: None))
        self.result_of(self.connected.pipeline().get(self.key).execute())
        self.assertEqual(self.value("command_duration_seconds_count", command="other"), 4)
        self.assertEqual(self.value("command_duration_seconds_count", command="PIPELINE GET"), 1)
        self.assertNotIn(SECRET, self.text().lower())

    def test_many_names_and_errors(self) -> None:
        """There are at most 301 names, and at most 3,001 kinds of failures."""
        collector = self.collected()
        note = self.connected._router.observation.listeners[0]  # type: ignore[union-attr]
        base = self.finished()
        for number in range(400):
            note(replace(base, name=f"NAME{number}"))
        for number in range(4000):
            note(replace(base, name="GET", error=type(f"Error{number}", (Exception,), {})()))
        (times, failures) = list(collector.collect())[-2:]
        self.assertEqual(len({sample.labels["command"] for sample in times.samples}), 301)
        self.assertEqual(len(failures.samples), 3001)
        self.assertEqual(sum(sample.value for sample in failures.samples), 4000)

    def finished(self) -> Any:
        """Return a record of a finished command."""
        found: list[Any] = []
        self.connected.add_command_listener(found.append)
        self.result_of(self.connected.get(self.key))
        self.connected.remove_command_listener(found.append)
        return found[0]

    def test_without_times(self) -> None:
        """Commands take the way of a client without a listener."""
        self.collected(command_times=False)
        self.assertIsNone(self.connected._router.observation)
        self.result_of(self.connected.get(self.key))
        self.assertEqual({name for name in self.names() if name.startswith("command_")}, set())

    def test_buckets(self) -> None:
        """The last bucket, without a bound, may be given or left out."""
        for buckets in ([0.1, 1], [0.1, 1, float("inf")], (), [float("inf")]):
            collector = self.collected(buckets=buckets)
            self.result_of(self.connected.get(self.key))
            bounds = [sample.labels["le"] for sample in self.samples(collector) if "le" in sample.labels]
            self.assertEqual(bounds, [*(str(float(bound)) for bound in buckets if bound <= 1), "+Inf"])
            collector.close()
        for wrong in ([1, 1], [2, 1], [float("nan")]):
            self.assertRaises(ValueError, self.collected, buckets=wrong)
        self.assertEqual(sorted(set(DEFAULT_BUCKETS)), list(DEFAULT_BUCKETS))
        # Those that failed have left nothing behind.
        self.assertEqual(list(self.registry.collect()), [])
        self.assertIsNone(self.connected._router.observation)

    def samples(self, collector: ClusterCollector) -> list[Any]:
        return [sample for family in collector.collect() for sample in family.samples]

    # ---- the form

    def everything(self) -> None:
        """Let a client do something of every kind."""
        self.collected()
        self.answer(b"INCR", b"-WRONGTYPE no\r\n")
        self.result_of(self.connected.incr(self.key).addErrback(lambda _: None))

    def test_the_text(self) -> None:
        """Both formats can be parsed; every metric has a help text in one sentence."""
        self.everything()
        openmetrics = generate_openmetrics(self.registry).decode()  # type: ignore[no-untyped-call]
        both = parse(self.text()), parse_openmetrics(openmetrics)  # type: ignore[no-untyped-call]
        for families in map(list, both):
            self.assertEqual(len(families), len({family.name for family in families}))
            self.assertEqual(len(families), 31)
            for family in families:
                self.assertTrue(family.name.startswith("valkey_client_"), family.name)
                self.assertTrue(family.documentation.endswith("."), family.documentation)
                self.assertTrue(family.samples)
                for sample in family.samples:
                    self.assertEqual(sample.labels["client"], "app")

    def test_names_by_the_conventions(self) -> None:
        """Counters end in ``_total``; a unit is a base unit and the end of the name."""
        self.everything()
        for family in self.registry.collect():
            for sample in family.samples:
                if family.type == "counter":
                    self.assertEqual(sample.name, f"{family.name}_total")
                elif family.type == "gauge":
                    self.assertFalse(sample.name.endswith("_total"))
            self.assertIn(family.unit, ("", "bytes", "seconds"))
            self.assertTrue(family.name.endswith(family.unit))
            for word in ("bytes", "seconds"):
                self.assertEqual(family.unit == word, word in family.name, family.name)

    def test_some_metrics_only(self) -> None:
        """Prometheus may ask for some names only."""
        self.everything()
        name = "valkey_client_commands_total"
        restricted: list[Metric] = list(self.registry.restricted_registry([name]).collect())
        self.assertEqual([sample.name for family in restricted for sample in family.samples], [name])

    # ---- registries

    def test_the_label_of_the_client(self) -> None:
        """It is the name that was given, else the client's own name, else the first seed."""
        for options, name, expected in (
            ({}, "given", "given"),
            ({"client_name": "own"}, "given", "given"),
            ({"client_name": "own"}, None, "own"),
            ({}, None, "node:7000"),
        ):
            collector = ClusterCollector(self.client(**options), name=name, registry=None)
            self.assertEqual(collector.name, expected)
            self.assertEqual(repr(collector), f"<ClusterCollector {expected}>")
            self.assertEqual({sample.labels["client"] for sample in self.samples(collector)}, {expected})

    def test_several_clients(self) -> None:
        """Clients with different names share the metrics of a registry."""
        first, second = self.collected("first"), self.collected("second")
        self.result_of(self.connected.get(self.key))
        families = list(parse(self.text()))
        self.assertEqual(len(families), len({family.name for family in families}))
        (commands,) = [family for family in families if family.name == "valkey_client_commands"]
        self.assertEqual([sample.labels["client"] for sample in commands.samples], ["first", "second"])
        error = self.assertRaises(ValueError, self.collected, "first")
        self.assertEqual(str(error), "the registry has a ClusterCollector named 'first' already; give another name")
        self.assertIsNone(self.connected._router.observation)
        first.close()
        self.assertEqual({sample.labels["client"] for f in parse(self.text()) for sample in f.samples}, {"second"})
        second.close()
        self.assertEqual(self.text(), "")
        self.collected("first")
        self.assertIn('client="first"', self.text())

    def test_another_collector_with_these_names(self) -> None:
        """The registry refuses it, as prometheus_client does with its own metrics."""
        self.collected()
        other = CollectorRegistry(auto_describe=True)
        foreign = ClusterCollector(self.client(), name="foreign", registry=other)
        self.assertRaises(ValueError, self.registry.register, foreign)

    def test_close(self) -> None:
        """The registry and the client are as before; it can be called again, also after the end of the client."""
        collector = self.collected()
        self.result_of(self.connected.get(self.key))
        collector.close()
        collector.close()
        self.assertEqual(self.text(), "")
        self.assertIsNone(self.connected._router.observation)
        collector = self.collected()
        self.result_of(self.connected.close())
        self.assertIn("valkey_client_commands_total", self.text())
        collector.close()
        self.assertEqual(self.text(), "")

    def test_a_registry_that_is_dropped(self) -> None:
        """Nothing keeps a registry in memory that nobody uses."""
        gc.collect()
        before = len(module._groups)
        collector = ClusterCollector(self.client(), registry=CollectorRegistry())
        gc.collect()
        self.assertEqual(len(module._groups), before)
        collector.close()

    # ---- threads

    def test_a_change_while_another_thread_reads(self) -> None:
        """The statistics are read again if they changed meanwhile."""
        self.collected()
        self.result_of(self.connected.get(self.key))
        failures: list[Exception] = [
            RuntimeError("dictionary changed size during iteration"),
            RuntimeError("Set changed size during iteration"),
            KeyError(17),
            AttributeError("'NoneType' object has no attribute 'pending'"),
        ]
        expected = self.connected.statistics
        read = ClusterClient.statistics.fget  # type: ignore[attr-defined]

        def flaky(client: ClusterClient[Any]) -> Any:
            if failures:
                raise failures.pop()
            return read(client)

        self.patch(ClusterClient, "statistics", property(flaky))
        self.assertEqual(self.value("commands_total"), expected.commands)
        self.assertEqual(failures, [])

    def test_an_error_that_stays(self) -> None:
        """A scrape fails if the statistics cannot be read at all."""

        def broken(client: ClusterClient[Any]) -> Any:
            raise RuntimeError("a defect")

        self.collected()
        self.patch(ClusterClient, "statistics", property(broken))
        self.assertRaises(RuntimeError, self.text)

    def test_a_node_is_removed_while_another_thread_reads(self) -> None:
        """A total does not fall, although the thread did not see what the node has done."""
        self.collected()
        self.answer(b"INCR", b"-WRONGTYPE no\r\n")
        self.error_of(self.connected.incr(self.key), ReplyError)
        whole = self.connected.statistics
        part = replace(whole, commands=1, errors={}, nodes={})
        read = [whole, part, replace(whole, commands=whole.commands + 1, errors={"WRONGTYPE": 5})]
        self.patch(ClusterClient, "statistics", property(lambda client: read[0]))
        shown = []
        while read:
            shown.append(self.value("commands_total"))
            self.value("errors_total", code="WRONGTYPE")
            read.pop(0)
        self.assertEqual(shown, [whole.commands, whole.commands, whole.commands + 1])

    def test_times_while_a_thread_reads(self) -> None:
        """A time is either in the buckets or not yet, also if it is recorded between two steps of a scrape."""
        self.collected()
        done: list[Deferred[Any]] = []
        for number in range(1200):
            done.append(self.connected.get(self.key))
            self.network.settle()
            if number % 100 == 0:
                self.assertEqual(self.value("command_duration_seconds_count", command="GET"), number + 1)
        self.result_of(gatherResults(done))
        self.assertEqual(self.bucket("GET", "+Inf"), 1200)

    def test_the_cost_of_a_command(self) -> None:
        """There is no record, the context of a call is not copied, and the times do not stay in memory."""
        collector = self.collected()
        self.result_of(gatherResults([self.connected.get(self.key) for _ in range(2000)]))
        observation, times = self.connected._router.observation, collector._times
        assert observation is not None
        assert times is not None
        self.assertIs(observation.note_time, times.note_time)
        self.assertEqual(list(observation.context()), [])
        self.assertLess(len(times._times["GET"]), 500)

    def test_a_timeout_is_no_defect(self) -> None:
        """Whatever ends a command, the collector goes on."""
        self.collected(client=self.client(timeout=0.1, unresponsive_after=60.0))
        self.answer(b"GET", SILENCE)
        late = self.connected.get(self.key)
        self.advance(0.2)
        self.failureResultOf(late, CommandTimeout)
        self.assertEqual(self.value("commands_timed_out_total"), 1)
        self.assertEqual(self.flushLoggedErrors(), [])
