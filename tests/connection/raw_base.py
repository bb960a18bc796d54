"""A raw connection on a transport in memory, and what its requests become, for tests to inherit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.connection import test_batches
from tests.connection.wire import ECHO, Base, packed
from txvalkeycluster.commands import CommandTable
from txvalkeycluster.connection.listener import ConnectionListener
from txvalkeycluster.connection.protocol import RESPProtocol
from txvalkeycluster.connection.raw_protocol import RawProtocol
from txvalkeycluster.errors import ReplyError
from txvalkeycluster.requests.batch import Batch
from txvalkeycluster.requests.raw_batch import RawBatch, RawPart
from txvalkeycluster.requests.request import Request

TABLE = CommandTable()


class Collector:
    """Records what becomes of the requests of raw batches, in order."""

    called = False

    def __init__(self) -> None:
        self.came: list[tuple[Any, Any]] = []
        self.delayed: list[Any] = []
        self.waiting = 0
        #: Called after replies, and before a delay is recorded.
        self.on_replies: Callable[[], object] = lambda: None
        self.on_delay: Callable[[], object] = lambda: None

    def answered(self, places: Sequence[Any], replies: Sequence[Any]) -> None:
        self.came += zip(places, replies, strict=True)
        self.on_replies()

    def failed(self, place: Any, error: Any) -> None:
        self.came.append((place, error))
        self.on_replies()

    def left(self, place: Any) -> None:
        self.on_delay()
        self.delayed.append(place)

    def parted(self, place: Any, part: RawPart) -> None:
        pass

    def waits(self, change: int) -> None:
        self.waiting += change

    def kinds(self) -> list[tuple[Any, Any]]:
        """Return what came, with the class of each error."""
        return [(place, type(value) if isinstance(value, Exception) else value) for place, value in self.came]


class Owner(ConnectionListener):
    """Records the requests that got an error reply, and keeps them as if they went elsewhere."""

    def __init__(self) -> None:
        self.failed: list[tuple[Request, ReplyError]] = []

    def reply_failed(self, connection: RESPProtocol, request: Request, error: ReplyError) -> None:
        self.failed.append((request, error))


class RawBase(Base):
    kind = RawProtocol

    def setUp(self) -> None:
        self.connect()
        self.whole = Collector()

    def raw(self, *words: str, timeout: float = 10.0, collector: Collector | None = None) -> RawBatch:
        """Send a batch of one ECHO for each word, which is also the tag."""
        now = self.clock.seconds()
        batch = RawBatch(collector or self.whole, 7, TABLE)
        for word in words:
            batch.put(word, packed(("ECHO", word)))
        batch.send_at(now, now + timeout)
        self.connection.send_batch(batch)
        return batch

    def parsed(self, *words: str) -> test_batches.Collector:
        """Send an ordinary batch; return its collector."""
        collector = test_batches.Collector()
        batch = Batch(collector, 0, 0.0, 10.0)
        for place, word in enumerate(words):
            batch.add(place, packed(("ECHO", word)), ECHO, 0)
        batch.seal()
        self.connection.send_batch(batch)
        return collector

    def own(self) -> Owner:
        """Let the connection belong to an owner that keeps what is refused."""
        owner = Owner()
        self.connection.owner = owner
        return owner
