"""A transaction as one request: it is written at once, and each loss of replies has a known meaning."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.memory import MemoryTests
from tests.scripted.base import transactional
from txvalkeycluster import ClientClosed, CommandTimeout, ConnectionLost, TooManyPending, TransactionRefused
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE
from txvalkeycluster.testing.scripted import Connection, ScriptedNode

QUEUED = b"+OK\r\n+QUEUED\r\n"


class OnTheWireTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.node = self.nodes[0]
        self.key = self.key_of(self.node)
        self.wires: list[Connection] = []
        for node in self.nodes:
            node.script = self.silent

    def silent(self, _: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
        """Leave the replies of a transaction to the test."""
        if words[0] not in (b"MULTI", b"INCR", b"GET", b"EXEC"):
            return DEFAULT_REPLY
        if words[0] == b"EXEC":
            self.wires.append(connection)
        return SILENCE

    def executing(self, client: Any, *, readonly: bool = False) -> Deferred[Any]:
        """Return the Deferred of a transaction that is written and has no reply."""
        transaction = client.transaction()
        executing: Deferred[Any] = (transaction.get(self.key) if readonly else transaction.incr(self.key)).execute()
        self.network.settle()
        return executing

    def lost_after(self, replies: bytes, *, readonly: bool = False) -> Deferred[Any]:
        executing = self.executing(self.client(), readonly=readonly)
        wire = self.wires[-1]
        wire.write(replies)
        self.network.settle()
        wire.close()
        self.network.settle()
        return executing

    def test_lost_replies(self) -> None:
        """The transaction may have been executed, because EXEC was written with it."""
        for replies in (b"", b"+OK\r\n", QUEUED):
            error = self.error_of(self.lost_after(replies), ConnectionLost)
            self.assertTrue(error.maybe_executed)

    def test_lost_after_a_refusal(self) -> None:
        """The commands may have run one by one. The error has the replies that came."""
        for replies, results in ((b"-NOPERM no\r\n", ()), (b"-NOPERM no\r\n:5\r\n", (5,)), (b"+OK\r\n:5\r\n", (5,))):
            error = self.error_of(self.lost_after(replies), TransactionRefused)
            self.assertTrue(error.maybe_executed)
            self.assertEqual(error.results[: len(results)], results)
            self.assertTrue(all(isinstance(result, ConnectionLost) for result in error.results[len(results) :]))

    def test_only_reads_are_sent_again(self) -> None:
        """A transaction that only reads is sent again as a whole."""
        executing = self.lost_after(QUEUED, readonly=True)
        self.node.script = transactional
        self.assertEqual(self.result_of(executing), [None])
        self.assertEqual([self.node.count(name) for name in (b"MULTI", b"GET", b"EXEC")], [2, 2, 2])

    def test_cancelled_after_the_write(self) -> None:
        """Commands after the transaction get their own replies."""
        client = self.client()
        executing = self.executing(client)
        executing.cancel()
        self.error_of(executing, CancelledError)
        other = client.set(self.key, "v")
        self.network.settle()
        self.wires[-1].write(QUEUED + b"*1\r\n:1\r\n+OK\r\n")
        self.network.settle()
        self.assertTrue(self.result_of(other))

    def test_cancelled_and_left_open(self) -> None:
        """A transaction that the server leaves open ends the connection, even if it was cancelled."""
        client = self.client()
        executing = self.executing(client)
        executing.cancel()
        self.error_of(executing, CancelledError)
        other = client.execute("GET", self.key)
        self.network.settle()
        self.wires[-1].write(QUEUED + b"-ERR no EXEC today\r\n")
        self.network.settle()
        self.assertNotIn(self.wires[-1], self.node.connections)
        self.node.script = None
        self.assertIsNone(self.result_of(other))

    def test_cancelled_before_it_is_written(self) -> None:
        client = self.client()
        executing = client.transaction().incr(self.key).execute()
        executing.cancel()
        self.error_of(executing, CancelledError)
        self.network.settle()
        self.assertEqual(self.node.count(b"MULTI"), 0)

    def test_deadline(self) -> None:
        """The transaction may have been executed, and its late replies are dropped."""
        client = self.client(timeout=0.5, unresponsive_after=60.0)
        executing = self.executing(client)
        self.advance(0.6)
        self.assertTrue(self.error_of(executing, CommandTimeout).maybe_executed)
        self.wires[-1].write(QUEUED + b"*1\r\n:1\r\n")
        self.node.script = None
        self.assertTrue(self.result_of(client.set(self.key, "v")))

    def test_close_waits_for_the_transaction(self) -> None:
        client = self.client()
        executing = self.executing(client)
        closed = client.close()
        self.network.settle()
        self.assertNoResult(closed)
        self.wires[-1].write(QUEUED + b"*1\r\n:1\r\n")
        self.assertEqual(self.result_of(executing), [1])
        self.assertIsNone(self.result_of(closed))

    def test_abort(self) -> None:
        client = self.client()
        executing = self.executing(client)
        self.result_of(client.abort())
        self.assertTrue(self.error_of(executing, ClientClosed).maybe_executed)

    def test_an_encoding_of_wide_characters(self) -> None:
        """OK and QUEUED are words of the server and do not depend on the encoding of values."""
        client = self.client(encoding="utf-16")
        executing = self.executing(client, readonly=True)
        value = "v".encode("utf-16")
        self.wires[-1].write(QUEUED + b"*1\r\n$%d\r\n%b\r\n" % (len(value), value))
        self.assertEqual(self.result_of(executing), ["v"])

    def test_a_value_that_cannot_be_decoded(self) -> None:
        """Only the transaction fails."""
        client = self.client(encoding="utf-8")
        executing = self.executing(client, readonly=True)
        self.wires[-1].write(QUEUED + b"*1\r\n$1\r\n\xff\r\n")
        self.error_of(executing, UnicodeDecodeError)
        self.node.script = None
        self.assertTrue(self.result_of(client.set(self.key, "v")))

    def test_max_pending(self) -> None:
        """A transaction counts as all that it writes, and is accepted or refused as a whole."""
        client = self.client(max_pending=5)
        transaction = client.transaction()
        for _ in range(4):
            transaction.incr(self.key)
        self.error_of(transaction.execute(), TooManyPending)
        self.network.settle()
        self.assertEqual(self.node.count(b"MULTI"), 0)
        executing = client.transaction().incr(self.key).execute()
        self.network.settle()
        self.wires[-1].write(QUEUED + b"*1\r\n:1\r\n")
        self.assertEqual(self.result_of(executing), [1])


class WaitingTests(MemoryTests):
    def test_before_there_is_a_connection(self) -> None:
        """The transaction waits as a whole and is sent on the new connection."""
        for node in self.nodes:
            node.script = transactional
        client = self.lazy_client()
        key = self.key_of(self.nodes[0])
        self.assertEqual(self.result_of(client.transaction().set(key, "v").get(key).execute()), [b"OK", b"v"])

    def test_a_connection_that_cannot_be_made(self) -> None:
        """The error says that the transaction was not executed."""
        client = self.client(timeout=1.0)
        self.network.refuse(self.nodes[0])
        self.network.settle()
        executing = client.transaction().incr(self.key_of(self.nodes[0])).execute()
        self.advance(1.1)
        self.assertFalse(self.error_of(executing, CommandTimeout).maybe_executed)
