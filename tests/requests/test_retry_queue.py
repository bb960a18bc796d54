"""Retry queues on a clock that only the test advances."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.cases import SynchronousTestCase
from txvalkeycluster.commands import Command
from txvalkeycluster.errors import CommandTimeout, TooManyPending
from txvalkeycluster.options import Options
from txvalkeycluster.requests.request import Call, Cancels, Request
from txvalkeycluster.requests.retry_queue import RetryQueue
from txvalkeycluster.requests.waits import Waits
from txvalkeycluster.statistics import NodeStatistics

STEP = 0.001


class RetryQueueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.options = Options(random=Random(1), max_pending=2000)
        self.tries = 0
        self.serving = False
        self.waits = Waits(self.clock, Cancels())
        self.counters = NodeStatistics()
        self.queue = RetryQueue(self.clock, self.options, self.waits, self.counters, "better times", self.retry)

    def retry(self, requests: Iterable[Request]) -> None:
        """Answer each request at once, as a server without latency: with an error or with a reply."""
        for request in requests:
            self.tries += 1
            if self.serving:
                request.answer(b"OK")
            else:
                request.failed_attempt("LOADING")
                self.queue.send(request)

    def enter(self, timeout: float = 60.0) -> Deferred[Any]:
        now = self.clock.seconds()
        call = Call(b"x", Command("SET"), 0, now, now + timeout)
        self.queue.send(call)
        return call

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.clock.advance(STEP)

    def test_recovery_within_100_ms_and_no_storm(self) -> None:
        """Within 100 ms of a recovery all commands are served. Before that, a few hundred a second are tried."""
        for outage in (0.0, 0.005, 0.033, 0.5, 1.234, 10.0):
            self.tries, self.serving = 0, False
            waiting = [self.enter() for _ in range(1000)]
            self.advance(outage)
            self.assertLessEqual(self.tries, 1000 * outage + 100)
            self.serving = True
            self.advance(0.1)
            self.assertEqual({self.successResultOf(deferred) for deferred in waiting}, {b"OK"})
            self.assertEqual(len(self.queue), 0)
        self.waits.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_order(self) -> None:
        """In a queue with an order, commands that were tried in vain stay before those that were issued later."""
        self.queue = RetryQueue(
            self.clock, self.options, self.waits, self.counters, "better times", self.retry, in_order=True
        )
        waiting = [self.enter() for _ in range(300)]
        for _ in range(50):
            self.advance(0.01)
            self.assertEqual(self.queue.everything(), waiting)
        self.assertGreater(self.tries, 64)
        self.waits.stop()

    def test_all_are_tried(self) -> None:
        """In a queue without an order, every command is tried, although those before it cannot be served."""
        waiting = [self.enter() for _ in range(100)]
        self.advance(0.5)
        self.assertEqual({each for each in waiting if not each.history.attempts}, set())  # type: ignore[attr-defined]
        self.waits.stop()

    def test_deadlines(self) -> None:
        """Each command ends at its own deadline, with an error that says what the command waited for."""
        early, late = self.enter(timeout=0.5), self.enter(timeout=5.0)
        self.advance(0.6)
        error = self.failureResultOf(early, CommandTimeout).value
        self.assertIn("waiting for better times", str(error))
        self.assertIn("last error: LOADING", str(error))
        self.serving = True
        self.advance(0.1)
        self.assertEqual(self.successResultOf(late), b"OK")
        self.waits.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_full_queue_refuses_only_new_commands(self) -> None:
        """A full queue refuses a new command and accepts a command that has been sent before."""
        for _ in range(self.options.max_pending):
            self.enter()
        self.assertRaises(TooManyPending, self.enter)
        known = Call(b"x", Command("SET"), 0, 0.0, 60.0)
        known.failed_attempt("LOADING")
        self.queue.send(known)
        self.assertEqual(len(self.queue), self.options.max_pending + 1)
