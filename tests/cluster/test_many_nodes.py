"""Commands for several nodes, for several slots, and commands that are not in the command table."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tests.cluster.base import ClusterTests
from txvalkeycluster import CommandTimeout, PartialFailure, ReplyError, RoutingError, key_slot


class ManyNodesTests(ClusterTests):
    async def test_one_reply_of_all_nodes(self) -> None:
        """Commands for all nodes give one reply, like a single server with all the data."""
        client = await self.connect()
        keys = [f"k{number}" for number in range(100)]
        self.assertEqual(await client.mset({key: key for key in keys}), b"OK")
        self.assertEqual(await client.dbsize(), 100)
        self.assertEqual(set(await client.keys("k*")), {key.encode() for key in keys})
        self.assertIn(await client.randomkey(), [key.encode() for key in keys])
        sha = await client.script_load("return 7")
        self.assertEqual([await client.evalsha(sha, f"x{number}") for number in range(20)], [7] * 20)
        self.assertEqual(await client.script_exists(sha, "0" * 40), [1, 0])
        await client.script_flush()
        self.assertEqual(await client.script_exists(sha), [0])
        await client.function_load("#!lua name=l\nserver.register_function('f', function(k, a) return a[1] end)")
        self.assertEqual([await client.fcall("f", f"x{number}", "a") for number in range(20)], [b"a"] * 20)
        await client.config_set({"slowlog-log-slower-than": 0, "slowlog-max-len": 5})
        sizes = await client.config_get("slowlog-max-len")
        self.assertEqual(sizes, {b"slowlog-max-len": b"5"})
        self.assertGreaterEqual(await client.slowlog_len(), 6)
        self.assertEqual(len(await client.slowlog_get(1)), 6)
        self.assertEqual(set(await client.info("server")), {str(address) for address in self.cluster.addresses[:3]})
        self.assertEqual(await client.flushall(), b"OK")
        self.assertEqual(await client.dbsize(), 0)
        self.assertIsNone(await client.randomkey())

    async def test_subscriptions_of_every_node(self) -> None:
        """Commands about subscriptions sum up the subscribers of all nodes."""
        client = await self.connect()
        for server in self.cluster.servers[:4]:
            await self.subscribe(server, b"SUBSCRIBE", b"everywhere")
        await self.subscribe(self.cluster.servers[1], b"SUBSCRIBE", b"once")
        await self.subscribe(self.cluster.servers[2], b"PSUBSCRIBE", b"p*")
        self.assertEqual(sorted(await client.pubsub_channels()), [b"everywhere", b"once"])
        numbers = await client.pubsub_numsub("everywhere", "once", "never")
        self.assertEqual(numbers, {b"everywhere": 4, b"once": 1, b"never": 0})
        self.assertEqual(await client.execute("PUBSUB", "NUMSUB", "once"), [b"once", 1])
        self.assertEqual(await client.pubsub_numpat(), 1)

    async def subscribe(self, server: Any, *words: bytes) -> None:
        """Subscribe on a socket of its own."""
        sock = socket.create_connection((self.cluster.host, server.port))
        self.addCleanup(sock.close)
        sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
        self.assertIn(b"subscribe", sock.recv(100))

    async def test_a_partial_failure(self) -> None:
        """PartialFailure has the outcome of each node."""
        client = await self.connect()
        await client.dbsize()
        await self.cluster.pause(self.cluster.servers[1])
        error = await self.assertFailure(client.execute("DBSIZE", timeout=1.0), PartialFailure)
        outcomes = dict(error.outcomes)
        silent = str(self.cluster.addresses[1])
        self.assertIsInstance(outcomes.pop(silent), CommandTimeout)
        self.assertEqual(list(outcomes.values()), [0, 0])
        self.assertIn(f"DBSIZE failed for 1 of 3 parts: {silent}", str(error))
        await self.cluster.resume(self.cluster.servers[1])
        error = await self.assertFailure(client.execute("CONFIG", "SET", "nonsense", 1), PartialFailure)
        self.assertEqual({type(outcome) for _, outcome in error.outcomes}, {ReplyError})

    async def test_one_success_is_enough(self) -> None:
        """SCRIPT KILL ends the running script of any node, and fails with the errors of all nodes if there is none."""
        client = await self.connect()
        error = await self.assertFailure(client.script_kill(), PartialFailure)
        outcomes: dict[str, Any] = dict(error.outcomes)
        self.assertEqual({outcome.code for outcome in outcomes.values()}, {"NOTBUSY"})
        for server in self.cluster.servers:
            await self.cluster.ask(server, "CONFIG", "SET", "busy-reply-threshold", 1)
        running = client.eval("while true do end", "k")
        killed = None
        while killed is None:
            with contextlib.suppress(PartialFailure):
                killed = await client.script_kill()
        self.assertEqual(killed, b"OK")
        await self.assertFailure(running, ReplyError)
        running = client.eval("while true do end", "k")
        node = client.topology.owner(key_slot("k"))
        assert node is not None
        killed = None
        while killed is None:
            with contextlib.suppress(ReplyError):
                killed = await client.execute_on(node, "SCRIPT", "KILL")
        await self.assertFailure(running, ReplyError)

    async def test_before_the_first_map(self) -> None:
        """Commands of a lazy client wait for the slot map, and can be cancelled."""
        client = self.cluster.client()
        self.addCleanup(client.abort)
        waiting: list[Deferred[Any]] = [
            client.dbsize(),
            client.mget("a", "b"),
            client.execute("NONSENSE.X").addErrback(str),
        ]
        cancelled = client.keys("*")
        cancelled.cancel()
        cancelled.addErrback(lambda _: None)
        size, values, error = await gatherResults(waiting)
        self.assertEqual((size, values), (0, [None, None]))
        self.assertIn("unknown command", error)


class ManySlotsTests(ClusterTests):
    async def test_split_and_merged(self) -> None:
        """Commands over many slots give their values in the order of the keys, and sums over all slots."""
        client = await self.connect()
        keys = [f"key:{number}" for number in range(2000)]
        self.assertEqual(await client.mset({key: number for number, key in enumerate(keys)}), b"OK")
        order = [*reversed(keys), "none", keys[0], keys[0]]
        values = [b"%d" % number for number in reversed(range(2000))]
        self.assertEqual(await client.mget(*order), [*values, None, b"0", b"0"])
        self.assertEqual(await client.exists(*keys, "none", keys[0]), 2001)
        self.assertEqual(await client.touch(*keys, "none"), 2000)
        self.assertEqual(await client.unlink(*keys[:500]), 500)
        self.assertEqual(await client.del_(*keys), 1500)
        self.assertEqual(await client.msetex({"a": 1, "b": 2}, ex=100), 1)
        self.assertEqual([await client.ttl("a"), await client.ttl("b")], [100, 100])

    async def test_slots_that_move(self) -> None:
        """The parts of a command over many slots are redirected one by one."""
        client = await self.connect()
        keys = [f"key:{number}" for number in range(300)]
        await client.mset({key: key for key in keys})
        source, target = self.cluster.servers[:2]
        await self.cluster.migrate_by_key(range(300), source, target)
        self.assertEqual(await client.mget(*keys), [key.encode() for key in keys])

    async def test_mset_without_its_last_value(self) -> None:
        """MSET without its last value is refused, and nothing is written."""
        client = await self.connect()
        error = await self.assertFailure(client.execute("MSET", "a", 1, "b"), RoutingError)
        self.assertIn("has no value for its last key", str(error))
        self.assertEqual(await client.mget("a", "b"), [None, None])

    async def test_commands_that_are_not_split(self) -> None:
        """Other commands over many slots fail before they are sent, and with split_keys=False all do."""
        client = await self.connect(split_keys=False)
        for call in (client.mget("a", "b"), client.sinter("a", "b"), client.eval("return 1", ["a", "b"])):
            error = await self.assertFailure(call, RoutingError)
            self.assertIn("'a' in 15495 and 'b' in 3300", str(error))
        self.assertEqual(await client.mget("{t}a", "{t}b"), [None, None])


class UnknownCommandTests(ClusterTests):
    async def test_unknown_commands_are_asked_for_once(self) -> None:
        """The client asks a server once about a command that its table lacks, also if the server does not know it."""
        client = await self.connect()
        table = client.commands
        for name in ("GET", "SET", "OBJECT"):
            del table._names[name]
        table.add([])
        results = await gatherResults([client.execute("SET", f"k{n}", n) for n in range(50)])
        self.assertEqual(results, [b"OK"] * 50)
        self.assertEqual(await client.execute("get", "k1"), b"1")
        self.assertEqual(await client.execute("object", "encoding", "k1"), b"int")
        for _ in range(3):
            await self.assertFailure(client.execute("NO.SUCH", "x"), ReplyError)
        self.assertEqual(table["object"].resolve(["object", "freq"]).name, "OBJECT FREQ")
        asked = 0
        for server in self.cluster.servers:
            stats = (await self.cluster.ask(server, "INFO", "commandstats")).decode()
            asked += sum(int(line.split("=")[1].split(",")[0]) for line in stats.splitlines() if "command|info" in line)
        self.assertEqual(asked, 4)

    async def test_without_the_right_to_ask(self) -> None:
        """If the user may not use COMMAND, an unknown command reaches its node by MOVED."""
        admin = await self.connect()
        await gatherResults(
            [
                admin.execute_on(node, "ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-command")
                for node in admin.nodes()
            ]
        )
        client = await self.connect(username="app", password="pw")
        await client.set("k", "v")
        del client.commands._names["GET"]
        client.commands.add([])
        for number in range(20):
            self.assertIsNone(await client.execute("GET", f"none{number}"))
