"""`ClusterClient.statistics`: every number, per node and in total."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import gatherResults

from tests.cases import SynchronousTestCase
from tests.memory import MemoryTests
from tests.scripted.base import ask, moved
from txvalkeycluster import (
    ByKind,
    ClusterClient,
    CommandTable,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    NodeStatistics,
    ReplyError,
    Statistics,
)
from txvalkeycluster.slots import SLOT_COUNT
from txvalkeycluster.statistics import Labels
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode


def wire(*words: str) -> bytes:
    """Return a command as it is sent."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words)


class CounterTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.node = self.nodes[0]
        self.key = self.key_of(self.node)

    def of(self, client: ClusterClient[Any], node: ScriptedNode) -> NodeStatistics:
        """Return the numbers of a node."""
        return client.statistics.nodes[node.address]

    def answer(self, name: bytes, reply: Any, node: ScriptedNode | None = None) -> None:
        """Let a node, by default the first, answer a command with a reply."""
        (node or self.node).script = lambda node, words, connection: reply if words[0] == name else DEFAULT_REPLY

    def connected(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client that is connected to all nodes."""
        client = self.client(**options)
        for node in self.nodes:
            self.result_of(client.execute_on(str(node.address), "PING"))
        return client

    def test_before_the_first_connection(self) -> None:
        """Everything is 0."""
        client = self.lazy_client()
        self.assertEqual(client.statistics, Statistics())

    def test_commands_and_bytes(self) -> None:
        """The commands and the bytes of a node are those that it got and sent; the total is their sum."""
        client = self.connected()
        before = self.of(client, self.node)
        self.result_of(client.set(self.key, "v" * 1000))
        self.assertEqual(self.result_of(client.get(self.key)), b"v" * 1000)
        after = self.of(client, self.node)
        self.assertEqual(after.commands - before.commands, 2)
        sent = len(wire("SET", self.key, "v" * 1000) + wire("GET", self.key))
        self.assertEqual(after.bytes_sent - before.bytes_sent, sent)
        self.assertEqual(after.bytes_received - before.bytes_received, len(b"+OK\r\n$1000\r\n") + 1000 + 2)
        total = client.statistics
        for name in ("commands", "bytes_sent", "bytes_received"):
            self.assertEqual(getattr(total, name), sum(getattr(node, name) for node in total.nodes.values()))

    def test_every_command_of_the_client_itself(self) -> None:
        """The commands that connect and that fetch the slot map are counted too."""
        client = self.connected()
        for node in self.nodes:
            self.assertEqual(self.of(client, node).commands, len(node.received))

    def test_large_values_and_batches(self) -> None:
        """A value that is too large to be joined with others, and the commands of a pipeline, are counted as sent."""
        client = self.connected()
        before = self.of(client, self.node)
        self.result_of(client.set(self.key, large := "x" * 200_000))
        self.result_of(client.pipeline().get(self.key).set(self.key, "v").execute())
        after = self.of(client, self.node)
        self.assertEqual(after.commands - before.commands, 3)
        sent = len(wire("SET", self.key, large) + wire("GET", self.key) + wire("SET", self.key, "v"))
        self.assertEqual(after.bytes_sent - before.bytes_sent, sent)

    def test_errors_by_code(self) -> None:
        """Error replies are counted by their first word, per node and in total."""
        client = self.connected()
        self.answer(b"INCR", b"-WRONGTYPE not a number\r\n")
        other = self.nodes[1]
        self.answer(b"INCR", b"-WRONGTYPE not a number\r\n", other)
        for _ in range(2):
            self.error_of(client.incr(self.key), ReplyError)
        self.error_of(client.incr(self.key_of(other)), ReplyError)
        self.answer(b"INCR", b"-OOM no memory\r\n")
        self.error_of(client.incr(self.key), ReplyError)
        self.assertEqual(self.of(client, self.node).errors, {"WRONGTYPE": 2, "OOM": 1})
        self.assertEqual(self.of(client, other).errors, {"WRONGTYPE": 1})
        self.assertEqual(client.statistics.errors, {"WRONGTYPE": 3, "OOM": 1})

    def test_errors_in_a_pipeline(self) -> None:
        client = self.connected()
        self.answer(b"INCR", b"-WRONGTYPE not a number\r\n")
        self.result_of(client.pipeline().incr(self.key).get(self.key).incr(self.key).execute())
        self.assertEqual(client.statistics.errors, {"WRONGTYPE": 2})

    def test_a_node_that_invents_codes(self) -> None:
        """After 64 codes, further ones are counted together."""
        client = self.connected()
        for number in range(70):
            self.answer(b"GET", b"-CODE%d text\r\n" % number)
            self.error_of(client.get(self.key), ReplyError)
        errors = self.of(client, self.node).errors
        self.assertEqual((len(errors), errors["other"], sum(errors.values())), (65, 6, 70))
        self.assertEqual(sum(client.statistics.errors.values()), 70)
        self.answer(b"GET", b"-CODE3 text\r\n")
        self.error_of(client.get(self.key), ReplyError)
        self.assertEqual(self.of(client, self.node).errors["CODE3"], 2)

    def test_redirects(self) -> None:
        """MOVED and ASK are counted at the node that sent them, also as errors."""
        client = self.connected()
        target = self.nodes[1]
        self.answer(b"GET", ask(self.key, target.address))
        self.result_of(client.get(self.key))
        self.answer(b"GET", moved(self.key, target.address))
        self.result_of(client.get(self.key))
        sender = self.of(client, self.node)
        self.assertEqual((sender.asked, sender.moved, sender.errors), (1, 1, {"ASK": 1, "MOVED": 1}))
        self.assertEqual((self.of(client, target).asked, self.of(client, target).moved), (0, 0))
        self.assertEqual((client.statistics.asked, client.statistics.moved), (1, 1))

    def test_repetitions(self) -> None:
        """A command that is sent again after a lost connection counts at the node that lost it."""
        client = self.connected()
        self.answer(b"GET", SILENCE)
        reading = [client.get(self.key), client.get(self.key)]
        self.network.settle()
        self.node.script = None
        self.network.cut(self.node)
        self.result_of(gatherResults(reading))
        self.assertEqual((self.of(client, self.node).repeated, client.statistics.repeated), (2, 2))

    def test_what_is_not_repeated(self) -> None:
        """A write whose reply was lost fails, and is not counted."""
        client = self.connected()
        self.answer(b"INCR", SILENCE)
        writing = client.incr(self.key)
        self.network.settle()
        self.network.cut(self.node)
        self.error_of(writing, ConnectionLost)
        self.assertEqual(client.statistics.repeated, 0)

    def test_put_off(self) -> None:
        """Commands that wait because the node is not ready are counted, and are pending until they end."""
        client = self.connected()
        self.answer(b"GET", b"-LOADING wait\r\n")
        waiting = gatherResults([client.get(self.key) for _ in range(3)])
        self.network.settle()
        self.assertEqual((self.of(client, self.node).put_off, client.statistics.pending), (3, 3))
        self.node.script = None
        self.result_of(waiting)
        self.assertEqual((client.statistics.put_off, client.statistics.pending), (3, 0))

    def test_timeouts(self) -> None:
        """A command whose deadline passes is counted where it waits: sent, unsent, or without an owner of its slot."""
        client = self.connected(timeout=1.0, unresponsive_after=60.0)
        self.answer(b"GET", SILENCE)
        sent = client.get(self.key)
        self.advance(1.1)
        self.failureResultOf(sent, CommandTimeout)
        self.assertEqual((self.of(client, self.node).timeouts, client.statistics.timeouts), (1, 1))
        self.network.refuse(self.node)
        unsent = client.get(self.key)
        self.advance(1.1)
        self.failureResultOf(unsent, CommandTimeout)
        self.assertEqual(client.statistics.timeouts, 2)

    def test_timeouts_without_a_node(self) -> None:
        """The commands of a client without a slot map time out in the total only."""
        for node in self.nodes:
            self.network.refuse(node)
        client = self.lazy_client(timeout=1.0)
        late = [client.get("a"), client.get("b")]
        self.network.settle()
        self.assertEqual(client.statistics.pending, 2)
        self.advance(1.1)
        for each in late:
            self.failureResultOf(each, CommandTimeout)
        total = client.statistics
        self.assertEqual((total.timeouts, total.pending), (2, 0))
        self.assertEqual(sum(node.timeouts for node in total.nodes.values()), 0)

    def test_timeouts_in_a_pipeline(self) -> None:
        """Each command of a batch counts."""
        client = self.connected(timeout=1.0, unresponsive_after=60.0)
        self.answer(b"GET", SILENCE)
        late = client.pipeline().get(self.key).get(self.key).execute()
        self.advance(1.1)
        self.successResultOf(late)
        self.assertEqual(client.statistics.timeouts, 2)

    def test_pending(self) -> None:
        """The commands without a reply are pending at their node, until the replies come."""
        client = self.connected()
        self.answer(b"GET", SILENCE)
        waiting = [client.get(self.key) for _ in range(5)]
        self.network.settle()
        self.assertEqual((self.of(client, self.node).pending, client.statistics.pending), (5, 5))
        self.node.connections[0].write(b"$-1\r\n" * 3)
        self.network.settle()
        self.assertEqual(client.statistics.pending, 2)
        self.node.connections[0].write(b"$-1\r\n" * 2)
        self.result_of(gatherResults(waiting))
        self.assertEqual(client.statistics.pending, 0)

    def test_pending_on_an_exclusive_connection(self) -> None:
        """A blocked command is pending at its node."""
        client = self.connected()
        self.answer(b"BLPOP", SILENCE)
        client.blpop(self.key, 0).addErrback(lambda _: None)
        self.network.settle()
        self.assertEqual((self.of(client, self.node).pending, client.statistics.pending), (1, 1))

    def test_connections_by_kind(self) -> None:
        """Connections are counted when their handshake is done, and while they are open, by what they are for."""
        client = self.client()
        self.result_of(client.get(self.key))
        self.assertEqual(self.of(client, self.node).open, ByKind(shared=1))
        self.answer(b"BLPOP", SILENCE)
        blocked = [client.blpop(self.key, timeout=0) for _ in range(2)]
        subscription = client.ssubscribe(self.key, listener=lambda item: None)
        self.result_of(subscription.ready())
        made = ByKind(shared=1, exclusive=2, subscriber=1)
        self.assertEqual((self.of(client, self.node).connections, self.of(client, self.node).open), (made, made))
        self.network.cut(self.node)
        for each in blocked:
            self.error_of(each, ConnectionLost)
        self.advance(0.5)
        again = self.of(client, self.node)
        self.assertEqual(again.open, ByKind(shared=again.open.shared, subscriber=1))
        self.assertEqual((again.connections.exclusive, again.connections.subscriber), (2, 2))

    def test_a_connection_without_a_handshake(self) -> None:
        """A connection that the server refuses at the login is not counted."""
        client = self.client(seeds=str(self.nodes[1].address))
        self.answer(b"HELLO", b"-ERR no\r\n")
        self.error_of(client.execute_on(str(self.node.address), "PING"), ConnectFailed)
        self.assertEqual(self.node.accepted, 1)
        self.assertEqual(self.of(client, self.node).connections, ByKind())

    def test_messages(self) -> None:
        client = self.client()
        subscription = client.ssubscribe(self.key, listener=lambda item: None)
        self.result_of(subscription.ready())
        for _ in range(3):
            self.cluster.spublish(self.key.encode(), b"data")
        self.network.settle()
        self.assertEqual((self.of(client, self.node).messages, client.statistics.messages), (3, 3))
        self.node.drop_subscribers()
        self.advance(0.5)
        self.assertEqual((client.statistics.lost, client.statistics.resubscribed), (1, 1))

    def test_refreshes(self) -> None:
        """Refreshes are counted in the total, and those that failed a second time."""
        client = self.client()
        self.assertEqual((client.statistics.refreshes, client.statistics.refreshes_failed), (1, 0))
        for node in self.nodes:
            self.network.refuse(node)
        self.error_of(client.refresh_topology(), Exception)
        self.assertEqual((client.statistics.refreshes, client.statistics.refreshes_failed), (2, 1))


class NodeTests(MemoryTests):
    def leave(self, *gone: ScriptedNode) -> None:
        """Let the cluster have all nodes but these."""
        self.cluster.nodes = left = [node for node in self.nodes if node not in gone]
        share = SLOT_COUNT // len(left)
        self.cluster.ranges = [(n * share, (n + 1) * share - 1, node) for n, node in enumerate(left)]
        self.cluster.ranges[-1] = (self.cluster.ranges[-1][0], SLOT_COUNT - 1, left[-1])

    def test_a_node_that_leaves(self) -> None:
        """Its numbers stay in the total, and its entry goes.  What its last connection still does is counted too."""
        client = self.client(seeds=str(self.nodes[1].address), unresponsive_after=60.0)
        gone, key = self.nodes[0], self.key_of(self.nodes[0])
        gone.script = lambda node, words, _: SILENCE if words[0] in (b"GET", b"CLUSTER") else DEFAULT_REPLY
        self.result_of(client.set(key, "v"))
        late = client.get(key)
        self.network.settle()
        before = client.statistics
        self.leave(gone)
        self.result_of(client.refresh_topology())
        after = client.statistics
        self.assertNotIn(gone.address, after.nodes)
        self.assertIn(gone.address, before.nodes)
        for name in ("commands", "bytes_sent", "bytes_received"):
            self.assertGreaterEqual(getattr(after, name), getattr(before, name), name)
        received = client.statistics.bytes_received
        gone.connections[0].write(b"$4\r\nlate\r\n")
        self.assertEqual(self.result_of(late), b"late")
        self.assertEqual(client.statistics.bytes_received - received, len(b"$4\r\nlate\r\n"))

    def test_the_total_never_falls(self) -> None:
        """While nodes leave and come back, no number but those of now falls."""
        client = self.client(seeds=str(self.nodes[2].address))
        last = client.statistics
        for gone in ([0], [1], [0, 1], [], [0], []):
            self.leave(*(self.nodes[index] for index in gone))
            for node in self.cluster.nodes:
                self.result_of(client.set(self.key_of(node), "v"))
            self.result_of(client.refresh_topology())
            now = client.statistics
            for name in ("commands", "bytes_sent", "bytes_received", "moved", "refreshes"):
                self.assertGreaterEqual(getattr(now, name), getattr(last, name), name)
            self.assertGreaterEqual(now.connections.shared, last.connections.shared)
            self.assertGreater(now.commands, last.commands)
            last = now

    def test_a_copy(self) -> None:
        """Statistics that were read do not change."""
        client = self.client()
        key = self.key_of(self.nodes[0])
        self.nodes[0].script = lambda node, words, _: b"-ERR no\r\n" if words[0] == b"GET" else DEFAULT_REPLY
        self.result_of(client.set(key, "v"))
        first = client.statistics
        node = first.nodes[self.nodes[0].address]
        numbers = (first.commands, dict(first.errors), node.commands, dict(node.errors), node.open.shared)
        self.error_of(client.get(key), ReplyError)
        self.network.cut(self.nodes[0])
        self.network.settle()
        self.assertEqual(
            numbers, (first.commands, first.errors, node.commands, node.errors, node.open.shared), "it has changed"
        )
        first.errors["MINE"] = 1
        self.assertNotIn("MINE", client.statistics.errors)

    def test_a_view_has_the_same(self) -> None:
        client = self.client()
        self.result_of(client.with_options(timeout=1.0).get("key"))
        self.assertEqual(client.with_options(timeout=2.0).statistics, client.statistics)

    def test_after_the_end(self) -> None:
        """The counters stay, and nothing is open."""
        client = self.client()
        self.result_of(client.get("key"))
        commands = client.statistics.commands
        self.result_of(client.close())
        total = client.statistics
        self.assertEqual((total.commands, total.pending, total.open), (commands, 0, ByKind()))


class LabelTests(SynchronousTestCase):
    """Names of commands and codes of errors as labels of metrics."""

    def setUp(self) -> None:
        self.labels = Labels(CommandTable(), "other")

    def test_names(self) -> None:
        """Names stay as they are.  What can hold an argument does not."""
        for name in ("GET", "CONFIG SET", "JSON.GET", "PIPELINE", "MULTI", "PIPELINE GET", "MULTI CONFIG SET"):
            self.assertEqual(self.labels.of_command(name), name)
        for name in ("GET SECRET", "PIPELINE GET SECRET", "", " ", "Ä", "A\nB", "X" * 41, "SECRET:1", "\udc80"):
            self.assertEqual(self.labels.of_command(name), "other", name)

    def test_a_program_that_passes_on_what_users_type(self) -> None:
        """There are at most 300 names; those that came first stay."""
        labels = [self.labels.of_command(f"NAME{number}") for number in range(400)]
        self.assertEqual(labels, [f"NAME{number}" for number in range(300)] + ["other"] * 100)
        self.assertEqual(self.labels.of_command("NAME7"), "NAME7")

    def test_codes(self) -> None:
        """A script can return any text as an error; its first word is a code only if it looks like one."""
        for code in ("ERR", "WRONGTYPE", "NO_MASTER"):
            self.assertEqual(self.labels.of_code(code), code)
        for code in ("secret", "user:17", "", "E" * 41):
            self.assertEqual(self.labels.of_code(code), "other")
