"""The end of a client: what must not keep it from ending, and what it says if nobody ends it."""

from __future__ import annotations

import gc
import warnings
from typing import Any

from tests.memory import MemoryTests
from txvalkeycluster import Closed, ConnectionLost
from txvalkeycluster.events import Event
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE


class LastThingsTests(MemoryTests):
    def test_listeners_that_raise_anything(self) -> None:
        """It is logged, the other listeners are told, and the client closes."""
        for kind in (SystemExit, KeyboardInterrupt, GeneratorExit, ValueError):
            client = self.client()
            told: list[Event] = []

            def refuse(_: Event, kind: type[BaseException] = kind) -> None:
                raise kind

            client.add_listener(refuse)
            client.add_listener(told.append)
            self.assertIsNone(self.result_of(client.close()))
            self.assertIsInstance(told[-1], Closed)
            self.assertEqual(len(self.flushLoggedErrors(kind)), len(told))

    def test_callbacks_that_raise_anything(self) -> None:
        """Of a command, of a stream, and the endpoint of the application."""
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

    def test_no_map_that_nobody_waits_for(self) -> None:
        """Though a connection is cut, which is a reason to ask for one."""
        client = self.client()
        self.nodes[0].script = lambda _, words, __: SILENCE if words[0] == b"BLPOP" else DEFAULT_REPLY
        waiting = client.blpop(self.key_of(self.nodes[0]), 0)
        self.advance(2.0)
        before = self.cluster.count(b"CLUSTER")
        closed = client.close()
        self.error_of(waiting, ConnectionLost)
        self.assertIsNone(self.result_of(closed))
        self.assertEqual(self.cluster.count(b"CLUSTER"), before)

    def test_dropped(self) -> None:
        """It says so by its name, and not if it was closed, aborted, or never connected."""
        gc.collect()
        for end, said in ((None, 1), ("close", 0), ("abort", 0)):
            client: Any = self.made()
            self.result_of(client.refresh_topology())
            if end is not None:
                self.result_of(getattr(client, end)())
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del client
                gc.collect()
            found = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
            self.assertEqual(len(found), said)
            self.assertTrue(all("ClusterClient node:7000" in text and "close()" in text for text in found))
        lazy: Any = self.made()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del lazy
            gc.collect()
        self.assertEqual(caught, [])
