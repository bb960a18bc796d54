"""The plain client notices that it is used in a wrong thread, and only then."""

from __future__ import annotations

import asyncio
import gc
import sys
from _thread import get_ident
from collections.abc import Callable
from threading import Thread
from typing import Any
from weakref import ref

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.python import threadable

from tests.blocking.base import BlockingTests, url
from tests.cases import SynchronousTestCase, TestCase
from txvalkeycluster import ClusterClient, WrongThread, connect
from txvalkeycluster.requests.thread_check import ThreadCheck

# Each gives a Deferred, or raises.
CALLS: dict[str, Callable[[ClusterClient[bytes]], Any]] = {
    "a command": lambda client: client.get("a"),
    "a command with keys in several slots": lambda client: client.mget("a", "b"),
    "a command for any node": lambda client: client.ping(),
    "a command for all nodes": lambda client: client.dbsize(),
    "wrong arguments": lambda client: client.set("a", object()),  # type: ignore[arg-type]
    "no command": lambda client: client.execute(),
    "a command that blocks": lambda client: client.blpop("list", 1),
    "a command for one node": lambda client: client.execute_on(url().split("/")[2].split(",")[0], "PING"),
    "a view": lambda client: client.with_options(timeout=1).get("a"),
    "WAIT": lambda client: client.execute("WAIT", 0, 0),
    "a pipeline": lambda client: client.pipeline().get("a").execute(),
    "a transaction": lambda client: client.transaction().get("a").execute(),
    "a watch session": lambda client: Deferred.fromCoroutine(client.watch("a").__aenter__()),
    "a script": lambda client: client.script("return 1")(["a"]),
    "a scan": lambda client: Deferred.fromCoroutine(_first(client.scan_iter())),
    "a scan of a set": lambda client: Deferred.fromCoroutine(_first(client.sscan_iter("set"))),
    "a subscription": lambda client: client.subscribe("channel").ready(),
    "a refresh": lambda client: client.refresh_topology(),
    "a new login": lambda client: client.reauthenticate(),
    "close": lambda client: client.close(),
    "abort": lambda client: client.abort(),
}


async def _first(items: Any) -> Any:
    return await anext(items)


class WrongThreadTests(TestCase):
    timeout = 60

    async def check(self, client: ClusterClient[bytes], names: set[str]) -> None:
        """Use a client in another thread in each way, and compare the ways that fail with WrongThread."""

        def use(call: Callable[[ClusterClient[bytes]], Any]) -> bool:
            try:
                done = call(client)
            except WrongThread:
                return True
            failed: list[Any] = []
            done.addErrback(failed.append)
            return bool(failed) and isinstance(failed[0].value, WrongThread)

        noticed = {name for name, call in CALLS.items() if await deferToThread(use, call)}
        self.assertEqual(noticed, names)
        # Nothing was left in it by the calls.
        self.assertEqual(await client.ping(), b"PONG")
        await client.close()
        # Some calls fail in the middle of their work.
        gc.collect()
        self.flushLoggedErrors()

    async def test_a_client_with_connections(self) -> None:
        """Each call fails in the calling thread, and the client works on in its own thread."""
        client = await connect(reactor, url())
        await client.ping()
        await self.check(client, set(CALLS))

    async def test_a_client_that_was_never_used(self) -> None:
        """The client knows the thread as soon as the reactor has had a turn."""
        client = ClusterClient(reactor, url())
        await deferToThread(lambda: None)
        await self.check(client, set(CALLS))

    async def test_the_text(self) -> None:
        """The error names the ways out."""
        client = await connect(reactor, url())
        error = await self.assertFailure(deferToThread(lambda: client.get("a")), WrongThread)
        self.assertEqual(
            str(error),
            "the client was used in another thread than that of its reactor; nothing was sent: "
            "use txvalkeycluster.blocking, or reactor.callFromThread",
        )
        await client.close()

    async def test_dropped_in_another_thread(self) -> None:
        """The garbage collector may end a subscription in any thread."""
        client = await connect(reactor, url())
        held = [await client.subscribe("dropped").ready()]
        await deferToThread(held.clear)
        await deferToThread(gc.collect)
        while await client.pubsub_numsub("dropped") != {b"dropped": 0}:
            pass
        await client.close()


