"""How requests are shown, and how blocking and timed-out requests end."""

from __future__ import annotations

from typing import Any

from tests.cases import SynchronousTestCase
from tests.memory import MemoryTests
from txvalkeycluster import CommandTimeout, ReplyError
from txvalkeycluster.commands import Command
from txvalkeycluster.requests.batch import Batch
from txvalkeycluster.requests.exclusive import BlockingCall
from txvalkeycluster.requests.target import ANY_NODE, PrimaryOf
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE
from txvalkeycluster.topology.model import Shard


class ReprTests(SynchronousTestCase):
    def test_a_request(self) -> None:
        """The repr says what the request is, where it goes, and whether its caller still waits."""
        batch: Any = Batch(None, 5, 0.0, 1.0)  # type: ignore[arg-type]
        self.assertEqual(repr(batch), "<Batch a batch to 5 waiting>")
        batch.called = True
        self.assertEqual(repr(batch), "<Batch a batch to 5 ended>")

    def test_targets(self) -> None:
        self.assertEqual(str(ANY_NODE), "any primary")
        self.assertEqual(str(PrimaryOf(Shard(None, ()))), "the primary of a shard of 0 nodes")


class BlockingTests(MemoryTests):
    def test_a_block_time_that_is_not_a_number(self) -> None:
        """The command is sent, and its error is that of the server."""
        key = self.key_of(self.nodes[0])
        self.nodes[0].script = lambda node, words, _: (
            b"-ERR timeout is not a float or out of range\r\n" if words[0] == b"BLPOP" else DEFAULT_REPLY
        )
        client = self.client()
        for time in ("soon", b""):
            self.error_of(client.execute("BLPOP", key, time), ReplyError)

    def test_a_negative_block_time_is_no_deadline(self) -> None:
        call = BlockingCall(("BLPOP", "k", -5), Command("BLPOP"), 0, 1.0, 10.0, False, lambda _: None)
        self.assertEqual(call.deadline, float("inf"))


class LateReplyTests(MemoryTests):
    def test_a_late_error_reply(self) -> None:
        """The error reply to a timed-out command is dropped, and the next command gets its own reply."""
        node = self.nodes[0]
        key = self.key_of(node)
        node.script = lambda node, words, _: SILENCE if words[0] == b"GET" else DEFAULT_REPLY
        client = self.client(unresponsive_after=60.0)
        late = client.execute("GET", key, timeout=0.5)
        self.advance(0.6)
        self.assertTrue(self.failureResultOf(late, CommandTimeout).value.maybe_executed)
        following = client.incr(key)
        self.clock.advance(0)
        node.connections[0].write(b"-MOVED 5 node:7001\r\n")
        self.assertEqual(self.result_of(following), 1)
        self.assertEqual(client.statistics.moved, 0)
