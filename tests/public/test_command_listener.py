"""Listeners of commands: what a `FinishedCommand` says about each kind of command, and about each kind of end."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from tests.memory import MemoryTests
from tests.scripted.base import ask, moved, transactional
from txvalkeycluster import (
    Address,
    ClientClosed,
    ClusterClient,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    FinishedCommand,
    PartialFailure,
    ProtocolError,
    ReplyError,
    RoutingError,
    TooManyPending,
    TransactionAborted,
    WatchError,
)
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode

NUMBER: ContextVar[int] = ContextVar("NUMBER", default=0)


class ListenerTests(MemoryTests):
    """A client with a listener; `finished` has what the listener got."""

    def setUp(self) -> None:
        super().setUp()
        self.node, self.other = self.nodes[0], self.nodes[1]
        self.key, self.key_of_other = self.key_of(self.node), self.key_of(self.other)
        self.finished: list[FinishedCommand] = []

    def observed(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client that has the slot map and a listener."""
        client = self.client(**options)
        client.add_command_listener(self.finished.append)
        return client

    def answer(self, name: bytes, reply: Any, node: ScriptedNode | None = None) -> None:
        """Let a node, by default the first, answer a command with a reply."""
        (node or self.node).script = lambda node, words, connection: reply if words[0] == name else DEFAULT_REPLY

    def the_only(self) -> FinishedCommand:
        """Return the only record since the last call."""
        (finished,) = self.finished
        self.finished.clear()
        return finished

    def check(
        self,
        name: str,
        node: Address | None,
        *,
        attempts: int = 1,
        error: type[BaseException] | None = None,
        commands: int = 1,
        seconds: float | None = None,
    ) -> None:
        """Check that there is one record, and what it says.  ``seconds`` None: any time."""
        finished = self.the_only()
        kind = None if finished.error is None else type(finished.error)
        self.assertEqual(
            (finished.name, finished.node, finished.attempts, kind, finished.commands),
            (name, node, attempts, error, commands),
        )
        if seconds is not None:
            self.assertLess(abs(finished.seconds - seconds), 0.015, finished)

    def numbers(self, call: Callable[[], Deferred[Any]]) -> list[int]:
        """Call with a number in the context, end the command without it, and return the numbers in the records."""
        token = NUMBER.set(7)
        done = call()
        NUMBER.reset(token)
        done.addErrback(lambda _: None)
        self.result_of(done)
        finished, self.finished[:] = list(self.finished), []
        return [each.context[NUMBER] for each in finished]


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


