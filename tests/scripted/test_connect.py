"""The errors of connect() for clusters that cannot be used, and how often it asks for a slot map."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError

from tests.memory import MemoryTests
from tests.scripted.base import ScriptedTests
from txvalkeycluster import ClusterUnavailable, CommandTimeout, connect
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode


class ConnectTests(ScriptedTests):
    async def refused(self, url: str = "", **options: Any) -> str:
        """Expect that connect() to the first node fails.  Return the reason that the error gives."""
        url = url or f"valkey://{self.nodes[0].address}"
        error = await self.assertFailure(connect(reactor, url, **options), ClusterUnavailable)
        self.assertEqual(len(error.attempts), 1)
        self.assertLessEqual(self.cluster.count(b"CLUSTER", b"SLOTS"), 1)
        self.assertIn(error.attempts[0][1], str(error))
        return str(error.attempts[0][1])

    def answer(self, first: bytes, reply: Any) -> None:
        """Make the first node answer commands that begin with a word."""

        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            return reply if words[0] == first else DEFAULT_REPLY

        self.nodes[0].script = script

    async def test_no_slots(self) -> None:
        """A node of a cluster that is not formed yet knows no slots."""
        self.cluster.ranges = []
        self.assertIn("lists no primary with slots; check that the cluster was created", await self.refused())

    async def test_cluster_support_off(self) -> None:
        self.answer(b"CLUSTER", b"-ERR This instance has cluster support disabled\r\n")
        self.assertIn("cluster support disabled", await self.refused())

    async def test_wrong_password(self) -> None:
        """The error repeats the text of the server without the password, and the client does not try again."""
        self.answer(b"HELLO", b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")
        reason = await self.refused(password="not-to-be-seen")
        self.assertIn("refused HELLO: WRONGPASS", reason)
        self.assertNotIn("not-to-be-seen", reason)
        self.assertEqual(self.nodes[0].count(b"HELLO"), 1)

    async def test_password_needed(self) -> None:
        self.answer(b"HELLO", b"-NOAUTH HELLO must be called with the client already authenticated\r\n")
        self.assertIn("NOAUTH", await self.refused())

    async def test_silence(self) -> None:
        """connect() fails at the connect timeout if a node accepts the connection and sends nothing."""
        self.nodes[0].script = lambda *_: SILENCE
        self.assertIn(
            "could not connect and complete the handshake within 0.5 s", await self.refused(connect_timeout=0.5)
        )

    async def test_not_a_valkey_server(self) -> None:
        self.nodes[0].script = lambda *_: b"HTTP/1.1 400 Bad Request\r\n\r\n"
        self.assertIn("Protocol error", await self.refused())

    async def test_connection_closed(self) -> None:
        self.nodes[0].script = lambda *_: CLOSE
        self.assertTrue(await self.refused())

    async def test_malformed_map(self) -> None:
        """The error names the malformed place in the reply."""
        self.answer(b"CLUSTER", b"*1\r\n*3\r\n:0\r\n:20000\r\n*0\r\n")
        self.assertIn("CLUSTER SLOTS row 0 has the invalid slot range 0 to 20000", await self.refused())

    async def test_a_reason_for_each_seed(self) -> None:
        """If three seeds fail for three reasons, one error gives them all."""
        one, two, three = self.nodes
        one.script = lambda node, words, _: b"*0\r\n" if words[0] == b"CLUSTER" else DEFAULT_REPLY
        two.script = lambda node, words, _: b"-NOAUTH who are you\r\n" if words[0] == b"HELLO" else DEFAULT_REPLY
        await three.stop()
        connecting = connect(reactor, self.cluster.url)
        error = await self.assertFailure(connecting, ClusterUnavailable)
        reasons = dict(error.attempts)
        self.assertIn("check that the cluster was created", reasons[str(one.address)])
        self.assertIn("NOAUTH", reasons[str(two.address)])
        self.assertIn("refused", reasons[str(three.address)])

    async def test_one_good_seed_is_enough(self) -> None:
        """connect() does not wait for the timeout of a silent seed before it asks the next seed."""
        self.nodes[0].script = lambda *_: SILENCE
        self.cluster.ranges = [(0, 16383, self.nodes[1])]
        client = await connect(reactor, self.cluster.url, connect_timeout=30.0)
        self.assertEqual(client.topology.slot_count, 16384)
        await client.abort()

    async def test_cancel(self) -> None:
        """Cancelling connect() closes its connections."""
        self.nodes[0].script = lambda *_: SILENCE
        connecting = connect(reactor, f"valkey://{self.nodes[0].address}")
        await self.until(lambda: self.nodes[0].received)
        connecting.cancel()
        await self.assertFailure(connecting, CancelledError)
        await self.until(lambda: not self.nodes[0].connections)


class WaitingTests(MemoryTests):
    def test_commands_that_wait_for_the_first_map(self) -> None:
        """1000 commands of a lazy client wait until their deadlines, and cause one round of CLUSTER SLOTS a second."""
        self.cluster.ranges = []
        client = self.lazy_client()
        waiting = [client.execute("GET", f"k{n}", timeout=1.5) for n in range(1000)]
        self.advance(1.51)
        for deferred in waiting:
            error = self.failureResultOf(deferred, CommandTimeout).value
            self.assertIn("check that the cluster was created", str(error))
        self.assertLessEqual(self.cluster.count(b"CLUSTER", b"SLOTS"), 2 * len(self.nodes))


class LazyTests(ScriptedTests):
    async def test_commands_are_sent_with_the_first_map(self) -> None:
        """Commands that wait for a slot map are sent when the cluster is formed."""
        ranges, self.cluster.ranges = self.cluster.ranges, []
        client = self.lazy_client(refresh_interval=0.05)
        waiting = client.execute("SET", "k", "v")
        await self.until(lambda: self.cluster.count(b"CLUSTER", b"SLOTS"))
        self.cluster.ranges = ranges
        self.assertEqual(await waiting, b"OK")
