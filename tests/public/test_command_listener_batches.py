"""What a `FinishedCommand` says about pipelines, streams, transactions and WATCH sessions."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.public.listener_base import ListenerTests
from tests.scripted.base import moved, transactional
from txvalkeycluster import ReplyError, TransactionAborted, WatchError
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode


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
