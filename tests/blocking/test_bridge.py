"""The bridge between threads and the reactor, with a reactor that runs when the test says so."""

from __future__ import annotations

from time import sleep
from typing import Any

from twisted.internet.defer import Deferred

from tests.blocking.base import BlockingTests, in_threads
from txvalkeycluster import ClientClosed, blocking
from txvalkeycluster.blocking.bridge import Bridge, ThreadCall, Waiter


class FakeReactor:
    """A reactor whose thread never runs, or runs when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.error: BaseException | None = None

    def callFromThread(self, function: Any) -> None:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.calls.append(function)

    def run(self) -> None:
        """Run what was posted."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class BridgeTests(BlockingTests):
    """The bridge without a real reactor."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.alive = True
        self.bridge = Bridge(self.reactor, 0, lambda: self.alive)

    def test_one_wake_up_for_many(self) -> None:
        """Calls that come before the reactor wakes up need one wake-up."""
        waiters = [self.bridge.begin(lambda: 1) for _ in range(3)]
        self.assertEqual(len(self.reactor.calls), 1)
        self.reactor.run()
        self.assertEqual([self.bridge.done(waiter) for waiter in waiters], [1, 1, 1])
        self.bridge.begin(lambda: 1)
        self.assertEqual(len(self.reactor.calls), 1)

    def test_an_interrupted_wake_up(self) -> None:
        """If KeyboardInterrupt comes while a thread wakes the reactor, the calls of other threads do not hang."""
        self.reactor.error = KeyboardInterrupt()
        self.assertRaises(KeyboardInterrupt, self.bridge.run, lambda: 1)
        other = self.bridge.begin(lambda: 2)
        self.reactor.run()
        self.assertEqual(self.bridge.done(other), 2)

    def test_cancel_before_the_start(self) -> None:
        """A function whose thread has given up is not run."""
        ran: list[int] = []
        waiter = self.bridge.begin(lambda: ran.append(1))
        self.bridge.cancel(waiter)
        self.reactor.run()
        self.assertEqual(ran, [])

    def test_cancel_after_the_result(self) -> None:
        """A cancellation that comes too late does nothing."""
        call: Any = ThreadCall.__new__(ThreadCall)
        Deferred.__init__(call)
        waiter = self.bridge.begin(lambda: call)
        self.reactor.run()
        call.callback(b"reply")
        self.bridge.cancel(waiter)
        self.reactor.run()
        self.assertEqual(self.bridge.done(waiter), b"reply")

    def test_a_thread_call_without_a_thread(self) -> None:
        """The callbacks get the result, as those of any Deferred."""
        for end, result in (("callback", 1), ("errback", ValueError("no"))):
            call: Any = ThreadCall.__new__(ThreadCall)
            Deferred.__init__(call)
            got: list[Any] = []
            call.addBoth(got.append)
            getattr(call, end)(result)
            self.assertEqual(getattr(got[0], "value", got[0]), result)

    def test_two_ends(self) -> None:
        """If the reactor's thread and another one end a wait at the same moment, neither fails."""
        waiter = Waiter()
        waiter.succeed(1)
        waiter._done = False
        waiter.fail(ValueError())

    def test_a_reactor_that_ends_without_its_triggers(self) -> None:
        """A thread that waits notices it."""
        self.patch(blocking.bridge, "_PERIOD", 0.05)
        errors: list[ClientClosed] = []

        def wait(number: int) -> None:
            try:
                if number:
                    self.bridge.run(lambda: Deferred())
                else:
                    waiter = self.bridge.begin(lambda: Deferred())
                    self.bridge.wait(waiter, 5.0)
                    self.bridge.done(waiter)
            except ClientClosed as error:
                errors.append(error)

        threads = in_threads(wait, 2)
        sleep(0.2)
        # The lost wake-up was repeated.
        self.assertGreater(len(self.reactor.calls), 1)
        self.alive = False
        self.join(threads)
        self.assertEqual([error.maybe_executed for error in errors], [False, False])
        self.assertRaises(ClientClosed, self.bridge.run, lambda: 1)
