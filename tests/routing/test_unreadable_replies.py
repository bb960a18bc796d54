"""Replies that cannot be parsed: which command fails, and what happens to the others."""

from __future__ import annotations

from typing import Any

from tests.memory import MemoryTests
from txvalkeycluster import ConnectionLost, ProtocolError
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode

# Replies that hiredis refuses, or that Python cannot represent.
UNREADABLE = (
    b"!9\r\nERR large\r\n",
    b",1e400\r\n",
    b"%1\r\n*1\r\n:1\r\n:1\r\n",
    b"*1\r\n" * 1100 + b":1\r\n",
    b"?what\r\n",
    b"$-9\r\n",
)


class UnreadableTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.node = self.nodes[0]
        self.key, self.other, self.third = (self.key_of(self.node, number) for number in range(3))
        self.reply = b""
        self.node.script = self.answer

    def answer(self, _: ScriptedNode, words: list[bytes], __: Any) -> Any:
        """Answer GET of one key with the unreadable reply, and everything else as usual."""
        if words[0] == b"GET" and words[1] == self.key.encode():
            return self.reply
        return DEFAULT_REPLY

    def test_each_command_once(self) -> None:
        """The command of the reply fails and is not repeated. Reads after it are repeated, writes may have run."""
        for reply in UNREADABLE:
            client = self.client()
            self.reply = reply
            before = self.node.count(b"GET", self.key.encode())
            unreadable, read, write = client.get(self.key), client.get(self.other), client.incr(self.third)
            error = self.error_of(unreadable, ProtocolError)
            self.assertTrue(error.maybe_executed, reply[:20])
            self.assertIsNone(self.result_of(read))
            self.assertTrue(self.error_of(write, ConnectionLost).maybe_executed)
            self.assertEqual(self.node.count(b"GET", self.key.encode()), before + 1)
            self.cluster.values.clear()
            self.result_of(client.close())

    def test_in_a_pipeline(self) -> None:
        """One command of a batch fails. The others succeed."""
        for reply in UNREADABLE:
            client = self.client()
            self.reply = reply
            results = self.result_of(client.pipeline().get(self.other).get(self.key).get(self.other).execute())
            self.assertIsNone(results[0])
            self.assertIsInstance(results[1], ProtocolError)
            self.assertIsNone(results[2])
            self.result_of(client.close())

    def test_after_a_timeout(self) -> None:
        """The unreadable reply belongs to the timed-out command, and the next command succeeds."""
        client = self.client(unresponsive_after=60.0)
        self.node.script = lambda _, words, __: SILENCE if words[0] == b"GET" else DEFAULT_REPLY
        late = client.execute("GET", self.key, timeout=0.1)
        self.advance(0.2)
        self.error_of(late, Exception)
        read = client.get(self.other)
        self.network.settle()
        self.node.script = None
        self.node.connections[0].write(b"?what\r\n")
        self.assertIsNone(self.result_of(read))
