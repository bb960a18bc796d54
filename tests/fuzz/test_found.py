"""The inputs with which fuzzing has found defects."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from tests.cases import SynchronousTestCase
from tests.fuzz.inputs import nested, wire
from tests.memory import MemoryTests
from tests.scripted.base import ask, moved
from tests.topology.test_parsers import ASKED, finish
from txvalkeycluster import Address, ClusterUnavailable, ProtocolError, ReplyError, TopologyError
from txvalkeycluster.address import parse_address
from txvalkeycluster.commands.command_info import read_reply
from txvalkeycluster.commands.model import KeySpec
from txvalkeycluster.connection import tls
from txvalkeycluster.connection.endpoints import endpoint_maker
from txvalkeycluster.connection.handshake import ServerInfo
from txvalkeycluster.options import Options
from txvalkeycluster.testing import DEFAULT_REPLY, ScriptedNode
from txvalkeycluster.topology.nodes_parser import read_nodes
from txvalkeycluster.topology.parsers import read_shards, read_slots

NODE: list[Any] = [b"10.0.0.1", 7000, b"a" * 40, []]


class TopologyTests(SynchronousTestCase):
    def assert_refused(self, reply: Any, text: str) -> None:
        error = self.assertRaises(TopologyError, finish, read_slots(reply, ASKED))
        self.assertIn(text, str(error))
        self.assertLess(len(str(error)), 200)

    def test_lists_nested_deeply(self) -> None:
        """The repr of a deeply nested list raises RecursionError.  The parser refuses such a reply."""
        self.assert_refused([[nested(990), 5, NODE]], "first slot: [[")
        self.assert_refused([[0, 5, nested(990)]], "row 0 node 0")

    def test_rows_nested_deeply(self) -> None:
        """Comparing two deeply nested rows raises RecursionError.  The parser reads each row by itself then."""
        rows = [[start, start, [*NODE[:3], [], nested(990)]] for start in (1, 3)]
        (shard,) = finish(read_slots(rows, ASKED))
        self.assertEqual(shard.slots, ((1, 1), (3, 3)))

    def test_long_names(self) -> None:
        """Long node ids are refused, because node values are kept for all clients of the process."""
        self.assert_refused([[0, 5, [b"10.0.0.1", 7000, b"a" * 100_000]]], "is not a valid name")

    def test_names_that_forge_lines_of_a_log(self) -> None:
        self.assert_refused([[0, 5, [b"h\nerror: all is lost", 7000, b"a"]]], "is not a valid name")
        self.assertRaises(ValueError, parse_address, "h\n:7000")

    def test_a_port_that_is_no_integer(self) -> None:
        """A port that is not an integer is refused, even if it is equal to the port of a known node."""
        finish(read_slots([[0, 5, NODE]], ASKED))
        self.assert_refused([[0, 5, [NODE[0], 7000.0, *NODE[2:]]]], "is not a number")

    def test_long_lines(self) -> None:
        """The error for a long line is short."""
        for line in (b"a " + b"x" * 10_000 + b" master - 0 0 1 c 0", b"a h:1 master - 0 0 1 c [" + b"9" * 10_000):
            error = self.assertRaises(TopologyError, finish, read_nodes(line, ASKED))
            self.assertLess(len(str(error)), 200)

    def test_a_slot_with_many_owners(self) -> None:
        """The error for a slot with 1000 owners is short."""
        rows = [[0, 0, [b"h%d" % number, 7000, b"%d" % number]] for number in range(1000)]
        self.assert_refused(rows, "assigns slot 0 twice")

    def test_shards_nested_deeply(self) -> None:
        for reply in (nested(990), [nested(990)], [{b"slots": nested(990), b"nodes": []}]):
            self.assertRaises(TopologyError, finish, read_shards(reply, ASKED))


class CommandInfoTests(MemoryTests):
    def test_subcommands_of_subcommands(self) -> None:
        """Subcommands of subcommands are ignored.  They raised RecursionError, and commands waited for ever."""
        entry: list[Any] = [b"x", 1, [], 0, 0, 0, [], [], [], []]
        for _ in range(500):
            entry = [b"x", 1, [], 0, 0, 0, [], [], [], [entry]]
        (command,) = read_reply([entry])
        self.assertEqual(command.subcommands["X"].subcommands, {})

    def test_keys_that_begin_before_the_command(self) -> None:
        """A first key before the command gives no keys.  The client counted up from there for ever."""
        spec = KeySpec(1, first=-(1 << 60), keynum=0)
        self.assertEqual(list(spec.positions(["x", "9", "k"])), [])

    def test_commands_that_were_not_asked_for(self) -> None:
        """A reply to COMMAND INFO does not change commands that the client did not ask about."""
        entries = [[name, 2, [b"readonly"], 2, 2, 1] for name in (b"get", b"mod.x")]
        for node in self.nodes:
            node.script = lambda _, words, __: wire(entries) if words[0] == b"COMMAND" else DEFAULT_REPLY
        client = self.client()
        before = client.commands["GET"]
        self.result_of(client.execute("MOD.X", "a", "k"))
        self.assertIs(client.commands["GET"], before)
        self.assertTrue(client.commands["MOD.X"].known)


class HelloTests(MemoryTests):
    def test_versions_that_are_no_numbers(self) -> None:
        """A version with thousands of digits, which Python does not convert, counts as 0."""
        for version, major in (("9" * 5000, 0), ("9.1", 9), ("x", 0), ("", 0), ("10.0", 10)):
            self.assertEqual(ServerInfo(3, version).major, major)

    def test_a_reply_of_another_type(self) -> None:
        """A reply to HELLO that is no map fails the handshake."""
        for reply in (b":5\r\n", b"$3\r\nabc\r\n", b"_\r\n"):
            for node in self.nodes:
                node.script = lambda _, words, __, reply=reply: reply if words[0] == b"HELLO" else DEFAULT_REPLY
            error = self.error_of(self.lazy_client().refresh_topology(), ClusterUnavailable)
            self.assertIn("answered HELLO with", str(error))

    def test_texts_and_numbers_of_any_size(self) -> None:
        """Fields of HELLO with wrong types count as missing, and a long version is cut."""
        hello = {b"version": b"9" * 5000, b"id": float("inf"), b"proto": nested(900), b"mode": [b"x"], b"role": None}
        for node in self.nodes:
            node.script = lambda _, words, __: wire(hello) if words[0] == b"HELLO" else DEFAULT_REPLY
        client = self.client()
        info = client._router.factory.node_at(self.nodes[0].address).info
        self.result_of(client.get(self.key_of(self.nodes[0])))
        info = client._router.factory.node_at(self.nodes[0].address).info
        assert info is not None
        self.assertEqual((info.client_id, info.protocol, info.mode, info.role), (0, 3, "", "primary"))
        self.assertLess(len(info.version), 200)


async def _first(found: AsyncIterator[Any]) -> Any:
    return await anext(found)


class ReplyTests(MemoryTests):
    """A reply with a wrong type or shape fails its command with ProtocolError, and no other command."""

    def reply_with(self, reply: bytes, *names: bytes) -> None:
        for node in self.nodes:
            node.script = lambda _, words, __: reply if words[0] in names else DEFAULT_REPLY

    def test_replies_to_methods(self) -> None:
        self.reply_with(b"*1\r\n+odd\r\n", b"HGETALL", b"ZRANGE", b"XRANGE", b"GEOPOS")
        client = self.client()
        for call in (
            lambda: client.hgetall("k"),
            lambda: client.zrange("k", 0, -1, withscores=True),
            lambda: client.pipeline().hgetall("k").execute(raise_first=True),
        ):
            error = self.error_of(call(), ProtocolError)
            self.assertTrue(error.maybe_executed)
        self.assertEqual(self.result_of(client.get("k")), None)

    def test_nested_too_deeply_to_be_decoded(self) -> None:
        self.reply_with(wire(nested(990)), b"GET")
        client = self.client(encoding="utf-8")
        self.assertIn("nested too deeply", str(self.error_of(client.get("k"), ProtocolError)))
        self.assertIn(
            "nested too deeply", str(self.error_of(client.execute_on("node:7000", "GET", "k"), ProtocolError))
        )

    def test_exec_nested_deeply(self) -> None:
        """The error for a deeply nested reply to EXEC shows its beginning."""
        replies = {b"EXEC": wire([nested(980), 1]), b"SET": b"+QUEUED\r\n"}
        for node in self.nodes:
            node.script = lambda _, words, __: replies.get(words[0], DEFAULT_REPLY)
        error = self.error_of(self.client().transaction().set("k", "v").execute(), ProtocolError)
        self.assertIn("the reply to EXEC of 1 commands is [[", str(error))

    def test_in_a_transaction(self) -> None:
        """A result of the wrong type is a ProtocolError, and the other results are given."""
        replies = {b"EXEC": b"*2\r\n*1\r\n+odd\r\n+OK\r\n", b"HGETALL": b"+QUEUED\r\n", b"SET": b"+QUEUED\r\n"}
        for node in self.nodes:
            node.script = lambda _, words, __: replies.get(words[0], DEFAULT_REPLY)
        client = self.client()
        odd, good = self.result_of(client.transaction().hgetall("k").set("k", "v").execute())
        self.assertIsInstance(odd, ProtocolError)
        self.assertEqual(good, b"OK")
        failed = client.transaction().hgetall("k").set("k", "v").execute(raise_first=True)
        self.assertIs(type(self.error_of(failed, ProtocolError)), ProtocolError)

    def test_replies_to_scans(self) -> None:
        for reply in (b"*1\r\n+0\r\n", b"+0\r\n", b"*2\r\n*0\r\n*0\r\n", b"*2\r\n+0\r\n+k\r\n"):
            self.reply_with(reply, b"SSCAN", b"HSCAN")
            client = self.client()
            for found in (client.sscan_iter("k"), client.hscan_iter("k")):
                self.error_of(Deferred.fromCoroutine(_first(found)), ProtocolError)

    def test_replies_to_wait(self) -> None:
        """A reply to WAIT that is no number fails, and the writes stay unconfirmed."""
        for reply in (b"+many\r\n", b"*0\r\n", b"_\r\n", b"*2\r\n:1\r\n:1\r\n"):
            self.reply_with(reply, b"WAIT")
            client = self.client()
            self.result_of(client.set("k", "v"))
            self.error_of(client.wait(1, 100), ProtocolError)
            self.assertTrue(any(node.has_unconfirmed for node in client._router.factory.nodes.values()))


class MemoryUseTests(MemoryTests):
    def test_redirects_to_ever_more_addresses(self) -> None:
        """A refresh removes the retry queues of redirects to ever new addresses."""
        client = self.client(timeout=0.2, check_redirects=False, backoff_max=0.02)
        key = self.key_of(self.nodes[0])
        count = iter(range(10_000))

        def script(_: ScriptedNode, words: list[bytes], __: Any) -> Any:
            return ask(key, Address("nowhere", 1 + next(count))) if words[0] == b"GET" else DEFAULT_REPLY

        self.nodes[0].script = script
        for _ in range(20):
            self.error_of(client.get(key))
        self.result_of(client.refresh_topology())
        self.advance(3.0, step=0.1)
        self.assertLess(len(client._router.recovery._retry_queues), 3)

    def test_ever_more_names_with_tls(self) -> None:
        """The TLS contexts of host names are kept in a cache of limited size."""
        self.patch(tls, "_CONTEXTS", 3)
        made: list[str] = []
        verifier = tls._NameVerifier

        def recorded(creator: Any, name: str) -> Any:
            made.append(name)
            return verifier(creator, name)

        self.patch(tls, "_NameVerifier", recorded)
        clock = MemoryReactorClock()  # type: ignore[no-untyped-call]
        options = Options(tls=True)
        dial = endpoint_maker(clock, options, tls.TLSEndpoints(clock, options, print))
        for name in ("a", "b", "c", "a", "d", "d", "a"):
            dial(name, 7000)
        self.assertEqual(made, ["a", "b", "c", "d", "a"])

    def test_declared_sizes(self) -> None:
        """The library hiredis allocates 8 bytes for each declared item of a list before the items come."""
        for kind, count, least, most in ((b"*", 100_000, 800_000, 1_000_000), (b"$", 1 << 40, 0, 100_000)):
            client = self.client(timeout=1.0)
            self.nodes[0].script = lambda _, words, __, declared=b"%b%d\r\n" % (kind, count): (
                declared if words[0] == b"GET" else DEFAULT_REPLY
            )
            getting = client.get(self.key_of(self.nodes[0]))
            tracemalloc.start()
            self.network.settle()
            taken = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            self.assertTrue(least <= taken < most, (kind, taken))
            self.error_of(getting)
            self.result_of(client.abort())

    def test_redirects_to_invalid_hosts(self) -> None:
        """A redirect whose target is no valid address fails its command with ReplyError."""
        key = self.key_of(self.nodes[0])
        client = self.client()
        for redirect in (moved(key, "h\x07:1"), moved(key, "x" * 9 + ":" + "9" * 5000)):
            self.nodes[0].script = lambda _, words, __, to=redirect: to if words[0] == b"GET" else DEFAULT_REPLY
            self.error_of(client.get(key), ReplyError)

    def test_a_map_of_shards_without_nodes(self) -> None:
        """Shards without nodes count against max_nodes."""
        empty: dict[bytes, list[Any]] = {b"slots": [], b"nodes": []}
        node = {b"id": b"a", b"role": b"master", b"port": 7000, b"endpoint": b"node"}
        full = {b"slots": [0, 16383], b"nodes": [node]}
        for scripted in self.nodes:
            scripted.script = lambda _, words, __: (
                wire([full, *[empty] * 50]) if words[:2] == [b"CLUSTER", b"SHARDS"] else DEFAULT_REPLY
            )
        client = self.lazy_client(topology_source="shards", max_nodes=20)
        self.assertIn("lists 51 nodes", str(self.error_of(client.refresh_topology(), ClusterUnavailable)))
