"""What a `FinishedCommand` says about commands that fail, are repeated or are cancelled."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.public.listener_base import ListenerTests
from tests.scripted.base import ask, moved
from txvalkeycluster import (
    ClientClosed,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    PartialFailure,
    ReplyError,
    RoutingError,
    TooManyPending,
)
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode


class FailureTests(ListenerTests):
    def test_an_error_reply(self) -> None:
        self.answer(b"INCR", b"-WRONGTYPE no\r\n")
        client = self.observed()
        error = self.error_of(client.incr(self.key), ReplyError)
        self.assertIs(self.finished[0].error, error)
        self.check("INCR", self.node.address, error=ReplyError)

    def test_redirects(self) -> None:
        """MOVED and ASK count as attempts, and the node is that of the last one."""
        client = self.observed()
        for redirect in (ask, moved):
            self.answer(b"GET", redirect(self.key, self.other.address))
            self.result_of(client.get(self.key))
            self.check("GET", self.other.address, attempts=2)

    def test_temporary_errors(self) -> None:
        """Each attempt that a node refuses counts, with the time of all of them."""
        client = self.observed()
        left = [3]

        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            if words[0] != b"GET":
                return DEFAULT_REPLY
            left[0] -= 1
            return b"-LOADING wait\r\n" if left[0] >= 0 else DEFAULT_REPLY

        self.node.script = script
        before = self.clock.seconds()
        self.result_of(client.get(self.key))
        self.check("GET", self.node.address, attempts=4, seconds=self.clock.seconds() - before)

    def test_a_lost_connection(self) -> None:
        """A read is sent again: two attempts.  A write fails: one."""
        client = self.observed()
        self.node.script = lambda node, words, _: SILENCE if words[0] in (b"GET", b"INCR") else DEFAULT_REPLY
        reading, writing = client.get(self.key), client.incr(self.key)
        self.network.settle()
        self.node.script = None
        self.network.cut(self.node)
        self.error_of(writing, ConnectionLost)
        self.check("INCR", self.node.address, error=ConnectionLost)
        self.result_of(reading)
        self.check("GET", self.node.address, attempts=2)

    def test_timeouts(self) -> None:
        """The record of a command that was sent and of one that was not has the time until the deadline."""
        client = self.observed(timeout=1.0, unresponsive_after=60.0)
        self.answer(b"GET", SILENCE)
        client.get(self.key).addErrback(lambda _: None)
        self.advance(1.1)
        self.check("GET", self.node.address, error=CommandTimeout, seconds=1.0)
        self.network.refuse(self.node)
        client.get(self.key).addErrback(lambda _: None)
        self.advance(1.1)
        finished = self.the_only()
        self.assertIsInstance(finished.error, CommandTimeout)
        self.assertEqual(finished.node, self.node.address)
        self.assertGreaterEqual(finished.attempts, 1)

    def test_a_timeout_after_a_redirect(self) -> None:
        """The last attempt, which was sent and had no reply, counts."""
        client = self.observed(timeout=1.0, unresponsive_after=60.0)
        self.answer(b"GET", moved(self.key, self.other.address))
        self.answer(b"GET", SILENCE, self.other)
        client.get(self.key).addErrback(lambda _: None)
        self.advance(1.1)
        self.check("GET", self.other.address, attempts=2, error=CommandTimeout, seconds=1.0)

    def test_a_timeout_without_a_node(self) -> None:
        for node in self.nodes:
            self.network.refuse(node)
        client = self.lazy_client(timeout=1.0)
        client.add_command_listener(self.finished.append)
        client.get(self.key).addErrback(lambda _: None)
        self.advance(1.1)
        self.check("GET", None, error=CommandTimeout, seconds=1.0)

    def test_cancelled(self) -> None:
        """A cancelled command is reported once, at that moment; its late reply changes nothing."""
        client = self.observed()
        self.answer(b"GET", SILENCE)
        waiting = client.get(self.key)
        self.advance(0.2)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.check("GET", self.node.address, error=CancelledError, seconds=0.2)
        self.node.connections[0].write(b"$1\r\nv\r\n")
        self.network.settle()
        self.assertEqual(self.finished, [])

    def test_a_cancelled_coroutine(self) -> None:
        client = self.observed()
        self.answer(b"GET", SILENCE)

        async def work() -> Any:
            return await client.get(self.key)

        running = Deferred.fromCoroutine(work())
        self.network.settle()
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.check("GET", self.node.address, error=CancelledError)

    def test_refused_at_once(self) -> None:
        """Commands that are never sent are reported, without a node."""
        client = self.observed()
        self.error_of(client.execute("SUBSCRIBE", "channel"), RoutingError)
        self.check("SUBSCRIBE", None, error=RoutingError, seconds=0.0)
        self.error_of(client.execute("SINTER", self.key, self.key_of_other), RoutingError)
        self.check("SINTER", None, error=RoutingError)
        self.error_of(client.execute("GET", object()), TypeError)  # type: ignore[arg-type]
        self.check("GET", None, error=TypeError)
        self.error_of(client.execute(), TypeError)
        self.check("INVALID", None, error=TypeError)

    def test_execute_on_that_fails(self) -> None:
        client = self.observed()
        self.error_of(client.execute_on("no address", "PING"), ValueError)
        self.check("PING", None, error=ValueError)
        self.network.refuse(self.other)
        self.error_of(client.execute_on(self.other.address, "PING"), ConnectFailed)
        self.check("PING", self.other.address, error=ConnectFailed)
        self.answer(b"GET", moved(self.key, self.other.address))
        self.error_of(client.execute_on(self.node.address, "GET", self.key), ReplyError)
        self.check("GET", self.node.address, error=ReplyError)

    def test_a_full_queue(self) -> None:
        client = self.observed(max_pending=1)
        self.answer(b"GET", SILENCE)
        client.get(self.key).addErrback(lambda _: None)
        self.network.settle()
        self.error_of(client.get(self.key), TooManyPending)
        self.check("GET", None, error=TooManyPending)

    def test_a_partial_failure(self) -> None:
        client = self.observed()
        for node in self.nodes:
            self.answer(b"MGET", b"*1\r\n$1\r\nv\r\n", node)
        self.answer(b"MGET", b"-ERR no\r\n")
        self.error_of(client.mget(self.key, self.key_of_other), PartialFailure)
        self.check("MGET", None, error=PartialFailure)

    def test_a_closed_client(self) -> None:
        """What ends with ``abort`` and what comes after it is reported."""
        client = self.observed()
        self.answer(b"GET", SILENCE)
        waiting = client.get(self.key)
        self.network.settle()
        self.result_of(client.abort())
        self.failureResultOf(waiting, ClientClosed)
        self.check("GET", self.node.address, error=ClientClosed)
        self.error_of(client.get(self.key), ClientClosed)
        self.check("GET", None, error=ClientClosed)
