"""``txvalkeycluster topology``: its text and its JSON."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from types import SimpleNamespace

from twisted.internet.defer import Deferred, succeed

from tests.cases import SynchronousTestCase
from tests.memory import MemoryTests
from txvalkeycluster import Node, OpenSlot, Shard, Topology
from txvalkeycluster.cli import topology as topology_module
from txvalkeycluster.cli.topology import _as_json, _as_text, _Facts
from txvalkeycluster.testing import DEFAULT_REPLY


class CommandTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        answers = {0: b"$20\r\nvalkey_version:9.1.2\r\n", 1: b"-NOPERM no\r\n", 2: b"$4\r\nnone\r\n"}
        for node in self.nodes:
            node.script = lambda node, words, _: answers[node.index] if words[0] == b"INFO" else DEFAULT_REPLY

    def output(self, *, as_json: bool) -> str:
        """Run the command, and return its output."""
        shown: list[str] = []
        client = self.client()
        self.patch(topology_module, "click", SimpleNamespace(echo=shown.append))
        self.patch(topology_module, "connect", lambda *_: succeed(client))

        async def show() -> int:
            async with AsyncExitStack() as stack:
                code = await topology_module._show(self.clock, stack, "", as_json=as_json)
            return code

        self.assertEqual(self.result_of(Deferred.fromCoroutine(show())), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        (text,) = shown
        return text

    def test_text(self) -> None:
        """The text has a row for each node, with the error of a node that fails."""
        lines = self.output(as_json=False).splitlines()
        self.assertEqual(lines[0], "3 shards, 3 nodes, 16384 slots, no TLS")
        self.assertEqual(lines[2].split(), ["role", "id", "version", "round", "trip", "address"])
        self.assertEqual(lines[3], "shard 0: 5461 slots (0-5460)")
        self.assertEqual(lines[4].split(), ["primary", "00000000", "9.1.2", "0.00", "ms", "node:7000"])
        self.assertEqual(lines[6].split(), ["primary", "00000000", "-", "-", "node:7001"])
        self.assertEqual(lines[7], "    error: NOPERM no")
        self.assertEqual(lines[9].split(), ["primary", "00000000", "-", "0.00", "ms", "node:7002"])

    def test_json(self) -> None:
        """The JSON has the same facts, by name."""
        found = json.loads(self.output(as_json=True))
        self.assertEqual((found["tls"], found["slot_count"], len(found["shards"])), (False, 16384, 3))
        shard = found["shards"][0]
        self.assertEqual((shard["slots"], shard["slot_count"], shard["open_slots"]), ([[0, 5460]], 5461, []))
        (node,) = shard["nodes"]
        self.assertEqual((node["id"], node["role"], node["host"], node["port"]), ("0" * 40, "primary", "node", 7000))
        self.assertEqual((node["version"], node["round_trip_ms"], node["error"]), ("9.1.2", 0.0, None))
        (failed,) = found["shards"][1]["nodes"]
        self.assertEqual((failed["version"], failed["round_trip_ms"], failed["error"]), (None, None, "NOPERM no"))


class FormatTests(SynchronousTestCase):
    def setUp(self) -> None:
        primary = Node("a" * 40, "fd12:3456:789a:bcde:f012:3456:789a:bcde", 65535, "primary", "loading")
        replica = Node(
            "b" * 40, "10.0.0.2", 7001, "replica", hostname="n2.cluster.example.com", availability_zone="eu-west-1b"
        )
        alone = Node("c" * 40, "", 0, "replica")
        ranges = tuple((slot, slot + slot % 3) for slot in range(0, 400, 10))
        opened = (OpenSlot(400, "importing", "a" * 40),)
        self.known = Topology(1, (Shard(primary, (replica,), ranges), Shard(None, (alone,), (), opened)))
        reason = "ConnectFailed: " + "the server refused the user name or the password, " * 3
        self.facts = {primary: _Facts("9.1.2", 0.234), replica: _Facts("10.11.12", 1234.5), alone: _Facts(error=reason)}

    def test_80_columns(self) -> None:
        """Long addresses, lists of slots and errors are wrapped; columns stay in line."""
        lines = _as_text(self.known, self.facts, tls=True, width=80).splitlines()
        self.assertEqual([line for line in lines if len(line) > 80], [])
        text = " ".join(" ".join(lines).split())
        for words in (
            "2 shards, 3 nodes, 79 slots, TLS",
            "0.23 ms [fd12:3456:789a:bcde:f012:3456:789a:bcde]:65535, loading",
            "10.0.0.2:7001 (n2.cluster.example.com) in eu-west-1b",
            "(0, 10-11, 20-22, 30,",
            "shard 1: 0 slots, no primary",
            "no address error: ConnectFailed:",
        ):
            self.assertIn(words, text)
        rows = [line for line in lines if line.startswith(("  role", "  primary", "  replica"))]
        header, first, second, third = rows
        self.assertEqual({header.index("address"), second.index("10.0.0.2"), third.index("no address")}, {43})
        self.assertEqual(header.index("trip") + len("trip"), len(first))

    def test_json(self) -> None:
        """What is unknown is null."""
        found = json.loads(json.dumps(_as_json(self.known, self.facts, tls=True)))
        last = found["shards"][1]
        self.assertEqual(last["open_slots"], [{"slot": 400, "direction": "importing", "node_id": "a" * 40}])
        (node,) = last["nodes"]
        self.assertEqual((node["host"], node["port"], node["hostname"], node["version"]), (None,) * 4)
        self.assertEqual(found["shards"][0]["nodes"][0]["health"], "loading")