class BatchTests(ListenerTests):
    def test_a_pipeline(self) -> None:
        """A pipeline is one record, which has the name of its commands if all have the same."""
        client = self.observed()
        self.result_of(client.pipeline().get(self.key).get(self.key_of_other).execute())
        self.check("PIPELINE GET", None, commands=2)
        self.result_of(client.pipeline().add("get", self.key).add(b"GET", self.key).add("Get", self.key).execute())
        self.check("PIPELINE GET", None, commands=3)
        self.result_of(client.pipeline().get(self.key).set(self.key, "v").execute())
        self.check("PIPELINE", None, commands=2)

    def test_a_pipeline_with_what_is_no_name(self) -> None:
        """It is counted with the others, and has no effect on them."""
        client = self.observed()
        pipeline = client.pipeline().get(self.key).add([], self.key).get(self.key)  # type: ignore[arg-type]
        results = self.result_of(pipeline.execute())
        self.assertEqual([type(result) for result in results], [type(None), TypeError, type(None)])
        self.check("PIPELINE", None, commands=3)

    def test_an_empty_pipeline(self) -> None:
        client = self.observed()
        self.result_of(client.pipeline().execute())
        self.check("PIPELINE", None, commands=0)

    def test_commands_that_leave_a_batch(self) -> None:
        """A command of a pipeline that is redirected, refused, split or wrong is not reported singly."""
        client = self.observed()
        self.answer(b"GET", moved(self.key, self.other.address))
        pipeline = client.pipeline().get(self.key).mget(self.key, self.key_of_other).blpop(self.key, timeout=1)
        results = self.result_of(pipeline.add("GET", object()).add(bytearray(b"PING")).add().execute())  # type: ignore[arg-type]
        self.assertEqual(len(results), 6)
        self.assertEqual((self.the_only().name, len(results)), ("PIPELINE", 6))

    def test_a_pipeline_with_errors(self) -> None:
        """Errors in the list of results are no error of the pipeline; with ``raise_first`` neither."""
        self.answer(b"INCR", b"-WRONGTYPE no\r\n")
        client = self.observed()
        self.result_of(client.pipeline().incr(self.key).execute())
        self.check("PIPELINE INCR", None)
        self.error_of(client.pipeline().incr(self.key).execute(raise_first=True), ReplyError)
        self.check("PIPELINE INCR", None)

    def test_a_pipeline_that_is_aborted(self) -> None:
        """The number of its commands is known although it failed."""
        client = self.observed()
        self.answer(b"GET", SILENCE)
        failing = client.pipeline().get(self.key).get(self.key).execute()
        failing.cancel()
        self.failureResultOf(failing, CancelledError)
        self.check("PIPELINE GET", None, error=CancelledError, commands=2)

    def test_a_stream(self) -> None:
        """A stream is a pipeline whose names are unknown."""
        client = self.observed()
        got: list[Any] = []
        rows = (("SET", self.key_of(node), number) for number, node in enumerate(self.nodes))
        self.result_of(client.stream(rows, lambda index, result: got.append(result)))
        self.check("PIPELINE", None, commands=3)

        async def each(index: int, result: Any) -> None:
            got.append(result)

        self.result_of(client.stream([("GET", self.key)], each))
        self.check("PIPELINE", None)
        self.assertEqual(len(got), 4)

    def test_a_stream_that_fails(self) -> None:
        """The number of its commands is unknown."""
        client = self.observed()

        def each(index: int, result: Any) -> None:
            raise ZeroDivisionError

        self.error_of(client.stream([("GET", self.key)], each), ZeroDivisionError)
        self.check("PIPELINE", None, commands=0, error=ZeroDivisionError)

    def test_a_transaction(self) -> None:
        """A transaction is one record with the node that executed it."""
        self.node.script = transactional
        client = self.observed()
        self.result_of(client.transaction().set(self.key, 1).set(self.key, 2).execute())
        self.check("MULTI SET", self.node.address, commands=2)
        self.result_of(client.transaction().set(self.key, 1).get(self.key).execute())
        self.check("MULTI", self.node.address, commands=2)

    def test_a_transaction_that_fails(self) -> None:
        def script(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            if words[0] == b"INCR":
                return b"-OOM no memory\r\n"
            return b"-EXECABORT it is\r\n" if words[0] == b"EXEC" else DEFAULT_REPLY

        self.node.script = script
        client = self.observed()
        self.error_of(client.transaction().incr(self.key).execute(), TransactionAborted)
        self.check("MULTI INCR", self.node.address, error=TransactionAborted)

    def test_a_transaction_that_moves(self) -> None:
        """A redirect of the whole transaction is one more attempt."""
        self.other.script = transactional

        def script(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            if words[0] == b"SET":
                return moved(self.key, self.other.address)
            return b"-EXECABORT it is\r\n" if words[0] == b"EXEC" else DEFAULT_REPLY

        self.node.script = script
        client = self.observed()
        self.result_of(client.transaction().set(self.key, 1).execute())
        self.check("MULTI SET", self.other.address, attempts=2)

    def test_a_watch_session(self) -> None:
        """The commands in the session and its transaction are records; WATCH and UNWATCH are not."""
        self.node.script = transactional
        client = self.observed()

        async def session() -> None:
            async with client.watch(self.key) as session:
                await session.get(self.key)
                self.check("GET", self.node.address)
                await session.transaction().set(self.key, 1).execute()
                self.check("MULTI SET", self.node.address)
            async with client.watch(self.key):
                pass

        self.result_of(Deferred.fromCoroutine(session()))
        self.assertEqual(self.finished, [])

    def test_a_watch_session_that_fails(self) -> None:
        """The record has the error that the server or the client gave; the caller can get another one."""
        client = self.observed()
        self.answer(b"GET", moved(self.key, self.other.address))

        async def session() -> None:
            async with client.watch(self.key) as session:
                await session.get(self.key)

        self.error_of(Deferred.fromCoroutine(session()), WatchError)
        self.check("GET", self.node.address, error=ReplyError)


class FailureTests(ListenerTests):
    def test_an_error_reply(self) -> None:
        self.answer(b"INCR", b"-WRONGTYPE no\r\n")
        client = self.observed()
        error = self.error_of(client.incr(self.key), ReplyError)
        self.assertIs(self.finished[0].error, error)
        self.check("INCR", self.node.address, error=ReplyError)

    def test_redirects(self) -> None:
        """MOVED and ASK count as attempts, and the node is that of the last one."""
        client = self.observed()
        for redirect in (ask, moved):
            self.answer(b"GET", redirect(self.key, self.other.address))
            self.result_of(client.get(self.key))
            self.check("GET", self.other.address, attempts=2)

    def test_temporary_errors(self) -> None:
        """Each attempt that a node refuses counts, with the time of all of them."""
        client = self.observed()
        left = [3]

        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            if words[0] != b"GET":
                return DEFAULT_REPLY
            left[0] -= 1
            return b"-LOADING wait\r\n" if left[0] >= 0 else DEFAULT_REPLY

        self.node.script = script
        before = self.clock.seconds()
        self.result_of(client.get(self.key))
        self.check("GET", self.node.address, attempts=4, seconds=self.clock.seconds() - before)

    def test_a_lost_connection(self) -> None:
        """A read is sent again: two attempts.  A write fails: one."""
        client = self.observed()
        self.node.script = lambda node, words, _: SILENCE if words[0] in (b"GET", b"INCR") else DEFAULT_REPLY
        reading, writing = client.get(self.key), client.incr(self.key)
        self.network.settle()
        self.node.script = None
        self.network.cut(self.node)
        self.error_of(writing, ConnectionLost)
        self.check("INCR", self.node.address, error=ConnectionLost)
        self.result_of(reading)
        self.check("GET", self.node.address, attempts=2)

    def test_timeouts(self) -> None:
        """The record of a command that was sent and of one that was not has the time until the deadline."""
        client = self.observed(timeout=1.0, unresponsive_after=60.0)
        self.answer(b"GET", SILENCE)
        client.get(self.key).addErrback(lambda _: None)
        self.advance(1.1)
        self.check("GET", self.node.address, error=CommandTimeout, seconds=1.0)
        self.network.refuse(self.node)
        client.get(self.key).addErrback(lambda _: None)
        self.advance(1.1)
        finished = self.the_only()
        self.assertIsInstance(finished.error, CommandTimeout)
        self.assertEqual(finished.node, self.node.address)
        self.assertGreaterEqual(finished.attempts, 1)

    def test_a_timeout_after_a_redirect(self) -> None:
        """The last attempt, which was sent and had no reply, counts."""
        client = self.observed(timeout=1.0, unresponsive_after=60.0)
        self.answer(b"GET", moved(self.key, self.other.address))
        self.answer(b"GET", SILENCE, self.other)
        client.get(self.key).addErrback(lambda _: None)
        self.advance(1.1)
        self.check("GET", self.other.address, attempts=2, error=CommandTimeout, seconds=1.0)

    def test_a_timeout_without_a_node(self) -> None:
        for node in self.nodes:
            self.network.refuse(node)
        client = self.lazy_client(timeout=1.0)
        client.add_command_listener(self.finished.append)
        client.get(self.key).addErrback(lambda _: None)
        self.advance(1.1)
        self.check("GET", None, error=CommandTimeout, seconds=1.0)

    def test_cancelled(self) -> None:
        """A cancelled command is reported once, at that moment; its late reply changes nothing."""
        client = self.observed()
        self.answer(b"GET", SILENCE)
        waiting = client.get(self.key)
        self.advance(0.2)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.check("GET", self.node.address, error=CancelledError, seconds=0.2)
        self.node.connections[0].write(b"$1\r\nv\r\n")
        self.network.settle()
        self.assertEqual(self.finished, [])

    def test_a_cancelled_coroutine(self) -> None:
        client = self.observed()
        self.answer(b"GET", SILENCE)

        async def work() -> Any:
            return await client.get(self.key)

        running = Deferred.fromCoroutine(work())
        self.network.settle()
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.check("GET", self.node.address, error=CancelledError)

    def test_refused_at_once(self) -> None:
        """Commands that are never sent are reported, without a node."""
        client = self.observed()
        self.error_of(client.execute("SUBSCRIBE", "channel"), RoutingError)
        self.check("SUBSCRIBE", None, error=RoutingError, seconds=0.0)
        self.error_of(client.execute("SINTER", self.key, self.key_of_other), RoutingError)
        self.check("SINTER", None, error=RoutingError)
        self.error_of(client.execute("GET", object()), TypeError)  # type: ignore[arg-type]
        self.check("GET", None, error=TypeError)
        self.error_of(client.execute(), TypeError)
        self.check("INVALID", None, error=TypeError)

    def test_execute_on_that_fails(self) -> None:
        client = self.observed()
        self.error_of(client.execute_on("no address", "PING"), ValueError)
        self.check("PING", None, error=ValueError)
        self.network.refuse(self.other)
        self.error_of(client.execute_on(self.other.address, "PING"), ConnectFailed)
        self.check("PING", self.other.address, error=ConnectFailed)
        self.answer(b"GET", moved(self.key, self.other.address))
        self.error_of(client.execute_on(self.node.address, "GET", self.key), ReplyError)
        self.check("GET", self.node.address, error=ReplyError)

    def test_a_full_queue(self) -> None:
        client = self.observed(max_pending=1)
        self.answer(b"GET", SILENCE)
        client.get(self.key).addErrback(lambda _: None)
        self.network.settle()
        self.error_of(client.get(self.key), TooManyPending)
        self.check("GET", None, error=TooManyPending)

    def test_a_partial_failure(self) -> None:
        client = self.observed()
        for node in self.nodes:
            self.answer(b"MGET", b"*1\r\n$1\r\nv\r\n", node)
        self.answer(b"MGET", b"-ERR no\r\n")
        self.error_of(client.mget(self.key, self.key_of_other), PartialFailure)
        self.check("MGET", None, error=PartialFailure)

    def test_a_closed_client(self) -> None:
        """What ends with ``abort`` and what comes after it is reported."""
        client = self.observed()
        self.answer(b"GET", SILENCE)
        waiting = client.get(self.key)
        self.network.settle()
        self.result_of(client.abort())
        self.failureResultOf(waiting, ClientClosed)
        self.check("GET", self.node.address, error=ClientClosed)
        self.error_of(client.get(self.key), ClientClosed)
        self.check("GET", None, error=ClientClosed)


class ListeningTests(ListenerTests):
    """Adding, removing and failing listeners."""

    def test_a_listener_that_raises(self) -> None:
        """Its error is logged; commands of every kind, their callers and other listeners do not notice it."""
        for exception in (ZeroDivisionError, SystemExit):

            def broken(finished: FinishedCommand, exception: type[BaseException] = exception) -> None:
                raise exception(f"no {finished.name}")

            client = self.client()
            client.add_command_listener(broken)
            # It is called alone, and then with another one.
            for number in (0, 6):
                self.answer(b"GET", b"-ERR no\r\n")
                self.assertEqual(self.result_of(client.set(self.key, "v")), b"OK")
                self.error_of(client.get(self.key), ReplyError)
                self.result_of(client.pipeline().set(self.key, "v").execute())
                self.result_of(client.delete(*map(self.key_of, self.nodes)))
                self.error_of(client.execute("SUBSCRIBE", "a"), RoutingError)
                self.result_of(client.execute_on(self.node.address, "PING"))
                errors = [str(failure.value) for failure in self.flushLoggedErrors(exception)]
                names = ["SET", "GET", "PIPELINE SET", "DEL", "SUBSCRIBE", "PING"]
                self.assertEqual(errors, [f"no {name}" for name in names])
                self.assertEqual(len(self.finished), number)
                client.add_command_listener(self.finished.append)
            self.finished.clear()

    def test_several_listeners(self) -> None:
        """All get the same record, in the order in which they were added; one can be added twice."""
        client = self.client()
        got: list[tuple[int, FinishedCommand]] = []
        first, second = (lambda finished, number=number: got.append((number, finished)) for number in (1, 2))
        for listener in (first, second, first):
            client.add_command_listener(listener)
        self.result_of(client.get(self.key))
        self.assertEqual([number for number, _ in got], [1, 2, 1])
        self.assertEqual(len({id(finished) for _, finished in got}), 1)
        client.remove_command_listener(first)
        got.clear()
        self.result_of(client.get(self.key))
        self.assertEqual([number for number, _ in got], [2, 1])

    def test_remove(self) -> None:
        """Without listeners, commands take the way of a client that never had one."""
        client = self.client()
        router = client._router
        without = router.execute, router.execute_on
        self.assertRaises(ValueError, client.remove_command_listener, self.finished.append)
        client.add_command_listener(self.finished.append)
        self.assertNotEqual(type(client.get(self.key)), type(self.client().get(self.key)))
        self.network.settle()
        self.finished.clear()
        client.remove_command_listener(self.finished.append)
        self.assertIsNone(router.observation)
        self.assertEqual((router.execute, router.execute_on), without)
        self.assertEqual(type(client.get(self.key)), type(self.client().get(self.key)))
        self.result_of(client.get(self.key))
        self.result_of(client.pipeline().get(self.key).execute())
        self.assertEqual(self.finished, [])
        self.assertRaises(ValueError, client.remove_command_listener, self.finished.append)

    def test_remove_while_commands_are_under_way(self) -> None:
        """Their ends are not reported any more."""
        client = self.observed()
        self.node.script = lambda node, words, _: SILENCE if words[0] in (b"GET", b"BLPOP") else DEFAULT_REPLY
        waiting: list[Deferred[Any]] = [client.get(self.key), client.blpop(self.key, timeout=1)]
        self.network.settle()
        client.remove_command_listener(self.finished.append)
        for each in waiting:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertEqual(self.finished, [])

    def test_added_while_a_command_is_under_way(self) -> None:
        """A command is reported if there was a listener at its call, to those that listen at its end."""
        client = self.client()
        self.answer(b"GET", SILENCE)
        early = client.get(self.key)
        client.add_command_listener(lambda finished: None)
        late = client.get(self.key)
        client.add_command_listener(self.finished.append)
        self.network.settle()
        self.node.connections[-1].write(b"_\r\n_\r\n")
        self.result_of(gatherResults([early, late]))
        self.check("GET", self.node.address)

    def test_a_listener_that_removes_itself(self) -> None:
        client = self.client()

        def once(finished: FinishedCommand) -> None:
            self.finished.append(finished)
            client.remove_command_listener(once)

        client.add_command_listener(once)
        client.add_command_listener(self.finished.append)
        self.result_of(client.get(self.key))
        self.result_of(client.get(self.key))
        self.assertEqual(len(self.finished), 3)

    def test_a_listener_that_sends_commands(self) -> None:
        client = self.client()

        def count(finished: FinishedCommand) -> None:
            if finished.name == "SET":
                client.incr(self.key_of_other)

        client.add_command_listener(count)
        self.result_of(gatherResults([client.set(self.key, number) for number in range(10)]))
        self.network.settle()
        self.assertEqual(self.cluster.values[self.key_of_other.encode()], b"10")

    def test_views(self) -> None:
        """A view has the listeners of its client."""
        client = self.client()
        view = client.with_options(timeout=1.0)
        view.add_command_listener(self.finished.append)
        self.result_of(client.get(self.key))
        self.check("GET", self.node.address)
        self.result_of(view.get(self.key))
        self.check("GET", self.node.address)

    def test_after_the_end(self) -> None:
        """A listener can be removed from a closed client."""
        client = self.observed()
        self.result_of(client.close())
        client.remove_command_listener(self.finished.append)


class ContextTests(ListenerTests):
    def test_every_kind_of_command(self) -> None:
        """The record has the context variables of the call."""
        self.node.script = transactional
        client = self.observed()
        calls: list[Callable[[], Deferred[Any]]] = [
            lambda: client.get(self.key),
            lambda: client.execute("PING"),
            lambda: client.mget(self.key, self.key_of_other),
            lambda: client.execute_on(self.node.address, "PING"),
            lambda: client.pipeline().get(self.key).execute(),
            lambda: client.transaction().set(self.key, 1).execute(),
            lambda: client.blpop(self.key, timeout=1),
            lambda: client.execute("TYPE"),
            lambda: client.execute("SUBSCRIBE", "a"),
        ]
        for call in calls:
            self.assertEqual(self.numbers(call), [7])

    def test_coroutines(self) -> None:
        """Each coroutine keeps its own context variables behind an ``await``, with and without a listener."""
        client = self.client()
        client.add_command_listener(self.finished.append)

        async def work(number: int) -> None:
            NUMBER.set(number)
            for turn in range(3):
                await client.get(self.key_of(self.nodes[(number + turn) % 3]))
                self.assertEqual(NUMBER.get(), number)

        self.result_of(gatherResults([Deferred.fromCoroutine(work(number)) for number in range(1, 6)]))
        self.assertEqual(sorted(each.context[NUMBER] for each in self.finished), sorted([1, 2, 3, 4, 5] * 3))
        self.assertEqual(NUMBER.get(), 0)


class TimeTests(ListenerTests):
    """A listener with the attribute ``note_time``, which needs no records."""

    def setUp(self) -> None:
        super().setUp()
        self.times: list[tuple[str, float, type[BaseException] | None]] = []

        def listener(finished: FinishedCommand) -> None:
            self.finished.append(finished)

        listener.note_time = self.note_time  # type: ignore[attr-defined]
        self.listener = listener
        self.connected = self.client()
        self.connected.add_command_listener(listener)

    def note_time(self, name: str, seconds: float, error: BaseException | None) -> None:
        self.times.append((name, round(seconds, 2), None if error is None else type(error)))

    def test_calls(self) -> None:
        """It gets name, time and error of a command for one node; there is no record and no context."""
        self.answer(b"GET", SILENCE)
        waiting = self.connected.get(self.key)
        self.advance(0.25)
        self.node.connections[0].write(b"$1\r\nv\r\n")
        self.assertEqual(self.result_of(waiting), b"v")
        self.answer(b"INCR", b"-ERR no\r\n")
        self.error_of(self.connected.incr(self.key), ReplyError)
        self.result_of(self.connected.execute("ECHO", "text"))
        self.assertEqual(self.times, [("GET", 0.25, None), ("INCR", 0.0, ReplyError), ("ECHO", 0.0, None)])
        self.assertEqual(self.finished, [])
        observation = self.connected._router.observation
        assert observation is not None
        self.assertEqual(list(observation.context()), [])

    def test_other_commands(self) -> None:
        """A command that is not one call makes a record, with an empty context."""
        token = NUMBER.set(7)
        done = self.connected.pipeline().get(self.key).execute()
        NUMBER.reset(token)
        self.result_of(done)
        self.assertEqual(self.times, [])
        (finished,) = self.finished
        self.assertEqual((finished.name, list(finished.context)), ("PIPELINE GET", []))

    def test_several_listeners(self) -> None:
        """With another listener there are records for both, with the context; afterwards there are none again."""
        records: list[FinishedCommand] = []
        self.connected.add_command_listener(records.append)
        self.assertEqual(self.numbers(lambda: self.connected.get(self.key)), [7])
        self.assertEqual((len(records), self.times), (1, []))
        self.connected.remove_command_listener(records.append)
        self.result_of(self.connected.get(self.key))
        self.assertEqual((self.times, self.finished), ([("GET", 0.0, None)], []))

    def test_it_raises(self) -> None:
        """The error is logged; the caller gets the result."""

        def broken(name: str, seconds: float, error: BaseException | None) -> None:
            raise SystemExit(f"no {name}")

        client = self.client()
        self.listener.note_time = broken  # type: ignore[attr-defined]
        client.add_command_listener(self.listener)
        self.assertEqual(self.result_of(client.set(self.key, "v")), b"OK")
        self.answer(b"GET", b"-ERR no\r\n")
        self.error_of(client.get(self.key), ReplyError)
        self.assertEqual([str(failure.value) for failure in self.flushLoggedErrors(SystemExit)], ["no SET", "no GET"])
