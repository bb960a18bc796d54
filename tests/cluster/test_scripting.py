"""Scripts and functions that are called like Python functions."""

from __future__ import annotations

from twisted.internet.defer import gatherResults

from tests.cluster.base import ClusterTests
from txvalkeycluster import ReplyError, key_slot

LIBRARY = """#!lua name=mine
server.register_function{function_name='size', callback=function(k) return #k end, flags={'no-writes'}}
server.register_function('put', function(k, a) return server.call('SET', k[1], a[1]) end)
"""


class ScriptTests(ClusterTests):
    async def test_scripts_are_loaded_on_demand(self) -> None:
        """A script is loaded on each node at its first call, and again after SCRIPT FLUSH."""
        client = await self.connect()
        script = client.script("return {KEYS[1], ARGV[1]}")
        for _ in range(2):
            results = await gatherResults([script(f"k{n}", [n]) for n in range(30)])
            self.assertEqual(results, [[b"k%d" % n, b"%d" % n] for n in range(30)])
            await client.script_flush()
        self.assertEqual(await client.script("return 1")(), 1)
        self.assertEqual(await client.script(b"return #KEYS")(["{t}a", "{t}b"]), 2)
        self.assertEqual(await client.script("return redis.call('GET', KEYS[1])")("k", read_only=True), None)

    async def test_errors(self) -> None:
        """An error of a script, and a write with read_only=True, fail with ReplyError."""
        client = await self.connect()
        error = await self.assertFailure(client.script("return nonsense()")("k"), ReplyError)
        self.assertIn("nonsense", str(error))
        writing = client.script("return redis.call('SET', KEYS[1], 1)")
        await self.assertFailure(writing("k", read_only=True), ReplyError)
        self.assertEqual(await writing("k"), b"OK")

    async def test_functions(self) -> None:
        """A function loads its library into each shard that lacks it."""
        client = await self.connect()
        error = await self.assertFailure(client.function("size")("k"), ReplyError)
        self.assertIn("Function not found", str(error))
        size, put = client.function("size", LIBRARY), client.function("put", LIBRARY)
        self.assertEqual(await size(["{t}a", "{t}b"], read_only=True), 2)
        self.assertEqual(await gatherResults([put(f"k{n}", n) for n in range(10)]), [b"OK"] * 10)
        await self.assertFailure(put("k", 1, read_only=True), ReplyError)

    async def test_a_newer_library_stays(self) -> None:
        """A function does not replace a newer library of a shard."""
        client = await self.connect()
        newer = LIBRARY.replace("return #k", "return 100 + #k")
        await client.function_load(newer)
        nodes = {node.id: node for node in client.topology.primaries}
        empty = client.topology.owner(key_slot("a"))
        assert empty is not None
        await client.execute_on(empty, "FUNCTION", "FLUSH")
        size = client.function("size", LIBRARY)
        self.assertEqual(await size("a"), 1)
        others = [f"k{n}" for n in range(100) if client.topology.owner(key_slot(f"k{n}")) != empty]
        self.assertEqual({await size(key) for key in others[:20]}, {101})
        self.assertEqual(len(nodes), 3)
