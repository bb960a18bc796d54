"""What the proxy does with requests when nodes say something unusual, on scripted nodes; and how it writes replies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.cases import SynchronousTestCase
from tests.proxy.base import request
from tests.proxy.memory import ClientEnd, MemoryProxyTests
from txvalkeycluster import ConnectionLost, PartialFailure, ReplyError, RoutingError, key_slot
from txvalkeycluster.commands import CommandTable
from txvalkeycluster.errors import (
    AuthenticationFailed,
    ClientClosed,
    ClusterUnavailable,
    CommandTimeout,
    ProtocolError,
    TooManyPending,
    ValkeyError,
)
from txvalkeycluster.proxy.commands.dispatch import Routes
from txvalkeycluster.proxy.replies import Status, Verbatim, encode, error, error_frame
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode

# What a server says about a command of a module, whose key is its second argument.
_DESCRIBED = b"*1\r\n*6\r\n$8\r\nMOD.GET2\r\n:3\r\n*1\r\n+readonly\r\n:2\r\n:2\r\n:1\r\n"
_NO_REPLY = b""


class HandlingTests(MemoryProxyTests):
    def setUp(self) -> None:
        super().setUp()
        self.calls: list[tuple[ScriptedNode, list[bytes]]] = []
        #: The replies of the nodes, by the first word; functions get the words.
        self.replies: dict[bytes, Any] = {}
        for node in self.nodes:
            node.script = self.answer

    def answer(self, node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
        name = words[0].upper()
        if name in self.replies:
            self.calls.append((node, words))
            reply = self.replies[name]
            return reply(words) if callable(reply) else reply
        return DEFAULT_REPLY

    def client(self, **settings: Any) -> ClientEnd:  # type: ignore[override]
        """Return a client of a new proxy."""
        return ClientEnd(self.proxy(**settings))

    def call(self, client: ClientEnd, *words: bytes | str | int) -> bytes:
        """Send a request, and return the reply."""
        client.received.clear()
        client.send(request(*words))
        self.network.settle()
        return bytes(client.received)

    def owner_of(self, key: bytes) -> ScriptedNode | None:
        """Return the node that has a key."""
        return self.cluster.owner(key_slot(key))

    def names(self) -> list[bytes]:
        """Return the names of the commands that nodes have received."""
        return [words[0].upper() for _, words in self.calls]

    # ---- commands that are not in the table

    def test_a_command_of_a_module(self) -> None:
        """An unknown command is described by a server once, goes to the owner of its key, and keeps its reply."""
        self.replies = {b"COMMAND": _DESCRIBED, b"MOD.GET2": b"+a status\r\n"}
        client = self.client()
        for number in range(10):
            key = b"key%d" % number
            self.assertEqual(self.call(client, "mod.get2", "x", key), b"+a status\r\n")
            self.assertEqual(self.calls[-1], (self.owner_of(key), [b"mod.get2", b"x", key]))
        self.assertEqual(self.names(), [b"COMMAND", *[b"MOD.GET2"] * 10])

    def test_a_command_that_no_server_knows(self) -> None:
        """The server's own error comes back, byte by byte, and the next call asks again: modules can be loaded."""
        text = b"-ERR unknown command '\xff', with args beginning with: 'a' \r\n"
        self.replies = {b"COMMAND": b"*1\r\n*-1\r\n", b"\xff": text}
        client = self.client()
        for _ in range(2):
            self.assertEqual(self.call(client, b"\xff", "a"), text)
        self.assertEqual(self.names(), [b"COMMAND", b"\xff"] * 2)

    def test_a_server_that_describes_another_command(self) -> None:
        """A server cannot redefine a command by describing it when it is asked about another one."""
        self.replies = {b"COMMAND": _DESCRIBED.replace(b"$8\r\nMOD.GET2", b"$3\r\nGET"), b"FOO": b"+foo\r\n"}
        client = self.client()
        self.assertEqual(self.call(client, "FOO", "x", "key"), b"+foo\r\n")
        upstream = client.session.upstream
        assert upstream is not None
        self.assertEqual(upstream.client.commands["GET"], CommandTable()["GET"])

    def test_a_user_that_may_not_use_command(self) -> None:
        """Without the right to use COMMAND, an unknown command goes to a node, and follows a redirect."""
        self.replies = {b"COMMAND": b"-NOPERM no\r\n", b"FOO": b"+foo\r\n"}
        self.assertEqual(self.call(self.client(), "FOO", "x"), b"+foo\r\n")
        self.assertEqual(self.names(), [b"COMMAND", b"FOO"])

    def test_a_wrong_description(self) -> None:
        """A description that cannot be read is an error of this command, and says that it was not executed."""
        self.replies = {b"COMMAND": b"+OK\r\n", b"FOO": b"+foo\r\n"}
        client = self.client()
        reply = self.call(client, "FOO")
        self.assertEqual((reply[:5], self.names()), (b"-ERR ", [b"COMMAND"]))
        self.assertEqual(self.call(client, "PING"), b"+PONG\r\n")

    def test_the_client_leaves_while_a_command_is_described(self) -> None:
        """A client can leave at any moment of an unknown command."""
        self.replies = {b"COMMAND": SILENCE, b"FOO": b"+foo\r\n"}
        client = self.client()
        client.send(request("FOO"))
        self.network.settle()
        client.close()
        for node in self.nodes:
            for connection in node.connections:
                connection.write(_DESCRIBED)
        self.advance(11.0, 0.5)
        self.assertEqual(client.session.server.sessions, {})

    # ---- commands for several nodes

    def test_errors_of_several_nodes(self) -> None:
        """An error that all nodes give is given as by one server; if only some give it, the text says so."""
        self.replies = {b"FLUSHALL": b"-ERR syntax error\r\n"}
        client = self.client()
        self.assertEqual(self.call(client, "FLUSHALL", "FOO"), b"-ERR syntax error\r\n")
        failing = [self.nodes[1]]
        self.replies = {
            b"FLUSHALL": lambda words: b"-OOM no memory\r\n" if self.calls[-1][0] in failing else b"+OK\r\n"
        }
        reply = self.call(client, "FLUSHALL")
        self.assertTrue(reply.startswith(b"-OOM FLUSHALL failed for 1 of 3 parts"), reply)
        self.assertEqual(reply.count(b"\r\n"), 1)

    def test_function_stats(self) -> None:
        """FUNCTION STATS tells about the node that runs a function, in the form of one server."""
        idle = b"*4\r\n+running_script\r\n$-1\r\n+engines\r\n*2\r\n+LUA\r\n*2\r\n+libraries_count\r\n:1\r\n"
        running = idle.replace(b"$-1\r\n", b"*2\r\n+name\r\n+f\r\n")
        self.replies = {b"FUNCTION": lambda words: running if self.calls[-1][0] is self.nodes[2] else idle}
        self.assertIn(b"*2\r\n$4\r\nname\r\n$1\r\nf\r\n", self.call(self.client(), "FUNCTION", "STATS"))

    def test_a_key_named_ok(self) -> None:
        """RANDOMKEY gives a key as a bulk string, also if its name is OK."""
        self.replies = {b"RANDOMKEY": b"$2\r\nOK\r\n", b"FLUSHALL": b"+OK\r\n"}
        client = self.client()
        self.assertEqual(self.call(client, "RANDOMKEY"), b"$2\r\nOK\r\n")
        self.assertEqual(self.call(client, "FLUSHALL"), b"+OK\r\n")

    def test_secrets_of_the_cluster(self) -> None:
        """CONFIG GET tells no password of the cluster, and that there is no cluster."""
        names = (b"requirepass", b"primaryauth", b"masterauth", b"tls-key-file-pass", b"maxmemory", b"cluster-enabled")
        values = [b"hunter2"] * 4 + [b"0", b"yes"]
        words = b"".join(
            b"$%d\r\n%b\r\n" % (len(word), word) for pair in zip(names, values, strict=True) for word in pair
        )
        for protocol, header in ((2, b"*12\r\n"), (3, b"%6\r\n")):
            self.replies = {b"CONFIG": header + words}
            client = self.client()
            self.call(client, "HELLO", protocol)
            reply = self.call(client, "CONFIG", "GET", "*")
            self.assertEqual(
                (reply[: len(header)], reply.count(b"hunter2"), reply.count(b"$0\r\n\r\n")), (header, 0, 4)
            )
            self.assertIn(b"$15\r\ncluster-enabled\r\n$2\r\nno\r\n", reply)

    def test_publish_keeps_its_place(self) -> None:
        """PUBLISH to one channel goes to one node, in its place among the other requests of the client."""
        self.replies = {b"PUBLISH": b":1\r\n", b"ECHO": b"+no\r\n"}
        client = self.client()
        client.send(b"".join(request("PUBLISH", "channel", number) + request("ECHO", number) for number in range(5)))
        self.network.settle()
        self.assertEqual(bytes(client.received), b"".join(b":1\r\n$1\r\n%d\r\n" % number for number in range(5)))
        self.assertEqual(len({node for node, _ in self.calls}), 1)
        self.assertEqual([words[2] for _, words in self.calls], [b"%d" % number for number in range(5)])

    # ---- the order of requests

    def refused_first(self, refusal: bytes, *sent: bytes) -> tuple[bytes, list[list[bytes]]]:
        """Send requests in one write, the first of which a server refuses once; return the replies, and the writes."""
        client = self.client(timeout=5)
        # The window of a client begins low.
        self.call(client, "GET", "warm")
        refused: list[bytes] = []

        def write(words: list[bytes]) -> Any:
            if not refused:
                refused.append(words[1])
                return refusal
            return DEFAULT_REPLY

        self.replies = {b"SET": write, b"MGET": write}
        client.received.clear()
        client.send(b"".join(sent))
        self.network.settle()
        for _ in range(200):
            self.advance(0.01)
        return bytes(client.received), [words for _, words in self.calls]

    def test_a_refused_request_is_not_executed_after_a_later_one(self) -> None:
        """It gets the refusal, if the server has executed a later request for the same slot."""
        for refusal in (b"-CLUSTERDOWN The cluster is down\r\n", b"-TRYAGAIN Multiple keys request\r\n"):
            self.calls.clear()
            replies, writes = self.refused_first(refusal, request("SET", "{k}1", "a"), request("SET", "{k}2", "b"))
            self.assertEqual(replies, refusal + b"+OK\r\n")
            self.assertEqual([words[2] for words in writes], [b"a", b"b"])

    def test_a_refused_request_is_repeated(self) -> None:
        """It is repeated if later requests were refused, too, or are for another slot."""
        one, other = self.key_of(self.nodes[0]), self.key_of(self.nodes[0], 1)
        down = b"-CLUSTERDOWN The cluster is down\r\n"
        replies, writes = self.refused_first(down, request("SET", one, "a"), request("SET", other, "b"))
        self.assertEqual(replies, b"+OK\r\n+OK\r\n")
        self.assertEqual([words[2] for words in writes], [b"a", b"b", b"a"])

    def test_a_refused_part_of_mget(self) -> None:
        """A part of a split MGET does not see the value of a later SET."""
        one, other = self.key_of(self.nodes[0]), self.key_of(self.nodes[1])
        down = b"-CLUSTERDOWN The cluster is down\r\n"
        replies, writes = self.refused_first(down, request("MGET", one, other), request("SET", one, "late"))
        self.assertEqual(replies, down + b"+OK\r\n")
        self.assertEqual(sorted(words[0] for words in writes), [b"MGET", b"MGET", b"SET"])

    # ---- the version in HELLO

    def version(self, client: ClientEnd) -> bytes:
        """Return the version that HELLO tells."""
        words = self.call(client, "HELLO").split(b"\r\n")
        return words[words.index(b"version") + 2] if b"version" in words else _NO_REPLY

    def test_the_version_of_the_cluster(self) -> None:
        """HELLO tells the version of the servers; they are asked once."""
        self.replies = {b"INFO": b"$51\r\n# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.9\r\n\r\n"}
        server = self.proxy()
        self.assertEqual([self.version(ClientEnd(server)) for _ in range(3)], [b"9.9"] * 3)
        self.assertEqual(self.names(), [b"INFO"])

    def test_no_version(self) -> None:
        """If the servers do not tell their version, or not in time, HELLO is answered after a second at the latest."""
        for reply in (b"-NOPERM no\r\n", SILENCE, b"$2\r\nhi\r\n", b"*1\r\n:1\r\n", b":1\r\n"):
            self.replies = {b"INFO": reply}
            client = self.client()
            client.send(request("HELLO"))
            self.advance(1.1, 0.05)
            self.assertIn(b"$7\r\nversion\r\n$5\r\n8.0.0\r\n", client.received)

    def test_no_cluster(self) -> None:
        """HELLO, PING and CLIENT are answered while no node can be reached."""
        for node in self.nodes:
            self.network.refuse(node)
        client = self.client()
        client.send(request("HELLO", 3) + request("PING") + request("CLIENT", "GETNAME"))
        self.advance(1.5, 0.05)
        self.assertTrue(client.received.endswith(b"+PONG\r\n_\r\n"), client.received)


