"""Blocking clients that use the reactor of the program."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.blocking.base import url
from tests.cases import TestCase
from txvalkeycluster import blocking
from txvalkeycluster.blocking import background


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
