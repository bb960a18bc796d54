"""Commands that no table holds: a server is asked what they mean, and they wait for its answer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from tests.memory import MemoryTests
from tests.scripted.base import moved
from txvalkeycluster import ClientClosed, ProtocolError, TransactionAborted
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE

# COMMAND INFO of one that has its key in the first place.
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
        """However many wait; each goes to the owner of its key."""
        client = self.client()
        waiting = [client.execute("MODULE.DOES", self.key) for _ in range(3)]
        for deferred in waiting:
            self.assertEqual(self.result_of(deferred), b"done")
        self.assertEqual(self.result_of(client.execute("module.does", self.key)), b"done")
        self.assertEqual((self.cluster.count(b"COMMAND"), self.nodes[1].count(b"MODULE.DOES")), (1, 4))

    def test_before_the_first_map(self) -> None:
        """Asking needs a node, so the map comes first."""
        client = self.lazy_client()
        self.assertEqual(self.result_of(client.execute("MODULE.DOES", self.key)), b"done")

    def test_a_user_who_may_not_ask(self) -> None:
        """It goes anywhere, and MOVED tells where it belongs."""
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

    def test_an_answer_that_makes_no_sense(self) -> None:
        """Those that wait fail with it, and the next asks again."""
        self.info = b"+what\r\n"
        client = self.client()
        self.error_of(client.execute("MODULE.DOES", self.key), ProtocolError)
        self.info = INFO
        self.assertEqual(self.result_of(client.execute("MODULE.DOES", self.key)), b"done")

    def test_who_is_asked_goes_away(self) -> None:
        """Another is asked after a while."""
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

    def test_given_up(self) -> None:
        """Nobody asks for what nobody waits for, and close() does not wait for it."""
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
        """It is queued as it is: the server knows whether it may be."""
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
