"""Calls of a blocking client from one thread and from many."""

from __future__ import annotations

import gc
import os
import threading
import warnings
from collections import Counter
from contextvars import ContextVar
from time import monotonic, sleep
from typing import Any
from weakref import ref

from tests.blocking.base import PATIENCE, BlockingTests, Interrupt, in_threads, url
from txvalkeycluster import ClientClosed, FinishedCommand, ReplyError, WatchError, blocking


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
