"""A whole client with a node that gives random replies to everything: handshake, slot maps and commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from tests.fuzz.inputs import any_reply, damaged_bytes, damaged_value, for_inputs, wire
from tests.fuzz.test_first_words import HELLO, INFO
from tests.fuzz.test_topology_replies import SHARDS, SLOTS
from tests.fuzz.world import HostileTests
from txvalkeycluster import ClusterClient, ValkeyError
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode

Client = ClusterClient[bytes]
# A scan and WAIT send several commands, and have no deadline as a whole.
PATIENCE = 60.0


async def _collected(found: AsyncIterator[Any]) -> int:
    """Count the first items of an iterator, which a hostile node can make endless."""
    count = 0
    async for _ in found:
        count += 1
        if count == 50:
            break
    return count


async def _watched(client: Client, key: str) -> Any:
    async with client.watch(key) as session:
        await session.get(key)
        transaction = session.transaction()
        transaction.set(key, "v")
        return await transaction.execute()


def _pipeline(client: Client, key: str) -> Deferred[Any]:
    pipeline = client.pipeline()
    for _ in range(3):
        pipeline.get(key)
        pipeline.hgetall(key)
    return pipeline.execute(raise_first=True)


def _transaction(client: Client, key: str) -> Deferred[Any]:
    transaction = client.transaction()
    transaction.set(key, "v")
    transaction.zrange(key, 0, -1, withscores=True)
    return transaction.execute()


CALLS: list[Callable[[Client, str], Any]] = [
    lambda client, key: client.get(key),
    lambda client, key: client.set(key, "v"),
    lambda client, key: client.mget(key, "a", "b", "c", "d", "e", "f"),
    lambda client, key: client.del_(key, "a", "b", "c", "d", "e", "f"),
    lambda client, key: client.hgetall(key),
    lambda client, key: client.zrange(key, 0, -1, withscores=True),
    lambda client, key: client.zpopmin(key),
    lambda client, key: client.zscore(key, "m"),
    lambda client, key: client.smembers(key),
    lambda client, key: client.xrange(key, "-", "+"),
    lambda client, key: client.xinfo_stream(key),
    lambda client, key: client.geopos(key, "m"),
    lambda client, key: client.lpop(key),
    lambda client, key: client.blpop(key, timeout=0.5),
    lambda client, key: client.dbsize(),
    lambda client, key: client.script_exists("0" * 40),
    lambda client, key: client.config_get("maxmemory"),
    lambda client, key: client.memory_stats(),
    lambda client, key: client.wait(1, 200),
    lambda client, key: client.script("return 1")([key]),
    lambda client, key: client.execute("MOD.GET", key),
    lambda client, key: client.execute("MOD.SET", key),
    lambda client, key: client.execute_on(client.topology.nodes[0], "PING"),
    lambda client, key: client.refresh_topology(),
    lambda client, key: Deferred.fromCoroutine(_collected(client.scan_iter())),
    lambda client, key: Deferred.fromCoroutine(_collected(client.hscan_iter(key))),
    lambda client, key: Deferred.fromCoroutine(_collected(client.zscan_iter(key))),
    lambda client, key: Deferred.fromCoroutine(_watched(client, key)),
    _pipeline,
    _transaction,
]


class WholeClientTests(HostileTests):
    def test_nonsense_to_everything(self) -> None:
        """Each call ends once, with a reply or a documented error.  All nodes serve later, when the node is honest."""
        for_inputs(5, "whole client", self.check)

    def check(self, random: Random) -> None:
        self.start(random, topology_source=random.choice(("auto", "auto", "slots", "shards")))
        key = self.key_of(self.nodes[0])
        share = random.choice((0.2, 0.6, 1.0))

        def script(node: ScriptedNode, words: list[bytes], _: Any) -> Any:
            return self.nonsense(random, node, words) if random.random() < share else DEFAULT_REPLY

        self.nodes[0].script = script
        if random.random() < 0.3:
            # The next handshake gets random replies too.
            self.network.cut(self.nodes[0])
        calls = [random.choice(CALLS) for _ in range(6)]
        self.ends([call(self.world, key) for call in calls], ValkeyError, within=PATIENCE)
        self.flushLoggedErrors()
        self.others_serve()
        self.recovers()

    def nonsense(self, random: Random, node: ScriptedNode, words: list[bytes]) -> Any:
        kind = random.randrange(6)
        if kind == 0:
            return any_reply(random)
        if kind == 1:
            return random.choice((CLOSE, SILENCE, b"", b"*-1\r\n"))
        if kind == 2:
            return damaged_bytes(random, node.usual(words, asking=False))
        values: dict[bytes, Any] = {b"HELLO": HELLO, b"COMMAND": INFO, b"CLUSTER": random.choice((SLOTS, SHARDS))}
        return wire(damaged_value(random, values.get(words[0], SLOTS)))