class FakeReactor:
    """A reactor that runs where the test says."""

    def __init__(self) -> None:
        self.running = True
        self.calls: list[Callable[[], object]] = []

    def callFromThread(self, function: Callable[[], object]) -> None:
        self.calls.append(function)


def in_another_thread(function: Callable[[], object]) -> bool:
    """Return whether a function raises WrongThread in another thread."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except WrongThread as error:
            errors.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    return bool(errors)


class NoErrorTests(SynchronousTestCase):
    def test_before_the_reactor_runs(self) -> None:
        """A client may be made and used in one thread, and the reactor then run in another one."""
        fake = FakeReactor()
        check = ThreadCheck(fake)
        check.check()
        self.assertFalse(in_another_thread(check.check))
        for call in fake.calls:
            self.assertFalse(in_another_thread(call))
        self.assertRaises(WrongThread, check.check)

    def test_after_the_reactor_has_stopped(self) -> None:
        """Another thread may close the client."""
        fake = FakeReactor()
        check = ThreadCheck(fake)
        fake.calls[0]()
        self.assertTrue(in_another_thread(check.check))
        fake.running = False
        self.assertFalse(in_another_thread(check.check))

    def test_a_clock(self) -> None:
        """A clock of a test has no thread."""
        check = ThreadCheck(Clock())
        check.check()
        self.assertFalse(in_another_thread(check.check))

    def test_a_reactor_that_never_runs(self) -> None:
        """It does not keep the client alive."""
        fake = FakeReactor()
        check = ThreadCheck(fake)
        weak = ref(check)
        del check
        self.assertIsNone(weak())
        fake.calls[0]()

    def test_the_global_reactor_in_another_thread(self) -> None:
        """A reactor that runs again in another thread is followed."""
        fake = FakeReactor()
        check = ThreadCheck(fake)
        self.assertFalse(in_another_thread(fake.calls[0]))
        self.assertRaises(WrongThread, check.check)

        self.patch(threadable, "ioThread", get_ident())
        self.assertRaises(WrongThread, check.check)
        before = sys.modules["twisted.internet.reactor"]
        self.addCleanup(sys.modules.__setitem__, "twisted.internet.reactor", before)
        sys.modules["twisted.internet.reactor"] = fake  # type: ignore[assignment]
        check.check()
        self.assertTrue(in_another_thread(check.check))

    def test_an_event_loop_in_another_thread(self) -> None:
        """An event loop may run in one thread after the other."""
        fake: Any = FakeReactor()
        fake._asyncioEventloop = loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        check = ThreadCheck(fake)
        self.assertFalse(in_another_thread(fake.calls[0]))
        self.assertRaises(WrongThread, check.check)

        async def inside() -> None:
            check.check()

        loop.run_until_complete(inside())
        self.assertTrue(in_another_thread(check.check))


FORK = """
import os, sys, threading
from twisted.internet import reactor
from txvalkeycluster import ClientClosed, connect

async def begin():
    client = await connect(reactor, sys.argv[1])
    await client.ping()
    made.append(client)
    ready.set()

from twisted.internet.defer import Deferred
made, ready = [], threading.Event()
reactor.callWhenRunning(lambda: Deferred.fromCoroutine(begin()))
running = threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False})
running.start()
ready.wait()
child = os.fork()
if child == 0:
    # Another thread than that of the reactor.
    failed = []
    made[0].get("a").addErrback(failed.append)
    made[0].close()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
reactor.callFromThread(lambda: made[0].close().addBoth(lambda _: reactor.stop()))
running.join()
"""


class ForkTests(BlockingTests):
    def test_a_child_of_another_thread(self) -> None:
        """The client of a forked child says that it is a copy; that is not the wrong thread."""
        self.assertEqual(self.run_program(FORK, options=("-W", "ignore")), (0, "0\n", ""))
