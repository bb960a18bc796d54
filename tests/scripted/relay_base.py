"""Encoded requests of others on scripted nodes in memory, for tests to inherit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from txvalkeycluster import ClusterClient, key_slot
from txvalkeycluster.testing import ScriptedNode


def packed(words: Sequence[str | bytes | int]) -> bytes:
    """Return a request in RESP."""
    found = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(found) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in found)


class Relay:
    """Submits requests, and records what becomes of each of them."""

    def __init__(self, client: ClusterClient[bytes], **options: Any) -> None:
        self.client = client
        self.options = options
        self.sent: list[tuple[str, ...]] = []
        #: The tags and the results, as they came.
        self.came: list[tuple[int, Any]] = []
        #: The tags of delayed requests.
        self.delayed: list[int] = []
        self.on_replies: Callable[[Sequence[Any], Sequence[Any]], object] = lambda tags, replies: None
        self.on_delay: Callable[[int], object] = lambda tag: None

    def submit(self, *requests: str) -> Deferred[None] | None:
        """Submit requests, each a line of words of which the second is the key.  Their tags are consecutive numbers."""
        batch = self.client.relay_batch()
        for line in requests:
            words = tuple(line.split())
            batch.add(len(self.sent), key_slot(words[1] if len(words) > 1 else ""), packed(words))
            self.sent.append(words)
        return self.client.submit(batch, self._replied, on_delay=self._delayed, **self.options)

    def _replied(self, tags: Sequence[Any], replies: Sequence[Any]) -> None:
        self.came += zip(tags, replies, strict=True)
        self.on_replies(tags, replies)

    def _delayed(self, tag: int) -> None:
        self.delayed.append(tag)
        self.on_delay(tag)

    @property
    def results(self) -> dict[int, Any]:
        """The results by tag."""
        return dict(self.came)

    @property
    def kinds(self) -> dict[int, Any]:
        """The replies, and the classes of errors with what they say about the execution."""
        return {
            tag: (type(value), getattr(value, "maybe_executed", None)) if isinstance(value, Exception) else value
            for tag, value in self.came
        }

    @property
    def done(self) -> bool:
        """Whether every request has its result."""
        return len(self.came) == len(self.sent)


class RelayTests(MemoryTests):
    """On a clock that only the test moves."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b, self.c = map(self.key_of, self.nodes)

    def relay(self, **options: Any) -> Relay:
        """Return a relay of a client that is connected to all nodes."""
        submit = {name: options.pop(name) for name in ("timeout",) if name in options}
        client = self.client(**{"raw_replies": True, **options})
        for key in (self.a, self.b, self.c):
            self.result_of(client.set(key, 0))
        return Relay(client, **submit)

    def let(self, relay: Relay) -> None:
        """Let requests get their results, within a second."""
        self.network.settle()
        for _ in range(100):
            if relay.done:
                break
            self.advance(0.01)
        self.assertEqual(len(relay.came), len(relay.sent))
        self.assertEqual(sorted(relay.results), list(range(len(relay.sent))))
        # No delay is told twice.
        self.assertEqual(len(relay.delayed), len(set(relay.delayed)))

    def writes(self, node: ScriptedNode, name: bytes) -> list[bytes]:
        """Return the keys of the commands with this name that a node has received."""
        return [words[1] for _, words in node.received if words[0] == name]
