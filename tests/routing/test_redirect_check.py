"""Redirects to addresses that no slot map lists: who must confirm them before the password is sent without TLS."""

from __future__ import annotations

from typing import Any

from tests.memory import MemoryTests
from tests.scripted.base import ask, moved
from txvalkeycluster import Address, ClusterClient, CommandTimeout
from txvalkeycluster.testing import DEFAULT_REPLY, ScriptedNode

AUTH = b"AUTH"


class RedirectCheckTests(MemoryTests):
    def setUp(self) -> None:
        super().setUp()
        self.stranger = ScriptedNode(self.cluster, 3)
        self.stranger.address = Address("stranger", 7003)
        self.network.add(self.stranger)
        self.key = self.key_of(self.nodes[0])
        #: The lines that each node adds to CLUSTER NODES.
        self.known: dict[ScriptedNode, list[str]] = {}
        self.redirect = ask(self.key, self.stranger.address)
        for node in self.nodes:
            node.script = self.answer

    def answer(self, node: ScriptedNode, words: list[bytes], _: Any) -> Any:
        if words[:2] == [b"CLUSTER", b"NODES"]:
            lines = [f"{node.id} {node.address}@1 myself,master - 0 0 1 connected 0-100", *self.known.get(node, [])]
            text = "\n".join(lines).encode()
            return b"$%d\r\n%b\r\n" % (len(text), text)
        if words[0] == b"GET" and node is self.nodes[0]:
            return self.redirect
        return DEFAULT_REPLY

    def line(self, address: str) -> str:
        return f"{'f' * 40} {address} master - 0 0 2 connected"

    def passwords(self) -> int:
        """Return how often the stranger received the password."""
        return sum(AUTH in words for _, words in self.stranger.received)

    def protected(self, **options: Any) -> ClusterClient[bytes]:
        return self.client(password="secret", timeout=2.0, **options)

    def test_an_unconfirmed_target(self) -> None:
        """The command waits and ends at its deadline. The word of the redirecting node alone is not enough."""
        self.known[self.nodes[0]] = [self.line("stranger:7003@1")]
        for redirect in (ask(self.key, self.stranger.address), moved(self.key, self.stranger.address)):
            self.redirect = redirect
            client = self.protected()
            getting = client.get(self.key)
            self.advance(2.5)
            self.assertIn("no other node confirms", str(self.error_of(getting, CommandTimeout)))
            self.result_of(client.abort())
        self.assertEqual((self.stranger.accepted, self.passwords()), (0, 0))

    def test_a_confirmed_target(self) -> None:
        """Another node lists the address by IP or by name. The nodes are asked only once."""
        for line in ("stranger:7003@1", "10.0.0.1:7003@1,stranger"):
            self.known = {node: [self.line(line)] for node in self.nodes[1:]}
            client = self.protected()
            self.assertIsNone(self.result_of(client.get(self.key)))
            asked = self.nodes[1].count(b"CLUSTER", b"NODES") + self.nodes[2].count(b"CLUSTER", b"NODES")
            self.assertIsNone(self.result_of(client.get(self.key)))
            again = self.nodes[1].count(b"CLUSTER", b"NODES") + self.nodes[2].count(b"CLUSTER", b"NODES")
            self.assertEqual(asked, again)
            self.result_of(client.abort())
        self.assertEqual(self.passwords(), 2)
        self.assertEqual(self.nodes[0].count(b"CLUSTER", b"NODES"), 0)

    def test_redirects_that_are_not_checked(self) -> None:
        """No node is asked without a password, for a seed, and with ``check_redirects=False``."""
        for options in ({}, {"password": "secret", "check_redirects": False}):
            client = self.client(**options)
            self.assertIsNone(self.result_of(client.get(self.key)))
            self.result_of(client.abort())
        seeds = ",".join(str(node.address) for node in (*self.nodes, self.stranger))
        client = self.protected(seeds=seeds)
        self.assertIsNone(self.result_of(client.get(self.key)))
        self.assertEqual(sum(node.count(b"CLUSTER", b"NODES") for node in self.nodes), 0)

    def test_the_only_node(self) -> None:
        """In a cluster of one node, the word of that node is enough."""
        self.cluster.ranges = [(0, 16383, self.nodes[0])]
        self.known[self.nodes[0]] = [self.line("stranger:7003@1")]
        client = self.protected(seeds=str(self.nodes[0].address))
        self.assertIsNone(self.result_of(client.get(self.key)))
        self.assertEqual(self.passwords(), 1)

    def test_close_and_abort(self) -> None:
        """``close`` and ``abort`` end while the other nodes are being asked."""
        for end in ("close", "abort"):
            for node in self.nodes[1:]:
                node.script = lambda *_: b""
            client = self.protected()
            client.get(self.key).addErrback(lambda _: None)
            self.network.settle()
            ended = getattr(client, end)()
            self.advance(3.0)
            self.successResultOf(ended)
            self.assertEqual(self.clock.getDelayedCalls(), [])


class NodeLimitTests(MemoryTests):
    def test_an_idle_target_that_no_map_lists(self) -> None:
        """The connection to an unlisted target is closed after some idle time, even if the slot map stays the same."""
        stranger = ScriptedNode(self.cluster, 3)
        stranger.address = Address("stranger", 7003)
        self.network.add(stranger)
        key = self.key_of(self.nodes[0])
        redirect = ask(key, stranger.address)
        self.nodes[0].script = lambda _, words, __: redirect if words[0] == b"GET" else DEFAULT_REPLY
        client = self.client()
        self.result_of(client.get(key))
        self.result_of(client.refresh_topology())
        self.assertEqual(len(stranger.connections), 1)
        self.advance(15.0, step=1.0)
        self.result_of(client.refresh_topology())
        self.assertEqual(stranger.connections, [])
        self.assertIsNone(self.result_of(client.get(key)))

    def test_very_many_targets(self) -> None:
        """The client deals with at most ``max_nodes`` nodes at a time."""
        key = self.key_of(self.nodes[0])
        count = 0

        def elsewhere(_: ScriptedNode, words: list[bytes], __: Any) -> Any:
            nonlocal count
            if words[0] != b"GET":
                return DEFAULT_REPLY
            count += 1
            return ask(key, Address("nowhere", count))

        self.nodes[0].script = elsewhere
        client = self.client(max_nodes=20, timeout=1.0)
        getting = [client.get(key) for _ in range(100)]
        self.advance(1.1)
        for deferred in getting:
            self.error_of(deferred, CommandTimeout)
        self.assertLessEqual(len({address for _, address in self.network.dials}), 20)

    def test_a_map_with_too_many_nodes(self) -> None:
        client = self.lazy_client(max_nodes=2)
        error = self.error_of(client.refresh_topology(), Exception)
        self.assertIn("lists 3 nodes; the limit max_nodes is 2", str(error))