class RepliesTests(SynchronousTestCase):
    def test_values(self) -> None:
        """Each kind of value has its form in RESP2 and RESP3."""
        for value, two, three in (
            (b"a\r\n", b"$3\r\na\r\n\r\n", b"$3\r\na\r\n\r\n"),
            ("ü", b"$2\r\n\xc3\xbc\r\n", b"$2\r\n\xc3\xbc\r\n"),
            (Status("OK"), b"+OK\r\n", b"+OK\r\n"),
            (Verbatim(b"text"), b"$4\r\ntext\r\n", b"=8\r\ntxt:text\r\n"),
            (None, b"$-1\r\n", b"_\r\n"),
            (True, b":1\r\n", b"#t\r\n"),
            (False, b":0\r\n", b"#f\r\n"),
            (-5, b":-5\r\n", b":-5\r\n"),
            (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
            ([], b"*0\r\n", b"*0\r\n"),
            ((1, [None]), b"*2\r\n:1\r\n*1\r\n$-1\r\n", b"*2\r\n:1\r\n*1\r\n_\r\n"),
            ({"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
            (frozenset([1]), b"*1\r\n:1\r\n", b"~1\r\n:1\r\n"),
            (ReplyError("ERR no"), b"-ERR no\r\n", b"-ERR no\r\n"),
        ):
            self.assertEqual((encode(value, 2), encode(value, 3)), (two, three))
        self.assertRaises(TypeError, encode, object(), 2)

    def test_error_texts(self) -> None:
        """An error is one line, whatever its text is, and keeps bytes that are not UTF-8."""
        for text, line in (
            ("ERR a\r\nb", b"-ERR a  b\r\n"),
            ("ERR a\n\r\n", b"-ERR a\r\n"),
            ("ERR \x0b\u2028", b"-ERR \x0b\xe2\x80\xa8\r\n"),
            ("ERR \udcff", b"-ERR \xff\r\n"),
            ("", b"-\r\n"),
        ):
            self.assertEqual(error(text), line)

    def test_errors_of_the_client(self) -> None:
        """Each error has its code; what may have been executed says so, and what was not executed, too."""
        wrong = ReplyError("WRONGTYPE no")
        lost, unsent = ConnectionLost("lost", maybe_executed=True), ConnectionLost("lost", maybe_executed=False)
        made: Callable[..., Any] = PartialFailure
        for reason, line in (
            (wrong, "WRONGTYPE no"),
            (lost, "CONNLOST lost; it may have been executed"),
            (unsent, "CONNLOST lost; it was not executed"),
            (CommandTimeout("late", maybe_executed=True), "TIMEOUT late; it may have been executed"),
            (ClientClosed("closed"), "SHUTDOWN closed; it was not executed"),
            (ProtocolError("odd"), "ERR odd; it may have been executed"),
            (TooManyPending("full"), "BUSY full"),
            (AuthenticationFailed("wrong password"), "NOAUTH wrong password"),
            (ClusterUnavailable("none", [("a:1", "no")]), "CLUSTERDOWN none   a:1: no"),
            (RoutingError("GET has keys in several slots: a"), "CROSSSLOT Keys in request don't hash to the same slot"),
            (RoutingError("no"), "ERR no"),
            (ValkeyError("other"), "ERR other"),
            (made("MSET failed", [("slot 1", wrong), ("slot 2", wrong)]), "WRONGTYPE no"),
            (
                made("MSET failed", [("slot 1", wrong), ("slot 2", b"OK")]),
                "WRONGTYPE MSET failed   slot 1: WRONGTYPE no; the other parts were executed",
            ),
            (
                made("MSET failed", [("slot 1", b"OK"), ("slot 2", wrong), ("slot 3", lost)]),
                "CONNLOST MSET failed   slot 2: WRONGTYPE no   slot 3: lost; it may have been executed",
            ),
            (
                made("MSET failed", [("slot 1", b"OK"), ("slot 2", unsent)]),
                "CONNLOST MSET failed   slot 2: lost; the other parts were executed",
            ),
            (
                made("MSET failed", [("slot 1", wrong), ("slot 2", unsent)]),
                "WRONGTYPE MSET failed   slot 1: WRONGTYPE no   slot 2: lost; it was not executed",
            ),
        ):
            self.assertEqual(error_frame(reason), f"-{line}\r\n".encode())


class RoutesTests(SynchronousTestCase):
    def test_routes(self) -> None:
        """Commands with one key in the first place have a route under every spelling; all others have none."""
        routes = Routes(CommandTable())
        for name in (b"GET", b"get", b"GeT", b"ZADD", b"PEXPIREAT"):
            found = routes[name]
            assert found is not None
            self.assertEqual(found.name, name.decode().upper())
        for name in (
            b"MGET",
            b"PING",
            b"DEL",
            b"XREAD",
            b"BLPOP",
            b"FOO",
            b"",
            b"\xff",
            b"MOVE",
            b"OBJECT",
            b"SORT",
        ):
            self.assertIsNone(routes[name])

    def test_memory(self) -> None:
        """Clients cannot fill the memory with names of commands."""
        routes = Routes(CommandTable())
        for number in range(1 << 15):
            spelled = bytes(
                each ^ 32 if number >> place & 1 else each for place, each in enumerate(b"zrevrangebyscore")
            )
            self.assertEqual(routes[spelled] is not None, True)
            self.assertIsNone(routes[b"unknown%d" % number])
        self.assertTrue(len(routes) <= 10_000)
