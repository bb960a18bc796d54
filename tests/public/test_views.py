"""Views of a client: the same connections and slot map, with other defaults for all methods."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from txvalkeycluster import ClientClosed, CommandTimeout, ConnectionLost, RoutingError
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE


class ViewTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.node = self.nodes[0]
        self.key = self.key_of(self.node)
        self.node.script = lambda _, words, __: SILENCE if words[0] in (b"GET", b"INCR") else DEFAULT_REPLY

    def late_after(self, seconds: float, waiting: Deferred[Any]) -> None:
        """Check that a command times out after so many seconds."""
        self.advance(seconds - 0.1)
        self.assertNoResult(waiting)
        self.advance(0.2)
        self.failureResultOf(waiting, CommandTimeout)

    def test_timeout(self) -> None:
        """The timeout applies to methods, calls and pipelines. A single call can have another one."""
        client = self.client(timeout=5.0, unresponsive_after=60.0)
        view = client.with_options(timeout=1.0)
        self.late_after(1.0, view.get(self.key))
        self.late_after(1.0, view.execute("GET", self.key))
        self.late_after(2.0, view.execute("GET", self.key, timeout=2.0))
        self.late_after(1.0, view.execute_on(str(self.node.address), "GET", self.key))
        piped = view.pipeline().get(self.key).execute()
        self.advance(1.1)
        self.assertIsInstance(self.successResultOf(piped)[0], CommandTimeout)
        self.late_after(5.0, client.get(self.key))
        self.late_after(3.0, view.with_options(timeout=3.0).get(self.key))

    def test_no_timeout(self) -> None:
        client = self.client(timeout=1.0, unresponsive_after=60.0)
        waiting = client.with_options(timeout=None).get(self.key)
        self.advance(30.0, step=1.0)
        self.assertNoResult(waiting)
        waiting.addErrback(lambda _: None)

    def test_repeatable(self) -> None:
        """A write is sent again when its reply was lost."""
        client = self.client()
        lost, repeated = client.incr(self.key), client.with_options(repeatable=True).incr(self.key)
        self.network.settle()
        self.node.script = None
        self.network.cut(self.node)
        self.error_of(lost, ConnectionLost)
        self.assertEqual(self.result_of(repeated), 1)

    def test_split_keys(self) -> None:
        keys = [self.key_of(node) for node in self.nodes]
        client = self.client()
        self.node.script = None
        self.assertEqual(self.result_of(client.delete(*keys)), 0)
        self.error_of(client.with_options(split_keys=False).delete(*keys), RoutingError)
        strict = self.client(split_keys=False)
        self.error_of(strict.delete(*keys), RoutingError)
        self.assertEqual(self.result_of(strict.with_options(split_keys=True).delete(*keys)), 0)

    def test_the_same_client(self) -> None:
        """A view has the slot map and the listeners of its client, and closing it closes the client."""
        client = self.client()
        view = client.with_options(timeout=1.0)
        self.assertIs(view.topology, client.topology)
        events: list[object] = []
        view.add_listener(events.append)
        self.result_of(view.close())
        self.assertEqual(len([event for event in events if type(event).__name__ == "Closed"]), 1)
        self.error_of(client.get(self.key), ClientClosed)
        self.assertIn("view of <ClusterClient", repr(view))

    def test_an_invalid_timeout(self) -> None:
        client = self.client()
        self.assertRaises(ValueError, client.with_options, timeout=-1.0)
