"""When the slot map is asked for, of whom, and what is believed, on a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.topology.test_parsers import finish
from txvalkeycluster.address import Address
from txvalkeycluster.connection.handshake import ServerInfo
from txvalkeycluster.errors import ClientClosed, ClusterUnavailable, ConnectFailed, ReplyError, TopologyError
from txvalkeycluster.options import Options
from txvalkeycluster.routing.refresh import TopologyRefresher
from txvalkeycluster.routing.slot_map import Draft, SlotMap
from txvalkeycluster.statistics import Statistics
from txvalkeycluster.topology.model import Shard
from txvalkeycluster.topology.parsers import read_slots


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
        self.info = ServerInfo(protocol=3, version="9.1.2")

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


class Tellers:
    """In the place of the factory: whoever can be asked, in the order in which they are."""

    def __init__(self) -> None:
        self.tellers = [Teller(number) for number in (1, 2, 3)]

    def candidates(self) -> list[Teller]:
        return list(self.tellers)

    def node_at(self, address: Address) -> Teller:
        known = [teller for teller in self.tellers if teller.address == address]
        return known[0] if known else Teller(address.port)

    def install(self, listed: Any) -> tuple[list[Any], list[Any]]:
        return [], []


class RefresherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        factory: Any = Tellers()
        self.tellers: list[Teller] = factory.tellers
        self.slot_map = SlotMap(factory, "ownerless", Random(1))  # type: ignore[arg-type]
        self.failures: list[Exception] = []
        self.refresher = self.make()

    def make(self, protocol: int = 2, **options: Any) -> TopologyRefresher:
        """A refresher; over RESP2 no server tells its version, and only CLUSTER SLOTS is asked."""
        return TopologyRefresher(
            self.clock,
            Options(**{"random": Random(1), "protocol": protocol, **options}),
            self.slot_map,
            self.slot_map._factory,
            Statistics(),
            install=self.install,
            failed=self.failures.append,
            needed=lambda: False,
        )

    def install(self, draft: Draft | None) -> None:
        if draft is not None:
            self.slot_map.install(draft)

    @property
    def map(self) -> tuple[Shard, ...]:
        return self.slot_map.topology.shards

    def know(self, rows: Any) -> None:
        """Have a map in force."""
        self.install(finish(self.slot_map.draft(finish(read_slots(rows, Address("h", 1))))))

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

    def test_in_a_large_cluster_clients_do_not_ask_at_once(self) -> None:
        """However often each of them has a reason to ask."""
        delays = []
        for seed in range(20):
            random = Random(seed)
            self.refresher = self.make(random=random)
            self.refresher.refresh()
            self.tellers[0].answer(slots(*map(str, range(1000))))
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

    def test_a_map_in_which_nobody_serves_a_slot(self) -> None:
        """Is none: another node is asked."""
        done = self.refresher.refresh()
        self.tellers[0].answer([[0, 16383]])
        self.tellers[1].answer(slots("a"))
        self.successResultOf(done)
        self.assertEqual(len(self.map), 1)

    def test_urgent_while_one_is_under_way(self) -> None:
        """In a large cluster, too."""
        self.know(slots(*map(str, range(1000))))
        self.refresher.trigger()
        self.refresher.trigger(urgent=True)
        self.tellers[0].answer(slots(*map(str, range(1000))))
        self.clock.pump([0] * 100)
        self.clock.advance(0.06)
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
        self.know([[0, 1]])
        old = self.map
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

    def test_the_first_map_and_one_in_pieces_are_asked_for_by_shard(self) -> None:
        """Another is not; a map that is the same is the very same."""
        self.refresher = self.make(protocol=3)
        teller = self.tellers[0]
        few, many = slots("a", "b"), pieces("a", "b", count=4096)
        maps = []
        for answer, asked in (
            (by_shard(few), "SHARDS"),
            (few, "SLOTS"),
            (many, "SLOTS"),
            (by_shard(many), "SHARDS"),
            (by_shard(few), "SHARDS"),
            (few, "SLOTS"),
        ):
            done = self.refresher.refresh()
            self.assertEqual(teller.questions[-1], asked)
            teller.answer(answer)
            self.clock.pump([0] * 100)
            self.successResultOf(done)
            maps.append(self.map)
        self.assertIs(maps[0], maps[1])
        self.assertIs(maps[2], maps[3])
        self.assertIs(maps[4], maps[5])
        self.assertEqual(self.slot_map.topology.version, 3)

    def test_when_that_is_no_help(self) -> None:
        """A refusal, an odd reply, slots without owner, a failover, or a server before 8: CLUSTER SLOTS is asked."""
        self.refresher = self.make(protocol=3)
        teller = self.tellers[0]
        whole, part, failover = (by_shard(slots("a", "b")) for _ in range(3))
        part.pop()
        failover[0][b"nodes"] += failover[1][b"nodes"]
        for answer, version in (
            ([[b"odd"]], "9.1.2"),
            (part, "9.1.2"),
            (failover, "9.1.2"),
            (whole, "7.2.4"),
            (whole, ""),
            (None, "8.0.0"),
        ):
            teller.info = None  # type: ignore[assignment]
            done = self.refresher.refresh()
            teller.info = ServerInfo(protocol=3, version=version)
            if answer is None:
                teller.refuse()
            else:
                teller.answer(answer)
            self.assertEqual(teller.questions[-2:], ["SHARDS", "SLOTS"])
            teller.fail()
            for other in self.tellers[1:]:
                other.fail()
            self.failureResultOf(done, ClusterUnavailable)
        teller.info = ServerInfo(protocol=3, version="7.2.4")
        self.refresher.refresh()
        self.assertEqual(teller.questions[-2:], ["SLOTS", "SLOTS"])

    def test_two_ports(self) -> None:
        """Which of them ways of the application's own lead to is not known."""
        teller = self.tellers[0]
        reply = by_shard(slots("a"))
        reply[0][b"nodes"][0][b"tls-port"] = 2
        for own in ({"endpoint_for": lambda host, port: None}, {"address_map": lambda host, port: (host, port)}):
            self.refresher = self.make(protocol=3, **own)
            self.refresher.refresh()
            teller.answer(reply)
            self.assertEqual(teller.questions[-2:], ["SHARDS", "SLOTS"])

    def test_a_moved_while_a_map_is_made_ready(self) -> None:
        """The map is put in force whole, and a slot that was pointed elsewhere since is set right by the next."""
        self.know(pieces("a", "b", count=4096))
        done = self.refresher.refresh()
        self.tellers[0].answer(pieces("b", "a", count=4096))
        target: Any = Teller(3)
        self.slot_map.repoint(5, target)
        known = self.slot_map.topology
        while not done.called:
            self.assertIs(self.slot_map.topology, known)
            self.assertIs(self.slot_map.destinations[5], target)
            self.clock.advance(0)
        self.assertEqual(self.slot_map.topology.version, known.version + 1)
        self.assertEqual(self.slot_map.destinations[5].address.port, 2)
        self.slot_map.repoint(5, target)
        known = self.slot_map.topology
        done = self.refresher.refresh()
        self.tellers[0].answer(pieces("b", "a", count=4096))
        self.clock.pump([0] * 100)
        self.successResultOf(done)
        self.assertIs(self.slot_map.topology, known)
        self.assertEqual(self.slot_map.destinations[5].address.port, 2)

    def test_close(self) -> None:
        """Whoever waits is told, and no timer is left."""
        done = self.refresher.refresh()
        self.refresher.close()
        self.failureResultOf(done, ClientClosed)
        self.failureResultOf(self.refresher.refresh(), ClientClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_with_another_asked_for(self) -> None:
        """Both who wait for the one under way and who wait for the next are told."""
        waiting = [self.refresher.refresh(), self.refresher.refresh()]
        self.refresher.close()
        for done in waiting:
            self.failureResultOf(done, ClientClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_error_that_is_not_expected(self) -> None:
        """It is logged, and counts against the node alone that it comes from."""
        done = self.refresher.refresh()
        self.tellers[0].asked[-1].errback(RuntimeError("a defect"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertNoResult(done)
        self.tellers[1].answer(slots("a"))
        self.successResultOf(done)

    def test_a_failure_while_another_is_asked(self) -> None:
        """Nobody else is asked before the other has had its time."""
        done = self.refresher.refresh()
        self.clock.advance(0.4)
        self.tellers[0].fail()
        self.assertEqual(self.tellers[2].questions, ["SLOTS"])
        self.clock.advance(0.4)
        self.tellers[1].fail()
        self.assertNoResult(done)
        self.tellers[2].answer(slots("a"))
        self.successResultOf(done)

    def test_close_in_the_midst_of_a_large_map(self) -> None:
        """Reading it and making it ready end there."""
        turns = 0
        while not self.map:
            refresher = self.make()
            done = refresher.refresh()
            self.tellers[0].answer(pieces("a", "b", count=4096))
            self.after(turns, refresher.close)
            self.clock.advance(0)
            if self.map:
                self.successResultOf(done)
            else:
                self.failureResultOf(done, ClientClosed)
            self.assertEqual([call.func for call in self.clock.getDelayedCalls() if call.getTime() == 0], [])
            turns += 1
        self.assertGreater(turns, 16)

    def after(self, turns: int, call: Callable[[], None]) -> None:
        """Call something so many turns of the reactor later."""
        if turns:
            self.clock.callLater(0, self.after, turns - 1, call)
        else:
            call()
