"""Exclusive connections: lent to one caller at a time, kept for a while, limited in number."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.memory import MemoryTests
from txvalkeycluster import CommandTimeout, ConnectionLost
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE


class PoolTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.node = self.nodes[0]
        self.key = self.key_of(self.node)
        self.held: list[Any] = []
        self.node.script = self.hold

    def hold(self, _: Any, words: list[bytes], connection: Any) -> Any:
        """Leave the reply to BLPOP to the test."""
        if words[0] != b"BLPOP":
            return DEFAULT_REPLY
        self.held.append(connection)
        return SILENCE

    def release(self, count: int = 1) -> None:
        for _ in range(count):
            self.held.pop(0).write(b"*2\r\n$1\r\nl\r\n$1\r\nv\r\n")
        self.network.settle()

    def test_a_connection_is_used_again(self) -> None:
        """Commands one after the other use one exclusive connection, beside the shared one."""
        client = self.client()
        for _ in range(3):
            waiting = client.blpop(self.key, 0)
            self.network.settle()
            self.release()
            self.assertEqual(self.successResultOf(waiting), (b"l", b"v"))
        self.assertLessEqual(self.node.accepted, 2)

    def test_max_exclusive(self) -> None:
        """Commands over the limit wait in order until a connection is given back."""
        client = self.client(max_exclusive=2)
        waiting = [client.blpop(self.key, 0) for _ in range(5)]
        self.network.settle()
        self.assertEqual(len(self.held), 2)
        self.release(2)
        self.assertEqual(len(self.held), 2)
        self.release(2)
        self.release()
        for deferred in waiting:
            self.assertEqual(self.successResultOf(deferred), (b"l", b"v"))

    def test_an_idle_connection_is_closed_later(self) -> None:
        """An idle connection is kept for about 30 seconds."""
        client = self.client()
        waiting = client.blpop(self.key, 0)
        self.network.settle()
        open_now = len(self.node.connections)
        self.release()
        self.successResultOf(waiting)
        self.advance(10.0, step=1.0)
        self.assertEqual(len(self.node.connections), open_now)
        self.advance(60.0, step=1.0)
        self.assertEqual(len(self.node.connections), open_now - 1)

    def test_a_cancelled_command(self) -> None:
        """The connection of a cancelled command has a pending reply, so it is cut. The next command gets a new one."""
        client = self.client(max_exclusive=1)
        first, second = client.blpop(self.key, 0), client.blpop(self.key, 0)
        self.network.settle()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.network.settle()
        self.held.pop(0)
        self.release()
        self.assertEqual(self.successResultOf(second), (b"l", b"v"))

    def test_a_command_that_is_cancelled_while_it_waits(self) -> None:
        """The commands before and after it are served."""
        client = self.client(max_exclusive=1)
        first, second, third = (client.blpop(self.key, 0) for _ in range(3))
        self.network.settle()
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.release()
        self.release()
        for deferred in (first, third):
            self.assertEqual(self.successResultOf(deferred), (b"l", b"v"))

    def test_an_unreachable_node(self) -> None:
        """However many commands wait, there is one attempt at a time, with back-off."""
        client = self.client(timeout=5.0)
        self.network.refuse(self.node)
        before = len(self.network.dials)
        waiting = [client.blpop(self.key, 0.1) for _ in range(50)]
        self.advance(4.0)
        self.assertLess(len(self.network.dials) - before, 150)
        self.advance(2.0)
        for deferred in waiting:
            self.assertFalse(self.error_of(deferred, CommandTimeout).maybe_executed)

    def test_a_node_that_closes_at_once(self) -> None:
        """The repeated command does not cause attempts without a pause, and is served when the node works again."""
        client = self.client(timeout=5.0)
        self.node.script = lambda node, words, _: CLOSE if words[0] == b"WATCH" else DEFAULT_REPLY
        before = len(self.network.dials)
        entering = Deferred.fromCoroutine(client.watch(self.key).__aenter__())
        self.advance(4.0)
        self.assertNoResult(entering)
        self.assertLess(len(self.network.dials) - before, 40)
        self.node.script = None
        self.advance(1.0)
        session = self.successResultOf(entering)
        self.result_of(Deferred.fromCoroutine(session.__aexit__(None, None, None)))
        # The back-off has ended: several connections are made at a time.
        self.node.script = self.hold
        for _ in range(3):
            client.blpop(self.key, 0).addErrback(lambda _: None)
        self.network.settle()
        self.assertEqual(len(self.held), 3)
        self.result_of(client.abort())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_without_a_client_id(self) -> None:
        """The server sent no client id for CLIENT UNBLOCK, so ``close`` cuts the connection of the blocking command."""
        client = self.client()
        waiting = client.blpop(self.key, 0)
        self.network.settle()
        closed = client.close()
        self.error_of(waiting, ConnectionLost)
        self.assertIsNone(self.result_of(closed))
        self.assertEqual(self.node.connections, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
