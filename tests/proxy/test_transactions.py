"""Transactions of the clients of a proxy, on scripted nodes."""

from __future__ import annotations

from typing import Any

from tests.proxy.base import request
from tests.proxy.memory import ClientEnd, MemoryProxyTests
from txvalkeycluster import key_slot
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, ScriptedNode

_CHANGED = b"*-1\r\n"


class TransactionTests(MemoryProxyTests):
    def setUp(self) -> None:
        super().setUp()
        self.received: list[tuple[ScriptedNode, list[bytes]]] = []
        # The connection of the last request.
        self.connection: Any = None
        #: What nodes reply, by the first word.
        self.replies: dict[bytes, Any] = {}
        for node in self.nodes:
            node.script = self.answer

    def answer(self, node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
        if words[0] not in (b"HELLO", b"CLIENT", b"CLUSTER"):
            self.received.append((node, words))
            self.connection = connection
        return self.replies.get(words[0], DEFAULT_REPLY)

    def client(self, **settings: Any) -> ClientEnd:  # type: ignore[override]
        """Return a client of a new proxy."""
        return ClientEnd(self.proxy(**settings))

    def call(self, client: ClientEnd, *calls: str) -> bytes:
        """Send requests in one write, and return the replies."""
        client.received.clear()
        client.send(b"".join(request(*call.split()) for call in calls))
        self.network.settle()
        return bytes(client.received)

    def names(self) -> list[bytes]:
        """Return the names of the commands that nodes have received."""
        return [words[0] for _, words in self.received]

    def test_sent_with_exec(self) -> None:
        """Nothing is sent before EXEC, and then everything to the owner of the keys, in one write."""
        client = self.client()
        self.replies = {b"MULTI": b"+OK\r\n", b"SET": b"+QUEUED\r\n", b"EXEC": b"*2\r\n+OK\r\n+OK\r\n"}
        self.assertEqual(self.call(client, "MULTI", "SET {k}1 a", "SET {k}2 b"), b"+OK\r\n+QUEUED\r\n+QUEUED\r\n")
        self.assertEqual(self.names(), [])
        self.assertEqual(self.call(client, "EXEC"), b"*2\r\n+OK\r\n+OK\r\n")
        self.assertEqual(self.names(), [b"MULTI", b"SET", b"SET", b"EXEC"])
        self.assertEqual({node for node, _ in self.received}, {self.cluster.owner(key_slot("{k}1"))})

    def test_several_slots(self) -> None:
        """A key in another slot is refused when it is queued, with its name and both slots; EXEC executes nothing."""
        client = self.client()
        replies = self.call(client, "MULTI", "SET a 1", "SET b 2", "SET {a}x 3", "EXEC")
        wrong = (
            b"-CROSSSLOT Keys in request don't hash to the same slot: 'b' is in slot 3300, but the transaction is in "
            b"slot 15495 ('a')\r\n"
        )
        aborted = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
        self.assertEqual(replies, b"+OK\r\n+QUEUED\r\n" + wrong + b"+QUEUED\r\n" + aborted)
        self.assertTrue(self.call(client, "MULTI", "MGET a b").endswith(wrong))
        self.call(client, "DISCARD")
        self.assertEqual(self.names(), [])

    def test_watched_keys_elsewhere(self) -> None:
        """All watched keys, and all keys of their transaction, must be in one slot."""
        client = self.client()
        self.assertIn(
            b"'b' is in slot 3300, but the watched keys are in slot 15495 ('a')", self.call(client, "WATCH a b")
        )
        self.assertEqual(self.call(client, "WATCH a"), b"+OK\r\n")
        self.assertIn(b"but the watched keys are in slot 15495", self.call(client, "WATCH b"))
        self.assertIn(b"but the transaction is in slot 15495", self.call(client, "MULTI", "SET b 1"))
        self.call(client, "DISCARD")
        self.assertEqual(self.call(client, "WATCH b"), b"+OK\r\n")

    def test_commands_that_cannot_be_part(self) -> None:
        """Commands for the whole cluster, and of the proxy, are refused when they are queued."""
        client = self.client()
        for call, text in (
            ("DBSIZE", b"-ERR DBSIZE is for the whole cluster, and cannot be part of a transaction\r\n"),
            ("CLIENT ID", b"-ERR CLIENT ID is answered by the proxy, and cannot be part of a transaction\r\n"),
            ("SHUTDOWN", b"-ERR Command 'shutdown' not allowed inside a transaction\r\n"),
            ("BGSAVE", b"-ERR BGSAVE acts on one server; send it to that server directly\r\n"),
            ("MONITOR", b"-ERR MONITOR is not available through a proxy\r\n"),
            ("AUTH x", b"-ERR AUTH is answered by the proxy, and cannot be part of a transaction\r\n"),
        ):
            self.assertEqual(self.call(client, "MULTI", call, "DISCARD"), b"+OK\r\n" + text + b"+OK\r\n", call)
        self.assertEqual(self.names(), [])

    def test_too_large(self) -> None:
        """The requests that a client queues are limited."""
        client = self.client(max_pending_bytes=1000)
        replies = self.call(client, "MULTI", f"SET {{k}} {'x' * 800}", f"SET {{k}} {'x' * 100}", "EXEC", "PING")
        self.assertEqual(
            replies,
            b"+OK\r\n+QUEUED\r\n-ERR the transaction is larger than 1000 bytes (max_pending_bytes)\r\n"
            b"-EXECABORT Transaction discarded because of previous errors.\r\n+PONG\r\n",
        )

    def test_refused_by_the_server(self) -> None:
        """If the server refuses a command when it gets it, EXEC says why, and nothing was executed."""
        client = self.client()
        self.replies = {
            b"SET": b"-NOPERM no rights\r\n",
            b"EXEC": b"-EXECABORT previous errors\r\n",
            b"MULTI": b"+OK\r\n",
        }
        replies = self.call(client, "MULTI", "SET k v", "EXEC")
        self.assertEqual(
            replies, b"+OK\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of: NOPERM no rights\r\n"
        )

    def test_multi_refused(self) -> None:
        """If the server refuses MULTI, the error says that the commands were executed one by one."""
        client = self.client()
        self.replies = {b"MULTI": b"-NOPERM no rights\r\n", b"EXEC": b"-ERR EXEC without MULTI\r\n"}
        reply = self.call(client, "MULTI", "SET k v", "EXEC").split(b"\r\n")[2]
        self.assertIn(b"MULTI was refused: NOPERM no rights; the commands were executed one by one", reply)
        self.assertTrue(reply.endswith(b"; it may have been executed"), reply)

    def test_a_watch_that_is_lost(self) -> None:
        """If the connection that watches ends, EXEC executes nothing, as if a key had changed."""
        for then in ((), ("WATCH {k}2",)):
            client = self.client()
            self.assertEqual(self.call(client, "WATCH {k}1"), b"+OK\r\n")
            self.connection.close()
            self.network.settle()
            self.received.clear()
            self.assertEqual(
                self.call(client, *then, "MULTI", "SET {k}1 a"), b"+OK\r\n" * (len(then) + 1) + b"+QUEUED\r\n"
            )
            self.assertEqual(self.call(client, "EXEC"), _CHANGED)
            self.assertNotIn(b"SET", self.names())
            self.replies = {b"MULTI": b"+OK\r\n", b"EXEC": b"*0\r\n"}
            self.assertEqual(self.call(client, "MULTI", "EXEC"), b"+OK\r\n*0\r\n")
            self.replies = {}

    def test_a_reply_that_is_lost(self) -> None:
        """If the connection ends after EXEC was sent, the error says that it may have been executed."""
        for watched in (False, True):
            client = self.client()
            self.replies = {b"MULTI": b"+OK\r\n", b"SET": b"+QUEUED\r\n", b"EXEC": CLOSE}
            replies = self.call(client, *(("WATCH k",) if watched else ()), "MULTI", "SET k v", "EXEC")
            self.assertIn(b"-CONNLOST EXEC got no reply", replies)
            self.assertIn(b"; it may have been executed\r\n", replies)

    def test_a_client_that_leaves(self) -> None:
        """Its watch ends, and its transaction is not sent."""
        client = self.client()
        self.call(client, "WATCH k", "MULTI", "SET k v")
        client.close()
        self.network.settle()
        self.assertEqual(self.names(), [b"WATCH", b"UNWATCH"])

    def test_commands_of_a_module(self) -> None:
        """A command that the proxy does not know is described by a server before it is queued."""
        client = self.client()
        described = b"*1\r\n*6\r\n$7\r\nMOD.GET\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n"
        self.replies = {b"COMMAND": described, b"MOD.GET": DEFAULT_REPLY}
        self.assertEqual(self.call(client, "MULTI", "MOD.GET k"), b"+OK\r\n+QUEUED\r\n")
        self.replies[b"COMMAND"] = b"*1\r\n*-1\r\n"
        self.assertEqual(self.call(client, "FOO a"), b"-ERR unknown command 'FOO', with args beginning with: 'a' \r\n")
        self.assertEqual(self.call(client, "EXEC"), b"-EXECABORT Transaction discarded because of previous errors.\r\n")
