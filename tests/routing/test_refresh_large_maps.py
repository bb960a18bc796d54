"""Large slot maps: when CLUSTER SHARDS is asked for them, and how they are read in steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.routing.refresher import FakeNode, RefresherTests, by_shard, fragmented_slots, slots
from txvalkeycluster.connection.handshake import ServerInfo
from txvalkeycluster.errors import ClientClosed, ClusterUnavailable


class SourceTests(RefresherTests):
    def setUp(self) -> None:
        super().setUp()
        self.refresher = self.make(protocol=3)
        self.node = self.nodes[0]

    def test_cluster_shards(self) -> None:
        """The first map, and a map after a fragmented one, come from CLUSTER SHARDS. An equal map changes nothing."""
        few, many = slots("a", "b"), fragmented_slots("a", "b", count=4096)
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
            self.assertEqual(self.node.questions[-1], asked)
            self.node.answer(answer)
            self.clock.pump([0] * 100)
            self.successResultOf(done)
            maps.append(self.map)
        self.assertIs(maps[0], maps[1])
        self.assertIs(maps[2], maps[3])
        self.assertIs(maps[4], maps[5])
        self.assertEqual(self.slot_map.topology.version, 3)

    def test_cluster_slots_is_the_fallback(self) -> None:
        """It is asked after a refusal, an odd reply, slots without owner, a failover, and for a server before 8."""
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
            self.node.info = None
            done = self.refresher.refresh()
            self.node.info = ServerInfo(protocol=3, version=version)
            if answer is None:
                self.node.refuse()
            else:
                self.node.answer(answer)
            self.assertEqual(self.node.questions[-2:], ["SHARDS", "SLOTS"])
            for node in self.nodes:
                node.fail()
            self.failureResultOf(done, ClusterUnavailable)
        self.node.info = ServerInfo(protocol=3, version="7.2.4")
        self.refresher.refresh()
        self.assertEqual(self.node.questions[-2:], ["SLOTS", "SLOTS"])

    def test_two_ports(self) -> None:
        """If the application chooses endpoints or addresses, it is unknown which port is right: SLOTS is asked."""
        reply = by_shard(slots("a"))
        reply[0][b"nodes"][0][b"tls-port"] = 2
        own: dict[str, Any]
        for own in ({"endpoint_for": lambda host, port: None}, {"address_map": lambda host, port: (host, port)}):
            self.refresher = self.make(protocol=3, **own)
            self.refresher.refresh()
            self.node.answer(reply)
            self.assertEqual(self.node.questions[-2:], ["SHARDS", "SLOTS"])


class StepTests(RefresherTests):
    def test_a_large_map_is_read_in_steps(self) -> None:
        """Other calls run between the steps, and the map is in use when it is read completely."""
        turns = 0

        def something_else() -> None:
            nonlocal turns
            turns += 1
            if not self.map:
                self.clock.callLater(0, something_else)

        done = self.refresher.refresh()
        self.nodes[0].answer(fragmented_slots("a", "b", count=4096))
        self.assertNoResult(done)
        something_else()
        self.clock.advance(0)
        self.successResultOf(done)
        self.assertGreaterEqual(turns, 16)
        self.assertEqual([len(shard.slots) for shard in self.map], [2048, 2048])

    def test_moved_while_a_map_is_prepared(self) -> None:
        """The map replaces all owners at once, and also the owner that a later MOVED has set in an equal map."""
        self.know(fragmented_slots("a", "b", count=4096))
        done = self.refresher.refresh()
        self.nodes[0].answer(fragmented_slots("b", "a", count=4096))
        target: Any = FakeNode(3)
        destinations: list[Any] = self.slot_map.destinations
        self.slot_map.repoint(5, target)
        known = self.slot_map.topology
        while not done.called:
            self.assertIs(self.slot_map.topology, known)
            self.assertIs(destinations[5], target)
            self.clock.advance(0)
        self.assertEqual(self.slot_map.topology.version, known.version + 1)
        self.assertEqual(destinations[5].address.port, 2)
        self.slot_map.repoint(5, target)
        known = self.slot_map.topology
        done = self.refresher.refresh()
        self.nodes[0].answer(fragmented_slots("b", "a", count=4096))
        self.clock.pump([0] * 100)
        self.successResultOf(done)
        self.assertIs(self.slot_map.topology, known)
        self.assertEqual(destinations[5].address.port, 2)

    def test_close_while_a_map_is_read(self) -> None:
        """``close`` ends reading and preparing after any step."""
        turns = 0
        while not self.map:
            refresher = self.make()
            done = refresher.refresh()
            self.nodes[0].answer(fragmented_slots("a", "b", count=4096))
            self.after(turns, refresher.close)
            self.clock.advance(0)
            if self.map:
                self.successResultOf(done)
            else:
                self.failureResultOf(done, ClientClosed)
            self.assertEqual([call for call in self.clock.getDelayedCalls() if call.getTime() == 0], [])
            turns += 1
        self.assertGreater(turns, 16)

    def after(self, turns: int, call: Callable[[], None]) -> None:
        """Call a function after so many turns of the reactor."""
        if turns:
            self.clock.callLater(0, self.after, turns - 1, call)
        else:
            call()
