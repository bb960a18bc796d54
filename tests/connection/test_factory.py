"""The factory: which nodes are asked for the slot map, and what happens to nodes when a new map comes."""

from __future__ import annotations

from tests.memory import MemoryTests
from txvalkeycluster import Address, ClusterUnavailable
from txvalkeycluster.testing import DEFAULT_REPLY, ScriptedNode


class CandidateTests(MemoryTests):
    def asked(self) -> list[int]:
        """Return the index of a node for each time that the node was asked for the slot map."""
        return [index for index, node in enumerate(self.nodes) for _ in range(node.count(b"CLUSTER"))]

    def test_connected_nodes_are_asked_first(self) -> None:
        """No other node is dialled to ask for the slot map."""
        client = self.client()
        (first,) = set(self.asked())
        for _ in range(5):
            self.result_of(client.refresh_topology())
        self.assertEqual(set(self.asked()), {first})

    def test_other_nodes_are_asked_next(self) -> None:
        """If a node fails or is silent, the next one is asked. Seeds come last, even if the map does not list them."""
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

    def test_the_error_gives_a_reason_for_each_seed(self) -> None:
        client = self.lazy_client()
        for node in self.nodes:
            self.network.refuse(node)
        failing = client.refresh_topology()
        self.advance(3.0)
        error = self.error_of(failing, ClusterUnavailable)
        self.assertEqual(sorted(address for address, _ in error.attempts), sorted(str(n.address) for n in self.nodes))
        self.assertIn("refused", str(error))


class InstallTests(MemoryTests):
    def test_a_target_of_ask_that_no_map_lists(self) -> None:
        """The idle node is closed when a map comes that does not list it."""
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

    def test_commands_that_wait_for_a_former_primary(self) -> None:
        """Commands that wait for a node go to the new owner of their slots when the map comes."""
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
