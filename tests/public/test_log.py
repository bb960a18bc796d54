"""What the client writes to Twisted's log: each change of state once, and never a secret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent
from twisted.logger import capturedLogs as captured

from tests.cases import SynchronousTestCase
from tests.logs import observe_log
from tests.memory import MemoryTests
from txvalkeycluster import Address, AuthenticationFailed, ClusterUnavailable, ConnectFailed
from txvalkeycluster.events import (
    CommandsResumed,
    CommandsWaiting,
    LoginFailed,
    LoginRestored,
    NodeConnected,
    NodeConnectFailed,
    NodeDisconnected,
    TLSReloaded,
    TLSReloadFailed,
    TopologyRefreshFailed,
    TopologyRefreshRestored,
    TopologyUpdated,
)
from txvalkeycluster.log import ClusterLog
from txvalkeycluster.testing import SILENCE
from txvalkeycluster.topology.model import Node, Shard, Topology

HERE, THERE = Address("10.0.0.1", 7000), Address("::1", 7001)


def node(name: str, address: Address, role: Any = "primary") -> Node:
    return Node(name, *address, role)


def topology(version: int, *shards: Shard) -> Topology:
    return Topology(version, shards)


class LogTests(SynchronousTestCase):
    """A log that gets events from the test; the cluster is known."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.log = ClusterLog(self.clock.seconds, "a client")
        self.events: list[LogEvent] = []
        observe_log(self, self.events.append)
        self.first = topology(1, Shard(node("a", HERE), (node("b", THERE, "replica"),), ((0, 16383),)))
        self.log.note(TopologyUpdated(self.first, None))
        self.assertEqual(self.lines(), ["info: reached the cluster; it has 1 primaries and 2 nodes"])

    def lines(self, *events: Any) -> list[str]:
        """Return what the log writes about events."""
        for event in events:
            self.log.note(event)
        lines = [f"{event['log_level'].name}: {formatEvent(event)}" for event in self.events]
        self.events.clear()
        return lines

    def test_a_node_is_lost_and_back(self) -> None:
        """However many attempts fail, there is one line when the node is lost, and one when it is back."""
        connected, failed = NodeConnected(HERE), NodeConnectFailed(HERE, ConnectFailed(f"{HERE}: refused"))
        self.assertEqual(self.lines(connected, connected), [f"info: connected to {HERE}"])
        lost = NodeDisconnected(HERE, ConnectFailed(f"{HERE}: reset"), clean=False, unanswered=3)
        self.assertEqual(
            self.lines(lost, failed, failed), [f"warn: lost the connection to {HERE} with 3 commands unanswered: reset"]
        )
        self.assertEqual(self.lines(connected, connected), [f"info: connected to {HERE} again"])
        self.assertEqual(self.lines(failed, failed), [f"warn: cannot connect to {HERE}: refused"])
        self.assertEqual(self.lines(connected), [f"info: connected to {HERE} again"])

    def test_a_node_that_was_never_reached(self) -> None:
        """The first connection to a node is not one that is there again."""
        failed = NodeConnectFailed(THERE, ConnectFailed(f"{THERE}: refused"))
        self.assertEqual(self.lines(failed, failed), [f"warn: cannot connect to {THERE}: refused"])
        self.assertEqual(self.lines(NodeConnected(THERE)), [f"info: connected to {THERE}"])

    def test_unused_connections(self) -> None:
        """A server may close a connection that is not in use; that is no news."""
        self.lines(NodeConnected(HERE))
        closed = NodeDisconnected(HERE, ConnectFailed("closed"), clean=False, unanswered=0)
        drained = NodeDisconnected(HERE, ConnectFailed("closed"), clean=True, unanswered=0)
        self.assertEqual(self.lines(closed, NodeConnected(HERE), drained, NodeConnected(HERE)), [])

    def test_other_connections_of_a_node(self) -> None:
        """Connections of blocking commands and of subscriptions have a state of their own."""
        self.lines(NodeConnected(HERE))
        for purpose, what in (("exclusive", "blocking commands and watch sessions"), ("subscriber", "subscriptions")):
            failed: Any = NodeConnectFailed(HERE, ConnectFailed("full"), purpose)  # type: ignore[arg-type]
            back: Any = NodeConnected(HERE, purpose)  # type: ignore[arg-type]
            self.assertEqual(self.lines(failed, failed), [f"warn: cannot connect to {HERE} for {what}: full"])
            self.assertEqual(self.lines(back, back), [f"info: connected to {HERE} for {what}"])

    def test_a_refused_login(self) -> None:
        """A refused login is an error, once."""
        refused = NodeConnectFailed(HERE, AuthenticationFailed(f"{HERE} refused HELLO: WRONGPASS"))
        self.assertEqual(
            self.lines(refused, refused, NodeConnectFailed(HERE, ConnectFailed("x")), refused),
            [f"error: the login at {HERE} failed: refused HELLO: WRONGPASS"],
        )
        self.assertEqual(self.lines(NodeConnected(HERE)), [f"info: connected to {HERE}"])

    def test_a_login_that_expires(self) -> None:
        """A connection that cannot log in again is an error, once for each node."""
        failed = LoginFailed(HERE, AuthenticationFailed(f"{HERE} refused AUTH: WRONGPASS"))
        text = f"error: an open connection to {HERE} could not log in again, and keeps its old login: "
        self.assertEqual(self.lines(failed, failed), [f"{text}refused AUTH: WRONGPASS"])
        self.assertEqual(self.lines(LoginRestored(HERE), LoginRestored(HERE)), [f"info: logged in again at {HERE}"])

    def test_certificates(self) -> None:
        """Changed files of certificates are noted, usable or not."""
        lines = self.lines(TLSReloadFailed(ValueError("client_key cannot be used")), TLSReloaded())
        text = "error: the files of certificates have changed and cannot be used; the old ones stay in use: "
        self.assertEqual(
            lines,
            [
                f"{text}client_key cannot be used",
                "info: the files of certificates were read again, and new connections use them",
            ],
        )

    def test_refreshes(self) -> None:
        """A refresh that fails is noted once, and so is the next one that works."""
        failed = TopologyRefreshFailed(ConnectFailed("no node\n  a: refused\n  b: refused"))
        text = "the slot map cannot be refreshed, and the old one stays in use: no node; a: refused; b: refused"
        self.assertEqual(self.lines(failed, failed), [f"error: {text}"])
        restored = TopologyRefreshRestored()
        self.assertEqual(self.lines(restored, restored), ["info: the slot map can be fetched again"])

    def test_a_cluster_that_was_never_reached(self) -> None:
        """One line has the reasons of all nodes; the nodes have no lines of their own."""
        self.log = ClusterLog(self.clock.seconds, "a client")
        refused = NodeConnectFailed(HERE, ConnectFailed("refused"))
        failed = TopologyRefreshFailed(ConnectFailed("no node gave a slot map\n  a: refused"))
        lines = self.lines(refused, failed, refused, failed)
        self.assertEqual(lines, ["error: cannot reach the cluster: no node gave a slot map; a: refused"])
        lines = self.lines(NodeConnected(HERE), TopologyRefreshRestored(), TopologyUpdated(self.first, None))
        reached = "info: reached the cluster; it has 1 primaries and 2 nodes"
        self.assertEqual(lines, [f"info: connected to {HERE}", reached])

    def test_a_failover(self) -> None:
        """The line names the new primary, its slots and the old primary."""
        swapped = topology(2, Shard(node("b", THERE), (node("a", HERE, "replica"),), ((0, 16383),)))
        lines = self.lines(TopologyUpdated(swapped, self.first))
        self.assertEqual(lines, [f"info: {THERE} is the primary of 16384 slots now, after {HERE}"])

    def test_nodes_come_and_go(self) -> None:
        """The numbers of nodes are noted when they change; slots that move are not."""
        other = node("c", Address("10.0.0.3", 7000))
        more = topology(2, Shard(node("a", HERE), (), ((0, 100),)), Shard(other, (), ((101, 16383),)))
        lines = self.lines(TopologyUpdated(more, self.first))
        self.assertEqual(lines, ["info: the cluster has 2 primaries and 2 nodes now"])
        moved = topology(3, Shard(node("a", HERE), (), ((0, 200),)), Shard(other, (), ((201, 16383),)))
        self.assertEqual(self.lines(TopologyUpdated(moved, more)), [])

    def test_waiting_commands(self) -> None:
        """The lines have the number of the commands, the time and the reason, shortened if it is long."""
        waiting = CommandsWaiting(5, 2.04, "waiting for 10.0.0.1:7000 " + "x" * 1000)
        (line,) = self.lines(waiting)
        self.assertTrue(line.startswith("warn: 5 commands wait, the oldest for 2.0 s: waiting for 10.0.0.1:7000 xx"))
        self.assertLess(len(line), 700)
        self.assertEqual(self.lines(CommandsResumed()), ["info: no command waits for long any more"])

    def test_a_storm(self) -> None:
        """Many changes at once write a limited number of lines; a later line says how many were left out."""
        events = [NodeConnected(Address("10.0.0.9", port)) for port in range(1, 1001)]
        self.clock.advance(100)
        self.assertEqual(len(self.lines(*events)), 50)
        self.clock.advance(1.5)
        lines = self.lines(NodeConnected(HERE))
        self.assertEqual(
            lines, ["warn: 950 lines were left out, because there were too many", f"info: connected to {HERE}"]
        )
        self.assertEqual(self.lines(NodeConnected(THERE)), [])

    def test_limited_memory(self) -> None:
        """Redirects can name addresses without end; the states that are kept have a limit."""
        for number in range(50_000):
            self.log.note(NodeConnected(Address(f"host-{number}", 1)))
        self.assertLessEqual(len(self.log._nodes), 20_000)

    def test_fields(self) -> None:
        """A line has the name of the client, and its namespace tells what it is about."""
        self.log.note(NodeConnected(HERE))
        self.log.note(CommandsResumed())
        self.log.note(TopologyRefreshFailed(ValueError()))
        found = [(event["client"], event["log_namespace"]) for event in self.events]
        namespaces = [f"txvalkeycluster.{name}" for name in ("nodes", "commands", "topology")]
        self.assertEqual(found, [("a client", namespace) for namespace in namespaces])


