"""close() and abort() at awkward moments, and what user code may do in its callbacks."""

from __future__ import annotations

import contextlib
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from tests.scripted.base import ScriptedTests
from txvalkeycluster import ClientClosed, Closed, ConnectionLost, RoutingError
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE


class EndTests(ScriptedTests):
    async def test_abort_in_a_callback_of_the_first_map(self) -> None:
        """A command refused as the map arrives may abort the client: every other one ends with it."""
        self.cluster.ranges = [(0, 100, self.nodes[0])]
        client = self.lazy_client()
        ended: list[Any] = []
        client.execute("MULTI").addErrback(lambda failure: ended.append((failure.check(RoutingError), client.abort())))
        others = [client.execute("GET", f"k{n}", timeout=None) for n in range(20)]
        for deferred in others:
            await self.assertFailure(deferred, ClientClosed)
        await self.until(lambda: ended)
        self.assertEqual(ended[0][0], RoutingError)
        await ended[0][1]

    async def test_cancelled_while_closing(self) -> None:
        """close() does not wait for a command without a deadline that was cancelled meanwhile."""
        self.cluster.ranges = []
        client = self.lazy_client()
        waiting = client.execute("GET", "k", timeout=None)
        closed = client.close()
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        await closed

    async def test_a_loop_that_repeats_refused_commands(self) -> None:
        """It gives the reactor its turns, and ends when it is cancelled."""
        client = await self.client()
        await client.close()

        async def stubborn() -> None:
            while True:
                with contextlib.suppress(ClientClosed):
                    await client.get("k")

        trying = Deferred.fromCoroutine(stubborn())
        for _ in range(10):
            await deferLater(reactor, 0)  # type: ignore[arg-type]
        trying.cancel()
        await self.assertFailure(trying, CancelledError)

    async def test_cancelled_ones_take_no_room(self) -> None:
        """Commands without a deadline that were cancelled do not count as pending."""
        self.cluster.ranges = []
        client = self.lazy_client(max_pending=5)
        for _ in range(20):
            waiting = client.execute("GET", "k", timeout=None)
            waiting.cancel()
            await self.assertFailure(waiting, CancelledError)

    async def test_closed_is_said_once(self) -> None:
        """However often, and from wherever, a client is closed and aborted."""
        node = self.nodes[0]
        node.script = lambda node, words, _: SILENCE if words[0] == b"SET" else DEFAULT_REPLY
        client = await self.client()
        events: list[Any] = []
        client.add_listener(events.append)
        waiting = client.execute("SET", self.key_of(node), "v")
        inner: list[Deferred[None]] = []
        waiting.addErrback(lambda _: inner.extend([client.close(), client.abort()]))
        await self.until(lambda: node.count(b"SET"))
        await client.abort()
        for deferred in inner:
            await deferred
        self.assertEqual(len([event for event in events if isinstance(event, Closed)]), 1)

    async def test_callbacks_may_do_anything(self) -> None:
        """Commands issued, cancelled and refreshed from callbacks of lost connections all end."""
        node = self.nodes[0]
        node.script = lambda node, words, _: CLOSE if words[0] == b"INCR" else DEFAULT_REPLY
        client = await self.client()
        key = self.key_of(node)
        inner: list[Any] = []

        def lost(failure: Any) -> None:
            failure.trap(ConnectionLost)
            inner.append(client.execute("SET", key, "v"))
            inner.append(client.refresh_topology())

        waiting = [client.execute("INCR", key).addErrback(lost) for _ in range(20)]
        for deferred in waiting:
            await deferred
        for deferred in inner:
            await deferred
        self.assertEqual(len(inner), 40)

    async def test_on_socket_that_raises(self) -> None:
        """It fails the dial with what it raised."""

        def refuse(sock: Any, address: Any) -> None:
            raise RuntimeError("not this one")

        client = self.lazy_client(on_socket=refuse)
        error = await self.assertFailure(client.refresh_topology(), Exception)
        self.assertIn("not this one", str(error))
        await deferLater(reactor, 0)  # type: ignore[arg-type]
