"""What a `FinishedCommand` says about each kind of command that succeeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from tests.public.listener_base import ListenerTests
from tests.scripted.base import moved
from txvalkeycluster import Address, CommandTimeout, ProtocolError, ReplyError
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE


class SuccessTests(ListenerTests):
    def test_a_command(self) -> None:
        """The name, the node, and the time from the call to the reply."""
        client = self.observed()
        self.result_of(client.get(self.key))
        self.check("GET", self.node.address)
        self.answer(b"GET", SILENCE)
        waiting = client.get(self.key)
        self.advance(0.3)
        self.assertEqual(self.finished, [])
        self.node.connections[0].write(b"$1\r\nv\r\n")
        self.assertEqual(self.result_of(waiting), b"v")
        self.check("GET", self.node.address, seconds=0.3)

    def test_before_the_caller(self) -> None:
        """The listener is called before the callbacks of the command, and before a coroutine goes on."""
        client = self.observed()
        order: list[str] = []
        client.add_command_listener(lambda finished: order.append(finished.name))

        async def work() -> None:
            await client.get(self.key)
            order.append("coroutine")

        self.result_of(Deferred.fromCoroutine(work()))
        self.result_of(client.set(self.key, "v").addCallback(lambda _: order.append("callback")))
        self.assertEqual(order, ["GET", "coroutine", "SET", "callback"])

    def test_every_spelling_has_one_name(self) -> None:
        client = self.observed()
        for name in ("get", b"GET", "Get"):
            self.result_of(client.execute(name, self.key))
            self.check("GET", self.node.address)
        self.result_of(client.execute("config", "set", "maxmemory", "0"))
        self.check("CONFIG SET", None)

    def test_the_reply_is_the_same(self) -> None:
        """A listener changes neither replies, nor what is sent."""
        replies: list[list[Any]] = []
        sent: list[list[Any]] = []
        for listen in (False, True):
            for node in self.nodes:
                node.received.clear()
            self.cluster.values.clear()
            client = self.client(encoding="utf-8")
            if listen:
                client.add_command_listener(self.finished.append)
            calls: list[Callable[[], Deferred[Any]]] = [
                lambda: client.set(self.key, "v", ex=60),  # noqa: B023
                lambda: client.get(self.key),  # noqa: B023
                lambda: client.execute(b"GET", self.key.encode(), timeout=1.0),  # noqa: B023
                lambda: client.execute("GET", bytearray(self.key.encode())),  # noqa: B023
                lambda: client.execute(bytearray(b"GET"), self.key),  # noqa: B023
                lambda: client.with_options(timeout=None, repeatable=True).incr("number"),  # noqa: B023
                lambda: client.set(self.key, "x" * 100_000),  # noqa: B023
                lambda: client.execute("PING"),  # noqa: B023
                lambda: client.execute("TYPE"),  # noqa: B023
                lambda: client.execute("GET", 1.5j),  # type: ignore[arg-type]  # noqa: B023
                lambda: client.execute("GET", "\udc80"),  # noqa: B023
                lambda: client.execute(),  # noqa: B023
                lambda: client.execute([]),  # type: ignore[arg-type]  # noqa: B023
                lambda: client.execute("SET", self.key, object()),  # type: ignore[arg-type]  # noqa: B023
                lambda: client.execute("SELECT", 1),  # noqa: B023
            ]
            replies.append([self.outcome(call()) for call in calls])
            sent.append([words for node in self.nodes for _, words in node.received])
            self.result_of(client.close())
        self.assertEqual(replies[0], replies[1])
        self.assertEqual(sent[0], sent[1])
        self.assertEqual(len(self.finished), 15)

    def outcome(self, deferred: Deferred[Any]) -> Any:
        """Return the result, or the class and the text of the error."""
        return self.result_of(deferred.addErrback(lambda failure: (type(failure.value), str(failure.value))))

    def test_a_converted_reply(self) -> None:
        """The caller gets the value of the method, not the reply of the server."""
        self.answer(b"SMEMBERS", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n")
        client = self.observed()
        self.assertEqual(self.result_of(client.smembers(self.key)), {b"a", b"b"})
        self.check("SMEMBERS", self.node.address)

    def test_a_reply_that_cannot_be_converted(self) -> None:
        """The error of a conversion is that of the caller only: the command itself has succeeded."""
        self.answer(b"ZSCORE", b"+text\r\n")
        client = self.observed()
        self.error_of(client.zscore(self.key, "member"), ProtocolError)
        self.check("ZSCORE", self.node.address)

    def test_a_subcommand(self) -> None:
        """The name contains the subcommand."""
        self.answer(b"OBJECT", b":3\r\n")
        client = self.observed()
        self.result_of(client.execute("object", "freq", self.key))
        self.check("OBJECT FREQ", self.node.address)

    def test_the_options_of_a_call(self) -> None:
        """``timeout`` and ``repeatable`` mean the same with a listener, and a cancelled command is not sent."""
        client = self.observed(timeout=2.0, unresponsive_after=60.0)
        self.node.script = lambda node, words, _: SILENCE if words[0] in (b"GET", b"INCR") else DEFAULT_REPLY
        for timeout in (2.0, 0.5):
            late = client.get(self.key) if timeout == 2.0 else client.execute("GET", self.key, timeout=timeout)
            self.advance(timeout - 0.05)
            self.assertNoResult(late)
            self.advance(0.1)
            self.failureResultOf(late, CommandTimeout)
        endless = client.execute("GET", self.key, timeout=None)
        repeatable = client.execute("INCR", self.key, timeout=None, repeatable=True)
        self.advance(5.0, step=0.1)
        cancelled = client.set(self.key, "v")
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.node.script = None
        self.network.cut(self.node)
        self.result_of(gatherResults([endless, repeatable]))
        self.assertEqual(self.node.count(b"SET"), 0)
        self.assertEqual([finished.attempts for finished in self.finished], [1, 1, 1, 2, 2])

    def test_a_command_without_keys(self) -> None:
        """The node is the one that was chosen."""
        client = self.observed()
        self.result_of(client.execute("ECHO", "text"))
        self.check("ECHO", self.asked(b"ECHO"))

    def asked(self, name: bytes) -> Address:
        """Return the only node that got a command."""
        (node,) = [node for node in self.nodes if node.count(name)]
        return node.address

    def test_several_keys_in_one_slot(self) -> None:
        client = self.observed()
        tag = f"{{{self.key}}}"
        self.result_of(client.execute("MGET", f"{tag}a", f"{tag}b"))
        self.check("MGET", self.node.address)

    def test_a_split_command(self) -> None:
        """It is one record without a node, also if a part was redirected."""
        for node in self.nodes:
            self.answer(b"MGET", b"*1\r\n$1\r\nv\r\n", node)
        client = self.observed()
        self.result_of(client.mget(self.key, self.key_of_other))
        self.check("MGET", None)
        self.answer(b"MGET", moved(self.key, self.other.address))
        self.result_of(client.mget(self.key, self.key_of_other))
        self.check("MGET", None)

    def test_a_command_for_every_node(self) -> None:
        client = self.observed()
        for node in self.nodes:
            self.answer(b"DBSIZE", b":2\r\n", node)
        self.assertEqual(self.result_of(client.dbsize()), 6)
        self.check("DBSIZE", None)
        self.result_of(client.flushall())
        self.check("FLUSHALL", None)

    def test_a_blocking_command(self) -> None:
        """The time includes the time for which it blocked."""
        client = self.observed()
        self.answer(b"BLPOP", SILENCE)
        waiting = client.blpop(self.key, timeout=0)
        self.advance(1.0)
        self.node.connections[-1].write(b"*2\r\n$1\r\nk\r\n$1\r\nv\r\n")
        self.result_of(waiting)
        self.check("BLPOP", self.node.address, seconds=1.0)

    def test_execute_on(self) -> None:
        client = self.observed()
        for where in (self.other.address, str(self.other.address), client.topology.owner(16383 // 2)):
            assert where is not None
            self.result_of(client.execute_on(where, "config", "get", "maxmemory"))
            self.check("CONFIG GET", self.other.address)

    def test_wait(self) -> None:
        """WAIT, which asks all nodes again and again, is one record."""
        for node in self.nodes:
            self.answer(b"WAIT", b":1\r\n", node)
        client = self.observed()
        self.assertEqual(self.result_of(client.wait(1, 100)), 1)
        self.check("WAIT", None)
        self.assertEqual(self.result_of(client.execute_on(self.node.address, "WAIT", 1, 100)), 1)
        self.check("WAIT", self.node.address)

    def test_an_unknown_command(self) -> None:
        """The question to the server about the command is not reported, and is part of the command's time."""
        for node in self.nodes:
            self.answer(b"COMMAND", b"*1\r\n*7\r\n$5\r\nhello\r\n:2\r\n*0\r\n:1\r\n:1\r\n:1\r\n*0\r\n", node)
        client = self.observed()
        self.result_of(client.execute("hello.world", self.key))
        self.assertEqual([finished.name for finished in self.finished], ["HELLO.WORLD"])

    def test_scripts(self) -> None:
        """Each command of a script is a record: the one that failed because the script is missing, and the next."""
        self.answer(b"EVALSHA", b"-NOSCRIPT No matching script.\r\n")
        client = self.observed()
        self.result_of(client.script("return 1")([self.key]))
        self.assertEqual(
            [(finished.name, type(finished.error), finished.node) for finished in self.finished],
            [("EVALSHA", ReplyError, self.node.address), ("EVAL", type(None), self.node.address)],
        )

    def test_a_scan(self) -> None:
        """The steps of a scan are commands of the client itself."""
        client = self.observed()
        for node in self.nodes:
            self.answer(b"SSCAN", b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\nm\r\n", node)

        async def scan() -> list[bytes]:
            return [member async for member in client.sscan_iter(self.key)]

        self.assertEqual(self.result_of(Deferred.fromCoroutine(scan())), [b"m"])
        self.assertLessEqual({finished.name for finished in self.finished}, {"SSCAN"})

    def test_the_clients_own_commands(self) -> None:
        """HELLO, CLUSTER SLOTS and SSUBSCRIBE are not reported."""
        client = self.made()
        self.addCleanup(client.abort)
        client.add_command_listener(self.finished.append)
        self.result_of(client.refresh_topology())
        self.result_of(client.ssubscribe(self.key, listener=lambda item: None).ready())
        self.assertEqual(self.finished, [])

    def test_before_the_slot_map(self) -> None:
        """The first commands of a lazy client wait for the slot map; their node is the one that they are sent to."""
        client = self.lazy_client()
        client.add_command_listener(self.finished.append)
        self.result_of(gatherResults([client.get(self.key), client.get(self.key_of_other)]))
        self.assertEqual({finished.node for finished in self.finished}, {self.node.address, self.other.address})
        self.assertEqual([finished.attempts for finished in self.finished], [1, 1])
