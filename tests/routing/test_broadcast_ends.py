"""Cancellation and ``abort`` of commands for many nodes, of unknown commands, and of pipelines."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from tests.memory import MemoryTests
from txvalkeycluster import ClientClosed
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE


class CancelTests(MemoryTests):
    def script_all(self, *silent: bytes) -> None:
        for node in self.nodes:
            node.script = lambda node, words, _: SILENCE if words[0] in silent else DEFAULT_REPLY

    def ended(self, client: Any) -> None:
        self.result_of(client.abort())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancel_on_exclusive_connections(self) -> None:
        """The caller gets CancelledError, and the connections are cut, because their replies are pending."""
        self.script_all(b"SCRIPT")
        client = self.client()
        killing = client.script_kill()
        self.network.settle()
        self.assertEqual(self.cluster.count(b"SCRIPT", b"KILL"), 3)
        connections = sum(len(node.connections) for node in self.nodes)
        killing.cancel()
        self.failureResultOf(killing, CancelledError)
        self.network.settle()
        self.assertEqual(sum(len(node.connections) for node in self.nodes), connections - 3)
        self.ended(client)

    def test_cancel_on_shared_connections(self) -> None:
        """The replies are dropped when they come."""
        self.script_all(b"DBSIZE")
        client = self.client()
        asking = client.dbsize()
        self.network.settle()
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        for node in self.nodes:
            node.connections[0].write(b":1\r\n")
            self.assertEqual(self.result_of(client.execute_on(node.address, "PING")), b"PONG")
        self.ended(client)

    def test_abort_during_command_discovery(self) -> None:
        """The unknown command fails, and no other server is asked about it."""
        self.script_all(b"COMMAND")
        client = self.client()
        unknown = client.execute("MODULE.DOES", "k")
        self.network.settle()
        self.ended(client)
        self.assertFalse(self.failureResultOf(unknown, ClientClosed).value.maybe_executed)

    def test_abort_during_a_close_that_waits_for_a_pipeline(self) -> None:
        self.script_all(b"SET")
        client = self.client()
        done = client.pipeline().set(self.key_of(self.nodes[0]), "v").execute()
        self.network.settle()
        closed = client.close()
        self.ended(client)
        self.failureResultOf(done, ClientClosed)
        self.successResultOf(closed)
