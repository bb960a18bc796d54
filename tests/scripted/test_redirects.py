"""MOVED and ASK: the ordinary, the malformed and the endless."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from twisted.internet.defer import gatherResults

from tests.scripted.base import ScriptedTests, ask, moved
from txvalkeycluster import Address, CommandTimeout, ReplyError
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode

NOWHERE = Address("127.0.0.1", 1)


class AskTests(ScriptedTests):
    async def test_asking_is_directly_followed_by_its_command(self) -> None:
        """25 redirected and 25 ordinary commands at once on the same connections: all 50 succeed."""
        source, target = self.nodes[0], self.nodes[1]
        asked = self.cluster.keys_of(source, 25)
        plain = self.cluster.keys_of(target, 25)

        def migrating(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            return ask(words[1], target.address) if words[0] == b"SET" else DEFAULT_REPLY

        def importing(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
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
        """The target of an ASK may be a stranger; it is asked, and the map stays."""
        source, stranger = self.nodes[0], self.nodes[2]
        self.cluster.ranges = [(0, 8191, source), (8192, 16383, self.nodes[1])]
        key = self.key_of(source)
        source.script = lambda node, words, _: ask(words[1], stranger.address) if words[0] == b"GET" else DEFAULT_REPLY
        self.cluster.values[key.encode()] = b"v"
        client = await self.client(seeds=str(source.address))
        self.assertEqual(await client.execute("GET", key), b"v")
        self.assertEqual(stranger.count(b"ASKING"), 1)

    async def test_ask_to_a_dead_address(self) -> None:
        """An ASK that leads nowhere is tried again at its source, until that has ended the migration."""
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
    async def test_a_shoal_of_moved(self) -> None:
        """200 commands answered MOVED at once: 200 replies, two refreshes at most, one connection per node."""
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

    async def test_an_empty_host_is_the_one_that_answered(self) -> None:
        """``MOVED slot :port`` leads to another port of the same host."""
        source, target = self.nodes[0], self.nodes[1]
        key = self.key_of(source)
        source.script = lambda node, words, _: (
            moved(words[1], f":{target.address.port}") if words[0] == b"SET" else DEFAULT_REPLY
        )
        client = await self.client()
        self.assertEqual(await client.execute("SET", key, "v"), b"OK")
        self.assertEqual(target.count(b"SET"), 1)

    async def test_moved_to_the_sender_itself(self) -> None:
        """The address names another machine now: a new connection finds it."""
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

    async def test_malformed(self) -> None:
        """A redirect that cannot be read is the caller's error; the connection and other commands live on."""
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

    async def test_300_in_a_row(self) -> None:
        """Two nodes that point at each other: no busy loop, an end at the deadline, and others are served."""
        one, other, third = self.nodes
        key = self.key_of(one)
        one.script = lambda node, words, _: moved(words[1], other.address) if words[0] == b"SET" else DEFAULT_REPLY
        other.script = lambda node, words, _: moved(words[1], one.address) if words[0] == b"SET" else DEFAULT_REPLY
        client = await self.client()
        looping = client.execute("SET", key, "v", timeout=0.5)
        self.assertEqual(await client.execute("SET", self.key_of(third), "v"), b"OK")
        error = await self.assertFailure(looping, CommandTimeout)
        self.assertIn("the last ended with: MOVED", str(error))
        self.assertLess(self.cluster.count(b"SET"), 300)

    async def test_300_and_then_an_answer(self) -> None:
        """A node that redirects 300 times before it serves is followed to the end."""
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
        """``MOVED slot ?:port`` names nobody: the map is asked instead."""
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


class StrayTests(ScriptedTests):
    async def test_one_moved_to_a_dead_address(self) -> None:
        """A stray MOVED does not turn its slot away for good: the next map puts it right, changed or not."""
        source = self.nodes[0]
        key = self.key_of(source)
        stray = [True]

        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            if words[0] != b"GET" or not stray:
                return DEFAULT_REPLY
            stray.clear()
            return moved(words[1], NOWHERE)

        source.script = script
        client = await self.client(refresh_interval=0.1)
        self.assertEqual(await client.execute("GET", key), None)
        self.assertEqual(await client.execute("GET", key), None)
        self.assertEqual(client.topology.version, 1)


class EndpointTests(ScriptedTests):
    async def test_null_empty_and_unknown_endpoints(self) -> None:
        """NULL and empty mean the host that was asked; ``?`` is never dialled, and its slots wait for a better map."""
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

    async def test_a_silent_stranger_does_not_stop_close(self) -> None:
        """A command that went to an unlisted node and is never answered ends at its deadline, and close() after it."""
        source, stranger = self.nodes[0], self.nodes[2]
        self.cluster.ranges = [(0, 8191, source), (8192, 16383, self.nodes[1])]
        source.script = lambda node, words, _: ask(words[1], stranger.address) if words[0] == b"GET" else DEFAULT_REPLY
        stranger.script = lambda node, words, _: SILENCE if words[0] == b"GET" else DEFAULT_REPLY
        client = await self.client(seeds=str(source.address))
        waiting = client.execute("GET", self.key_of(source), timeout=0.3)
        await self.until(lambda: stranger.count(b"GET"))
        closed = client.close()
        await self.assertFailure(waiting, CommandTimeout)
        await closed


class PartsTests(ScriptedTests):
    async def test_one_write_for_each_node(self) -> None:
        """The parts of a command over many slots reach each node in one piece."""
        client = await self.client(warm_up=True)
        await self.until(lambda: all(node.count(b"HELLO") for node in self.nodes))
        await client.execute("PING")
        before = [[connection.reads for connection in node.connections] for node in self.nodes]
        keys = [key for node in self.nodes for key in self.cluster.keys_of(node, 50)]
        self.assertEqual(await client.del_(*keys), 0)
        after = [[connection.reads for connection in node.connections] for node in self.nodes]
        self.assertEqual(after, [[reads + 1 for reads in node] for node in before])
        self.assertEqual([node.count(b"DEL") for node in self.nodes], [50, 50, 50])

    async def test_each_part_finds_its_own_way(self) -> None:
        """One part is redirected, one waits, the others are not asked again; the sum is right."""
        client = await self.client()
        one, two, three = self.nodes
        keys = [self.key_of(node) for node in self.nodes]
        self.cluster.values.update({key.encode(): b"v" for key in keys})
        refusals = [b"-TRYAGAIN wait\r\n"]
        one.script = lambda node, words, _: moved(words[1], three.address) if words[0] == b"DEL" else DEFAULT_REPLY
        two.script = lambda node, words, _: refusals.pop() if words[0] == b"DEL" and refusals else DEFAULT_REPLY
        self.assertEqual(await client.del_(*keys), 3)
        self.assertEqual([node.count(b"DEL") for node in self.nodes], [1, 2, 2])
