"""Transactions of users who may not execute MULTI: the server executes the commands one by one."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from tests.scripted.base import transactional
from txvalkeycluster import (
    ClusterClient,
    ConnectionLost,
    ReplyError,
    TransactionAborted,
    TransactionRefused,
    WatchSession,
)
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE

NOT_ALLOWED = b"-NOPERM User default has no permissions to run the 'multi' command\r\n"
WITHOUT_MULTI = b"-ERR EXEC without MULTI\r\n"


class RefusedTests(MemoryTests):
    #: Replies of the nodes, by command, that replace the execution.
    answers: dict[bytes, Any]

    def setUp(self) -> None:
        super().setUp()
        self.answers = {b"MULTI": NOT_ALLOWED, b"EXEC": WITHOUT_MULTI}
        for node in self.nodes:
            node.script = lambda node, words, _: self.answers.get(words[0], DEFAULT_REPLY)

    def refused(self, client: ClusterClient, executing: Deferred[Any]) -> TransactionRefused:
        error = self.error_of(executing, TransactionRefused)
        self.assertNotIsInstance(error, ReplyError)
        assert isinstance(error, TransactionRefused)
        return error

    def entered(self, session: WatchSession[Any]) -> WatchSession[Any]:
        return self.result_of(Deferred.fromCoroutine(session.__aenter__()))

    def left(self, session: WatchSession[Any]) -> None:
        self.result_of(Deferred.fromCoroutine(session.__aexit__(None, None, None)))

    def test_the_commands_may_have_run(self) -> None:
        """The error says that the commands may have run, and has the reply of each."""
        client = self.client()
        key = self.key_of(self.nodes[0])
        error = self.refused(client, client.transaction().incr(key).get(key).execute())
        self.assertTrue(error.maybe_executed)
        self.assertEqual(error.results, (1, b"1"))
        self.assertIn("NOPERM", str(error))

    def test_the_transaction_is_not_repeated(self) -> None:
        """A temporary error or a redirect of one command causes no repetition, because another command has run."""
        key = self.key_of(self.nodes[0])
        for text in (
            b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
            b"-LOADING Valkey is loading the dataset in memory\r\n",
            b"-CLUSTERDOWN The cluster is down\r\n",
            b"-MOVED 1 %b\r\n" % str(self.nodes[1].address).encode(),
            b"-ASK 1 %b\r\n" % str(self.nodes[1].address).encode(),
        ):
            client = self.client()
            self.answers[b"GET"] = text
            before = self.cluster.count(b"INCR")
            error = self.refused(client, client.transaction().incr(key).get(key).execute())
            self.assertTrue(error.maybe_executed)
            self.assertEqual(self.cluster.count(b"INCR"), before + 1)
            self.result_of(client.close())

    def test_multi_is_refused_with_a_temporary_error(self) -> None:
        """The commands after MULTI are executed, whatever the reason of the refusal."""
        client = self.client()
        key = self.key_of(self.nodes[0])
        self.answers[b"MULTI"] = b"-LOADING Valkey is loading the dataset in memory\r\n"
        error = self.refused(client, client.transaction().incr(key).execute())
        self.assertTrue(error.maybe_executed)
        self.assertEqual(self.cluster.count(b"INCR"), 1)

    def test_the_next_transaction_is_not_sent(self) -> None:
        """A node that refused MULTI is sent no further transaction. Other nodes are."""
        client = self.client()
        one, other = self.key_of(self.nodes[0]), self.key_of(self.nodes[1])
        self.refused(client, client.transaction().incr(one).execute())
        sent = len(self.nodes[0].received)
        error = self.refused(client, client.transaction().incr(one).execute())
        self.assertFalse(error.maybe_executed)
        self.assertEqual(error.results, ())
        self.assertEqual(len(self.nodes[0].received), sent)
        error = self.refused(client, client.transaction().incr(other).execute())
        self.assertTrue(error.maybe_executed)

    def test_a_permission_that_is_granted_later(self) -> None:
        """After a while the client sends an empty transaction first, and the transaction only if MULTI is accepted."""
        client = self.client()
        key = self.key_of(self.nodes[0])
        self.refused(client, client.transaction().incr(key).execute())
        self.advance(10.1, step=1.0)
        error = self.refused(client, client.transaction().incr(key).execute())
        self.assertFalse(error.maybe_executed)
        self.assertEqual(self.cluster.count(b"INCR"), 1)
        self.nodes[0].script = transactional
        self.advance(10.1, step=1.0)
        for number in (2, 3):
            self.assertEqual(self.result_of(client.transaction().incr(key).execute()), [number])
        # One refused transaction, two empty ones, and two that were executed.
        self.assertEqual(self.nodes[0].count(b"EXEC"), 5)

    def test_in_a_session(self) -> None:
        """A transaction of a session fails in the same way, and its connection can be lent again."""
        client = self.client()
        key = self.key_of(self.nodes[0])
        for executed in (True, False):
            session = self.entered(client.watch(key))
            error = self.refused(client, session.transaction().incr(key).execute())
            self.assertEqual(error.maybe_executed, executed)
            self.left(session)
        self.assertEqual(self.cluster.count(b"INCR"), 1)

    def test_lost_before_multi_was_answered(self) -> None:
        """It is unknown whether MULTI was refused, so the commands may have run, and are not repeated."""
        client = self.client()
        key = self.key_of(self.nodes[0])
        self.answers = {b"MULTI": SILENCE, b"INCR": SILENCE, b"EXEC": CLOSE}
        error = self.error_of(client.transaction().incr(key).execute(), ConnectionLost)
        self.assertTrue(error.maybe_executed)
        self.assertEqual(self.cluster.count(b"INCR"), 1)

    def test_an_exec_that_leaves_the_transaction_open(self) -> None:
        """The connection ends, so that no other command is queued in the open transaction."""
        client = self.client()
        key = self.key_of(self.nodes[0])
        self.result_of(client.get(key))
        self.answers = {b"MULTI": b"+OK\r\n", b"INCR": b"+QUEUED\r\n", b"EXEC": b"-ERR unknown command 'EXEC'\r\n"}
        executing = client.transaction().incr(key).execute()
        later = client.get(key)
        self.error_of(executing, TransactionAborted)
        self.assertIsNone(self.result_of(later))
        self.assertEqual(self.nodes[0].accepted, 2)
        session = self.entered(client.watch(key))
        self.error_of(session.transaction().incr(key).execute(), TransactionAborted)
        self.left(session)
        leased = self.nodes[0].accepted
        self.left(self.entered(client.watch(key)))
        self.assertEqual(self.nodes[0].accepted, leased + 1)

    def test_reasons_of_execabort(self) -> None:
        """A temporary reason is waited for. Any other reason fails the transaction."""
        client = self.client()
        key = self.key_of(self.nodes[0])
        reason = b"-EXECABORT Transaction discarded because of: %b\r\n"
        self.answers = {b"MULTI": b"+OK\r\n", b"INCR": b"+QUEUED\r\n", b"EXEC": reason % b"OOM too much"}
        error = self.error_of(client.transaction().incr(key).execute(), TransactionAborted)
        self.assertEqual(error.refusals, ("OOM too much",))
        self.answers[b"EXEC"] = reason % b"READONLY You can't write against a read only replica."
        executing = client.transaction().incr(key).execute()
        self.advance(0.1)
        self.assertGreater(self.nodes[0].count(b"EXEC"), 2)
        self.assertNoResult(executing)
        self.answers[b"EXEC"] = b"*1\r\n:1\r\n"
        self.assertEqual(self.result_of(executing), [1])
