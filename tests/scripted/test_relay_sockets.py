"""Relayed requests on real sockets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from threading import Thread
from typing import Any

from tests.scripted.base import ScriptedTests, ask, moved
from tests.scripted.relay_base import Relay
from txvalkeycluster import ClientClosed, ConnectionLost, WrongThread
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE


class SocketTests(ScriptedTests):
    """On sockets, under each reactor."""

    async def relay(self, **options: Any) -> Relay:
        self.a, self.b, self.c = map(self.key_of, self.nodes)
        client = await self.client(**{"raw_replies": True, **options})
        for key in (self.a, self.b, self.c):
            await client.get(key)
        return Relay(client)

    async def test_replies(self) -> None:
        """Raw and parsed replies come from three nodes, in order."""
        for raw in (True, False):
            relay = await self.relay(raw_replies=raw)
            for _ in range(50):
                relay.submit(*[f"INCR {key}" for key in (self.a, self.b, self.c)] * 20)
            await self.until(partial(getattr, relay, "done"))
            counts = [b":%d\r\n" % number if raw else number for number in range(1, 1001)]
            for first in range(3):
                self.assertEqual([relay.results[tag] for tag in range(first, 3000, 3)], counts)
            await relay.client.execute("DEL", self.a)
            self.cluster.values.clear()
            await relay.client.close()

    async def test_large_requests_and_replies(self) -> None:
        """Values of megabytes go both ways between small ones."""
        relay = await self.relay()
        value = "v" * 3_000_000
        for _ in range(3):
            relay.submit(f"SET {self.a} {value}", f"GET {self.a}", f"SET {self.b} 1", f"GET {self.b}")
        await self.until(lambda: relay.done)
        large = b"$%d\r\n%b\r\n" % (len(value), value.encode())
        self.assertEqual([relay.results[tag] for tag in range(12)], [b"+OK\r\n", large, b"+OK\r\n", b"$1\r\n1\r\n"] * 3)

    async def test_redirects(self) -> None:
        """MOVED and ASK are followed."""
        relay = await self.relay()
        self.nodes[0].script = lambda node, words, _: (
            moved(words[1], self.nodes[1].address) if words[0] == b"SET" else DEFAULT_REPLY
        )
        self.nodes[2].script = lambda node, words, _: (
            ask(words[1], self.nodes[1].address) if words[0] == b"SET" else DEFAULT_REPLY
        )
        relay.submit(f"SET {self.a} 1", f"SET {self.b} 1", f"SET {self.c} 1")
        await self.until(lambda: relay.done)
        self.assertEqual(relay.results, dict.fromkeys(range(3), b"+OK\r\n"))
        self.assertEqual(sorted(relay.delayed), [0, 2])
        self.assertEqual(self.nodes[1].count(b"ASKING"), 1)

    async def test_a_lost_connection(self) -> None:
        """Reads are repeated on a new connection. A write fails, may have been executed, and is not repeated."""
        relay = await self.relay()
        self.nodes[0].script = lambda node, words, _: CLOSE if words[0] == b"INCR" else DEFAULT_REPLY
        relay.submit(f"GET {self.a}", f"INCR {self.a}", f"GET {self.a}")
        await self.until(lambda: relay.done)
        self.assertEqual(relay.kinds, {0: b"_\r\n", 1: (ConnectionLost, True), 2: b"_\r\n"})
        self.assertEqual(self.nodes[0].count(b"INCR"), 1)

    async def test_close_and_abort(self) -> None:
        """close() waits for relayed requests, and abort() ends them."""
        relay = await self.relay()
        relay.submit(*[f"INCR {self.a}"] * 100)
        await relay.client.close()
        self.assertTrue(relay.done)
        self.assertEqual(relay.results[99], b":100\r\n")
        relay = await self.relay()
        self.nodes[0].script = lambda *_: SILENCE
        relay.submit(*[f"INCR {self.a}"] * 100)
        await self.until(lambda: self.nodes[0].count(b"INCR") == 200)
        await relay.client.abort()
        self.assertEqual(relay.kinds, dict.fromkeys(range(100), (ClientClosed, True)))

    async def test_a_full_queue(self) -> None:
        """All requests are answered in their order, though the queue holds few of them."""
        relay = await self.relay(max_pending=10)
        rooms = [relay.submit(*[f"INCR {self.a}"] * 50) for _ in range(10)]
        await self.until(lambda: relay.done)
        self.assertEqual([relay.results[tag] for tag in range(500)], [b":%d\r\n" % number for number in range(1, 501)])
        for room in rooms:
            assert room is not None
            await room

    async def test_another_thread(self) -> None:
        """A batch that is submitted in a wrong thread raises WrongThread, and nothing of it is sent."""
        relay = await self.relay()
        relay.submit(f"SET {self.a} 1")
        await self.until(lambda: relay.done)

        raised: list[type[BaseException]] = []

        def use() -> None:
            try:
                relay.submit(f"SET {self.a} 2", f"SET {self.b} 2")
            except WrongThread as error:
                raised.append(type(error))

        # While a write is scheduled, which hides the thread from other checks.
        reading = relay.client.get(self.a)
        thread = Thread(target=use)
        thread.start()
        thread.join()
        self.assertEqual(raised, [WrongThread])
        self.assertEqual(await reading, b"1")
        self.assertEqual(await relay.client.get(self.b), None)
        self.assertEqual((len(relay.came), self.cluster.count(b"SET")), (1, 1))

    async def test_requests_from_replies(self) -> None:
        """A caller that sends the next request when a reply comes keeps its order."""
        relay = await self.relay()

        def more(tags: Sequence[Any], _: object) -> None:
            if len(relay.sent) < 500:
                relay.submit(*[f"INCR {self.a}"] * len(tags))

        relay.on_replies = more
        relay.submit(*[f"INCR {self.a}"] * 10)
        await self.until(lambda: relay.done)
        self.assertEqual([reply for _, reply in relay.came], [b":%d\r\n" % number for number in range(1, 501)])
