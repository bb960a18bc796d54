"""CLUSTER SLOTS, CLUSTER SHARDS and CLUSTER NODES, in every form that servers send."""

from collections.abc import Generator
from typing import Any, TypeVar

from hypothesis import given
from hypothesis import strategies as st

from tests.cases import SynchronousTestCase
from txvalkeycluster.address import Address
from txvalkeycluster.errors import TopologyError
from txvalkeycluster.topology.model import Shard, Topology, lost_most_nodes, same, same_view
from txvalkeycluster.topology.nodes_parser import read_nodes
from txvalkeycluster.topology.parsers import SOURCES, as_slots_tell, read_shards, read_slots

_T = TypeVar("_T")

ASKED = Address("10.0.0.9", 7000)
SLOTS: list[Any] = [
    [0, 100, [b"10.0.0.1", 7000, b"a", {b"hostname": b"one.example"}], [b"10.0.0.2", 7001, b"b", []]],
    [200, 300, [b"10.0.0.3", 7002, b"c", {b"availability-zone": b"eu-1a"}, b"unknown"]],
    [101, 199, [b"10.0.0.1", 7000, b"a", []], [b"10.0.0.2", 7001, b"b", []]],
]


def finish(work: Generator[None, None, _T]) -> _T:
    """Run a generator to its end; return its result."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: _T = done.value
            return result


def parse_slots(reply: Any, asked: Address) -> tuple[Shard, ...]:
    return finish(read_slots(reply, asked))


def parse_shards(reply: Any, asked: Address, *, tls: bool | None = False) -> tuple[Shard, ...]:
    return finish(read_shards(reply, asked, tls=tls))


def parse_nodes(reply: Any, asked: Address) -> tuple[Shard, ...]:
    return finish(read_nodes(reply, asked))


class SlotsTests(SynchronousTestCase):
    def test_ranges_of_one_shard_are_joined(self) -> None:
        """A primary with several rows is one shard with several ranges."""
        topology = Topology(1, parse_slots(SLOTS, ASKED))
        self.assertEqual([s.slots for s in topology.shards], [((0, 100), (101, 199)), ((200, 300),)])
        owner = topology.owner(150)
        assert owner is not None
        self.assertEqual((owner.id, owner.hostname, owner.address), ("a", "one.example", Address("10.0.0.1", 7000)))
        self.assertEqual([r.id for r in topology.replicas], ["b"])
        self.assertEqual([n.availability_zone for n in topology.primaries], [None, "eu-1a"])
        self.assertIsNone(topology.owner(301))
        self.assertEqual(topology.slot_count, 301)
        self.assertRaises(ValueError, topology.owner, 16384)

    def test_repr(self) -> None:
        """The repr has the counts, for logs."""
        text = "<Topology version=3 shards=2 primaries=2 replicas=1 slots=301>"
        self.assertEqual(repr(Topology(3, parse_slots(SLOTS, ASKED))), text)

    def test_nodes(self) -> None:
        """All nodes are listed, primaries first, and each is found by its id."""
        topology = Topology(1, parse_slots(SLOTS, ASKED))
        self.assertEqual([node.id for node in topology.nodes], ["a", "c", "b"])
        self.assertEqual([topology.node(node.id) for node in topology.nodes], list(topology.nodes))
        self.assertIsNone(topology.node("d"))

    def test_flat_metadata(self) -> None:
        """Metadata can be a flat list, as RESP2 sends it. A name that equals the host is left out."""
        (shard,) = parse_slots([[0, 1, [b"h", 1, b"a", [b"ip", b"10.0.0.5", b"hostname", b"x"]]]], ASKED)
        assert shard.primary is not None
        self.assertEqual((shard.primary.ip, shard.primary.hostname), ("10.0.0.5", "x"))
        (shard,) = parse_slots([[0, 1, [b"h", 1, b"a", [b"ip", b"10.0.0.5", b"hostname", b"h"]]]], ASKED)
        assert shard.primary is not None
        self.assertEqual((shard.primary.ip, shard.primary.hostname), ("10.0.0.5", None))

    def test_endpoints(self) -> None:
        """A null or empty endpoint is the host that was asked. ``?`` and port 0 mean that there is no address."""
        for endpoint, port, address in [
            (None, 7, Address("10.0.0.9", 7)),
            (b"", 7, Address("10.0.0.9", 7)),
            (b"?", 7, None),
            (b"h", 0, None),
            (b"::1", 7200, Address("::1", 7200)),
        ]:
            (shard,) = parse_slots([[0, 1, [endpoint, port, b"a"]]], ASKED)
            assert shard.primary is not None
            self.assertEqual(shard.primary.address, address)

    def test_nodes_are_shared(self) -> None:
        """Maps from different senders share nodes, except for nodes that take their host from the sender."""
        with_host, without_host = ([[0, 5, [host, 1, b"a"]]] for host in (b"h", b""))
        others = Address("other", 1)
        self.assertIs(parse_slots(with_host, ASKED)[0].primary, parse_slots(with_host, others)[0].primary)
        one, other = parse_slots(without_host, ASKED)[0].primary, parse_slots(without_host, others)[0].primary
        assert one is not None and other is not None
        self.assertEqual((one.host, other.host), (ASKED.host, "other"))

    def test_slots_without_owner(self) -> None:
        """A row without nodes is a shard without a primary."""
        topology = Topology(1, parse_slots([[5, 6], [7, 8, [b"h", 1, b"a"]]], ASKED))
        self.assertIsNone(topology.owner(5))
        self.assertEqual(topology.slot_count, 2)
        self.assertEqual([(start, end, node.id) for start, end, node in topology.ranges()], [(7, 8, "a")])

    def test_nodes_without_an_id(self) -> None:
        """Servers before 4.0 send no id, so their nodes are distinguished by address."""
        first, second = parse_slots([[0, 1, [b"h", 1]], [5, 6, [b"h", 2], [b"h", 3]], [2, 3, [b"h", 1]]], ASKED)
        assert first.primary is not None
        self.assertEqual((first.primary.id, first.slots), ("h:1", ((0, 1), (2, 3))))
        self.assertEqual([node.id for node in second.nodes], ["h:2", "h:3"])

    def test_malformed(self) -> None:
        """Each error names the place in the reply."""
        for reply, text in [
            (b"OK", "CLUSTER SLOTS is b'OK', not a list"),
            ([[0]], "row 0 has 1 elements"),
            ([[0, 16384, [b"h", 1, b"a"]]], "row 0 has the invalid slot range 0 to 16384"),
            ([[5, 4, [b"h", 1, b"a"]]], "invalid slot range 5 to 4"),
            ([[0, 1, [b"h"]]], "row 0 node 0 has 1 elements"),
            ([[0, 1, [b"h", b"x", b"a"]]], "row 0 node 0 port: b'x' is not a number"),
            ([[0, 1, [b"h", 70000, b"a"]]], "the invalid port 70000"),
            ([[0, 1, [b"h", b"1" * 5000, b"a"]]], "... is not a number"),
            ([[0, 1, [b"h", "²", b"a"]]], "port: '²' is not a number"),
            ([[0, 1, [0, 1, b"a"]]], "row 0 node 0 endpoint: 0 is not text"),
            ([[0, 1, [b"h", 1, b"a"]], [1, 2, [b"h", 2, b"b"]]], "assigns slot 1 twice: to h:1 and to h:2"),
            ([[0, 1, [b"h", 1, b"a", [b"odd"]]]], "odd number of elements"),
            ([[0, 1, [b"h", 1, b"a", [[b"ip"], b"1.2.3.4"]]]], "metadata has a list where a name is expected"),
            ([[0, 1, [b"h", 1, [b"a"]]]], "row 0 node 0 has a list or a map where text or a number is expected"),
            ([[0, 1, [b"h", 1, b"a"]], [9, 99999, [b"h", 1, b"a"]]], "row 1 has the invalid slot range 9 to 99999"),
            ([[0, 1, [b"h", 1, b"a"]], [b"x", 9, [b"h", 1, b"a"]]], "row 1 first slot: b'x' is not a number"),
            ([[0, 1, [b"h", 1, b"a\nb"]]], "'a\\nb' is not a valid name"),
        ]:
            error = self.assertRaises(TopologyError, parse_slots, reply, ASKED)
            self.assertIn(text, str(error))

    @given(
        st.recursive(
            st.none() | st.integers() | st.binary(max_size=8) | st.floats() | st.booleans(),
            lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=4), inner, max_size=3),
            max_leaves=20,
        )
    )
    def test_any_reply_gives_shards_or_a_topology_error(self, reply: Any) -> None:
        """Any reply gives shards or a TopologyError, and no other error."""
        for _, read in SOURCES.values():
            try:
                Topology(1, finish(read(reply, ASKED, False)))
            except TopologyError as error:
                self.assertTrue(str(error))


class ShardsTests(SynchronousTestCase):
    NODES: tuple[Any, ...] = (
        {b"id": b"old", b"port": 1, b"tls-port": 2, b"endpoint": b"h1", b"role": b"master", b"health": b"failed"},
        {b"id": b"new", b"port": 3, b"tls-port": 4, b"endpoint": b"h2", b"role": b"master", b"health": b"online"},
        {b"id": b"rep", b"port": 5, b"endpoint": b"?", b"role": b"replica", b"health": b"loading", b"extra": 1},
    )

    def test_maps_and_flat_lists(self) -> None:
        """The maps of RESP3 and the flat lists of RESP2 give the same shards."""
        maps = [{b"slots": [0, 9, 20, 29], b"nodes": list(self.NODES), b"id": b"s"}]
        flat = [
            [b"slots", [0, 9, 20, 29], b"nodes", [[x for pair in node.items() for x in pair] for node in self.NODES]]
        ]
        self.assertEqual(parse_shards(maps, ASKED), parse_shards(flat, ASKED))
        (shard,) = parse_shards(maps, ASKED, tls=True)
        assert shard.primary is not None
        self.assertEqual((shard.primary.id, shard.primary.port, shard.slots), ("new", 4, ((0, 9), (20, 29))))
        self.assertEqual([(r.health, r.address) for r in shard.replicas], [("loading", None)])

    def test_malformed(self) -> None:
        """The errors name odd bounds, missing fields and unknown roles."""
        for shard, text in [
            ({b"slots": [1], b"nodes": []}, "odd number of slot bounds"),
            ({b"slots": [], b"nodes": [{b"id": b"x"}]}, "has no role"),
            ({b"slots": [], b"nodes": [{b"id": b"x", b"role": b"king"}]}, "unknown role 'king'"),
            ({b"nodes": []}, "shard 0 has no slots"),
            ({b"slots": [0, 1]}, "shard 0 has no nodes"),
        ]:
            self.assertIn(text, str(self.assertRaises(TopologyError, parse_shards, [shard], ASKED)))

    def test_two_primaries(self) -> None:
        """Two online primaries of one shard, as during a failover, are an error: it is not known which one serves."""
        shard = {b"slots": [0, 9], b"nodes": [{**self.NODES[1], b"id": b"one"}, self.NODES[1]]}
        error = self.assertRaises(TopologyError, parse_shards, [shard], ASKED)
        self.assertIn("shard 0 has two online primaries, h2:3 and h2:3", str(error))
        self.assertEqual(len(parse_shards([{**shard, b"slots": []}], ASKED)), 1)

    def test_as_slots_tell(self) -> None:
        """Replicas that do not serve, shards without slots, and all health states are left out."""
        nodes: list[dict[bytes, Any]] = [
            {b"id": b"a", b"port": 1, b"endpoint": b"h", b"role": b"master", b"health": b"fail", b"ip": b"1.2.3.4"},
            {b"id": b"b", b"port": 2, b"endpoint": b"h", b"role": b"replica", b"health": b"fail"},
            {b"id": b"c", b"port": 3, b"endpoint": b"h", b"role": b"replica", b"health": b"loading"},
            {b"id": b"e", b"port": 4, b"endpoint": b"1.2.3.5", b"role": b"replica", b"ip": b"1.2.3.5"},
        ]
        reply = [{b"slots": [0, 5], b"nodes": nodes}, {b"slots": [], b"nodes": [{**nodes[0], b"id": b"d"}]}]
        expected = [[0, 5, [b"h", 1, b"a", [b"ip", b"1.2.3.4"]], [b"1.2.3.5", 4, b"e", []]]]
        self.assertEqual(as_slots_tell(parse_shards(reply, ASKED)), parse_slots(expected, ASKED))

    def test_two_ports(self) -> None:
        """A node with two ports is an error if it is not known which one to use. A single port is used in any case."""
        node = {b"id": b"a", b"port": 1, b"tls-port": 2, b"endpoint": b"h", b"role": b"master"}
        error = self.assertRaises(TopologyError, parse_shards, [{b"slots": [0, 5], b"nodes": [node]}], ASKED, tls=None)
        self.assertIn("CLUSTER SHARDS shard 0 node 0 has a TLS port and a plain port", str(error))
        for missing in (b"port", b"tls-port"):
            for tls in (True, False, None):
                one = {name: value for name, value in node.items() if name != missing}
                (shard,) = parse_shards([{b"slots": [0, 5], b"nodes": [one]}], ASKED, tls=tls)
                assert shard.primary is not None
                self.assertEqual(shard.primary.port, 2 if missing == b"port" else 1)


class NodesTests(SynchronousTestCase):
    TEXT = (
        b"a 10.0.0.1:7000@17000,one.example myself,master - 0 0 1 connected 0-5 7 [9->-b] [10-<-c]\n"
        b"b ::1:7200@17200 slave a 0 0 1 connected\n"
        b"c :0@0 master,noaddr,fail - 0 0 2 disconnected 100-200\n"
        b"d 10.0.0.4:7003@17003 handshake - 0 0 0 disconnected\n"
        b"e 10.0.0.5:7004@17004 slave gone 0 0 0 connected\n"
    )

    def test_lines(self) -> None:
        """Lines can have open slots, failed nodes, no address, handshakes, and replicas without a primary."""
        shards = parse_nodes(self.TEXT, ASKED)
        first, second, orphans = shards
        assert first.primary is not None and second.primary is not None
        self.assertEqual((first.primary.hostname, first.slots), ("one.example", ((0, 5), (7, 7))))
        self.assertEqual(
            [(o.slot, o.direction, o.node_id) for o in first.open_slots],
            [(9, "migrating", "b"), (10, "importing", "c")],
        )
        self.assertEqual([r.address for r in first.replicas], [Address("::1", 7200)])
        self.assertEqual((second.primary.health, second.primary.address), ("fail", None))
        self.assertEqual(([n.id for n in orphans.nodes], orphans.slots), (["e"], ()))

    def test_blanks_at_the_end(self) -> None:
        """Spaces at the end of a line are ignored."""
        (shard,) = parse_nodes(b"a h:1@2 master - 0 0 1 connected 5  \n", ASKED)
        self.assertEqual(shard.slots, ((5, 5),))

    def test_malformed(self) -> None:
        """The errors name a short line, a bad slot, and an address without a port."""
        for text, message in [
            (b"a b c\n", "line 0 has 3 fields"),
            (b"a h master - 0 0 0 connected\n", "address without a port"),
            (b"a h:1@2 master - 0 0 0 connected x-y\n", "is not a number"),
            (b"a h:1@2 master - 0 0 0 connected [5]\n", "open slot that cannot be read"),
        ]:
            self.assertIn(message, str(self.assertRaises(TopologyError, parse_nodes, text, ASKED)))


class ComparisonTests(SynchronousTestCase):
    def test_lost_most_nodes(self) -> None:
        """A map has lost most nodes if less than half of them are left."""
        whole = parse_slots(SLOTS, ASKED)
        self.assertFalse(lost_most_nodes(whole, whole[:1]))
        self.assertTrue(lost_most_nodes(whole, ()))
        self.assertFalse(lost_most_nodes((), whole))

    def test_same(self) -> None:
        """Maps with one more shard or one other slot are not the same."""
        whole = parse_slots(SLOTS, ASKED)
        self.assertTrue(finish(same(whole, parse_slots(SLOTS, ASKED))))
        self.assertFalse(finish(same(whole, whole[:1])))
        self.assertFalse(finish(same(whole, parse_slots([*SLOTS[1:], [0, 99, *SLOTS[0][2:]]], ASKED))))

    def test_same_view_ignores_addresses(self) -> None:
        """Different addresses of the same nodes make no difference."""
        elsewhere = [[0, 1, [b"other", 9, b"a"]]]
        self.assertTrue(same_view(parse_slots(elsewhere, ASKED), parse_slots([[0, 1, [b"h", 1, b"a"]]], ASKED)))
        self.assertFalse(same_view(parse_slots(elsewhere, ASKED), parse_slots([[0, 2, [b"h", 1, b"a"]]], ASKED)))
