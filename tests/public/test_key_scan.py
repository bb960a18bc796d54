"""Scans of all keys while nodes refuse, fail, load, or do not answer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from tests.scripted.base import moved
from txvalkeycluster import ClientClosed, CommandTimeout, ReplyError
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode


class KeyScanTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.keys = {node: self.key_of(node).encode() for node in self.nodes}
        #: Replies of the first node, by command, that replace the execution. The last reply is repeated.
        self.answers: dict[bytes, list[Any]] = {}
        #: The open slots of the first node, as CLUSTER NODES shows them.
        self.open_slots = ""
        for node in self.nodes:
            node.script = self.script

    def script(self, node: ScriptedNode, words: list[bytes], _: Any) -> Any:
        name = b" ".join(words[:2]) if words[0] == b"CLUSTER" else words[0]
        if node is self.nodes[0] and name in self.answers:
            answers = self.answers[name]
            return answers.pop(0) if len(answers) > 1 else answers[0]
        if name == b"CLUSTER NODES":
            return self.view(node)
        if name == b"INFO":
            return b"$8\r\nrun_id:1\r\n"
        if name == b"SCAN":
            return b"*2\r\n$1\r\n0\r\n*1\r\n$%d\r\n%b\r\n" % (len(self.keys[node]), self.keys[node])
        return DEFAULT_REPLY

    def view(self, asked: ScriptedNode) -> bytes:
        """Return the reply to CLUSTER NODES."""
        lines = []
        for start, end, node in self.cluster.ranges:
            flags = "myself,master" if node is asked else "master"
            opened = self.open_slots if node is asked is self.nodes[0] else ""
            lines.append(
                f"{node.id} {node.address}@17000 {flags} - 0 0 {node.index + 1} connected {start}-{end}{opened}\n"
            )
        text = "".join(lines).encode()
        return b"$%d\r\n%b\r\n" % (len(text), text)

    def scanning(self, client: Any, **options: Any) -> Deferred[set[bytes]]:
        async def scan() -> set[bytes]:
            return {key async for key in client.scan_iter(**options)}

        return Deferred.fromCoroutine(scan())

    def test_every_key(self) -> None:
        """The scan gives every key and sends the options of the caller."""
        client = self.client()
        self.assertEqual(self.result_of(self.scanning(client, match="*", type="string")), set(self.keys.values()))
        words = next(words for _, words in self.nodes[0].received if words[0] == b"SCAN")
        self.assertEqual(words[2:], [b"MATCH", b"*", b"TYPE", b"string"])

    def test_the_slot_map_cannot_be_refreshed(self) -> None:
        """The scan uses the old slot map, because it checks what the nodes say of themselves."""
        client = self.client()
        for node in self.nodes:
            node.script = lambda node, words, connection: (
                b"-NOPERM no\r\n"
                if words[:2] in ([b"CLUSTER", b"SLOTS"], [b"CLUSTER", b"SHARDS"])
                else self.script(node, words, connection)
            )
        self.assertEqual(self.result_of(self.scanning(client)), set(self.keys.values()))

    def test_a_user_who_may_not_call_info(self) -> None:
        """Without the run id, the connection identifies the process of the server."""
        self.answers[b"INFO"] = [b"-NOPERM no\r\n"]
        self.assertEqual(self.result_of(self.scanning(self.client())), set(self.keys.values()))

    def test_a_lost_step(self) -> None:
        """A lost step is repeated with the same cursor."""
        client = self.client()
        self.answers[b"SCAN"] = [CLOSE, CLOSE, self.script(self.nodes[1], [b"SCAN"], None)]
        scanning = self.scanning(client)
        self.advance(1.0)
        self.assertEqual(self.successResultOf(scanning), {self.keys[node] for node in self.nodes[1:]})

    def test_a_node_that_loads(self) -> None:
        """The node is scanned when it has finished loading."""
        client = self.client()
        self.answers[b"CLUSTER NODES"] = [
            b"-LOADING Valkey is loading the dataset in memory\r\n",
            moved(self.keys[self.nodes[0]], self.nodes[1].address),
            self.view(self.nodes[0]),
        ]
        scanning = self.scanning(client)
        self.advance(0.5)
        self.assertEqual(self.successResultOf(scanning), set(self.keys.values()))

    def test_a_node_that_refuses(self) -> None:
        """The error of the node goes to the caller."""
        self.answers[b"SCAN"] = [b"-NOPERM no\r\n"]
        self.error_of(self.scanning(self.client()), ReplyError)

    def test_a_node_that_never_answers(self) -> None:
        """A scan without progress ends after the timeout of a command, and the error says why."""
        client = self.client(timeout=0.5, unresponsive_after=60.0)
        self.answers[b"CLUSTER NODES"] = [SILENCE]
        scanning = self.scanning(client)
        self.advance(4.0)
        error = self.failureResultOf(scanning, CommandTimeout).value
        self.assertIn("a scan made no progress", str(error))
        self.assertIn("5461 slots are left", str(error))

    def test_an_open_slot_with_an_unknown_target(self) -> None:
        """The scan fails, because it cannot look for keys at the target."""
        client = self.client(timeout=0.5)
        self.open_slots = f" [5->-{'f' * 40}]"
        scanning = self.scanning(client)
        self.advance(2.0)
        error = self.failureResultOf(scanning, CommandTimeout).value
        self.assertIn("a node that its source does not know", str(error))

    def test_abort_during_a_scan(self) -> None:
        client = self.client()
        self.answers[b"SCAN"] = [SILENCE]
        scanning = self.scanning(client)
        self.network.settle()
        self.result_of(client.abort())
        self.error_of(scanning, ClientClosed)
        self.error_of(self.scanning(client), ClientClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
