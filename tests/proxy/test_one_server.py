"""The proxy looks like one server where replies cannot be compared byte by byte: totals, clients, and all keys."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from tests.proxy.base import ProxyTests, Wire, frames_of, request

Sections = dict[str, dict[str, str]]


def text_of(reply: bytes) -> str:
    """Return the text of a bulk string, or of a verbatim string."""
    return reply.partition(b"\r\n")[2].removeprefix(b"txt:")[:-2].decode()


def words_in(reply: bytes) -> list[bytes]:
    """Return the words of an array of bulk strings."""
    return [frame.partition(b"\r\n")[2][:-2] for frame in frames_of(reply.partition(b"\r\n")[2])]


def sections_of(reply: bytes) -> Sections:
    """Return the sections of a reply to INFO."""
    found: Sections = {}
    for part in text_of(reply).split("# ")[1:]:
        name, *rows = part.split("\r\n")
        found[name] = dict(row.split(":", 1) for row in rows if row)
    return found


def clients_in(reply: bytes) -> list[dict[str, str]]:
    """Return the clients of a reply to CLIENT LIST."""
    rows = text_of(reply).splitlines()
    return [dict(field.split("=", 1) for field in row.split(" ")) for row in rows]


class InfoTests(ProxyTests):
    async def test_sections(self) -> None:
        """INFO has the sections of a server, with the same fields in those that exist for a cluster."""
        single = await self.wire(await self.start_single())
        wire = await self.wire()
        every: tuple[list[str], ...] = (
            [],
            ["everything"],
            ["all"],
            ["default"],
            ["cpu", "DEFAULT"],
            ["commandstats", "default"],
        )
        for sections in (*every, ["memory", "cpu"], ["Keyspace"], ["none"]):
            words = ["INFO", *sections]
            expected, found = sections_of(await single.call(*words)), sections_of(await wire.call(*words))
            self.assertEqual([name for name in found if name != "Proxy"], list(expected))
            for name in set(expected) & {"Memory", "Stats", "CPU", "Persistence"}:
                self.assertEqual(list(found[name]), list(expected[name]))
            self.assertEqual("Proxy" in found, sections in every)
            replication = found.get("Replication", {})
            self.assertLessEqual(set(replication), set(expected.get("Replication", {})))
            self.assertIn(replication.get("master_repl_offset"), ("0", None))
            self.assertEqual(found.get("Cluster Info"), expected.get("Cluster Info"))
        about = sections_of(await wire.call("INFO"))
        self.assertEqual(about["Server"]["server_mode"], "standalone")
        self.assertEqual(about["Replication"]["role"], "master")
        self.assertEqual(about["Cluster"], {"cluster_enabled": "0"})
        self.assertEqual(about["Server"]["tcp_port"], str(self.port))
        self.assertEqual(about["Proxy"]["proxy_primaries"], "3")
        self.assertEqual(list(sections_of(await wire.call("INFO", "proxy"))), ["Proxy"])
        self.assertIn(b"=", (await self.in_resp3("INFO", "keyspace"))[:1])

    async def test_clients(self) -> None:
        """The section about clients counts those of the proxy that wait, watch and subscribe, as a server does."""
        texts: list[dict[str, str]] = []
        for port in (await self.start_single(), self.port):
            wire, waiting, watching, subscribed = [await self.wire(port) for _ in range(4)]
            waiting.send(request("BLPOP", "{t}a", "{t}b", 0))
            await watching.call("WATCH", "{t}a", "{t}c")
            await subscribed.call("SUBSCRIBE", "a")

            async def blocked(wire: Wire = wire) -> bool:
                return sections_of(await wire.call("INFO", "clients"))["Clients"]["total_blocking_keys"] == "2"

            await self.cluster.until(blocked, "a command that waits")
            texts.append(sections_of(await wire.call("INFO", "clients"))["Clients"])
        single, found = texts
        found["maxclients"] = single["maxclients"]
        self.assertEqual({name: single[name] for name in found}, found)
        self.assertEqual((found["blocked_clients"], found["total_watched_keys"]), ("1", "2"))

    async def in_resp3(self, *words: str) -> bytes:
        """Return the reply to a client that speaks RESP3."""
        wire = await self.wire()
        await wire.call("HELLO", 3)
        return await wire.call(*words)

    async def test_totals(self) -> None:
        """Numbers are the sums over all primaries."""
        wire = await self.wire()
        keys = [f"key{number}" for number in range(60)]
        await self.ask(wire, [request("SET", key, "value") for key in keys])
        await self.ask(wire, [request("EXPIRE", key, 1000) for key in keys[:30]])
        await self.ask(wire, [request("GET", key) for key in keys])
        await self.ask(wire, [request("LPUSH", key, "wrong") for key in keys[:20]])
        found = sections_of(await wire.call("INFO", "keyspace", "commandstats", "errorstats", "stats", "memory"))
        numbers = dict(field.split("=") for field in found["Keyspace"]["db0"].split(","))
        self.assertEqual((numbers["keys"], numbers["expires"]), ("60", "30"))
        self.assertEqual(found["Errorstats"], {"errorstat_WRONGTYPE": "count=20"})
        calls = dict(field.split("=") for field in found["Commandstats"]["cmdstat_get"].split(","))
        self.assertEqual(calls["calls"], "60")
        self.assertEqual(calls["usec_per_call"], f"{int(calls['usec']) / 60:.2f}")
        self.assertEqual(found["Stats"]["keyspace_hits"], "60")
        texts = [await self.cluster.ask(each, "INFO", "memory") for each in self.cluster.servers]
        used = [int(re.findall(rb"used_memory:(\d+)", text)[0]) for text in texts]
        self.assertTrue(abs(int(found["Memory"]["used_memory"]) - sum(used)) < sum(used) / 4, (found["Memory"], used))
        self.assertEqual(found["Memory"]["used_memory_human"][-1], "M")

    async def test_persistence(self) -> None:
        """Changes that are not saved are a sum; a state that only one primary has is shown."""
        wire = await self.wire()
        await self.ask(wire, [request("SET", f"key{number}", "value") for number in range(60)])
        await self.cluster.ask(self.cluster.servers[1], "CONFIG", "SET", "appendonly", "yes")
        found = sections_of(await wire.call("INFO", "persistence"))["Persistence"]
        self.assertEqual(found["rdb_changes_since_last_save"], "60")
        self.assertEqual(found["aof_enabled"], "1")
        self.assertEqual(found["aof_last_write_status"], "ok")

    async def test_a_primary_is_gone(self) -> None:
        """INFO has no wrong totals if a primary does not answer: it is an error."""
        wire = await self.wire()
        await self.ask(wire, [request("SET", f"key{number}", "value") for number in range(60)])
        await self.cluster.kill(self.cluster.servers[1])
        self.assertEqual((await wire.call("INFO"))[:1], b"-")

    async def test_hello_has_the_version_of_the_cluster(self) -> None:
        """HELLO tells the version of the cluster, and that this is a standalone primary."""
        single = await self.wire(await self.start_single())
        wire = await self.wire()
        expected = (await single.call("HELLO")).split(b"\r\n")
        found = (await wire.call("HELLO")).split(b"\r\n")
        for first, last in ((b"version", b"id"), (b"mode", b"modules")):
            same = [each[each.index(first) : each.index(last)] for each in (expected, found)]
            self.assertEqual(same[1], same[0])


class ClientTests(ProxyTests):
    async def numbers(self, wire: Wire, *filters: Any) -> list[int]:
        """Return the numbers of the clients that filters select."""
        return [int(each["id"]) for each in clients_in(await wire.call("CLIENT", "LIST", *filters))]

    async def test_fields(self) -> None:
        """CLIENT LIST and CLIENT INFO have the fields of a server, in the same order."""
        single = await self.wire(await self.start_single())
        wire = await self.wire()
        for each in (wire, single):
            await each.call("CLIENT", "SETNAME", "name")
            await each.call("CLIENT", "SETINFO", "LIB-NAME", "library")
            await each.call("CLIENT", "SETINFO", "LIB-VER", "1.2")
        for words in (("CLIENT", "INFO"), ("CLIENT", "LIST")):
            (expected,), (found,) = [clients_in(await each.call(*words)) for each in (single, wire)]
            self.assertEqual(list(found), list(expected))
            same = (
                "name",
                "flags",
                "db",
                "multi",
                "user",
                "resp",
                "lib-name",
                "lib-ver",
                "redir",
                "cmd",
                "events",
                "tot-net-in",
            )
            self.assertEqual({name: found[name] for name in same}, {name: expected[name] for name in same})
        self.assertEqual(await wire.call("CLIENT", "ID"), b":%d\r\n" % int(found["id"]))
        self.assertEqual(found["laddr"], f"127.0.0.1:{self.port}")

    async def test_the_last_command(self) -> None:
        """CLIENT LIST shows the last command of each client, also of those that are simply passed on."""
        wire, other = await self.wire(), await self.wire()
        (number,) = [int(each["id"]) for each in clients_in(await other.call("CLIENT", "INFO"))]
        for words, shown in (
            (("SET", "key", 1), "set"),
            (("INCR", "key"), "incr"),
            (("PING",), "ping"),
            (("get", "key"), "get"),
            (("DEL", "a", "b"), "del"),
            (("CLIENT", "ID"), "client|id"),
        ):
            await other.call(*words)
            (found,) = clients_in(await wire.call("CLIENT", "LIST", "ID", number))
            self.assertEqual(found["cmd"], shown)

    async def test_filters(self) -> None:
        """Filters select clients by what they are; all filters together must fit."""
        one, other, third = [await self.wire() for _ in range(3)]
        ids = [int((await each.call("CLIENT", "ID"))[1:]) for each in (one, other, third)]
        await one.call("CLIENT", "SETNAME", "one")
        await other.call("HELLO", 3, "SETNAME", "other")
        await other.call("CLIENT", "SETINFO", "LIB-NAME", "library")
        (address,) = [each["addr"] for each in clients_in(await one.call("CLIENT", "INFO"))]
        for filters, wanted in (
            ((), [0, 1, 2]),
            (("ID", ids[0]), [0]),
            (("ID", ids[0], ids[2], 999), [0, 2]),
            (("NOT-ID", ids[0], ids[2]), [1]),
            (("ADDR", address), [0]),
            (("NOT-ADDR", address), [1, 2]),
            (("LADDR", f"127.0.0.1:{self.port}"), [0, 1, 2]),
            (("LADDR", "127.0.0.1:1"), []),
            (("NAME", "other"), [1]),
            (("NAME", ""), []),
            (("NOT-NAME", "other"), [0, 2]),
            (("LIB-NAME", "library"), [1]),
            (("NOT-LIB-NAME", "library", "ID", ids[0], ids[1]), [0]),
            (("LIB-VER", "1"), []),
            (("TYPE", "normal"), [0, 1, 2]),
            (("TYPE", "normal", "SKIPME", "yes"), [1, 2]),
            (("TYPE", "pubsub"), []),
            (("NOT-TYPE", "pubsub"), [0, 1, 2]),
            (("USER", "default", "IP", "127.0.0.1", "FLAGS", "N", "DB", 0), [0, 1, 2]),
            (("NOT-IP", "127.0.0.1"), []),
            (("NOT-FLAGS", "N"), []),
            (("CAPA", "r"), []),
            (("NOT-CAPA", "r"), [0, 1, 2]),
            (("NOT-DB", 0), []),
            (("MAXAGE", 1000), []),
            (("IDLE", 1000), []),
        ):
            self.assertEqual(await self.numbers(one, *filters), [ids[place] for place in wanted], filters)

    async def test_kill(self) -> None:
        """CLIENT KILL ends the clients that its filters select, and itself only with SKIPME no."""
        one, other, third, fourth = [await self.wire() for _ in range(4)]
        await third.call("CLIENT", "SETNAME", "third")
        (address,) = [each["addr"] for each in clients_in(await other.call("CLIENT", "INFO"))]
        self.assertEqual(await one.call("CLIENT", "KILL", "ADDR", address), b":1\r\n")
        await other.ended()
        self.assertEqual(await one.call("CLIENT", "KILL", "NAME", "third", "TYPE", "normal"), b":1\r\n")
        await third.ended()
        (address,) = [each["addr"] for each in clients_in(await fourth.call("CLIENT", "INFO"))]
        self.assertEqual(await one.call("CLIENT", "KILL", address), b"+OK\r\n")
        await fourth.ended()
        self.assertEqual(await one.call("CLIENT", "KILL", "SKIPME", "yes"), b":0\r\n")
        self.assertEqual(len(await self.numbers(one)), 1)
        self.assertEqual(await one.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"), b":1\r\n")
        await one.ended()
        last = await self.wire()
        (address,) = [each["addr"] for each in clients_in(await last.call("CLIENT", "INFO"))]
        self.assertEqual(await last.call("CLIENT", "KILL", address), b"+OK\r\n")
        await last.ended()

    async def test_a_killed_client_loses_no_other_reply(self) -> None:
        """The requests of other clients go on while a client with many requests under way is killed."""
        one, other = await self.wire(), await self.wire()
        (number,) = await self.numbers(other, "ID", int((await other.call("CLIENT", "ID"))[1:]))
        other.send(b"".join(request("SET", f"key{each}", "v" * 100) for each in range(2000)))
        one.send(request("CLIENT", "KILL", "ID", number) + b"".join(request("ECHO", each) for each in range(500)))
        replies = await one.replies(501)
        self.assertEqual(replies[0], b":1\r\n")
        self.assertEqual(replies[1:], [b"$%d\r\n%d\r\n" % (len(str(each)), each) for each in range(500)])
        await other.ended()


class AllKeysTests(ProxyTests):
    async def test_keys_of_all_nodes(self) -> None:
        """DBSIZE, KEYS, RANDOMKEY, SCAN and FLUSHALL see the keys of all nodes."""
        keys = {b"key:%d" % number for number in range(300)}
        wire = await self.wire()
        self.assertEqual(await wire.call("RANDOMKEY"), b"$-1\r\n")
        await self.ask(wire, [request("SET", key, "value") for key in keys])
        self.assertEqual(await wire.call("DBSIZE"), b":300\r\n")
        found = words_in(await wire.call("KEYS", "*"))
        self.assertEqual((set(found), len(found)), (keys, 300))
        self.assertEqual(
            set(words_in(await wire.call("KEYS", "key:1?"))), {b"key:%d" % number for number in range(10, 20)}
        )
        for _ in range(10):
            self.assertIn((await wire.call("RANDOMKEY")).split(b"\r\n")[1], keys)
        owners = [await self.cluster.ask(server, "DBSIZE") for server in self.cluster.servers]
        self.assertTrue(all(owners) and sum(owners) == 300, owners)
        self.assertEqual(await wire.call("FLUSHALL"), b"+OK\r\n")
        self.assertEqual([await self.cluster.ask(server, "DBSIZE") for server in self.cluster.servers], [0, 0, 0])
        self.assertEqual((await wire.call("DBSIZE"), await wire.call("KEYS", "*")), (b":0\r\n", b"*0\r\n"))

    async def test_scripts_and_functions_of_all_shards(self) -> None:
        """A script or a function that is loaded once can be called with keys of all slots."""
        wire = await self.wire()
        sha = (await wire.call("SCRIPT", "LOAD", "return KEYS[1]")).split(b"\r\n")[1]
        library = "#!lua name=lib\nserver.register_function('first', function(keys) return keys[1] end)"
        self.assertEqual(await wire.call("FUNCTION", "LOAD", library), b"$3\r\nlib\r\n")
        for number in range(30):
            key = b"k%02d" % number
            for words in (("EVALSHA", sha, 1, key), ("FCALL", "first", 1, key)):
                self.assertEqual(await wire.call(*words), b"$3\r\n%b\r\n" % key)
        self.assertEqual(await wire.call("SCRIPT", "FLUSH"), b"+OK\r\n")
        self.assertEqual(await wire.call("FUNCTION", "FLUSH"), b"+OK\r\n")
        for number in range(30):
            self.assertEqual((await wire.call("EVALSHA", sha, 1, b"k%02d" % number))[:9], b"-NOSCRIPT")
            self.assertEqual(await wire.call("FCALL", "first", 1, b"k%02d" % number), b"-ERR Function not found\r\n")

    async def test_scripts_without_keys(self) -> None:
        """EVALSHA finds a script without keys that EVAL has run, however the digest is written."""
        wire = await self.wire()
        await wire.call("DBSIZE")
        for number in range(20):
            script = b"return %d" % number
            self.assertEqual(await wire.call("EVAL", script, 0), b":%d\r\n" % number)
            sha = hashlib.sha1(script).hexdigest()
            for digest in (sha, sha.upper()):
                self.assertEqual(await wire.call("EVALSHA", digest, 0), b":%d\r\n" % number)

    async def test_a_big_number_without_digits(self) -> None:
        """A script that returns any text as a big number disturbs no other client of its node."""
        wire, other = await self.wire(), await self.wire()
        for each in (wire, other):
            await each.call("HELLO", 3)
        wire.send(request("EVAL", "return {big_number='a' .. string.char(13, 10) .. 'b'}", 1, "key"))
        other.send(b"".join(request("INCR", "key") for _ in range(50)))
        self.assertEqual(await wire.replies(1), [b"(a  b\r\n"])
        self.assertEqual(await other.replies(50), [b":%d\r\n" % number for number in range(1, 51)])

    async def test_dump_and_restore(self) -> None:
        """What DUMP of a server returns can be restored through the proxy, and the other way round."""
        single = await self.wire(await self.start_single())
        proxy = await self.wire()
        for source, target in ((single, proxy), (proxy, single)):
            for key, words in {
                "s": ("SET", "s", b"\x00\r\n\xff"),
                "l": ("RPUSH", "l", "a", "b", "c"),
                "h": ("HSET", "h", "f", "v"),
                "z": ("ZADD", "z", 1.5, "a"),
                "x": ("XADD", "x", "1-1", "f", "v"),
            }.items():
                await self.ask(source, [request("DEL", key), request(*words)])
                dump = await source.call("DUMP", key)
                payload = dump[dump.index(b"\n") + 1 : -2]
                await target.call("DEL", key)
                self.assertEqual(await target.call("RESTORE", key, 0, payload), b"+OK\r\n")
                self.assertEqual(await target.call("DUMP", key), dump)
                self.assertEqual(
                    await target.call("RESTORE", key, 0, payload), b"-BUSYKEY Target key name already exists.\r\n"
                )

    async def test_publish(self) -> None:
        """Messages that are published through the proxy reach subscribers of the cluster in their order."""
        client = await self.connect()
        wire = await self.wire()
        async with client.subscribe("channel") as plain, client.ssubscribe("channel") as sharded:
            names = ("PUBLISH", "SPUBLISH")
            wire.send(b"".join(request(name, "channel", number) for number in range(50) for name in names))
            self.assertEqual({reply[:1] for reply in await wire.replies(100)}, {b":"})
            for subscription in (plain, sharded):
                messages = subscription.messages()
                received = [(await anext(messages)).data for _ in range(50)]
                self.assertEqual(received, [b"%d" % number for number in range(50)])

    async def test_slowlog(self) -> None:
        """SLOWLOG has the slow commands of the proxy, and a server's form."""
        service = await self.start_proxy(slowlog_slower_than=0, slowlog_max_len=3)
        wire = await self.wire(self.port_of(service))
        await wire.call("CLIENT", "SETNAME", "me")
        for number in range(5):
            await wire.call("SET", f"key{number}", "v" * 200)
        self.assertEqual(await wire.call("SLOWLOG", "LEN"), b":3\r\n")
        reply = await wire.call("SLOWLOG", "GET", 2)
        self.assertEqual(len(frames_of(reply.partition(b"\r\n")[2])), 2)
        self.assertIn(b"$3\r\nSET\r\n$4\r\nkey4\r\n$147\r\n" + b"v" * 128 + b"... (72 more bytes)\r\n", reply)
        self.assertIn(b"$2\r\nme\r\n", reply)
        for count, last in ((30, b"v\r\n"), (31, b"... (2 more arguments)\r\n")):
            await wire.call("RPUSH", "list", *["v"] * count)
            reply = await wire.call("SLOWLOG", "GET", 1)
            self.assertIn(b"\r\n*32\r\n$5\r\nRPUSH\r\n", reply)
            self.assertIn(b"$1\r\nv\r\n$%d\r\n" % (len(last) - 2) + last, reply)
        # A large request is not kept.
        await wire.call("SET", "large", "v" * 1_000_000)
        self.assertLess(sum(len(word) for entry in service.server.slowlog for word in entry.words), 2000)
        self.assertLess(max(len(entry.request) for entry in service.server.slowlog), 2000)
        # All are counted, also those that came together.  A request that is split is one.
        before = service.server.snapshot().requests_slow
        wire.send(b"".join(request("GET", f"{{same}}{number}") for number in range(50)))
        await wire.replies(50)
        self.assertEqual(service.server.snapshot().requests_slow, before + 50)
        await wire.call("MGET", *(f"key{number}" for number in range(5)))
        self.assertEqual(service.server.snapshot().requests_slow, before + 51)
        newest = next(iter(service.server.slowlog))
        self.assertEqual(newest.words, [b"MGET", *(b"key%d" % number for number in range(5))])
        self.assertEqual(await wire.call("SLOWLOG", "RESET"), b"+OK\r\n")
        self.assertEqual(await wire.call("SLOWLOG", "GET"), b"*0\r\n")
