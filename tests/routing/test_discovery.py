"""Commands that are not in the table wait until a server has described them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from tests.memory import MemoryTests
from tests.scripted.base import moved
from txvalkeycluster import ClientClosed, ProtocolError, TransactionAborted
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE

# COMMAND INFO of a command whose first argument is a key.
INFO = b"*1\r\n*6\r\n$11\r\nmodule.does\r\n:-2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n"


class DiscoveryTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.info: Any = INFO
        for node in self.nodes:
            node.script = self.script
        self.key = self.key_of(self.nodes[1])

    def script(self, _: Any, words: list[bytes], __: Any) -> Any:
        if words[0] == b"COMMAND":
            return self.info
        return b"+done\r\n" if words[0] == b"MODULE.DOES" else DEFAULT_REPLY

    def test_asked_once(self) -> None:
        """One server is asked once, however many commands wait, and each command goes to the owner of its key."""
        client = self.client()
        waiting = [client.execute("MODULE.DOES", self.key) for _ in range(3)]
        for deferred in waiting:
            self.assertEqual(self.result_of(deferred), b"done")
        self.assertEqual(self.result_of(client.execute("module.does", self.key)), b"done")
        self.assertEqual((self.cluster.count(b"COMMAND"), self.nodes[1].count(b"MODULE.DOES")), (1, 4))

    def test_before_the_first_map(self) -> None:
        """The slot map comes first, because the question needs a node."""
        client = self.lazy_client()
        self.assertEqual(self.result_of(client.execute("MODULE.DOES", self.key)), b"done")

    def test_a_user_who_may_not_call_command(self) -> None:
        """The command goes to any node, and MOVED leads it to the owner of its key."""
        self.info = b"-NOPERM no\r\n"
        for node in (self.nodes[0], self.nodes[2]):
            node.script = lambda node, words, _: (
                moved(self.key, self.nodes[1].address)
                if words[0] == b"MODULE.DOES"
                else self.info
                if words[0] == b"COMMAND"
                else DEFAULT_REPLY
            )
        client = self.client()
        self.assertEqual(self.result_of(client.execute("MODULE.DOES", self.key)), b"done")

    def test_an_unreadable_answer(self) -> None:
        """The waiting commands fail, and the next command causes a new question."""
        self.info = b"+what\r\n"
        client = self.client()
        self.error_of(client.execute("MODULE.DOES", self.key), ProtocolError)
        self.info = INFO
        self.assertEqual(self.result_of(client.execute("MODULE.DOES", self.key)), b"done")

    def test_the_asked_node_is_lost(self) -> None:
        """Another node is asked after a while."""
        self.info = SILENCE
        client = self.client()
        waiting = client.execute("MODULE.DOES", self.key)
        self.network.settle()
        for node in self.nodes:
            self.network.cut(node)
        self.network.settle()
        self.assertNoResult(waiting)
        self.info = INFO
        self.assertEqual(self.result_of(waiting), b"done")

    def test_cancelled(self) -> None:
        """There is no question for a cancelled command, and ``close`` does not wait for it."""
        self.info = SILENCE
        client = self.client()
        waiting = client.execute("MODULE.DOES", self.key, timeout=None)
        self.network.settle()
        closed = client.close()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.advance(10.0, step=0.5)
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.error_of(client.execute("MODULE.DOES", self.key), ClientClosed)

    def test_in_a_transaction(self) -> None:
        """An unknown command is queued without a question, and the server decides about it."""
        client = self.client()
        for node in self.nodes:
            node.script = lambda node, words, _: (
                b"-ERR unknown command\r\n"
                if words[0] == b"MODULE.DOES"
                else b"-EXECABORT Transaction discarded because of previous errors.\r\n"
                if words[0] == b"EXEC"
                else DEFAULT_REPLY
            )
        self.error_of(client.transaction().add("MODULE.DOES", self.key).execute(), TransactionAborted)
