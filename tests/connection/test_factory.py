"""The factory: whom it asks about the cluster, and what becomes of nodes when a map comes."""

from __future__ import annotations

from tests.memory import MemoryTests
from txvalkeycluster import Address, ClusterUnavailable
from txvalkeycluster.testing import DEFAULT_REPLY, ScriptedNode


class CandidateTests(MemoryTests):
    def asked(self) -> list[int]:
        """The nodes that were asked for the map, in order, since the last time."""
        return [index for index, node in enumerate(self.nodes) for _ in range(node.count(b"CLUSTER"))]

    def test_a_connected_node_first(self) -> None:
        """Those that are not connected are not dialled for it."""
        client = self.client()
        (first,) = set(self.asked())
        for _ in range(5):
            self.result_of(client.refresh_topology())
        self.assertEqual(set(self.asked()), {first})

    def test_then_the_others(self) -> None:
        """What fails or is silent is passed over; seeds are asked in the end, though the map does not list them."""
        stranger = ScriptedNode(self.cluster, 3)
        stranger.address = Address("node", 7003)
        client = self.client()
        for node in self.nodes[1:]:
            self.network.refuse(node)
        self.nodes[0].script = lambda _, words, __: b"-ERR no\r\n" if words[0] == b"CLUSTER" else DEFAULT_REPLY
        failing = client.refresh_topology()
        self.advance(3.0)
        error = self.error_of(failing, ClusterUnavailable)
        self.assertEqual({address for address, _ in error.attempts}, {str(node.address) for node in self.nodes})

    def test_each_seed_has_its_reason(self) -> None:
        client = self.lazy_client()
        for node in self.nodes:
            self.network.refuse(node)
        failing = client.refresh_topology()
        self.advance(3.0)
        error = self.error_of(failing, ClusterUnavailable)
        self.assertEqual(sorted(address for address, _ in error.attempts), sorted(str(n.address) for n in self.nodes))
        self.assertIn("refused", str(error))


class InstallTests(MemoryTests):
    def test_nodes_that_no_map_lists(self) -> None:
        """The target of an ASK goes when it has nothing to do, and a map comes without it."""
        client = self.client()
        target = self.nodes[2]
        self.cluster.ranges = [(0, 8191, self.nodes[0]), (8192, 16383, self.nodes[1])]
        self.cluster.nodes = self.nodes[:2]
        self.result_of(client.refresh_topology())
        self.assertEqual(target.connections, [])
        there = f"-ASK 1 {target.address}\r\n".encode()
        self.nodes[0].script = lambda _, words, __: there if words[0] == b"GET" else DEFAULT_REPLY
        self.assertIsNone(self.result_of(client.get(self.key_of(self.nodes[0]))))
        self.assertEqual(len(target.connections), 1)
        self.cluster.ranges = [(0, 8190, self.nodes[0]), (8191, 16383, self.nodes[1])]
        self.result_of(client.refresh_topology())
        self.assertEqual(target.connections, [])

    def test_what_waits_for_a_node_that_leads_no_more(self) -> None:
        """It goes to the new owner when the map comes."""
        client = self.client()
        gone = self.nodes[0]
        self.network.refuse(gone)
        self.network.settle()
        waiting = client.set(self.key_of(gone), "v")
        self.network.settle()
        self.assertNoResult(waiting)
        self.cluster.ranges = [(0, 16383, self.nodes[1])]
        self.cluster.nodes = self.nodes[1:2]
        self.result_of(client.refresh_topology())
        self.assertEqual(self.result_of(waiting), b"OK")
        self.assertEqual(self.nodes[1].count(b"SET"), 1)
