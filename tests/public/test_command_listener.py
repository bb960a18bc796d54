"""Listeners of commands: adding and removing them, context variables, and listeners that need only the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from tests.public.listener_base import NUMBER, ListenerTests
from tests.scripted.base import transactional
from txvalkeycluster import FinishedCommand, ReplyError, RoutingError
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE


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
