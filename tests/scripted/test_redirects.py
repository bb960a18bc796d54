"""MOVED and ASK: valid, malformed and endless redirects."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from twisted.internet.defer import gatherResults

from tests.memory import MemoryTests
from tests.scripted.base import ScriptedTests, ask, moved
from txvalkeycluster import Address, CommandTimeout, ReplyError
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode
from txvalkeycluster.testing.scripted import Connection

NOWHERE = Address("127.0.0.1", 1)


class AskTests(ScriptedTests):
    async def test_asking_is_directly_followed_by_its_command(self) -> None:
        """ASKING directly precedes each redirected command, among other commands on the same connection."""
        source, target = self.nodes[0], self.nodes[1]
        asked = self.cluster.keys_of(source, 25)
        plain = self.cluster.keys_of(target, 25)

        def migrating(node: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
            return ask(words[1], target.address) if words[0] == b"SET" else DEFAULT_REPLY

        def importing(node: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
            if words[0] == b"SET" and words[1].decode() in asked and not connection.asking:
                return moved(words[1], source.address)
            return DEFAULT_REPLY

        source.script, target.script = migrating, importing
        client = await self.client()
        pairs = [key for pair in zip(asked, plain, strict=True) for key in pair]
        replies = await gatherResults([client.execute("SET", key, key) for key in pairs])
        self.assertEqual(replies, [b"OK"] * 50)
        words = [words for _, words in target.received]
        followers = [after[1].decode() for before, after in pairwise(words) if before == [b"ASKING"]]
        self.assertEqual(sorted(followers), sorted(asked))
        self.assertEqual([node.accepted for node in self.nodes[:2]], [1, 1])
        self.assertEqual(client.topology.version, 1)

    async def test_ask_to_a_node_that_no_map_lists(self) -> None:
        """The client follows ASK to a node that the slot map does not list."""
        source, target = self.nodes[0], self.nodes[2]
        self.cluster.ranges = [(0, 8191, source), (8192, 16383, self.nodes[1])]
        key = self.key_of(source)
        source.script = lambda node, words, _: ask(words[1], target.address) if words[0] == b"GET" else DEFAULT_REPLY
        self.cluster.values[key.encode()] = b"v"
        client = await self.client(seeds=str(source.address))
        self.assertEqual(await client.execute("GET", key), b"v")
        self.assertEqual(target.count(b"ASKING"), 1)

    async def test_ask_to_a_dead_address(self) -> None:
        """A command whose ASK leads to a dead address is sent to its source again, until the source serves it."""
        source = self.nodes[0]
        key = self.key_of(source)
        left = [3]

        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            if words[0] != b"SET":
                return DEFAULT_REPLY
            left[0] -= 1
            return ask(words[1], NOWHERE) if left[0] >= 0 else DEFAULT_REPLY

        source.script = script
        client = await self.client()
        other = client.execute("SET", self.key_of(self.nodes[1]), "v")
        self.assertEqual(await client.execute("SET", key, "v"), b"OK")
        self.assertEqual(await other, b"OK")


class MovedTests(ScriptedTests):
    async def test_many_moved_at_once(self) -> None:
        """200 commands with MOVED succeed with at most two refreshes and one connection for each node."""
        source, target = self.nodes[0], self.nodes[1]
        keys = self.cluster.keys_of(source, 200)
        client = await self.client()
        source.script = lambda node, words, _: moved(words[1], target.address) if words[0] == b"SET" else DEFAULT_REPLY
        before = self.cluster.count(b"CLUSTER", b"SLOTS")
        self.cluster.ranges = [(0, 10922, target), (10923, 16383, self.nodes[2])]
        replies = await gatherResults([client.execute("SET", key, "v") for key in keys])
        self.assertEqual(replies, [b"OK"] * 200)
        await self.until(lambda: client.topology.version == 2)
        self.assertLessEqual(self.cluster.count(b"CLUSTER", b"SLOTS") - before, 2)
        self.assertEqual([node.accepted <= 1 for node in self.nodes], [True] * 3)

    async def test_an_empty_host_is_the_host_of_the_sender(self) -> None:
        """``MOVED slot :port`` means another port of the host that sent it."""
        source, target = self.nodes[0], self.nodes[1]
        key = self.key_of(source)
        source.script = lambda node, words, _: (
            moved(words[1], f":{target.address.port}") if words[0] == b"SET" else DEFAULT_REPLY
        )
        client = await self.client()
        self.assertEqual(await client.execute("SET", key, "v"), b"OK")
        self.assertEqual(target.count(b"SET"), 1)

    async def test_moved_to_the_sender_itself(self) -> None:
        """MOVED to the address of the sender makes the client reconnect: the address may lead to another host now."""
        source = self.nodes[0]
        key = self.key_of(source)
        client = await self.client()
        await client.execute("SET", key, "v")
        old = source.accepted
        source.script = lambda node, words, connection: (
            moved(words[1], source.address) if words[0] == b"SET" and connection.number <= old else DEFAULT_REPLY
        )
        self.assertEqual(await client.execute("SET", key, "v"), b"OK")
        self.assertEqual(source.accepted, old + 1)

    async def test_malformed_redirects(self) -> None:
        """A malformed redirect fails its command with ReplyError, and the connection goes on."""
        texts = [
            b"MOVED 99999999 x:1",
            b"MOVED 16384 127.0.0.1:1",
            b"MOVED -1 127.0.0.1:1",
            b"MOVED 1",
            b"MOVED",
            b"MOVED x y",
            b"MOVED 1 nothing",
            b"MOVED 1 127.0.0.1:99999",
            b"MOVED 1 127.0.0.1:0",
            b"ASK 1",
            b"ASK 1 :",
            b"MO",
            b"",
            b" ",
        ]
        source = self.nodes[0]
        keys = self.cluster.keys_of(source, len(texts) + 1)
        answers = dict(zip(keys, texts, strict=False))
        source.script = lambda node, words, _: (
            b"-%b\r\n" % answers[words[1].decode()] if words[1:] and words[1].decode() in answers else DEFAULT_REPLY
        )
        client = await self.client()
        for key, text in answers.items():
            error = await self.assertFailure(client.execute("SET", key, "v"), ReplyError)
            self.assertEqual(str(error), text.decode())
        self.assertEqual(await client.execute("SET", keys[-1], "v"), b"OK")
        self.assertEqual(source.accepted, 1)

    async def test_300_redirects_and_then_a_reply(self) -> None:
        """The client follows 300 redirects of a command to its reply."""
        one, other = self.nodes[:2]
        key = self.key_of(one)
        left = [300]

        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            if words[0] != b"SET" or left[0] == 0:
                return DEFAULT_REPLY
            left[0] -= 1
            return moved(words[1], other.address if node is one else one.address)

        one.script = other.script = script
        client = await self.client()
        self.assertEqual(await client.execute("SET", key, "v", timeout=None), b"OK")
        self.assertEqual(left, [0])

    async def test_unknown_endpoint(self) -> None:
        """``MOVED slot ?:port`` names no address: the client refreshes the slot map."""
        source, target = self.nodes[:2]
        key = self.key_of(source)
        client = await self.client()

        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            if words[0] != b"SET":
                return DEFAULT_REPLY
            self.cluster.ranges = [(0, 10922, target), (10923, 16383, self.nodes[2])]
            return moved(words[1], "?:7000")

        source.script = script
        self.assertEqual(await client.execute("SET", key, "v"), b"OK")
        self.assertEqual(target.count(b"SET"), 1)


class WrongRedirectTests(ScriptedTests):
    async def test_one_moved_to_a_dead_address(self) -> None:
        """After a wrong MOVED the next refresh restores the owner of the slot, even if the slot map is unchanged."""
        source = self.nodes[0]
        key = self.key_of(source)
        wrong = [True]

        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            if words[0] != b"GET" or not wrong:
                return DEFAULT_REPLY
            wrong.clear()
            return moved(words[1], NOWHERE)

        source.script = script
        client = await self.client(refresh_interval=0.1)
        self.assertEqual(await client.execute("GET", key), None)
        self.assertEqual(await client.execute("GET", key), None)
        self.assertEqual(client.topology.version, 1)


class EndpointTests(ScriptedTests):
    async def test_null_empty_and_unknown_endpoints(self) -> None:
        """A NULL or empty host means the host that was asked.  Commands for a host ``?`` wait for the next slot map."""
        ports = [node.address.port for node in self.nodes]
        keys = [self.key_of(node) for node in self.nodes]
        hosts = [b"$-1", b"$0\r\n", b"$1\r\n?"]
        rows = [
            b"*3\r\n:%d\r\n:%d\r\n*3\r\n%b\r\n:%d\r\n$1\r\n%d\r\n" % (start, end, host, port, number)
            for number, ((start, end, _), host, port) in enumerate(zip(self.cluster.ranges, hosts, ports, strict=True))
        ]
        answers = [b"*3\r\n" + b"".join(rows)]

        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            return answers[0] if words[:2] == [b"CLUSTER", b"SLOTS"] and answers else DEFAULT_REPLY

        for node in self.nodes:
            node.script = script
        client = await self.client(seeds=str(self.nodes[0].address), topology_source="slots")
        self.assertEqual(await client.execute("SET", keys[0], "v"), b"OK")
        self.assertEqual(await client.execute("SET", keys[1], "v"), b"OK")
        lost = client.execute("SET", keys[2], "v")
        await self.until(lambda: self.cluster.count(b"CLUSTER", b"SLOTS") > 1)
        answers.clear()
        self.assertEqual(await lost, b"OK")


class DeadlineTests(MemoryTests):
    def test_redirects_until_the_deadline(self) -> None:
        """Two nodes that redirect to each other cause no busy loop, and the command ends at its deadline."""
        one, other, third = self.nodes
        key = self.key_of(one)
        one.script = lambda node, words, _: moved(words[1], other.address) if words[0] == b"SET" else DEFAULT_REPLY
        other.script = lambda node, words, _: moved(words[1], one.address) if words[0] == b"SET" else DEFAULT_REPLY
        client = self.client()
        looping = client.execute("SET", key, "v", timeout=0.5)
        self.assertEqual(self.result_of(client.execute("SET", self.key_of(third), "v")), b"OK")
        error = self.error_of(looping, CommandTimeout)
        self.assertIn("last error: MOVED", str(error))
        self.assertLess(self.cluster.count(b"SET"), 300)

    def test_close_with_a_silent_redirect_target(self) -> None:
        """close() waits for a command on an unlisted node that never answers, no longer than to its deadline."""
        source, target = self.nodes[0], self.nodes[2]
        self.cluster.ranges = [(0, 8191, source), (8192, 16383, self.nodes[1])]
        source.script = lambda node, words, _: ask(words[1], target.address) if words[0] == b"GET" else DEFAULT_REPLY
        target.script = lambda node, words, _: SILENCE if words[0] == b"GET" else DEFAULT_REPLY
        client = self.client(seeds=str(source.address))
        waiting = client.execute("GET", self.key_of(source), timeout=0.3)
        self.network.settle()
        self.assertEqual(target.count(b"GET"), 1)
        closing = client.close()
        self.network.settle()
        self.assertNoResult(closing)
        self.error_of(waiting, CommandTimeout)
        self.result_of(closing)


class PartsTests(ScriptedTests):
    async def test_one_write_for_each_node(self) -> None:
        """The client sends all parts of a command over many slots that go to one node in one write."""
        client = await self.client(warm_up=True)
        await self.until(lambda: all(node.count(b"HELLO") for node in self.nodes))
        await client.execute("PING")
        before = [[connection.reads for connection in node.connections] for node in self.nodes]
        keys = [key for node in self.nodes for key in self.cluster.keys_of(node, 50)]
        self.assertEqual(await client.del_(*keys), 0)
        after = [[connection.reads for connection in node.connections] for node in self.nodes]
        self.assertEqual(after, [[reads + 1 for reads in node] for node in before])
        self.assertEqual([node.count(b"DEL") for node in self.nodes], [50, 50, 50])

    async def test_parts_are_redirected_and_retried_alone(self) -> None:
        """If one part is redirected and one has to wait, the other parts are not sent again, and the sum is right."""
        client = await self.client()
        one, two, three = self.nodes
        keys = [self.key_of(node) for node in self.nodes]
        self.cluster.values.update({key.encode(): b"v" for key in keys})
        refusals = [b"-TRYAGAIN wait\r\n"]
        one.script = lambda node, words, _: moved(words[1], three.address) if words[0] == b"DEL" else DEFAULT_REPLY
        two.script = lambda node, words, _: refusals.pop() if words[0] == b"DEL" and refusals else DEFAULT_REPLY
        self.assertEqual(await client.del_(*keys), 3)
        self.assertEqual([node.count(b"DEL") for node in self.nodes], [1, 2, 2])
