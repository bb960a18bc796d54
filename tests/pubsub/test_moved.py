"""SUNSUBSCRIBE of a channel whose slot is moving: the server answers MOVED, and sends its own ``sunsubscribe``."""

from __future__ import annotations

from typing import Any

from tests.pubsub.base import TwoProtocolsTests
from txvalkeycluster import key_slot
from txvalkeycluster.testing import DEFAULT_REPLY, ScriptedNode
from txvalkeycluster.testing.scripted_pubsub import end_sharded


class MovedTests(TwoProtocolsTests):
    """With RESP3; `RESP2MovedTests` repeats them with RESP2."""

    def remove(self, *, own_end: bool) -> None:
        """Remove a channel whose slot has just left its node, and check that the others are not lost."""
        node, *_ = self.nodes
        gone, kept = self.channel_of(node, 0), self.channel_of(node, 1)
        subscription = self.subscribed(self.client().ssubscribe(gone, kept, listener=self.items.append))

        def moved(_: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            if words[0] != b"SUNSUBSCRIBE" or words[1] != gone.encode():
                return DEFAULT_REPLY
            if own_end:
                end_sharded(connection, key_slot(gone))
            connection.subscribed.pop((b"S", gone.encode()), None)
            return b"-MOVED %d %b\r\n" % (key_slot(gone), str(self.nodes[1].address).encode())

        node.script = moved
        removed = subscription.remove(gone)
        self.advance(3.0)
        self.assertTrue(removed.called)
        self.assertEqual(self.items, [])
        self.spublish(kept, "1")
        self.assertEqual([item.data for item in self.items], [b"1"])

    def test_moved(self) -> None:
        """The server does not have the channel any more, so the connection stays."""
        self.remove(own_end=False)

    def test_the_servers_own_end_and_then_moved(self) -> None:
        """The push is not the reply to SUNSUBSCRIBE, and MOVED is not the reply to the PING after it."""
        self.remove(own_end=True)


class RESP2MovedTests(MovedTests):
    """The same with RESP2."""

    protocol = 2
