"""When the slot map is refreshed: after triggers, periodically, and no longer after ``close``."""

from __future__ import annotations

from random import Random

from tests.routing.refresher import RefresherTests, slots
from txvalkeycluster.errors import ClientClosed


class TimingTests(RefresherTests):
    def test_one_at_a_time_and_one_a_second(self) -> None:
        """A hundred triggers cause one refresh, and one more a second later for those that came during the first."""
        for _ in range(100):
            self.refresher.trigger()
        self.assertEqual(self.questions, 1)
        self.nodes[0].answer(slots("a"))
        self.clock.advance(0.94)
        self.assertEqual(self.questions, 1)
        self.clock.advance(0.12)
        self.assertEqual(self.questions, 2)
        self.nodes[0].answer(slots("a"))
        self.clock.advance(50.0)
        self.assertEqual(self.questions, 2)

    def test_urgent(self) -> None:
        """An urgent trigger, as after READONLY, does not wait for the second to pass."""
        self.refresher.trigger()
        self.nodes[0].answer(slots("a"))
        self.refresher.trigger(urgent=True)
        self.clock.advance(0.05)
        self.assertEqual(self.questions, 2)

    def test_urgent_during_a_refresh(self) -> None:
        """An urgent trigger during a refresh causes another one at once, in a large cluster too."""
        self.know(slots(*map(str, range(1000))))
        self.refresher.trigger()
        self.refresher.trigger(urgent=True)
        self.nodes[0].answer(slots(*map(str, range(1000))))
        self.clock.pump([0] * 100)
        self.clock.advance(0.06)
        self.assertEqual(self.questions, 2)

    def test_clients_of_a_large_cluster_ask_at_different_times(self) -> None:
        """The delay is random, and further triggers do not change it."""
        delays = []
        for seed in range(20):
            random = Random(seed)
            self.refresher = self.make(random=random)
            self.refresher.refresh()
            self.nodes[0].answer(slots(*map(str, range(1000))))
            self.clock.pump([0] * 100)
            self.refresher.trigger()
            (first,) = [call.getTime() for call in self.clock.getDelayedCalls()]
            for _ in range(1000):
                self.refresher.trigger()
            (last,) = [call.getTime() for call in self.clock.getDelayedCalls()]
            self.assertEqual(first, last)
            delays.append(last - self.clock.seconds())
            self.refresher.close()
        self.assertGreater(max(delays) - min(delays), 5.0)

    def test_periodic_refresh(self) -> None:
        """Without a trigger there is one refresh per period."""
        self.refresher.trigger()
        self.nodes[0].answer(slots("a"))
        self.clock.advance(56.0)
        self.assertEqual(self.questions, 1)
        self.clock.advance(8.0)
        self.assertEqual(self.questions, 2)


class CloseTests(RefresherTests):
    def test_close(self) -> None:
        """The waiting caller gets ClientClosed, and no timer is left."""
        done = self.refresher.refresh()
        self.refresher.close()
        self.failureResultOf(done, ClientClosed)
        self.failureResultOf(self.refresher.refresh(), ClientClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_with_a_second_request(self) -> None:
        """The callers of the running refresh and of the next one get ClientClosed."""
        waiting = [self.refresher.refresh(), self.refresher.refresh()]
        self.refresher.close()
        for done in waiting:
            self.failureResultOf(done, ClientClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
