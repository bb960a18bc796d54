"""Calls that newcomers try, also from other clients: they work, or the error shows the right form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.memory import MemoryTests
from txvalkeycluster import ClusterClient, ConnectFailed, TLSFailed, WatchError, connect
from txvalkeycluster.testing import DEFAULT_REPLY


class FirstStepsTests(MemoryTests):
    def test_without_a_reactor(self) -> None:
        for make in (connect, ClusterClient):
            with self.assertRaisesRegex(TypeError, r"must be the reactor, as in connect\(reactor, url\)"):
                make("valkey://a:1")  # type: ignore[call-overload]

    def test_a_node_as_text(self) -> None:
        client = self.client()
        for node in self.nodes:
            self.assertEqual(self.result_of(client.execute_on(str(node.address), "PING")), b"PONG")
        for where, kind in (("nowhere", ValueError), ("h:port", ValueError), (5, TypeError), (("h",), TypeError)):
            error = self.error_of(client.execute_on(where, "PING"), kind)  # type: ignore[arg-type]
            self.assertRegex(str(error), "host:port")

    def test_delete_is_an_alias(self) -> None:
        """Other clients call the command ``delete``, because ``del`` is a keyword of Python."""
        client: Any = self.client()
        for holder in (client, client.pipeline(), client.transaction()):
            self.assertEqual(holder.delete, holder.del_)

    def test_values_of_wrong_types(self) -> None:
        """The error shows the right form."""
        client: Any = self.client()
        for call, form in (
            (client.sadd("k", ["a", "b"]), "one by one"),
            (client.lpush("k", ("a", "b")), "one by one"),
            (client.mget(["a", "b"]), r"mget\(\*keys\)"),
            (client.exists({"a"}), "one by one"),
            (client.set("k", {"a": 1}), "hset"),
            (client.set("k", "v", ex=timedelta(seconds=5)), "total_seconds"),
            (client.expireat("k", datetime.now(UTC)), "timestamp"),
        ):
            self.assertRegex(str(self.error_of(call, TypeError)), form)

    def test_mappings_of_scores_and_fields(self) -> None:
        """Mappings are accepted, as in other clients."""
        client: Any = self.client()
        key = self.key_of(self.nodes[0])
        self.nodes[0].script = lambda _, words, __: b":1\r\n" if words[0] in (b"ZADD", b"HSET") else DEFAULT_REPLY
        self.result_of(client.zadd(key, {"m": 1.5}))
        self.result_of(client.hset(key, {"f": "v"}))
        self.result_of(client.xadd(key, "*", {"f": "v"}))
        self.result_of(client.xadd(key, {"f": "v"}))
        words = [words for _, words in self.nodes[0].received[-4:]]
        self.assertEqual([each[0] for each in words], [b"ZADD", b"HSET", b"XADD", b"XADD"])
        self.assertEqual(words[2], words[3])
        with self.assertRaisesRegex(TypeError, r"xadd\(key, '\*', "):
            client.xadd(key, "*")


class TLSHintTests(MemoryTests):
    def test_no_tls_at_a_tls_port(self) -> None:
        """The server answers with an alert or closes, and the error suggests valkeys://."""
        for answer in (b"\x15\x03\x01\x00\x02\x02\x46", None):
            client = self.lazy_client()
            for node in self.nodes:
                node.script = lambda _, words, connection, answer=answer: answer or connection.close() or b""
            failed = client.execute_on(str(self.nodes[0].address), "PING")
            error = self.error_of(failed, ConnectFailed)
            self.assertIn("if this port requires TLS, use valkeys://", str(error))
            self.assertNotIsInstance(error, TLSFailed)


class OptimisticTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.key = self.key_of(self.nodes[0])
        self.executed = 0
        for node in self.nodes:
            node.script = self.contended

    def contended(self, _: Any, words: list[bytes], __: Any) -> Any:
        """Answer as if another client always changed the key."""
        replies = {b"MULTI": b"+OK\r\n", b"SET": b"+QUEUED\r\n", b"EXEC": b"*-1\r\n"}
        self.executed += words[0] == b"EXEC"
        return replies.get(words[0], DEFAULT_REPLY)

    async def change(self, session: Any) -> Any:
        return await session.transaction().set(self.key, "v").execute()

    def test_until_a_deadline(self) -> None:
        """The attempts have pauses between them."""
        client = self.client(timeout=2.0)
        changing = client.optimistically(self.change, self.key)
        self.advance(1.5)
        self.assertNoResult(changing)
        self.advance(1.0)
        self.error_of(changing, WatchError)
        self.assertGreater(self.executed, 20)
        self.assertLess(self.executed, 500)

    def test_attempts(self) -> None:
        client = self.client()
        self.error_of(client.optimistically(self.change, self.key, attempts=3), WatchError)
        self.assertEqual(self.executed, 3)
        self.error_of(client.optimistically(self.change, self.key, attempts=0), ValueError)

    def test_timeout_of_one_call(self) -> None:
        client = self.client()
        changing = client.optimistically(self.change, self.key, timeout=0.1)
        self.advance(0.3)
        self.error_of(changing, WatchError)


class StreamTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.keys = [self.key_of(node, number) for number in range(10) for node in self.nodes]
        self.waiting: list[Deferred[None]] = []
        self.delivered: list[int] = []

    async def each(self, place: int, reply: Any) -> None:
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        await waiting
        self.delivered.append(place)

    def commands(self) -> Any:
        return (("SET", key, "v") for key in self.keys)

    def go_on(self) -> None:
        self.network.settle()
        self.waiting.pop(0).callback(None)

    def test_a_coroutine_function(self) -> None:
        """The coroutine of one result ends before the next result is delivered, and the last one before the end."""
        client = self.client()
        streaming = client.stream(self.commands(), self.each)
        for _ in self.keys:
            self.network.settle()
            self.assertEqual(len(self.waiting), 1)
            self.assertNoResult(streaming)
            self.go_on()
        self.assertEqual(self.successResultOf(streaming), len(self.keys))
        self.assertEqual(sorted(self.delivered), list(range(len(self.keys))))

    def test_a_slow_function(self) -> None:
        """The stream sends only as many commands as there is room for results."""
        client = self.client(max_pending=8)
        streaming = client.stream(self.commands(), self.each)
        self.network.settle()
        self.assertLessEqual(self.cluster.count(b"SET"), 8)
        for _ in self.keys:
            self.go_on()
        self.assertEqual(self.successResultOf(streaming), len(self.keys))

    def test_a_function_that_raises(self) -> None:
        """The stream fails with the error, and delivers no other result."""
        client = self.client()
        streaming = client.stream(self.commands(), self.each)
        self.go_on()
        self.network.settle()
        self.waiting.pop(0).errback(ValueError("enough"))
        self.network.settle()
        self.failureResultOf(streaming, ValueError)
        self.assertEqual((len(self.delivered), self.waiting), (1, []))

    def test_cancelled(self) -> None:
        client = self.client()
        streaming = client.stream(self.commands(), self.each)
        self.network.settle()
        streaming.cancel()
        self.failureResultOf(streaming, CancelledError)
        self.assertEqual(self.delivered, [])
        self.assertIsNone(self.result_of(client.close()))

    def test_a_plain_function(self) -> None:
        client = self.client()
        delivered: list[int] = []
        streaming = client.stream([("GET", self.keys[0]), ("NOSUCH",)], lambda place, _: delivered.append(place))
        self.nodes[0].script = lambda *_: DEFAULT_REPLY
        self.assertEqual(self.result_of(streaming), 2)
        self.assertEqual(sorted(delivered), [0, 1])
