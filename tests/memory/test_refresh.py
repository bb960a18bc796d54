"""When the slot map is asked for, of whom, and what is believed, on a clock that stands still."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.pure.test_topology import finish
from txvalkeycluster.address import Address
from txvalkeycluster.errors import ClientClosed, ClusterUnavailable, ConnectFailed, ReplyError, TopologyError
from txvalkeycluster.options import Options
from txvalkeycluster.reading import read_slots
from txvalkeycluster.refresh import TopologyRefresher
from txvalkeycluster.statistics import Statistics
from txvalkeycluster.topology import Shard


def slots(*ids: str, port: int = 1) -> Any:
    """A CLUSTER SLOTS reply in which nodes with these ids share the slots."""
    width = 16384 // len(ids)
    return [[n * width, (n + 1) * width - 1, [b"h", port + n, node.encode()]] for n, node in enumerate(ids)]


def pieces(*ids: str, count: int) -> Any:
    """The same in so many ranges, which the nodes share in turn."""
    width = 16384 // count
    owner = [(b"h", n + 1, node.encode()) for n, node in enumerate(ids)]
    return [[n * width, (n + 1) * width - 1, list(owner[n % len(ids)])] for n in range(count)]


def by_shard(rows: Any) -> Any:
    """CLUSTER SHARDS for rows of CLUSTER SLOTS."""
    slots: dict[Any, list[int]] = {}
    for start, end, node in rows:
        slots.setdefault(tuple(node), []).extend((start, end))
    return [
        {b"slots": bounds, b"nodes": [{b"id": node, b"port": port, b"ip": host, b"endpoint": host, b"role": b"master"}]}
        for (host, port, node), bounds in slots.items()
    ]


class Teller:
    """Stands in for a node: notes each question, which the test answers."""

    def __init__(self, number: int) -> None:
        self.address = Address("h", number)
        self.asked: list[Deferred[Any]] = []
        self.questions: list[str] = []

    def call(self, *args: Any) -> Deferred[Any]:
        self.questions.append(args[1])
        self.asked.append(Deferred())
        return self.asked[-1]

    def answer(self, reply: Any) -> None:
        self.asked[-1].callback(reply)

    def refuse(self) -> None:
        self.asked[-1].errback(ReplyError("ERR unknown subcommand"))

    def fail(self) -> None:
        self.asked[-1].errback(ConnectFailed(f"{self.address}: gone"))


class RefresherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.tellers = [Teller(number) for number in (1, 2, 3)]
        self.map: tuple[Shard, ...] = ()
        self.failures: list[Exception] = []
        self.refresher = self.make()

    def make(self, **options: Any) -> TopologyRefresher:
        return TopologyRefresher(
            self.clock,
            Options(random=Random(1), **options),
            candidates=lambda: list(self.tellers),  # type: ignore[arg-type]
            node_at=lambda address: next(t for t in self.tellers if t.address == address),  # type: ignore[arg-type]
            current=lambda: self.map,
            install=self.install,
            failed=self.failures.append,
            needed=lambda: False,
            statistics=Statistics(),
        )

    def install(self, shards: tuple[Shard, ...]) -> None:
        self.map = shards

    @property
    def questions(self) -> int:
        return sum(len(teller.asked) for teller in self.tellers)

    def test_one_at_a_time_and_one_a_second(self) -> None:
        """A hundred triggers make one refresh, and one more a second later if they came meanwhile."""
        for _ in range(100):
            self.refresher.trigger()
        self.assertEqual(self.questions, 1)
        self.tellers[0].answer(slots("a"))
        self.clock.advance(0.94)
        self.assertEqual(self.questions, 1)
        self.clock.advance(0.12)
        self.assertEqual(self.questions, 2)
        self.tellers[0].answer(slots("a"))
        self.clock.advance(50.0)
        self.assertEqual(self.questions, 2)

    def test_urgent(self) -> None:
        """A demoted primary does not wait for the second to pass."""
        self.refresher.trigger()
        self.tellers[0].answer(slots("a"))
        self.refresher.trigger(urgent=True)
        self.clock.advance(0.05)
        self.assertEqual(self.questions, 2)

    def test_unasked(self) -> None:
        """With nothing amiss, once a period."""
        self.refresher.trigger()
        self.tellers[0].answer(slots("a"))
        self.clock.advance(56.0)
        self.assertEqual(self.questions, 1)
        self.clock.advance(8.0)
        self.assertEqual(self.questions, 2)

    def test_the_next_is_asked_after_a_failure_or_a_silence(self) -> None:
        """A failure passes on at once, silence after 0.4 s; the first good answer counts."""
        done = self.refresher.refresh()
        self.tellers[0].fail()
        self.assertEqual([len(teller.asked) for teller in self.tellers], [1, 1, 0])
        self.clock.advance(0.4)
        self.assertEqual([len(teller.asked) for teller in self.tellers], [1, 1, 1])
        self.tellers[2].answer(slots("a"))
        self.successResultOf(done)
        self.assertEqual(len(self.map), 1)

    def test_nobody_answers(self) -> None:
        """One error that says what happened at each; the old map stands."""
        self.map = old = (Shard(None),)
        done = self.refresher.refresh()
        for teller in self.tellers:
            teller.fail()
        error = self.failureResultOf(done, ClusterUnavailable).value
        self.assertEqual(error.attempts, tuple((f"h:{n}", "gone") for n in (1, 2, 3)))
        self.assertEqual((self.map, self.failures), (old, [error]))

    def test_a_second_opinion(self) -> None:
        """A map without most known nodes needs a second node's word."""
        self.refresher.refresh()
        self.tellers[0].answer(slots("a", "b", "c"))
        known = self.map
        done = self.refresher.refresh()
        self.tellers[0].answer(slots("x"))
        self.tellers[1].answer(slots("a", "b", "c"))
        self.failureResultOf(done, TopologyError)
        self.assertEqual(self.map, known)
        done = self.refresher.refresh()
        self.tellers[0].answer(slots("x"))
        self.tellers[1].answer(slots("x"))
        self.successResultOf(done)
        self.assertNotEqual(self.map, known)

    def test_a_lone_survivor_is_believed(self) -> None:
        """If nobody else says a thing, one word is all there is."""
        self.refresher.refresh()
        self.tellers[0].answer(slots("a", "b", "c"))
        done = self.refresher.refresh()
        self.tellers[0].answer(slots("x"))
        for teller in self.tellers[1:]:
            teller.fail()
        self.successResultOf(done)
        self.assertEqual(len(self.map), 1)

    def test_a_large_map_is_read_in_steps(self) -> None:
        """Others have their turn meanwhile, and the map is in force when all of it is read."""
        turns = 0

        def something_else() -> None:
            nonlocal turns
            turns += 1
            if not self.map:
                self.clock.callLater(0, something_else)

        done = self.refresher.refresh()
        self.tellers[0].answer(pieces("a", "b", count=4096))
        self.assertNoResult(done)
        something_else()
        self.clock.advance(0)
        self.successResultOf(done)
        self.assertGreaterEqual(turns, 16)
        self.assertEqual([len(shard.slots) for shard in self.map], [2048, 2048])

    def test_a_map_in_pieces_is_asked_for_by_shard(self) -> None:
        """Until a server refuses; a map that is the same is the very same."""
        teller = self.tellers[0]
        rows = pieces("a", "b", count=4096)
        for answer, asked in ((rows, "SLOTS"), (by_shard(rows), "SHARDS"), (by_shard(rows), "SHARDS")):
            known = self.map
            done = self.refresher.refresh()
            self.assertEqual(teller.questions[-1], asked)
            teller.answer(answer)
            self.clock.pump([0] * 100)
            self.successResultOf(done)
        self.assertIs(self.map, known)
        done = self.refresher.refresh()
        teller.refuse()
        self.assertEqual(teller.questions[-2:], ["SHARDS", "SLOTS"])
        teller.answer(slots("a", "b"))
        self.successResultOf(done)
        self.assertEqual([len(shard.slots) for shard in self.map], [1, 1])

    def test_when_that_is_no_help(self) -> None:
        """What cannot be read is asked for otherwise, this time; another node is asked if this one is not ready."""
        teller, other = self.tellers[:2]
        self.map = finish(read_slots(pieces("a", "b", count=4096), Address("h", 1)))
        for answer in ([[b"odd"]], [{b"slots": [0, 1, 2], b"nodes": []}]):
            done = self.refresher.refresh()
            teller.answer(answer)
            self.assertEqual(teller.questions[-2:], ["SHARDS", "SLOTS"])
            teller.answer(pieces("a", "b", count=4096))
            self.clock.pump([0] * 100)
            self.successResultOf(done)
        self.refresher.refresh()
        teller.asked[-1].errback(ReplyError("LOADING"))
        self.assertEqual((teller.questions[-1], other.questions[-1]), ("SHARDS", "SHARDS"))

    def test_endpoints_of_the_applications_own(self) -> None:
        """Which of a node's two ports they take is not known."""
        self.refresher = self.make(endpoint_for=lambda host, port: None)
        self.map = finish(read_slots(pieces("a", "b", count=4096), Address("h", 1)))
        self.refresher.refresh()
        self.assertEqual(self.tellers[0].questions, ["SLOTS"])

    def test_close(self) -> None:
        """Whoever waits is told, and no timer is left."""
        done = self.refresher.refresh()
        self.refresher.close()
        self.failureResultOf(done, ClientClosed)
        self.failureResultOf(self.refresher.refresh(), ClientClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
