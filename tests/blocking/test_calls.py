"""Calls of a blocking client from one thread and from many, and the end of the client meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import threading
import warnings
from collections import Counter
from contextvars import ContextVar
from random import Random
from time import monotonic, sleep
from typing import Any
from weakref import ref

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.blocking.base import PATIENCE, BlockingTests, in_threads, url
from tests.cases import TestCase
from txvalkeycluster import ClientClosed, FinishedCommand, ReplyError, WatchError, blocking
from txvalkeycluster.blocking import background
from txvalkeycluster.blocking.bridge import Bridge, ThreadCall, Waiter

# The number of commands of the long test: 100,000 when it is run by hand.
COMMANDS = int(os.environ.get("TXVALKEYCLUSTER_THREAD_COMMANDS", "8000"))
THREADS = 32


class Interrupt(Exception):
    """Raised in a thread at any moment."""


def descriptors() -> set[str]:
    """Return what the descriptors of this process refer to, except the one that reads them."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue
    return found


class CallTests(BlockingTests):
    def test_results_and_errors(self) -> None:
        """Commands return plain values or raise, in the calling thread."""
        client = self.client()
        self.assertEqual(client.set("calls", 1), "OK")
        self.assertEqual((client.get("calls"), client.mget("calls", "none")), ("1", ["1", None]))
        self.assertRaises(ReplyError, client.lpush, "calls", 1)
        self.assertRaises(TypeError, client.set, "calls", object())
        self.assertEqual(client.execute("STRLEN", "calls"), 1)
        node = next(client.primaries())
        self.assertEqual(client.execute_on(node, "PING"), "PONG")
        self.assertIn("ClusterClient", repr(client))
        self.assertIs(client.refresh_topology(), client.topology)
        self.assertEqual(len(list(client.nodes())), 6)
        self.assertTrue(client.commands["GET"].keyed)
        self.assertGreater(client.statistics.commands, 5)
        client.reauthenticate()
        client.reload_tls()

    def test_queues(self) -> None:
        """Pipelines, streams, transactions, scripts and watch sessions give plain results."""
        client = self.client()
        pipeline = client.pipeline().set("queue:1", 1).incr("queue:1").add("GET", "queue:1")
        self.assertIn("3", repr(pipeline))
        self.assertEqual(pipeline.execute(), ["OK", 2, "2"])
        got: list[Any] = []
        count = client.stream((("INCR", "queue:2") for _ in range(5000)), lambda index, reply: got.append(reply))
        self.assertEqual((count, got[-1] - got[0]), (5000, 4999))
        transaction = client.transaction().set("{queue}a", 1).add("INCR", "{queue}a")
        self.assertEqual((len(transaction), repr(transaction)), (2, "<BlockingTransaction of 2 commands>"))
        self.assertEqual(transaction.execute(), ["OK", 2])
        script = client.script("return ARGV[1]")
        self.assertEqual(script(["queue"], ["x"]), "x")
        self.assertIn("BlockingScript", repr(script))
        with client.watch("{queue}a") as session:
            self.assertIn("slot", repr(session))
            value = int(session.get("{queue}a") or 0) + int(session.execute("STRLEN", "{queue}a"))
            self.assertEqual(session.transaction().set("{queue}a", value).execute(), ["OK"])
        self.assertEqual(client.get("{queue}a"), "3")

    def test_optimistically(self) -> None:
        """A function runs again until nobody has changed its keys; threads lose no update."""
        client = self.client()
        client.set("optimistic", 0)
        tries: Counter[int] = Counter()

        def add(session: blocking.BlockingWatchSession[str]) -> list[Any]:
            tries[threading.get_ident()] += 1
            value = int(session.get("optimistic") or 0)
            return session.transaction().set("optimistic", value + 1).execute()

        self.join(in_threads(lambda _: [client.optimistically(add, "optimistic") for _ in range(5)], 4))
        self.assertEqual(client.get("optimistic"), "20")

        def spoil(session: blocking.BlockingWatchSession[str]) -> list[Any]:
            client.incr("optimistic")
            return session.transaction().set("optimistic", 0).execute()

        self.assertRaises(WatchError, client.optimistically, spoil, "optimistic", attempts=2)

    def test_a_session_that_an_exception_left(self) -> None:
        """Its connection is used again."""
        client = self.client()

        def leave() -> None:
            with client.watch("left") as session:
                session.get("left")
                raise Interrupt

        for _ in range(5):
            self.assertRaises(Interrupt, leave)
        with client.watch("left") as session:
            session.transaction().set("left", 1).execute()
        self.assertEqual(client.get("left"), "1")
        made = sum(node.open.exclusive for node in client.statistics.nodes.values())
        self.assertLessEqual(made, 1)

    def test_views(self) -> None:
        """A view of a view keeps the options of both, and is made once."""
        client = self.client()
        view = client.with_options(timeout=0.2).with_options(split_keys=True)
        self.assertEqual((view.options.timeout, view.options.split_keys), (0.2, True))
        self.assertIs(view._inside()[1], view._inside()[1])
        self.assertRaises(ValueError, client.with_options, timeout=-1)

    def test_the_context_of_the_caller(self) -> None:
        """Listeners of commands get the context of the calling thread."""
        client = self.client()
        place: ContextVar[str] = ContextVar("place", default="elsewhere")
        seen: list[str] = []

        def note(finished: FinishedCommand) -> None:
            seen.append(f"{finished.name} {finished.context.get(place, 'elsewhere')}")

        client.add_command_listener(note)
        place.set("here")
        client.get("context")
        client.execute("GET", "context")
        client.remove_command_listener(note)
        self.assertEqual(seen, ["GET here", "GET here"])

    def test_in_the_thread_of_the_reactor(self) -> None:
        """A blocking call in a listener raises instead of waiting for itself, and leaves the client as it was."""
        client = self.client()
        errors: list[str] = []

        def note(_: object) -> None:
            for call in (client.ping, client.close, client.abort, client.pipeline().ping().execute):
                try:
                    call()
                except RuntimeError as error:
                    errors.append(str(error)[:15])

        client.add_command_listener(note)
        client.ping()
        client.remove_command_listener(note)
        self.assertEqual(errors, ["a blocking call"] * 4)
        self.assertEqual(client.ping(), "PONG")

    def test_no_reference_cycle_after_an_error(self) -> None:
        """An error and the frames of its traceback are freed at once."""
        client = self.client()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)

        def fail() -> Any:
            try:
                client.lpush("calls:text", 1)
            except ReplyError as error:
                return ref(error)

        client.set("calls:text", "x")
        self.assertIsNone(fail()())

    def test_repeated_clients_leave_nothing(self) -> None:
        """No thread, socket, pipe or epoll set is left after close(), without the garbage collector."""
        with self.client():
            pass
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        before, threads = descriptors(), set(threading.enumerate())
        for _ in range(5):
            with blocking.connect(url()) as client:
                client.ping()
        self.assertEqual(descriptors() - before, set())
        self.assertEqual(set(threading.enumerate()), threads)

    def test_two_clients_share_a_reactor(self) -> None:
        """The reactor ends with the last client; the next one gets a new reactor."""
        first, second = self.client(), self.client()
        self.assertIs(first._connection.get().bridge, second._connection.get().bridge)
        bridge = first._connection.get().bridge
        first.close()
        self.assertEqual(second.ping(), "PONG")
        second.close()
        self.assertTrue(bridge.ended)
        self.assertEqual(self.client().ping(), "PONG")

    def test_wrong_options(self) -> None:
        """A client that cannot be made leaves no reactor."""
        before = threading.active_count()
        self.assertRaises(TypeError, blocking.BlockingClient, url(), no_such_option=1)
        self.assertRaises(ValueError, blocking.BlockingClient, None)
        self.assertRaises(OSError, blocking.connect, "valkey://127.0.0.1:1")
        self.assertEqual(threading.active_count(), before)

    def test_a_lazy_client(self) -> None:
        """A client that was never used has no reactor; it can be shown and closed."""
        before = threading.active_count()
        client = blocking.BlockingClient("valkey://10.0.0.1:7000", timeout=3.0)
        self.assertEqual(repr(client), "<BlockingClient 10.0.0.1:7000 not connected>")
        self.assertEqual(client.options.timeout, 3.0)
        self.assertEqual(threading.active_count(), before)
        client.close()
        self.assertRaises(ClientClosed, client.ping)

    def test_a_dropped_client(self) -> None:
        """A client that is garbage-collected without close() warns, and its connections and its thread end."""
        before = threading.active_count()
        client = blocking.connect(url())
        client.ping()
        bridge = client._connection.get().bridge
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del client

            def collected() -> bool:
                # The thread of the reactor may refer to the client for a moment after the reply.
                gc.collect()
                return bool(caught)

            self.until(collected)
        self.assertEqual([each.category for each in caught], [ResourceWarning])
        self.until(lambda: bridge.ended and threading.active_count() == before)

    def test_an_iterator_keeps_the_client(self) -> None:
        """A client lives as long as a scan or a pipeline of it."""
        self.client().set("kept", 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.assertIn(b"kept", set(blocking.connect(url()).scan_iter(match="kept")))
            pipeline = blocking.connect(url()).pipeline()
            gc.collect()
            self.assertEqual(pipeline.get("kept").execute(), [b"1"])
            del pipeline
            gc.collect()

    def until(self, condition: Any) -> None:
        """Wait until a condition is true."""
        end = monotonic() + PATIENCE
        while not condition():
            self.assertLess(monotonic(), end)
            sleep(0.01)


class EndTests(BlockingTests):
    def test_close_twice(self) -> None:
        """A closed client raises ClientClosed, and can be closed again; its counters can still be read."""
        client = self.client()
        client.get("closed")
        client.close()
        client.close()
        client.abort()
        self.assertRaises(ClientClosed, client.get, "closed")
        self.assertRaises(ClientClosed, client.pipeline)
        self.assertGreater(client.statistics.commands, 0)
        self.assertEqual((client.options.encoding, len(client.topology.nodes)), ("utf-8", 6))
        self.assertIn("BlockingClient", repr(client))

    def test_close_while_threads_wait(self) -> None:
        """Blocking commands of other threads end as if their time were up, and later ones fail."""
        client = self.client()
        ends: list[object] = []

        def wait(number: int) -> None:
            try:
                ends.append(client.blpop(f"close:{number}", timeout=0))
            except BaseException as error:
                ends.append(error)
            try:
                client.get("close")
            except ClientClosed as error:
                ends.append(type(error))

        threads = in_threads(wait, 8)
        sleep(0.3)
        client.close()
        self.join(threads)
        self.assertEqual(Counter(ends), {None: 8, ClientClosed: 8}, str(ends))

    def test_abort_while_close_waits(self) -> None:
        """abort() ends the commands for which close() in another thread waits; all of them return."""
        client = self.client()
        keeper = self.client()
        errors: list[BaseException] = []

        # The servers do not answer until the test ends.
        for node in keeper.primaries():
            keeper.execute_on(node, "CLIENT", "PAUSE", "20000", "WRITE")
        sleep(0.1)
        slow = in_threads(lambda _: self.note(errors, lambda: client.with_options(timeout=None).set("abort", 1)))
        sleep(0.2)
        closing = in_threads(lambda _: client.close())
        sleep(0.2)
        self.assertTrue(closing[0].is_alive())
        begun = monotonic()
        client.abort()
        self.join([*closing, *slow])
        self.assertLess(monotonic() - begun, 10)
        self.assertEqual([type(error) for error in errors], [ClientClosed])
        for node in keeper.primaries():
            keeper.execute_on(node, "CLIENT", "UNPAUSE")

    def note(self, errors: list[BaseException], call: Any) -> None:
        """Add the error of a call to a list."""
        try:
            call()
        except BaseException as error:
            errors.append(error)

    def test_32_threads(self) -> None:
        """Every call returns or raises, with timeouts, wrong arguments, exceptions at any moment and clients that end.

        32 threads use the clients of a list.  One thread replaces a client now and then and closes or aborts it, and
        another raises an exception in any thread, unless coverage is measured.  The environment variable
        TXVALKEYCLUSTER_THREAD_COMMANDS changes the number of commands.
        """
        random = Random(19)
        clients = [self.client() for _ in range(4)]
        done = [0] * THREADS
        kinds: Counter[str] = Counter()
        finished = threading.Event()
        goal = COMMANDS // THREADS

        def work(number: int) -> None:
            rng = Random(number)
            key = f"thread:{number}"
            while done[number] < goal:
                try:
                    client = rng.choice(clients)
                    match rng.randrange(12):
                        case 0:
                            client.execute("SET", key, object())  # type: ignore[arg-type]
                        case 1:
                            client.lpush(f"{key}:list", 1)
                        case 2:
                            client.with_options(timeout=0.001).get(key)
                        case 3:
                            client.blpop(f"{key}:none", timeout=0.01)
                        case 4:
                            client.pipeline().incr(key).get(key).lpush(f"{key}:list", 1).execute(raise_first=True)
                        case 5:
                            client.mget(*(f"{key}:{n}" for n in range(5)))
                        case 6:
                            client.execute("NOSUCHCOMMAND", key)
                        case _:
                            value = f"{number} {done[number]}"
                            client.set(f"{key}:value", value)
                            if client.get(f"{key}:value") != value:
                                kinds["wrong"] += 1
                    kinds["returned"] += 1
                except BaseException as error:
                    kinds[type(error).__name__] += 1
                with contextlib.suppress(Interrupt):
                    done[number] += 1

        def supervised(number: int) -> None:
            while done[number] < goal:
                try:
                    work(number)
                except Interrupt:
                    kinds["Interrupt"] += 1

        threads = in_threads(supervised, THREADS)

        def disturb(_: int) -> None:
            raising = ctypes.pythonapi.PyThreadState_SetAsyncExc
            # Coverage does not recover from exceptions in its own functions, and makes the process ten times slower.
            while not finished.wait(0.01) and sys.gettrace() is None:
                victim = random.choice(threads)
                before = done[int(victim.name.partition("-")[2])]
                if not victim.is_alive() or victim.ident is None:
                    continue
                raising(ctypes.c_ulong(victim.ident), ctypes.py_object(Interrupt))
                # Until the thread has noticed the exception, CPython runs all threads many times slower.
                while done[int(victim.name.partition("-")[2])] == before and victim.is_alive():
                    sleep(0.001)

        def replace(_: int) -> None:
            while not finished.wait(0.3):
                place = random.randrange(len(clients))
                old, clients[place] = clients[place], blocking.connect(url(), encoding="utf-8")
                random.choice((old.close, old.abort))()

        others = in_threads(disturb) + in_threads(replace)
        try:
            for thread in threads:
                thread.join(PATIENCE + COMMANDS / 500)
        finally:
            finished.set()
        self.join(threads + others)
        for client in clients:
            client.abort()
        self.assertEqual(kinds["wrong"], 0)
        self.assertEqual(done, [goal] * THREADS)
        self.assertGreater(kinds["returned"], COMMANDS / 3)
        expected = {
            "returned",
            "wrong",
            "Interrupt",
            "TypeError",
            "ReplyError",
            "CommandTimeout",
            "ClientClosed",
            "PartialFailure",
        }
        self.assertEqual(set(kinds) - expected, set(), kinds)
        self.assertEqual([each.name for each in threading.enumerate() if each.name == "txvalkeycluster"], [])
        if "TXVALKEYCLUSTER_THREAD_COMMANDS" in os.environ:
            print(kinds)


class SharedReactorTests(TestCase):
    """The reactor of the program runs in the main thread, and threads use it."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        # Trial starts the reactor when a test waits for the first time.
        await deferLater(reactor, 0)

    async def test_shared(self) -> None:
        """Threads share the running reactor, and closing a client leaves nothing in it."""
        triggers: Any = reactor
        names: list[str] = []

        def work() -> list[Any]:
            with blocking.connect(url(), encoding="utf-8") as client:
                self.assertIs(client._connection.get().bridge.reactor, reactor)
                names.extend(each.name for each in threading.enumerate())
                client.set("shared", 1)
                return [client.get("shared"), *client.pipeline().get("shared").execute()]

        await deferToThread(work)
        before = len(triggers._eventTriggers["shutdown"].before)
        self.assertEqual(await deferToThread(work), ["1", "1"])
        await deferToThread(lambda: None)
        self.assertEqual(len(triggers._eventTriggers["shutdown"].before), before)
        self.assertNotIn("txvalkeycluster", names)

    async def test_in_the_thread_of_the_reactor(self) -> None:
        """A call in the thread of the reactor raises, also if the client has a reactor of its own."""
        self.assertRaises(RuntimeError, blocking.connect, url())

        def private() -> blocking.BlockingClient[str]:
            self.patch(background, "_shared_reactor", lambda: None)
            return blocking.connect(url(), encoding="utf-8")

        client = await deferToThread(private)
        self.assertRaises(RuntimeError, client.ping)
        self.assertRaises(RuntimeError, client.close)
        self.assertEqual(await deferToThread(client.ping), "PONG")
        await deferToThread(client.close)


class FakeReactor:
    """A reactor whose thread never runs, or runs when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.error: BaseException | None = None

    def callFromThread(self, function: Any) -> None:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.calls.append(function)

    def run(self) -> None:
        """Run what was posted."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class BridgeTests(BlockingTests):
    """The bridge without a real reactor."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.alive = True
        self.bridge = Bridge(self.reactor, 0, lambda: self.alive)

    def test_one_wake_up_for_many(self) -> None:
        """Calls that come before the reactor wakes up need one wake-up."""
        waiters = [self.bridge.begin(lambda: 1) for _ in range(3)]
        self.assertEqual(len(self.reactor.calls), 1)
        self.reactor.run()
        self.assertEqual([self.bridge.done(waiter) for waiter in waiters], [1, 1, 1])
        self.bridge.begin(lambda: 1)
        self.assertEqual(len(self.reactor.calls), 1)

    def test_an_interrupted_wake_up(self) -> None:
        """If KeyboardInterrupt comes while a thread wakes the reactor, the calls of other threads do not hang."""
        self.reactor.error = KeyboardInterrupt()
        self.assertRaises(KeyboardInterrupt, self.bridge.run, lambda: 1)
        other = self.bridge.begin(lambda: 2)
        self.reactor.run()
        self.assertEqual(self.bridge.done(other), 2)

    def test_cancel_before_the_start(self) -> None:
        """A function whose thread has given up is not run."""
        ran: list[int] = []
        waiter = self.bridge.begin(lambda: ran.append(1))
        self.bridge.cancel(waiter)
        self.reactor.run()
        self.assertEqual(ran, [])

    def test_cancel_after_the_result(self) -> None:
        """A cancellation that comes too late does nothing."""
        call: Any = ThreadCall.__new__(ThreadCall)
        Deferred.__init__(call)
        waiter = self.bridge.begin(lambda: call)
        self.reactor.run()
        call.callback(b"reply")
        self.bridge.cancel(waiter)
        self.reactor.run()
        self.assertEqual(self.bridge.done(waiter), b"reply")

    def test_a_thread_call_without_a_thread(self) -> None:
        """The callbacks get the result, as those of any Deferred."""
        for end, result in (("callback", 1), ("errback", ValueError("no"))):
            call: Any = ThreadCall.__new__(ThreadCall)
            Deferred.__init__(call)
            got: list[Any] = []
            call.addBoth(got.append)
            getattr(call, end)(result)
            self.assertEqual(getattr(got[0], "value", got[0]), result)

    def test_two_ends(self) -> None:
        """If the reactor's thread and another one end a wait at the same moment, neither fails."""
        waiter = Waiter()
        waiter.succeed(1)
        waiter._done = False
        waiter.fail(ValueError())

    def test_a_reactor_that_ends_without_its_triggers(self) -> None:
        """A thread that waits notices it."""
        self.patch(blocking.bridge, "_PERIOD", 0.05)
        errors: list[ClientClosed] = []

        def wait(number: int) -> None:
            try:
                if number:
                    self.bridge.run(lambda: Deferred())
                else:
                    waiter = self.bridge.begin(lambda: Deferred())
                    self.bridge.wait(waiter, 5.0)
                    self.bridge.done(waiter)
            except ClientClosed as error:
                errors.append(error)

        threads = in_threads(wait, 2)
        sleep(0.2)
        # The lost wake-up was repeated.
        self.assertGreater(len(self.reactor.calls), 1)
        self.alive = False
        self.join(threads)
        self.assertEqual([error.maybe_executed for error in errors], [False, False])
        self.assertRaises(ClientClosed, self.bridge.run, lambda: 1)
