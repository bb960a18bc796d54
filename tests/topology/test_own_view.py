"""What a node says of itself in CLUSTER NODES."""

from __future__ import annotations

from typing import Any

from tests.cases import SynchronousTestCase
from tests.topology.test_parsers import ASKED
from txvalkeycluster.address import Address
from txvalkeycluster.errors import TopologyError
from txvalkeycluster.topology.nodes_parser import lists_address, read_own_view

TEXT = (
    b"a 10.0.0.1:7000@17000 master - 0 0 1 connected 100-200\n"
    b"b 10.0.0.2:7001@17001 handshake - 0 0 0 disconnected\n"
    b"c :7002@17002 myself,master - 0 0 5 connected 0-5 [9->-a] [10-<-gone]\n"
    b"\n"
    b"d 10.0.0.4:7003@17003 slave c 0 0 5 connected\n"
)


class OwnViewTests(SynchronousTestCase):
    def test_the_line_of_the_node_itself(self) -> None:
        """The view has slots, epoch and open slots of the node, and the known nodes to which its slots are open."""
        view = read_own_view(TEXT, ASKED)
        self.assertEqual((view.node.id, view.node.address, view.epoch), ("c", Address(ASKED.host, 7002), 5))
        self.assertEqual(view.slots, ((0, 5),))
        self.assertEqual(
            [(open_slot.slot, open_slot.node_id) for open_slot in view.open_slots], [(9, "a"), (10, "gone")]
        )
        self.assertEqual({name: node.address for name, node in view.others.items()}, {"a": Address("10.0.0.1", 7000)})

    def test_malformed(self) -> None:
        """Each error begins with the command."""
        cases: list[tuple[Any, str]] = [
            (None, "reply: None is not text"),
            (b"a h:1@2 master - 0 0 1 connected\n", "has no line with the flag 'myself'"),
            (b"", "has no line with the flag 'myself'"),
            (b"a h:1@2 myself,master\n", "has 3 fields, fewer than 8"),
            (b"a h:1@2 myself,master - 0 0 x connected\n", "configuration epoch: 'x' is not a number"),
            (b"a h:1@2 myself,master - 0 0 1 connected 5-x\n", "'x' is not a number"),
            (b"a h myself,master - 0 0 1 connected\n", "has an address without a port"),
        ]
        for reply, text in cases:
            error = str(self.assertRaises(TopologyError, read_own_view, reply, ASKED))
            self.assertTrue(error.startswith("CLUSTER NODES "), error)
            self.assertIn(text, error)


class AddressTests(SynchronousTestCase):
    TEXT = (
        f"{'a' * 40} 10.0.0.1:1@2,one.example myself,master - 0 0 1 connected 0-100\n"
        f"{'b' * 40} 10.0.0.2:1@2 handshake - 0 0 0 connected\n"
        f"{'c' * 40} 10.0.0.3:1@2 slave {'a' * 40} 0 0 1 connected\n"
    )

    def test_by_ip_and_by_name(self) -> None:
        """An address is listed if a node with finished handshake has its port, and has its host as IP or as name."""
        for host, port, known in (
            ("10.0.0.1", 1, True),
            ("one.example", 1, True),
            ("10.0.0.3", 1, True),
            ("10.0.0.1", 2, False),
            ("10.0.0.2", 1, False),
            ("10.0.0.9", 1, False),
        ):
            self.assertEqual(lists_address(self.TEXT, Address("h", 1), Address(host, port)), known, host)

    def test_malformed(self) -> None:
        for reply in (5, "a b", f"{'a' * 40} no-port master - 0 0 1 connected"):
            self.assertRaises(TopologyError, lists_address, reply, Address("h", 1), Address("h", 2))
