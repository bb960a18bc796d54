"""The connection of a node: first attempt, back-off, drain, and loss."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from txvalkeycluster import (
    ClientClosed,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    NodeConnected,
    NodeConnectFailed,
    NodeDisconnected,
    TooManyPending,
)
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE


class DialTests(MemoryTests):
    def dials_to(self, number: int) -> list[float]:
        return [at for at, address in self.network.dials if address == self.nodes[number].address]

    def test_the_first_command_connects(self) -> None:
        """However many commands wait, there is one attempt, and the commands are sent in order."""
        client = self.lazy_client(seeds=str(self.nodes[0].address))
        self.result_of(client.refresh_topology())
        self.assertEqual(self.dials_to(1), [])
        keys = self.cluster.keys_of(self.nodes[1], 5)
        waiting = [client.set(key, number) for number, key in enumerate(keys)]
        self.assertEqual(self.dials_to(1), [])
        for deferred in waiting:
            self.assertEqual(self.result_of(deferred), b"OK")
        self.assertEqual(len(self.dials_to(1)), 1)
        sent = [words[1].decode() for _, words in self.nodes[1].received if words[0] == b"SET"]
        self.assertEqual(sent, keys)

    def test_warm_up(self) -> None:
        """``warm_up`` connects to all nodes."""
        self.client(warm_up=True)
        self.network.settle()
        self.assertEqual([node.accepted for node in self.nodes], [1, 1, 1])

    def test_back_off(self) -> None:
        """Delays double from 10 ms to one second, with jitter. Waiting commands are sent on the new connection."""
        client = self.client(refresh_period=None, timeout=60.0)
        node = self.nodes[1]
        self.network.refuse(node)
        waiting = client.get(self.key_of(node))
        self.advance(20.0)
        self.assertNoResult(waiting)
        tried = self.dials_to(1)
        waits = [later - sooner for sooner, later in pairwise(tried)]
        self.assertTrue(all(wait <= 1.02 for wait in waits), waits)
        self.assertTrue(25 < len(tried) < 120, len(tried))
        del self.network.instead[node.address]
        self.advance(1.1)
        self.assertIsNone(self.result_of(waiting))

    def test_connect_timeout(self) -> None:
        """An attempt ends after ``connect_timeout``, and the error says so."""
        failures: list[Any] = []
        client = self.client(connect_timeout=1.0)
        client.add_listener(lambda event: failures.append(event) if isinstance(event, NodeConnectFailed) else None)
        self.network.instead[self.nodes[1].address] = Deferred
        failing = client.execute_on(self.nodes[1].address, "PING")
        self.advance(0.9)
        self.assertNoResult(failing)
        self.advance(0.2)
        self.assertIn("within 1 s", str(self.error_of(failing, ConnectFailed)))
        self.assertEqual(len(failures), 1)

    def test_connect_timeout_covers_the_handshake(self) -> None:
        """An attempt also ends after ``connect_timeout`` if the server does not answer the handshake."""
        client = self.client(connect_timeout=1.0)
        self.nodes[1].script = lambda *_: SILENCE
        failing = client.execute_on(self.nodes[1].address, "PING")
        self.advance(1.1)
        self.assertIn("within 1.00 s", str(self.error_of(failing, ConnectFailed)))
        self.assertEqual(self.nodes[1].connections, [])

    def test_abort_during_an_attempt(self) -> None:
        """The error of an attempt that ``abort`` ends does not mention ``connect_timeout``."""
        client = self.client(connect_timeout=1.0)
        self.network.instead[self.nodes[1].address] = Deferred
        failing = client.execute_on(self.nodes[1].address, "PING")
        self.network.settle()
        client.abort()
        self.assertNotIn("within", str(self.error_of(failing, ClientClosed, ConnectFailed, ConnectionLost)))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_endpoint_that_raises(self) -> None:
        """An endpoint of the application that raises is a failed attempt."""

        def broken() -> Any:
            raise ValueError("no such network")

        client = self.client()
        self.network.instead[self.nodes[1].address] = broken
        error = self.error_of(client.execute_on(self.nodes[1].address, "PING"), ConnectFailed)
        self.assertIn("no such network", str(error))

    def test_max_pending_without_a_connection(self) -> None:
        """At most ``max_pending`` commands wait for a connection."""
        client = self.client(max_pending=3, timeout=1.0)
        self.network.instead[self.nodes[1].address] = Deferred
        waiting = [client.get(key) for key in self.cluster.keys_of(self.nodes[1], 4)]
        self.assertIn("waiting for node:7001", str(self.error_of(waiting.pop(), TooManyPending)))
        self.advance(1.1)
        for deferred in waiting:
            self.assertFalse(self.error_of(deferred, CommandTimeout).maybe_executed)


class ConnectionTests(MemoryTests):
    def test_events(self) -> None:
        """Each connection and each loss is one event, and a loss says whether the client closed the connection."""
        events: list[Any] = []
        client = self.lazy_client(seeds=str(self.nodes[0].address))
        client.add_listener(events.append)
        self.result_of(client.refresh_topology())
        self.network.cut(self.nodes[0])
        self.network.settle()
        waiting = client.get(self.key_of(self.nodes[0]))
        self.advance(0.1)
        self.result_of(waiting)
        self.result_of(client.close())
        node_events = [e for e in events if isinstance(e, (NodeConnected, NodeDisconnected, NodeConnectFailed))]
        self.assertEqual(
            [(type(event), getattr(event, "clean", None)) for event in node_events],
            [(NodeConnected, None), (NodeDisconnected, False), (NodeConnected, None), (NodeDisconnected, True)],
        )

    def test_a_node_that_leaves_the_map(self) -> None:
        """When a node leaves the slot map, its pending commands get their replies, and then it is closed."""
        client = self.client()
        node = self.nodes[2]
        held: list[Any] = []

        def script(_: Any, words: list[bytes], connection: Any) -> Any:
            if words[0] == b"GET":
                held.append(connection)
            # After a command that it holds back, the node answers no other command.
            return SILENCE if held else DEFAULT_REPLY

        node.script = script
        waiting = client.get(self.key_of(node))
        self.network.settle()
        self.cluster.ranges = [(0, 8191, self.nodes[0]), (8192, 16383, self.nodes[1])]
        self.cluster.nodes = self.nodes[:2]
        refreshing = client.refresh_topology()
        self.advance(0.5)
        self.result_of(refreshing)
        self.assertNoResult(waiting)
        held[0].write(b"$1\r\nv\r\n")
        self.assertEqual(self.result_of(waiting), b"v")
        self.network.settle()
        self.assertEqual(node.connections, [])

    def test_a_silent_node(self) -> None:
        """If a node sends no byte while replies are pending, its connection is dropped. Its reads are sent again."""
        client = self.client(unresponsive_after=2.0, timeout=20.0)
        node = self.nodes[0]
        node.script = lambda _, words, c: SILENCE if words[0] in (b"GET", b"SET") and c.number == 1 else DEFAULT_REPLY
        reading, writing = client.get(self.key_of(node)), client.set(self.key_of(node), "v")
        self.advance(1.9)
        self.assertNoResult(reading)
        self.advance(2.5)
        self.assertIsNone(self.result_of(reading))
        self.assertTrue(self.error_of(writing, ConnectionLost).maybe_executed)
