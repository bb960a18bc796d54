"""The plain path of a connection in C does what the Python code does."""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.acceleration.test_same_parts import GET, NO_EXTENSION, hiredis_reader, outcome
from tests.cases import SynchronousTestCase
from txvalkeycluster import ReplyError, TooManyPending
from txvalkeycluster.acceleration import fast
from txvalkeycluster.connection.command_stream import (
    BURST,
    CommandStream,
    PythonCommandStream,
    joined,
    python_joined,
)
from txvalkeycluster.connection.protocol import NOTHING, PUSH, RESPProtocol
from txvalkeycluster.connection.write_scheduler import WriteScheduler
from txvalkeycluster.requests.request import Call, Cancels
from txvalkeycluster.statistics import NodeStatistics


class Timer:
    """A timer that notes its calls."""

    def __init__(self, log: list[Any]) -> None:
        self.at = 50.0
        self.log = log

    def by(self, at: float) -> None:
        self.log.append(("by", at))
        self.at = at


class Scheduler(WriteScheduler):
    """A scheduler that notes its calls."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.held = False
        self.cancels = Cancels()
        self._touched = []

    def touch(self, connection: Any) -> None:
        self.log.append("touch")
        if len(self.log) % 7 == 3:
            raise ValueError("touch")

    def write(self, connection: Any) -> None:
        self.log.append("write")
        connection._unsent = []

    def failed(self, connection: Any, error: Exception) -> None:
        self.log.append(("failed", repr(error)))

    def _schedule(self) -> None:
        self.log.append("schedule")


class Transport:
    """A transport with unsent bytes or without."""

    def __init__(self, unsent: bytes) -> None:
        self.dataBuffer = b""
        self._tempDataBuffer = [unsent] if unsent else []


def made_queue(base: type[Any], crowd: int) -> Any:
    """Return a queue whose effects are in its ``log``."""

    class Queue(base):  # type: ignore[misc]
        def _admit(self, request: Any, count: int = 1) -> None:
            self.log.append(("admit", len(self._unsent)))
            if request.payload == b"refused":
                raise TooManyPending("full")

        def _drop_cancelled(self) -> None:
            self.log.append("drop")
            self._cancels_seen = self._write_scheduler.cancels.count
            self._unsent[:] = [each for each in self._unsent if each.payload != b"refused"]

        def _extend_sent(self, unsent: list[Any]) -> None:
            self.log.append("extend")
            self._mixed = False
            self._sent.extend(unsent)

        def _write_large(self, requests: list[Any]) -> None:
            self.log.append(("large", len(requests)))

        def _write_later(self, data: bytes) -> None:
            self.log.append(("later", data))

        def _close_if_drained(self) -> None:
            self.log.append("drained")

        def _broken(self, error: Exception, request: Any) -> None:
            self.log.append(("broken", repr(error), request is not None and not request.called))

        def _pushed(self, push: list[Any]) -> None:
            self.log.append(("pushed", list(push)))

        def _refused(self, request: Any, error: Any) -> None:
            self.log.append(("refused", str(error)))

        _deliver, _handle, _answer = RESPProtocol._deliver, RESPProtocol._handle, RESPProtocol._answer
        decoded = RESPProtocol.decoded
        _decode = None
        peer = "a node"

    queue: Any = Queue()
    queue.log = []
    queue._unsent, queue._crowd = [], crowd
    queue._sent, queue._max_pending, queue._mixed, queue.ended = deque(), 10, False, False
    queue._cancels_seen, queue._carried_more, queue.heard_at, queue.patience = 0, False, 0.0, 20.0
    queue._direct = queue._write_at_once = None
    queue.counters, queue.seconds = NodeStatistics(), map(float, count(1)).__next__
    queue._deadline_timer, queue._write_scheduler = Timer(queue.log), Scheduler(queue.log)
    reader = hiredis_reader()
    queue._reader = reader if base is PythonCommandStream else fast.Reader(reader, NOTHING, PUSH)
    queue._next_reply = queue._reader.gets
    if base is CommandStream:
        queue._next_reply = fast.Replies(queue._reader, queue._sent, None, frozenset([PUSH, ReplyError]))
    return queue


def state_of(queue: Any) -> list[Any]:
    """Return what can be seen of a queue."""
    state = [queue._crowd, queue._mixed, queue._carried_more, queue.heard_at, queue._cancels_seen]
    requests = [each.payload for each in (*queue._unsent, "-", *queue._sent) if each != "-"]
    touched = [each is queue for each in queue._write_scheduler._touched]
    return [*state, requests, len(queue._sent), queue.counters, touched, queue._write_scheduler.held, queue.log]


def both() -> list[Any]:
    """Return a queue of each kind."""
    return [made_queue(base, 100) for base in (CommandStream, PythonCommandStream)]


PAYLOADS = st.sampled_from([b"small", b"refused", [b"large", b"parts"], b""])


class QueueTests(SynchronousTestCase):
    skip = NO_EXTENSION

    @given(st.lists(st.tuples(PAYLOADS, st.integers(0, 100)), max_size=30), st.integers(0, 5))
    def test_the_same_effects(self, requests: list[tuple[Any, int]], crowd: int) -> None:
        queues = [made_queue(base, crowd) for base in (CommandStream, PythonCommandStream)]
        for payload, deadline in requests:
            call = Call(payload, GET, 0, 0.0, float(deadline))
            first, second = (outcome(queue.send, call) for queue in queues)
            self.assertEqual(first, second)
            self.assertEqual(queues[0]._unsent, queues[1]._unsent)
        self.assertEqual(queues[0].log, queues[1].log)

    def test_a_burst(self) -> None:
        queues = [made_queue(base, BURST * 2) for base in (CommandStream, PythonCommandStream)]
        for queue in queues:
            for _ in range(BURST + 1):
                queue.send(Call(b"x", GET, 0, 0.0, 60.0))
        self.assertEqual(queues[0].log, ["touch", "write"])
        self.assertEqual(queues[1].log, ["touch", "write"])

    def test_without_a_list(self) -> None:
        """A queue that was not initialized raises an error."""
        self.assertRaises(AttributeError, fast.CommandStream().send, object())

    @given(st.lists(PAYLOADS, min_size=1, max_size=100))
    def test_joined(self, payloads: list[Any]) -> None:
        requests: list[Any] = [Call(payload, GET, 0, 0.0, 1.0) for payload in payloads]
        self.assertEqual(joined(requests), python_joined(requests))


WRITES = st.sampled_from([0, 3, 10_000, -1, BlockingIOError(), ConnectionResetError(), "broken", ValueError("no")])


class FlushTests(SynchronousTestCase):
    skip = NO_EXTENSION

    @given(
        st.lists(PAYLOADS, max_size=12),
        WRITES,
        st.sampled_from([None, b"", b"unsent"]),
        st.fixed_dictionaries({"_paused": st.booleans(), "ended": st.booleans(), "_mixed": st.booleans()}),
        st.integers(0, 1),
        st.integers(0, 12),
    )
    @example([b""], "broken", b"", {"_paused": False, "ended": False, "_mixed": False}, 0, 0)
    def test_flush(
        self, payloads: list[Any], written: Any, unsent: bytes | None, flags: dict[str, bool], cancelled: int, sent: int
    ) -> None:
        def write(data: bytes) -> Any:
            queue.log.append(("write", data))
            if isinstance(written, Exception):
                raise written
            return ConnectionError() if written == "broken" else min(written, len(data)) if written >= 0 else len(data)

        seen = []
        for queue in both():
            queue._unsent += [Call(payload, GET, 0, 0.0, 60.0) for payload in payloads]
            queue._sent.extend(Call(b"sent", GET, 0, 0.0, 60.0) for _ in range(sent))
            for name, value in flags.items():
                setattr(queue, name, value)
            if unsent is not None:
                queue._direct, queue._write_at_once = Transport(unsent), write
            queue._write_scheduler.cancels.count += cancelled
            seen.append([outcome(queue.flush), state_of(queue)])
        self.assertEqual(*seen)

    def test_not_initialized(self) -> None:
        self.assertRaises(AttributeError, fast.CommandStream().flush)
        self.assertRaises(AttributeError, fast.CommandStream().dataReceived, b"x")


PIECES = [
    *(b"$5\r\nvalue\r\n", b":7\r\n" * 9, b"+OK\r\n" * 70, b">1\r\n+m\r\n"),
    *(b"-ERR\r\n", b"?x\r\n", b"$3\r\n", b"abc\r\n"),
]
CHUNKS = st.lists(st.sampled_from(PIECES), max_size=5)


class ReadTests(SynchronousTestCase):
    skip = NO_EXTENSION

    @given(CHUNKS, st.integers(0, 200), st.booleans(), st.booleans(), st.booleans(), st.booleans())
    def test_data_received(
        self, chunks: list[bytes], pending: int, ended: bool, draining: bool, direct: bool, held: bool
    ) -> None:
        seen: list[Any] = []
        for queue in both():
            results: list[Any] = []
            queue.ended, queue._draining = ended, draining
            queue._write_scheduler.held = held
            queue._write_scheduler._touched = [queue]
            if direct:
                queue._direct, queue._write_at_once = Transport(b""), len
            calls: list[Any] = [Call(b"sent", GET, 0, 0.0, 60.0) for _ in range(pending)]
            for call in calls:
                call.addBoth(results.append)
            queue._sent.extend(calls)
            ends = []
            for chunk in chunks:
                # Two more commands in each read.
                queue._unsent += [Call(b"new", GET, 0, 0.0, 60.0), Call(b"newer", GET, 0, 0.0, 60.0)]
                ends.append(outcome(queue.dataReceived, chunk))
            seen.append([ends, results, state_of(queue)])
        self.assertEqual(*seen)

    def test_an_error_of_a_callback(self) -> None:
        """KeyboardInterrupt passes through; the scheduler stays usable."""
        for queue in both():
            call: Any = Call(b"sent", GET, 0, 0.0, 60.0)
            queue._sent.append(call)
            queue.seconds = lambda: 1.0

            class Interrupting(Call):
                __slots__ = ()

                def callback(self, result: Any) -> None:
                    raise KeyboardInterrupt

            queue._sent[0] = Interrupting(b"sent", GET, 0, 0.0, 60.0)
            self.assertRaises(KeyboardInterrupt, queue.dataReceived, b"+OK\r\n")
            self.assertFalse(queue._write_scheduler.held)

    def test_the_same_writes_after_a_read(self) -> None:
        """A connection that cannot write is given to the scheduler, as in Python."""
        for queue in both():
            queue._write_scheduler._touched = [queue]
            queue._unsent.append(object())
            queue.dataReceived(b"")
            self.assertIn("AttributeError", str(queue.log))