class ClientLogTests(MemoryTests):
    def texts(self, events: Sequence[LogEvent]) -> list[str]:
        return [f"{event['log_namespace']}: {formatEvent(event)}" for event in events]

    def test_commands_wait(self) -> None:
        """Commands that cannot be sent for two seconds give one line and one event, and so does their end."""
        client = self.client(timeout=30.0, refresh_period=None)
        seen: list[Any] = []
        client.add_listener(seen.append)
        self.network.refuse(self.nodes[0])
        with captured() as logs:
            waiting = [client.get(self.key_of(self.nodes[0])) for _ in range(7)]
            self.advance(1.5)
            self.assertEqual([event for event in seen if isinstance(event, CommandsWaiting)], [])
            self.advance(8.0)
            (event,) = [event for event in seen if isinstance(event, CommandsWaiting)]
            self.assertEqual(event.commands, 7)
            self.assertTrue(2.0 <= event.seconds <= 3.1, event)
            self.assertIn(str(self.nodes[0].address), event.reason)
            del self.network.instead[self.nodes[0].address]
            self.advance(3.0)
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual([event for event in seen if isinstance(event, CommandsResumed)], [CommandsResumed()])
        texts = [text for text in self.texts(logs) if "commands: " in text]
        self.assertTrue(texts[0].startswith("txvalkeycluster.commands: 7 commands wait, the oldest for 2."), texts)
        self.assertEqual(texts[1:], ["txvalkeycluster.commands: no command waits for long any more"])
        self.result_of(client.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_log(self) -> None:
        """With ``log=False`` a client writes no line, and reports its events."""
        for log in (True, False):
            client = self.client(log=log)
            seen: list[Any] = []
            client.add_listener(seen.append)
            with captured() as logs:
                self.result_of(client.get("key"))
            self.assertEqual(bool(logs), log)
            self.assertIn(NodeConnected, map(type, seen))
            self.result_of(client.close())

    def test_commands_that_time_out_while_they_wait(self) -> None:
        """The state ends when the last of them has ended; nothing is left on the clock after an abort."""
        client = self.client(timeout=4.0, refresh_period=None)
        seen: list[Any] = []
        client.add_listener(seen.append)
        self.network.refuse(self.nodes[0])
        failing = client.get(self.key_of(self.nodes[0])).addErrback(lambda _: None)
        self.advance(6.0)
        self.successResultOf(failing)
        kinds = [type(event) for event in seen if isinstance(event, (CommandsWaiting, CommandsResumed))]
        self.assertEqual(kinds, [CommandsWaiting, CommandsResumed])
        client.get(self.key_of(self.nodes[0])).addErrback(lambda _: None)
        self.advance(3.0)
        self.result_of(client.abort())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_replies_are_no_wait(self) -> None:
        """A command that was sent does not wait, however long the server takes."""
        self.nodes[0].script = lambda *_: SILENCE
        client = self.client(timeout=30.0, unresponsive_after=20.0, seeds=str(self.nodes[1].address))
        seen: list[Any] = []
        client.add_listener(seen.append)
        self.nodes[0].script = None
        client.get(self.key_of(self.nodes[0])).addErrback(lambda _: None)
        self.advance(0.1)
        self.nodes[0].script = lambda *_: SILENCE
        client.get(self.key_of(self.nodes[0])).addErrback(lambda _: None)
        self.advance(10.0)
        self.assertEqual([event for event in seen if isinstance(event, CommandsWaiting)], [])

    def test_secrets(self) -> None:
        """Neither passwords nor the content of an event for a broken listener are written."""
        client = self.lazy_client(password="pw-secret")
        wrong = b"-WRONGPASS pw-secret is wrong\r\n"
        for each in self.nodes:
            each.script = lambda _, words, __: wrong if words[0] == b"HELLO" else b"+OK\r\n"
        client.add_listener(lambda event: 1 / 0)
        with captured() as logs:
            self.error_of(client.refresh_topology(), ClusterUnavailable)
        self.result_of(client.abort())
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        text = "\n".join([*self.texts(logs), repr([event.get("log_format") for event in logs])])
        self.assertIn("refused HELLO", text)
        self.assertNotIn("pw-secret", text)
