"""The end of a client: it ends despite errors of the application, and warns if it is dropped without an end."""

from __future__ import annotations

import gc
import warnings
from typing import Any

from tests.memory import MemoryTests
from txvalkeycluster import Closed, ConnectionLost
from txvalkeycluster.events import Event
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE


class ClientEndTests(MemoryTests):
    def test_listeners_that_raise_anything(self) -> None:
        """An error of a listener is logged, the other listeners get the event, and the client closes."""
        for kind in (SystemExit, KeyboardInterrupt, GeneratorExit, ValueError):
            client = self.client()
            events: list[Event] = []

            def refuse(_: Event, kind: type[BaseException] = kind) -> None:
                raise kind

            client.add_listener(refuse)
            client.add_listener(events.append)
            self.assertIsNone(self.result_of(client.close()))
            self.assertIsInstance(events[-1], Closed)
            self.assertEqual(len(self.flushLoggedErrors(kind)), len(events))

    def test_callbacks_that_raise_anything(self) -> None:
        """An error of a callback stays in its Deferred or stream, other commands succeed, and the client closes."""
        for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
            client = self.client()
            key = self.key_of(self.nodes[0])

            def refuse(*_: Any, kind: type[BaseException] = kind) -> None:
                raise kind

            getting = client.get(key).addCallback(refuse)
            streaming = client.pipeline().stream([("GET", key)] * 3, refuse)
            other = client.get(key)
            self.network.settle()
            self.failureResultOf(getting, kind)
            self.failureResultOf(streaming, kind)
            self.assertIsNone(self.successResultOf(other))
            self.assertIsNone(self.result_of(client.close()))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_refresh_during_close(self) -> None:
        """A connection that ``close`` cuts does not cause a refresh of the slot map."""
        client = self.client()
        self.nodes[0].script = lambda _, words, __: SILENCE if words[0] == b"BLPOP" else DEFAULT_REPLY
        waiting = client.blpop(self.key_of(self.nodes[0]), 0)
        self.advance(2.0)
        before = self.cluster.count(b"CLUSTER")
        closed = client.close()
        self.error_of(waiting, ConnectionLost)
        self.assertIsNone(self.result_of(closed))
        self.assertEqual(self.cluster.count(b"CLUSTER"), before)

    def test_dropped_without_an_end(self) -> None:
        """A dropped client warns with its name, unless it was closed, aborted, or never connected."""
        gc.collect()
        for end, warnings_expected in ((None, 1), ("close", 0), ("abort", 0)):
            client: Any = self.made()
            self.result_of(client.refresh_topology())
            if end is not None:
                self.result_of(getattr(client, end)())
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del client
                gc.collect()
            found = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
            self.assertEqual(len(found), warnings_expected)
            self.assertTrue(all("ClusterClient node:7000" in text and "close()" in text for text in found))
        lazy: Any = self.made()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del lazy
            gc.collect()
        self.assertEqual(caught, [])
