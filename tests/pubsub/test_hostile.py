"""What a server can send to a connection with subscriptions: nothing of it harms more than that connection."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.pubsub.base import TwoProtocolsTests
from txvalkeycluster import Lost, Message, Resubscribed
from txvalkeycluster.testing import DEFAULT_REPLY, ScriptedNode

WORDS = [b"message", b"pmessage", b"smessage", b"subscribe", b"psubscribe", b"ssubscribe", b"unsubscribe",
         b"punsubscribe", b"sunsubscribe", b"invalidate", b"pong", b"a", b"", b"\xff"]  # fmt: skip


class HostileTests(TwoProtocolsTests):
    def setUp(self) -> None:
        super().setUp()
        self.mark = b">" if self.protocol == 3 else b"*"

    def inject(self, node: ScriptedNode, data: bytes) -> None:
        """Have a node send bytes on its connection with subscriptions."""
        for connection in list(node.connections):
            if connection.subscribed:
                connection.write(data)
        self.network.settle()

    def words(self, *words: bytes | int) -> bytes:
        """A push, or a list with RESP2."""
        parts = [b":%d\r\n" % word if isinstance(word, int) else b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
        return self.mark + b"%d\r\n" % len(words) + b"".join(parts)

    def test_harmless(self) -> None:
        """Messages for channels that are not subscribed, confirmations that nothing asked for, and wrong counts."""
        client = self.client()
        self.subscribed(client.subscribe("a", listener=self.items.append))
        node = self.home("a")
        for data in (
            self.words(b"message", b"other", b"1"),
            self.words(b"smessage", b"a", b"1"),
            self.words(b"pmessage", b"a", b"a", b"1"),
            self.words(b"subscribe", b"other", 1),
            self.words(b"subscribe", b"a", 99),
            self.words(b"ssubscribe", b"a", -1),
            self.words(b"unsubscribe", b"other", 5),
            self.words(b"sunsubscribe", b"a", 0),
        ):
            self.inject(node, data)
        self.publish("a", "1")
        self.assertEqual(self.items, [Message(b"a", b"1")])
        self.assertEqual(self.result_of(client.execute_on(node.address, "PING")), b"PONG")

    def test_pushes_of_other_kinds(self) -> None:
        """RESP3 pushes that this client does not know are ignored, whatever they hold."""
        if self.protocol == 2:
            return
        client = self.client()
        self.subscribed(client.subscribe("a", listener=self.items.append))
        for data in (
            self.words(b"invalidate"),
            b">0\r\n",
            b">1\r\n*0\r\n",
            b">2\r\n%1\r\n+a\r\n+b\r\n+c\r\n",
            b">2\r\n:1\r\n:2\r\n",
            b">2\r\n$7\r\nmessage\r\n*1\r\n+a\r\n",
        ):
            self.inject(self.home("a"), data)
        self.publish("a", "1")
        self.assertEqual(self.items, [Message(b"a", b"1")])

    def test_the_servers_own_end(self) -> None:
        """An ``unsubscribe`` that nothing asked for: the channel is lost, and subscribed again."""
        self.subscribed(self.client().subscribe("a", listener=self.items.append))
        self.inject(self.home("a"), self.words(b"unsubscribe", b"a", 0))
        self.assertEqual([type(item) for item in self.items], [Lost, Resubscribed])

    def test_what_ends_the_connection(self) -> None:
        """Replies that nothing asked for, and messages that are too short: reported, and then subscribed again."""
        client = self.client()
        self.subscribed(client.subscribe("a", listener=self.items.append))
        for data in (
            b"+OK\r\n",
            b"-ERR x\r\n",
            b":1\r\n",
            b"%1\r\n+a\r\n+b\r\n",
            b"?\r\n",
            self.words(b"message", b"a"),
        ):
            self.items.clear()
            self.inject(self.home("a"), data)
            self.advance(2.0)
            self.assertEqual([type(item) for item in self.items], [Lost, Resubscribed], data)
        self.assertEqual(self.result_of(client.set("k", "v")), b"OK")

    def test_another_reply_than_that_to_the_ping(self) -> None:
        """It does not pass for the end of a change."""
        client = self.client()
        answers = [b"+PONG\r\n", b"$1\r\nx\r\n", b"*2\r\n$4\r\npong\r\n$1\r\nx\r\n"]
        for node in self.nodes:
            node.script = lambda _, words, __: (
                answers.pop() if words[0] == b"PING" and len(words) > 1 and answers else DEFAULT_REPLY
            )
        subscription = client.subscribe("a", listener=self.items.append)
        ready = subscription.ready()
        self.advance(3.0)
        self.assertTrue(ready.called)
        self.assertEqual(answers, [])
        self.publish("a", "1")
        self.assertIsInstance(self.items[-1], Message)

    def test_an_error_and_then_a_confirmation(self) -> None:
        """The confirmation counts: the server sends the messages."""
        client = self.client()
        for node in self.nodes:
            node.script = self.refuse_and_confirm
        self.subscribed(client.subscribe("a", listener=self.items.append))
        self.inject(self.nodes[0], self.words(b"message", b"a", b"1"))
        self.inject(self.nodes[1], self.words(b"message", b"a", b"1"))
        self.inject(self.nodes[2], self.words(b"message", b"a", b"1"))
        self.assertEqual(self.items, [Message(b"a", b"1")])

    def refuse_and_confirm(self, _: ScriptedNode, words: list[bytes], connection: Any) -> Any:
        """Answer SUBSCRIBE with an error, and confirm it all the same."""
        if words[0] != b"SUBSCRIBE":
            return DEFAULT_REPLY
        connection.subscribed[b"", words[1]] = None
        return b"-NOPERM no\r\n" + self.words(b"subscribe", words[1], 1)

    def test_single_bytes(self) -> None:
        """Messages and confirmations can be cut anywhere."""
        client = self.client()
        subscription = self.subscribed(client.ssubscribe("a", "b", listener=self.items.append))
        owner = next(node for node in self.nodes if (b"S", b"a") in self.at(node))
        for number in range(20):
            for byte in self.words(b"smessage", b"a", b"%d" % number):
                self.inject(owner, bytes([byte]))
        self.assertEqual([item.data for item in self.items], [b"%d" % number for number in range(20)])
        self.assertEqual(len(subscription.channels), 2)

    def test_anything(self) -> None:
        """Random pushes and replies: no error in the log, commands are served, and the channel works in the end."""
        random = Random(7)
        client = self.client()
        for round_ in range(60):
            self.items.clear()
            subscription = self.subscribed(client.subscribe("a", f"b{round_}", listener=self.items.append))
            node = self.home("a")
            for _ in range(random.randint(1, 6)):
                words: list[Any] = [random.choice(WORDS) for _ in range(random.randint(0, 4))]
                if random.random() < 0.3:
                    words.append(random.randint(-2, 9))
                kind = random.choice([self.mark, b"*", b">" if self.protocol == 3 else b"*"])
                self.inject(node, kind + self.words(*words)[1:])
            self.advance(1.5)
            self.items.clear()
            self.publish("a", "end")
            self.assertEqual([item.data for item in self.items if isinstance(item, Message)], [b"end"])
            self.assertEqual(self.result_of(client.set("k", "v")), b"OK")
            self.result_of(subscription.close())
            self.network.settle()
            self.assertEqual(self.everywhere(), [])


class RESP2HostileTests(HostileTests):
    """The same with RESP2."""

    protocol = 2
