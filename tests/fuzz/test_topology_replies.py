"""Damaged replies to CLUSTER SLOTS, SHARDS and NODES give a slot map, or a short TopologyError."""

from __future__ import annotations

from collections.abc import Callable, Generator
from random import Random
from typing import Any, TypeVar

from tests.cases import SynchronousTestCase
from tests.fuzz.inputs import damaged_bytes, damaged_value, for_inputs
from txvalkeycluster.address import Address
from txvalkeycluster.errors import TopologyError
from txvalkeycluster.topology.model import Topology
from txvalkeycluster.topology.nodes_parser import lists_address, read_own_view
from txvalkeycluster.topology.parsers import SOURCES

_T = TypeVar("_T")
ASKED = Address("10.0.0.9", 7000)
# More steps than the parsers need for any of these replies.
STEPS = 1000
# The longest text of an error.  The longest one has the addresses of both owners of a slot.
LONGEST_ERROR = 4096

SLOTS: list[Any] = [
    [0, 100, [b"10.0.0.1", 7000, b"a" * 40, {b"hostname": b"one.example"}], [b"10.0.0.2", 7001, b"b" * 40, []]],
    [200, 300, [b"10.0.0.3", 7002, b"c" * 40, {b"availability-zone": b"eu-1a"}, b"unknown"]],
    [101, 199, [b"10.0.0.1", 7000, b"a" * 40, []], [b"10.0.0.2", 7001, b"b" * 40, []]],
    [301, 301, [b"10.0.0.1", 7000, b"a" * 40, []], [b"10.0.0.2", 7001, b"b" * 40, []]],
    [400, 500],
]
SHARDS: list[Any] = [
    {
        b"slots": [0, 100, 101, 101],
        b"nodes": [
            {b"id": b"a" * 40, b"port": 7000, b"tls-port": 7001, b"endpoint": b"10.0.0.1", b"role": b"master"},
            {b"id": b"b" * 40, b"port": 7000, b"ip": b"10.0.0.2", b"role": b"replica", b"health": b"loading"},
        ],
    },
    [
        b"slots", [200, 300, 400, 500],
        b"nodes", [[b"id", b"c" * 40, b"port", 7000, b"endpoint", b"h.example", b"role", b"master"]],
    ],
    {b"slots": [], b"nodes": []},
]  # fmt: skip
NODES = b"\n".join(
    [
        b"",
        b"a" * 40 + b" 10.0.0.1:7000@17000,one.example,shard-id=1 myself,master - 0 0 1 connected 0-100 200 [93->-"
        + b"c" * 40 + b"]",
        b"b" * 40 + b" 10.0.0.2:7001@17001 slave " + b"a" * 40 + b" 0 0 1 connected",
        b"c" * 40 + b" ::1:7002@17002 master - 0 0 3 connected 300-400 [94-<-" + b"a" * 40 + b"]",
        b"d" * 40 + b" :0@0 master,fail,noaddr - 0 0 3 disconnected",
        b"",
    ]
)  # fmt: skip


def finish(work: Generator[None, None, _T]) -> _T:
    """Run a parser to its end, and return its result.  It must not take more than STEPS steps."""
    for _ in range(STEPS):
        try:
            next(work)
        except StopIteration as done:
            result: _T = done.value
            return result
    raise AssertionError(f"the parser has not ended after {STEPS} steps")


class TopologyReplyTests(SynchronousTestCase):
    def parsed(self, parse: Callable[[], _T]) -> _T | None:
        """Return the result of a parser, or None if it refuses the reply with a short error."""
        try:
            return parse()
        except TopologyError as error:
            self.assertLess(len(str(error)), LONGEST_ERROR)
            return None

    def check(self, source: str, reply: Any, tls: bool | None) -> None:
        shards = self.parsed(lambda: finish(SOURCES[source][1](reply, ASKED, tls)))
        if shards is None:
            return
        topology = Topology(1, shards)
        owned = [slot for start, end, _ in topology.ranges() for slot in range(start, end + 1)]
        self.assertEqual(len(set(owned)), len(owned))
        self.assertTrue(all(0 <= slot < 16384 for slot in owned))
        for node in topology.nodes:
            self.assertTrue(node.address is None or 0 < node.port < 65536)
            self.assertLess(len(repr(node)), 8 * 1024)

    def test_lists_and_maps(self) -> None:
        """Replies to CLUSTER SLOTS and SHARDS may have any shape, depth and numbers."""

        def check(random: Random) -> None:
            source, valid = random.choice((("slots", SLOTS), ("shards", SHARDS)))
            self.check(source, damaged_value(random, valid), random.choice((True, False, None)))

        for_inputs(15, "maps", check)

    def test_lines(self) -> None:
        """Replies to CLUSTER NODES may have any lines."""

        def check(random: Random) -> None:
            reply = damaged_value(random, SLOTS) if random.random() < 0.02 else damaged_bytes(random, NODES)
            self.check("nodes", reply, None)
            self.parsed(lambda: read_own_view(reply, ASKED))
            self.parsed(lambda: lists_address(reply, ASKED, Address("10.0.0.2", 7001)))

        for_inputs(10, "lines", check)
