"""Relayed requests whose connection is lost, or whose client ends."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.scripted.base import moved
from tests.scripted.relay_base import RelayTests
from txvalkeycluster import ClientClosed, ClusterClient, CommandTimeout, ConnectionLost, ProtocolError
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode
from txvalkeycluster.testing.scripted import Connection


class LostConnectionTests(RelayTests):
    """Nodes that close the connection, are silent, cannot be reached, or send nonsense."""

    def test_a_lost_connection(self) -> None:
        """Reads are repeated. Writes fail, may have been executed, and are never sent again."""
        relay = self.relay()

        def script(node: ScriptedNode, words: list[bytes], _: Connection) -> Any:
            return CLOSE if words[0] == b"INCR" else DEFAULT_REPLY

        self.nodes[0].script = script
        other = self.key_of(self.nodes[0], 1)
        relay.submit(f"SET {other} 1", f"GET {self.a}", f"INCR {self.a}", f"GET {self.a}", f"SET {self.a} 5")
        self.let(relay)
        lost = (ConnectionLost, True)
        # The replies to the first two did not leave the node any more.
        self.assertEqual({tag: relay.kinds[tag] for tag in (2, 4)}, {2: lost, 4: lost})
        self.assertEqual((relay.kinds[1], relay.kinds[3]), (b"$1\r\n0\r\n", b"$1\r\n0\r\n"))
        self.assertIn(relay.kinds[0], (lost, b"+OK\r\n"))
        self.assertLessEqual(set(relay.delayed), set(range(5)))
        self.assertEqual(self.nodes[0].count(b"INCR"), 1)
        self.assertEqual(self.writes(self.nodes[0], b"SET").count(other.encode()), 1)

    def test_a_node_that_cannot_be_reached(self) -> None:
        """Requests wait for the node until their deadline, and were certainly not executed."""
        relay = self.relay(timeout=1.0)
        self.network.refuse(self.nodes[0])
        self.network.settle()
        relay.submit(f"INCR {self.a}", f"INCR {self.b}")
        self.assertEqual(relay.delayed, [0])
        self.advance(1.2)
        self.assertEqual(relay.kinds, {0: (CommandTimeout, False), 1: b":1\r\n"})

    def test_a_silent_node(self) -> None:
        """Requests without a reply time out, and may have been executed. Late replies reach nobody."""
        relay = self.relay(timeout=0.5, unresponsive_after=60)
        held: list[tuple[list[bytes], Connection]] = []

        def script(_: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
            held.append((words, connection))
            return SILENCE

        self.nodes[0].script = script
        relay.submit(f"INCR {self.a}", f"GET {self.a}", f"INCR {self.b}")
        self.advance(0.6)
        self.assertEqual(relay.kinds, {0: (CommandTimeout, True), 1: (CommandTimeout, True), 2: b":1\r\n"})
        self.nodes[0].script = None
        relay.submit(f"GET {self.a}")
        for words, connection in held:
            connection.write(self.nodes[0].usual(words, asking=False))
        # The replies to all three, in the order of the requests.
        self.network.settle()
        self.assertEqual((len(relay.came), relay.results[3]), (4, b"$1\r\n1\r\n"))

    def test_bytes_that_are_no_reply(self) -> None:
        """They cost one connection. The replies before them are delivered; one request fails with ProtocolError."""
        relay = self.relay()

        def script(_: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
            return b"HTTP/1.1 400 Bad Request\r\n" if words[0] == b"APPEND" else DEFAULT_REPLY

        self.nodes[0].script = script
        relay.submit(f"INCR {self.a}", f"APPEND {self.a} x", f"INCR {self.a}", f"GET {self.a}", f"INCR {self.b}")
        self.let(relay)
        self.assertEqual((relay.results[0], relay.results[3], relay.results[4]), (b":1\r\n", b"$1\r\n2\r\n", b":1\r\n"))
        self.assertEqual((relay.kinds[1][0], relay.kinds[2]), (ProtocolError, (ConnectionLost, True)))
        self.assertEqual(self.nodes[0].accepted, 2)


class CloseTests(RelayTests):
    """The end of the client."""

    def test_a_closed_client(self) -> None:
        """Requests fail with ClientClosed in a later turn, and were not executed."""
        for end in (ClusterClient.close, ClusterClient.abort):
            relay = self.relay()
            self.result_of(end(relay.client))
            self.assertIsNone(relay.submit(f"INCR {self.a}", f"INCR {self.b}"))
            self.assertEqual(relay.came, [])
            self.clock.advance(0)
            self.assertEqual(relay.kinds, dict.fromkeys(range(2), (ClientClosed, False)))

    def test_close_waits(self) -> None:
        """close() waits until every request has a reply, its deadline, or is redirected and answered."""
        for reply in (b"+ok\r\n", b"-ERR no\r\n", moved(self.a, "node:7001"), b"-TRYAGAIN x\r\n"):
            relay = self.relay(timeout=0.5)

            def script(node: ScriptedNode, words: list[bytes], connection: Connection, reply: bytes = reply) -> Any:
                if words[0] == b"INCR":
                    node.script = None
                    self.clock.callLater(0.1, connection.write, reply)
                    return SILENCE
                return DEFAULT_REPLY

            self.nodes[0].script = script
            relay.submit(f"INCR {self.a}", f"INCR {self.b}")
            self.network.settle()
            closing = relay.client.close()
            self.network.settle()
            self.assertNoResult(closing)
            self.result_of(closing)
            self.assertTrue(relay.done)
            self.assertNotIsInstance(relay.results[0], Exception)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_waits_for_a_deadline(self) -> None:
        """close() ends when the deadline of the last request has passed."""
        relay = self.relay(timeout=0.5)
        self.nodes[0].script = lambda *_: SILENCE
        relay.submit(f"INCR {self.a}")
        self.network.settle()
        closing = relay.client.close()
        self.advance(0.4)
        self.assertNoResult(closing)
        self.advance(0.2)
        self.assertEqual(relay.kinds, {0: (CommandTimeout, True)})
        self.result_of(closing)

    def test_abort(self) -> None:
        """abort() fails every request at once; those that were sent may have been executed."""
        relay = self.relay()
        self.nodes[0].script = lambda *_: SILENCE
        self.network.refuse(self.nodes[1])
        self.network.settle()
        relay.submit(f"INCR {self.a}", f"INCR {self.a}", f"INCR {self.b}")
        self.network.settle()
        ended = relay.client.abort()
        written, unwritten = (ClientClosed, True), (ClientClosed, False)
        self.assertEqual(relay.kinds, {0: written, 1: written, 2: unwritten})
        self.result_of(ended)

    def test_callbacks_that_end_the_client(self) -> None:
        """A callback may close or abort the client in the middle of the replies. Each request has one result."""
        for end in (ClusterClient.close, ClusterClient.abort):
            for at in range(6):
                relay = self.relay()
                self.nodes[0].script = lambda node, words, _: b"-ERR no\r\n" if words[0] == b"ECHO" else DEFAULT_REPLY
                endings: list[Deferred[None]] = []

                relay.on_replies = lambda tags, _, relay=relay, at=at, end=end, endings=endings: (  # type: ignore[misc]
                    endings.append(end(relay.client)) if at in tags else None
                )
                key = self.a
                relay.submit(f"GET {key}", f"ECHO {key}", f"GET {key}", f"GET {key}", f"ECHO {key}", f"GET {key}")
                self.let(relay)
                self.result_of(endings[0])
                self.nodes[0].script = None
