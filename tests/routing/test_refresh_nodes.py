"""Which nodes a refresh asks for the slot map, and which answers it accepts."""

from __future__ import annotations

from tests.routing.refresher import RefresherTests, slots
from txvalkeycluster.errors import ClusterUnavailable, TopologyError


class QuestionTests(RefresherTests):
    def test_the_next_node_is_asked_after_a_failure_or_silence(self) -> None:
        """The next node is asked at once after a failure, and after 0.4 s of silence. The first good answer counts."""
        done = self.refresher.refresh()
        self.nodes[0].fail()
        self.assertEqual([len(node.asked) for node in self.nodes], [1, 1, 0])
        self.clock.advance(0.4)
        self.assertEqual([len(node.asked) for node in self.nodes], [1, 1, 1])
        self.nodes[2].answer(slots("a"))
        self.successResultOf(done)
        self.assertEqual(len(self.map), 1)

    def test_the_last_node_may_still_answer(self) -> None:
        """The refresh goes on as long as one node has not failed."""
        done = self.refresher.refresh()
        self.clock.advance(0.4)
        self.nodes[0].fail()
        self.assertEqual(self.nodes[2].questions, ["SLOTS"])
        self.clock.advance(0.4)
        self.nodes[1].fail()
        self.assertNoResult(done)
        self.nodes[2].answer(slots("a"))
        self.successResultOf(done)

    def test_no_node_answers(self) -> None:
        """The error says what happened at each node, and the old map stays in use."""
        self.know([[0, 1]])
        old = self.map
        done = self.refresher.refresh()
        for node in self.nodes:
            node.fail()
        error = self.failureResultOf(done, ClusterUnavailable).value
        self.assertEqual(error.attempts, tuple((f"h:{n}", "gone") for n in (1, 2, 3)))
        self.assertEqual((self.map, self.failures), (old, [error]))

    def test_an_unexpected_error(self) -> None:
        """The error is logged, and the next node is asked."""
        done = self.refresher.refresh()
        self.nodes[0].asked[-1].errback(RuntimeError("a defect"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertNoResult(done)
        self.nodes[1].answer(slots("a"))
        self.successResultOf(done)


class AnswerTests(RefresherTests):
    def test_a_map_without_any_owner(self) -> None:
        """A map in which no node serves a slot is not accepted, and the next node is asked."""
        done = self.refresher.refresh()
        self.nodes[0].answer([[0, 16383]])
        self.nodes[1].answer(slots("a"))
        self.successResultOf(done)
        self.assertEqual(len(self.map), 1)

    def test_a_map_without_most_known_nodes(self) -> None:
        """A map without most known nodes is accepted only if a second node confirms it."""
        self.refresher.refresh()
        self.nodes[0].answer(slots("a", "b", "c"))
        known = self.map
        done = self.refresher.refresh()
        self.nodes[0].answer(slots("x"))
        self.nodes[1].answer(slots("a", "b", "c"))
        self.failureResultOf(done, TopologyError)
        self.assertEqual(self.map, known)
        done = self.refresher.refresh()
        self.nodes[0].answer(slots("x"))
        self.nodes[1].answer(slots("x"))
        self.successResultOf(done)
        self.assertNotEqual(self.map, known)

    def test_the_only_node_that_answers(self) -> None:
        """A map without most known nodes is accepted if no other node answers."""
        self.refresher.refresh()
        self.nodes[0].answer(slots("a", "b", "c"))
        done = self.refresher.refresh()
        self.nodes[0].answer(slots("x"))
        for node in self.nodes[1:]:
            node.fail()
        self.successResultOf(done)
        self.assertEqual(len(self.map), 1)
