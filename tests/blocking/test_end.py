"""The end of a blocking client while threads use it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections import Counter
from random import Random
from time import monotonic, sleep
from typing import Any

from tests.blocking.base import PATIENCE, BlockingTests, Interrupt, in_threads, url
from txvalkeycluster import ClientClosed, blocking

# The number of commands of the long test: 100,000 when it is run by hand.
COMMANDS = int(os.environ.get("TXVALKEYCLUSTER_THREAD_COMMANDS", "8000"))
THREADS = 32


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
