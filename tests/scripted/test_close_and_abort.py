"""close() and abort() at unusual moments, and user code in callbacks."""

from __future__ import annotations

import contextlib
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.scripted.base import ScriptedTests
from txvalkeycluster import ClientClosed, Closed, ConnectionLost, RoutingError
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE


class EndTests(ScriptedTests):
    async def test_abort_in_a_callback_of_the_first_map(self) -> None:
        """If the callback of a refused command aborts the client, all waiting commands fail with ClientClosed."""
        self.cluster.ranges = [(0, 100, self.nodes[0])]
        client = self.lazy_client()
        ended: list[tuple[type[BaseException] | None, Deferred[None]]] = []

        def abort(failure: Failure) -> None:
            ended.append((failure.type, client.abort()))

        client.execute("MULTI").addErrback(abort)
        others = [client.execute("GET", f"k{n}", timeout=None) for n in range(20)]
        for deferred in others:
            await self.assertFailure(deferred, ClientClosed)
        await self.until(lambda: ended)
        self.assertEqual(ended[0][0], RoutingError)
        await ended[0][1]

    async def test_cancel_during_close(self) -> None:
        """close() does not wait for a command without a timeout that is cancelled."""
        self.cluster.ranges = []
        client = self.lazy_client()
        waiting = client.execute("GET", "k", timeout=None)
        closed = client.close()
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        await closed

    async def test_a_loop_that_repeats_refused_commands(self) -> None:
        """A loop of commands on a closed client does not block the reactor, and can be cancelled."""
        client = await self.client()
        await client.close()

        async def repeat() -> None:
            while True:
                with contextlib.suppress(ClientClosed):
                    await client.get("k")

        repeating = Deferred.fromCoroutine(repeat())
        for _ in range(10):
            await deferLater(reactor, 0)
        repeating.cancel()
        await self.assertFailure(repeating, CancelledError)

    async def test_cancelled_commands_are_not_pending(self) -> None:
        """Cancelled commands without a timeout do not count against max_pending."""
        self.cluster.ranges = []
        client = self.lazy_client(max_pending=5)
        for _ in range(20):
            waiting = client.execute("GET", "k", timeout=None)
            waiting.cancel()
            await self.assertFailure(waiting, CancelledError)

    async def test_one_closed_event(self) -> None:
        """A client emits Closed once, even if callbacks close and abort it again."""
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

    async def test_commands_from_callbacks_of_lost_connections(self) -> None:
        """Commands and refreshes that start in the callback of a lost connection succeed."""
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
        """An exception of on_socket fails the connection attempt, and its text is in the error."""

        def refuse(sock: Any, address: Any) -> None:
            raise RuntimeError("not this one")

        client = self.lazy_client(on_socket=refuse)
        error = await self.assertFailure(client.refresh_topology(), Exception)
        self.assertIn("not this one", str(error))
        await deferLater(reactor, 0)
