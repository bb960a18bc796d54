"""Listeners of commands: what a `FinishedCommand` says about each kind of command."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel, capturedLogs

from tests.memory import MemoryTests
from tests.scripted.base import ask, moved, transactional
from txvalkeycluster import (
    Address,
    ClientClosed,
    CommandTimeout,
    ConnectionLost,
    FinishedCommand,
    PartialFailure,
    ReplyError,
    RoutingError,
    TooManyPending,
)
from txvalkeycluster.requests.observed import ObservedCall
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode

variable: ContextVar[str] = ContextVar("variable", default="nothing")


class ListenerTests(MemoryTests):
    """A client with a listener of commands."""

    def setUp(self) -> None:
        super().setUp()
        self.connected = self.client()
        self.finished: list[FinishedCommand] = []
        self.connected.add_command_listener(self.finished.append)
        self.first, self.second, self.third = (node.address for node in self.nodes)
        self.key = self.key_of(self.nodes[0])

    def answer(self, name: bytes, *replies: Any, node: ScriptedNode | None = None) -> None:
        """Let a node, by default the first, answer a command with these replies, and then as usual."""
        rest = list(replies)

        def script(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            return rest.pop(0) if words[0] == name and rest else DEFAULT_REPLY

        (node or self.nodes[0]).script = script

    def record(self) -> FinishedCommand:
        """Return the only record since the last call."""
        (record,) = self.finished
        self.finished.clear()
        return record

    def check(self, name: str, node: Address | None, attempts: int = 1, commands: int = 1, error: Any = None) -> None:
        """Check the only record since the last call."""
        record = self.record()
        found = (record.name, record.node, record.attempts, record.commands, record.error)
        self.assertEqual(found, (name, node, attempts, commands, error))


class OneCommandTests(ListenerTests):
    def test_success(self) -> None:
        """The record has the name, the node and the time. The listener is called before the caller gets the reply."""
        self.answer(b"GET", SILENCE)
        order: list[str] = []
        self.connected.add_command_listener(lambda finished: order.append("listener"))
        done = self.connected.execute("get", self.key).addCallback(lambda reply: order.append("caller"))
        self.advance(0.25)
        self.assertEqual(self.finished, [])
        self.nodes[0].connections[0].write(b"_\r\n")
        self.result_of(done)
        self.assertEqual(order, ["listener", "caller"])
        self.assertLess(abs(self.finished[0].seconds - 0.25), 1e-6)
        self.check("GET", self.first)

    def test_conversion(self) -> None:
        """The error of a conversion is that of the caller only: the command itself has succeeded."""
        self.answer(b"HGETALL", b"%1\r\n$1\r\na\r\n$1\r\nb\r\n", b":1\r\n")
        self.assertEqual(self.result_of(self.connected.hgetall(self.key)), {b"a": b"b"})
        self.check("HGETALL", self.first)
        self.result_of(self.connected.hgetall(self.key).addErrback(lambda failure: None))
        self.check("HGETALL", self.first)

    def test_a_subcommand(self) -> None:
        """The name contains the subcommand."""
        self.answer(b"OBJECT", b":3\r\n")
        self.result_of(self.connected.execute("object", "freq", self.key))
        self.check("OBJECT FREQ", self.first)

    def test_redirects(self) -> None:
        """The node is the target of the redirect, and each redirect is one more attempt."""
        self.answer(b"GET", ask(self.key, self.second), moved(self.key, self.third))
        self.result_of(self.connected.get(self.key))
        self.check("GET", self.second, attempts=2)
        self.result_of(self.connected.get(self.key))
        self.check("GET", self.third, attempts=2)

    def test_waiting(self) -> None:
        """A command that the node refuses for a while is tried again."""
        self.answer(b"GET", b"-LOADING wait\r\n")
        self.result_of(self.connected.get(self.key))
        record = self.record()
        self.assertGreater(record.attempts, 1)
        self.assertGreater(record.seconds, 0)
        self.assertEqual((record.node, record.error), (self.first, None))

    def test_a_lost_connection(self) -> None:
        """A read is sent again; a write fails."""
        self.answer(b"GET", CLOSE)
        self.result_of(self.connected.get(self.key))
        self.check("GET", self.first, attempts=2)
        self.answer(b"INCR", CLOSE)
        error = self.error_of(self.connected.incr(self.key), ConnectionLost)
        self.check("INCR", self.first, error=error)

    def test_an_error_reply(self) -> None:
        """The record has the error that the caller gets."""
        self.answer(b"INCR", b"-WRONGTYPE no number\r\n")
        error = self.error_of(self.connected.incr(self.key), ReplyError)
        self.check("INCR", self.first, error=error)

    def test_a_timeout(self) -> None:
        self.answer(b"GET", SILENCE)
        error = self.error_of(self.connected.with_options(timeout=0.5).get(self.key), CommandTimeout)
        self.assertLess(abs(self.finished[0].seconds - 0.5), 0.02)
        self.check("GET", self.first, error=error)

    def test_cancelled(self) -> None:
        self.answer(b"GET", SILENCE)
        done = self.connected.get(self.key)
        self.network.settle()
        done.cancel()
        self.error_of(done, CancelledError)
        record = self.record()
        self.assertEqual((record.name, record.node), ("GET", self.first))
        self.assertIsInstance(record.error, CancelledError)

    def test_refused_at_once(self) -> None:
        """A command that is not sent is reported, too, with its error and without a node."""
        error: Exception = self.error_of(self.connected.execute("SUBSCRIBE", "a"), RoutingError)
        self.check("SUBSCRIBE", None, error=error)
        error = self.error_of(self.connected.execute("SET", self.key, object()), TypeError)  # type: ignore[arg-type]
        self.check("SET", None, error=error)
        error = self.error_of(self.connected.execute(object()), Exception)  # type: ignore[arg-type]
        self.check("INVALID", None, error=error)

    def test_a_full_queue(self) -> None:
        client = self.client(max_pending=1)
        client.add_command_listener(self.finished.append)
        self.answer(b"GET", SILENCE)
        client.get(self.key).addErrback(lambda failure: None)
        error = self.error_of(client.get(self.key), TooManyPending)
        record = self.record()
        self.assertEqual((record.name, record.error), ("GET", error))

    def test_after_close(self) -> None:
        self.result_of(self.connected.close())
        error = self.error_of(self.connected.get(self.key), ClientClosed)
        self.check("GET", None, error=error)

    def test_a_blocking_command(self) -> None:
        """The time on the exclusive connection counts."""
        self.answer(b"BLPOP", SILENCE)
        done = self.connected.blpop(self.key, timeout=5)
        self.advance(1)
        self.assertEqual(self.finished, [])
        exclusive = next(each for each in self.nodes[0].connections if each.number != 1)
        exclusive.write(b"*2\r\n$1\r\na\r\n$1\r\nb\r\n")
        self.result_of(done)
        self.assertTrue(1 <= self.finished[0].seconds < 1.1)
        self.check("BLPOP", self.first)

    def test_execute_on(self) -> None:
        """The node is the given one; nothing is repeated."""
        self.result_of(self.connected.execute_on(str(self.third), "PING"))
        self.check("PING", self.third)
        self.answer(b"GET", moved(self.key, self.second))
        error = self.error_of(self.connected.execute_on(self.first, "GET", self.key), ReplyError)
        self.check("GET", self.first, error=error)
        error2 = self.error_of(self.connected.execute_on("no address", "PING"), Exception)
        self.check("PING", None, error=error2)

    def test_a_script(self) -> None:
        """A script that the node lacks is two commands."""
        self.answer(b"EVALSHA", b"-NOSCRIPT No matching script. Please use EVAL.\r\n")
        self.result_of(self.connected.script("return 1")(self.key))
        self.assertEqual([record.name for record in self.finished], ["EVALSHA", "EVAL"])
        self.assertEqual([type(record.error) for record in self.finished], [ReplyError, type(None)])

    def test_commands_of_the_client_itself(self) -> None:
        """A refresh of the slot map is not reported."""
        self.result_of(self.connected.refresh_topology())
        self.assertEqual(self.finished, [])

    def test_the_context(self) -> None:
        """The record has the context variables at the call, not those at the end."""
        calls: list[Callable[[], Deferred[Any]]] = [
            lambda: self.connected.get(self.key),
            lambda: self.connected.delete(*map(self.key_of, self.nodes)),
            lambda: self.connected.pipeline().get(self.key).execute(),
            lambda: self.connected.transaction().get(self.key).execute(),
            lambda: self.connected.execute_on(self.first, "PING"),
        ]
        self.nodes[0].script = transactional
        for call in calls:
            token = variable.set("at the call")
            done = call()
            variable.reset(token)
            self.result_of(done)
            self.assertEqual(self.record().context[variable], "at the call")


class SeveralCommandsTests(ListenerTests):
    def test_several_slots(self) -> None:
        """A command that the client splits is one record without a node."""
        self.result_of(self.connected.delete(*map(self.key_of, self.nodes)))
        self.assertEqual(self.cluster.count(b"DEL"), 3)
        self.check("DEL", None)
        self.answer(b"DEL", b"-NOPERM no\r\n")
        error = self.error_of(self.connected.delete(*map(self.key_of, self.nodes)), PartialFailure)
        self.check("DEL", None, error=error)

    def test_every_node(self) -> None:
        """A command for every primary is one record."""
        self.result_of(self.connected.flushall())
        self.check("FLUSHALL", None)

    def test_a_pipeline(self) -> None:
        """A pipeline is one record; the errors of its commands are in its results only."""
        self.answer(b"GET", b"-NOPERM no\r\n", b"-NOPERM no\r\n")
        pipeline = self.connected.pipeline()
        for node in self.nodes:
            pipeline.get(self.key_of(node))
        self.assertIsInstance(self.result_of(pipeline.execute())[0], ReplyError)
        self.check("PIPELINE GET", None, commands=3)
        self.error_of(self.connected.pipeline().get(self.key).execute(raise_first=True), ReplyError)
        self.check("PIPELINE GET", None, commands=1)
        self.result_of(self.connected.pipeline().get(self.key).set(self.key, 1).execute())
        self.check("PIPELINE", None, commands=2)

    def test_one_name_in_several_spellings(self) -> None:
        """All spellings of a name are the same name.  What is no name has no effect on the other commands."""
        pipeline = self.connected.pipeline().add("get", self.key).add("GET", self.key).add(b"Get", self.key)
        self.result_of(pipeline.execute())
        self.check("PIPELINE GET", None, commands=3)
        pipeline.get(self.key).add([], self.key).get(self.key)  # type: ignore[arg-type]
        results = self.result_of(pipeline.execute())
        self.assertEqual([type(result) for result in results], [type(None), TypeError, type(None)])
        self.check("PIPELINE", None, commands=3)

    def test_a_redirect_in_a_pipeline(self) -> None:
        """A command of a pipeline that leaves its batch is not reported alone."""
        self.answer(b"GET", moved(self.key, self.second), b"-TRYAGAIN wait\r\n", CLOSE)
        self.result_of(self.connected.pipeline().get(self.key).get(self.key).execute())
        self.check("PIPELINE GET", None, commands=2)

    def test_parts_of_a_pipeline(self) -> None:
        """Commands of a pipeline that go to several slots or all nodes are not reported alone."""
        pipeline = self.connected.pipeline()
        self.result_of(pipeline.delete(*map(self.key_of, self.nodes)).flushall().execute())
        self.check("PIPELINE", None, commands=2)

    def test_a_stream(self) -> None:
        """A stream is one record, with the number of commands that it had."""
        commands = (("SET", self.key_of(self.nodes[n % 3]), n) for n in range(30))
        results: list[Any] = []

        def each(index: int, result: Any) -> None:
            results.append(result)

        self.assertEqual(self.result_of(self.connected.pipeline().stream(commands, each)), 30)
        self.check("PIPELINE", None, commands=30)

        async def later(index: int, result: Any) -> None:
            results.append(result)

        self.result_of(self.connected.pipeline().stream([("GET", self.key)], later))
        self.check("PIPELINE", None, commands=1)

    def test_a_stream_that_fails(self) -> None:
        def each(index: int, result: Any) -> None:
            raise ZeroDivisionError

        error = self.error_of(self.connected.pipeline().stream([("GET", self.key)], each), ZeroDivisionError)
        self.check("PIPELINE", None, commands=0, error=error)

    def test_a_transaction(self) -> None:
        """A transaction is one record with its node."""
        self.nodes[0].script = transactional
        self.result_of(self.connected.transaction().get(self.key).set(self.key, 1).execute())
        self.check("MULTI", self.first, commands=2)
        self.result_of(self.connected.transaction().get(self.key).execute())
        self.check("MULTI GET", self.first)

    def test_a_transaction_that_is_redirected(self) -> None:
        self.nodes[1].script = transactional
        self.nodes[0].script = lambda node, words, connection: (
            moved(self.key, self.second)
            if words[0] == b"GET"
            else b"-EXECABORT no\r\n"
            if words[0] == b"EXEC"
            else DEFAULT_REPLY
        )
        self.result_of(self.connected.transaction().get(self.key).execute())
        self.check("MULTI GET", self.second, attempts=2)

    def test_a_watch_session(self) -> None:
        """WATCH, the commands of the session and its transaction are reported, with the node."""
        self.nodes[0].script = transactional

        async def work() -> None:
            async with self.connected.watch(self.key) as session:
                await session.get(self.key)
                await session.transaction().set(self.key, 1).execute()

        self.result_of(Deferred.fromCoroutine(work()))
        found = [(record.name, record.node, record.error) for record in self.finished]
        self.assertEqual(found[-2:], [("GET", self.first, None), ("MULTI SET", self.first, None)])


class AddingAndRemovingTests(ListenerTests):
    def test_a_listener_that_raises(self) -> None:
        """Its exception is logged. The caller, the next command and other listeners are not affected."""
        for exception in (ZeroDivisionError, SystemExit):

            def bad(finished: FinishedCommand, exception: type[BaseException]) -> None:
                raise exception("on purpose")

            listener = partial(bad, exception=exception)
            # It is called alone, and then with another one.
            client = self.client()
            client.add_command_listener(listener)
            for calls in (0, 6):
                with capturedLogs() as events:
                    self.result_of(client.get(self.key))
                    self.result_of(client.pipeline().get(self.key).execute())
                    self.result_of(client.delete(*map(self.key_of, self.nodes)))
                    self.error_of(client.execute("SUBSCRIBE", "a"), RoutingError)
                    self.answer(b"GET", b"-NOPERM no\r\n")
                    self.error_of(client.get(self.key), ReplyError)
                    self.result_of(client.execute_on(self.first, "PING"))
                logged = [event for event in events if event["log_level"] is LogLevel.critical]
                self.assertEqual(len(logged), 6)
                self.assertEqual(len(self.flushLoggedErrors(exception)), 6)
                self.assertEqual(len(self.finished), calls)
                client.add_command_listener(self.finished.append)
            self.finished.clear()

    def test_several_listeners(self) -> None:
        """All listeners get the same record."""
        others: list[FinishedCommand] = []
        self.connected.add_command_listener(others.append)
        self.result_of(self.connected.get(self.key))
        self.assertIs(others[0], self.record())
        self.connected.remove_command_listener(others.append)
        self.result_of(self.connected.get(self.key))
        self.assertEqual((len(others), len(self.finished)), (1, 1))

    def test_the_last_listener(self) -> None:
        """Without a listener, commands take the way that is not observed."""
        client = self.client()
        usual = client._router.execute, client._router.execute_on
        plain = type(client.get(self.key))
        client.add_command_listener(self.finished.append)
        self.assertIsInstance(client.get(self.key), ObservedCall)
        client.remove_command_listener(self.finished.append)
        self.assertIs(type(client.get(self.key)), plain)
        self.assertEqual((client._router.execute, client._router.execute_on), usual)
        self.assertIsNone(client._router.observation)
        self.network.settle()
        self.assertRaises(ValueError, client.remove_command_listener, self.finished.append)

    def test_added_meanwhile(self) -> None:
        """A command is reported if there was a listener at its call, to those that listen at its end."""
        self.answer(b"GET", SILENCE, SILENCE)
        client = self.client()
        early = client.get(self.key)
        client.add_command_listener(self.finished.append)
        late = client.get(self.key)
        self.network.settle()
        client.remove_command_listener(self.finished.append)
        self.nodes[0].connections[-1].write(b"_\r\n_\r\n")
        self.result_of(early)
        self.result_of(late)
        self.assertEqual(self.finished, [])

    def test_a_listener_that_removes_itself(self) -> None:
        """A listener may remove itself, and call commands."""
        more: list[Any] = []

        def once(finished: FinishedCommand) -> None:
            self.connected.remove_command_listener(once)
            more.append(self.connected.ping())

        self.connected.add_command_listener(once)
        self.result_of(self.connected.get(self.key))
        self.result_of(more[0])
        self.assertEqual([record.name for record in self.finished], ["GET", "PING"])
        self.assertEqual(len(more), 1)

    def test_a_view(self) -> None:
        """A view and its client have the same listeners."""
        self.result_of(self.connected.with_options(timeout=None).get(self.key))
        self.check("GET", self.first)
