"""Transactions, blocking commands and subscriptions of clients that do what nobody expects, on scripted nodes."""

from __future__ import annotations

from typing import Any

from tests.proxy.base import ProxyTests, request
from tests.proxy.memory import ClientEnd, MemoryProxyTests
from tests.proxy.programs import until
from txvalkeycluster.proxy.commands import several_slots
from txvalkeycluster.testing import DEFAULT_REPLY, SILENCE, ScriptedNode


class Store:
    """What scripted nodes do with lists: commands that block, CLIENT UNBLOCK, and transactions."""

    def __init__(self) -> None:
        self.lists: dict[bytes, list[bytes]] = {}
        #: The commands that block, by the connection, in their order.
        self.blocked: dict[Any, list[bytes]] = {}
        # The commands that are queued after MULTI.
        self._queued: dict[Any, list[list[bytes]]] = {}

    def __call__(self, node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
        """Answer a command: the script of a node."""
        name = words[0].upper()
        if name in (b"EXEC", b"MULTI") or connection in self._queued:
            return self._transaction(node, words, connection, name)
        return self._run(node, words, connection, name, blocks=True)

    def _transaction(self, node: ScriptedNode, words: list[bytes], connection: Any, name: bytes) -> Any:
        if name == b"MULTI":
            self._queued[connection] = []
            return b"+OK\r\n"
        if name == b"EXEC":
            calls = self._queued.pop(connection, [])
            replies = [self._run(node, call, connection, call[0].upper(), blocks=False) for call in calls]
            return b"*%d\r\n%b" % (len(replies), b"".join(b"+OK\r\n" if r is DEFAULT_REPLY else r for r in replies))
        self._queued[connection].append(words)
        return b"+QUEUED\r\n"

    def _run(self, node: ScriptedNode, words: list[bytes], connection: Any, name: bytes, *, blocks: bool) -> Any:
        if name == b"HELLO":
            connection.resp3 = words[1:2] == [b"3"]
            return b"%%3\r\n+proto\r\n:3\r\n+version\r\n+9.1.2\r\n+id\r\n:%d\r\n" % self.number(node, connection)
        null = b"_\r\n" if connection.resp3 else b"*-1\r\n"
        if name == b"CLIENT" and words[1].upper() == b"ID":
            return b":%d\r\n" % self.number(node, connection)
        if name == b"CLIENT" and words[1].upper() == b"UNBLOCK":
            return self._unblock(node, words, null)
        if name in (b"RPUSH", b"LPUSH"):
            values = self.lists.setdefault(words[1], [])
            values += words[2:]
            count = len(values)
            self.serve(words[1])
            return b":%d\r\n" % count
        if name in (b"LPOP", b"RPOP", b"BLPOP", b"BRPOP", b"BLMOVE"):
            reply = self._pop(words, name)
            if reply is None and name.startswith(b"B") and blocks:
                self.blocked[connection] = words
                return SILENCE
            return null if reply is None else reply
        return DEFAULT_REPLY

    def number(self, node: ScriptedNode, connection: Any) -> int:
        """Return the number of a connection as a client."""
        return node.index * 1_000_000 + int(connection.number)

    def forget(self, connection: Any) -> None:
        """Forget what a connection that is closed has begun."""
        self.blocked.pop(connection, None)
        self._queued.pop(connection, None)

    def serve(self, key: bytes) -> None:
        """Give the elements of a list to the commands that wait for it."""
        for connection, words in list(self.blocked.items()):
            if words[1] == key and connection in connection.node.connections:
                reply = self._pop(words, words[0].upper())
                if reply is not None:
                    del self.blocked[connection]
                    connection.write(reply)

    def _pop(self, words: list[bytes], name: bytes) -> bytes | None:
        values = self.lists.get(words[1])
        if not values:
            return None
        if name == b"BLMOVE":
            return b"$%d\r\n%b\r\n" % (len(values[0]), values[0])
        value = values.pop(-1 if name in (b"RPOP", b"BRPOP") else 0)
        bulk = b"$%d\r\n%b\r\n" % (len(value), value)
        return b"*2\r\n$%d\r\n%b\r\n%b" % (len(words[1]), words[1], bulk) if name.startswith(b"B") else bulk

    def _unblock(self, node: ScriptedNode, words: list[bytes], null: bytes) -> bytes:
        for connection in list(self.blocked):
            if b"%d" % self.number(connection.node, connection) == words[2] and connection.node is node:
                del self.blocked[connection]
                with_error = words[3:4] == [b"ERROR"]
                null = b"_\r\n" if connection.resp3 else b"*-1\r\n"
                connection.write(b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n" if with_error else null)
                return b":1\r\n"
        return b":0\r\n"


class SpecialModeTests(MemoryProxyTests):
    def setUp(self) -> None:
        super().setUp()
        self.store = Store()
        for node in self.nodes:
            node.script = self.store

    def call(self, client: ClientEnd, *calls: str) -> bytes:
        """Send requests in one write, and return what comes."""
        client.received.clear()
        client.send(b"".join(request(*call.split()) for call in calls))
        self.network.settle()
        return bytes(client.received)

    def push(self, key: str, value: bytes) -> None:
        """Let another client push an element."""
        self.store.lists.setdefault(key.encode(), []).append(value)
        self.store.serve(key.encode())
        self.network.settle()

    def test_unblock_is_only_for_its_command(self) -> None:
        """CLIENT UNBLOCK that comes late at the server does not end the next command of the connection."""
        server = self.proxy()
        key = self.key_of(self.nodes[0])
        one, two = ClientEnd(server), ClientEnd(server)
        late: list[tuple[ScriptedNode, list[bytes], Any]] = []

        def delayed(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            if words[:2] == [b"CLIENT", b"UNBLOCK"]:
                late.append((node, words, connection))
                return SILENCE
            return self.store(node, words, connection)

        self.nodes[0].script = delayed
        self.call(one, f"BLPOP {key} 0")
        one.close()
        self.network.settle()
        self.assertEqual(len(late), 1)
        self.push(key, b"a")
        self.assertEqual(self.call(two, f"BLPOP {key} 0"), b"")
        self.nodes[0].script = self.store
        for node, words, connection in late:
            connection.write(self.store(node, words, connection))
        self.advance(1)
        self.assertEqual(bytes(two.received), b"")
        self.push(key, b"b")
        self.assertIn(b"b\r\n", bytes(two.received))
        self.assertEqual(server.snapshot().elements_lost, 1)

    def test_a_server_that_does_not_tell_the_number_of_a_connection(self) -> None:
        """Without the right to CLIENT ID, CLIENT UNBLOCK is refused, and the connection of one that left is cut."""
        server = self.proxy()
        key = self.key_of(self.nodes[0])
        self.nodes[0].script = lambda node, words, connection: (
            b"-NOPERM no\r\n" if words[:2] == [b"CLIENT", b"ID"] else self.store(node, words, connection)
        )
        self.network.cut(self.nodes[0])
        self.network.settle()
        one, two = ClientEnd(server), ClientEnd(server)
        self.call(one, f"BLPOP {key} 0")
        number = one.session.number
        self.assertIn(b"-NOPERM the user may not use CLIENT ID", self.call(two, f"CLIENT UNBLOCK {number}"))
        one.close()
        self.network.settle()
        self.assertEqual(self.nodes[0].count(b"CLIENT", b"UNBLOCK"), 0)
        self.assertNotIn([b"BLPOP", key.encode(), b"0"], self.waiting())

    def waiting(self) -> list[list[bytes]]:
        """Return the commands that block at the nodes, on open connections."""
        return [words for connection, words in self.store.blocked.items() if connection in connection.node.connections]

    def test_queued_transactions_are_limited_together(self) -> None:
        """The commands that all clients have queued count as requests that are under way."""
        server = self.proxy(max_total_bytes=100_000)
        clients = [ClientEnd(server) for _ in range(10)]
        large = "x" * 9_000
        for _ in range(50):
            for client in clients:
                self.call(client, "MULTI") if client.session.transaction is None else None
                self.call(client, f"SET {{k}} {large}")
        queued = sum(client.session.transaction.size for client in clients if client.session.transaction is not None)
        self.assertLess(queued, 300_000)
        self.assertEqual(server.under_way, queued)
        for client in clients[:5]:
            self.call(client, "DISCARD")
        for client in clients[5:]:
            client.close()
        self.network.settle()
        self.assertEqual(server.under_way, 0)
        one = clients[0]
        self.call(one, "MULTI", f"SET {{k}} {large}")
        self.assertGreater(server.under_way, 9_000)
        self.assertEqual(self.call(one, "EXEC"), b"*1\r\n+OK\r\n")
        self.assertEqual(server.under_way, 0)
        self.call(one, "MULTI", f"SET {{k}} {large}", "RESET")
        self.assertEqual(server.under_way, 0)

    def test_the_end_of_a_client_that_waits(self) -> None:
        """A client with RESP3 that waits for an element is disconnected, too, if its messages may be missing."""
        for keys in (1, 3):
            server = self.proxy()
            client = ClientEnd(server)
            self.call(client, "HELLO 3", "SUBSCRIBE a")
            self.call(client, " ".join(["BLPOP", *[self.key_of(node) for node in self.nodes[:keys]], "0"]))
            for node in self.nodes:
                node.drop_subscribers()
            self.advance(1)
            self.assertTrue(client.closed)
            self.assertEqual(self.waiting(), [])

    def test_a_client_that_leaves_while_a_command_is_described(self) -> None:
        """A command that was to be queued is not executed, if the client leaves before EXEC."""
        client = ClientEnd(self.proxy())
        for node in self.nodes:
            node.script = lambda node, words, connection: (
                SILENCE if words[0] == b"COMMAND" else self.store(node, words, connection)
            )
        self.call(client, "MULTI", "MOD.SET k v")
        client.close()
        described = b"*1\r\n*6\r\n$7\r\nMOD.SET\r\n:3\r\n*1\r\n+write\r\n:1\r\n:1\r\n:1\r\n"
        for node in self.nodes:
            for connection in node.connections:
                if node.count(b"COMMAND"):
                    connection.write(described)
        self.network.settle()
        self.assertEqual((self.cluster.count(b"COMMAND"), self.cluster.count(b"MOD.SET")), (1, 0))

    def test_a_client_that_leaves_while_it_subscribes(self) -> None:
        """Nothing stays subscribed, if the client leaves when only a part of its channels is acknowledged."""
        server = self.proxy()
        silent = [True]

        def answer(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            return SILENCE if silent[0] and words[0] == b"PSUBSCRIBE" else self.store(node, words, connection)

        for node in self.nodes:
            node.script = answer
        client = ClientEnd(server)
        self.call(client, "SUBSCRIBE a __keyspace@0__:x")
        self.assertEqual(bytes(client.received), b"")
        client.close()
        self.advance(1)
        self.assertEqual(self.cluster.publish(b"a", b"x"), 0)
        silent[0] = False
        self.advance(20)
        self.assertEqual(self.cluster.publish(b"__keyspace@0__:x", b"x"), 0)

    def test_messages_before_the_end_of_subscriptions(self) -> None:
        """A message that has come is sent before the reply to RESET or HELLO, which ends its form."""
        for before, after in (((), "RESET"), (("HELLO 3",), "HELLO 2")):
            server = self.proxy()
            client = ClientEnd(server)
            self.call(client, *before, "SUBSCRIBE a")
            client.received.clear()
            # In one turn of the reactor.
            client.session.push(b"message")
            client.send(request(*after.split()))
            self.network.settle()
            self.assertTrue(client.received.startswith(b"message"), client.received)

    def test_many_requests_behind_one_that_waits(self) -> None:
        """More requests behind one that waits than the proxy reads do not end the search for clients that are idle."""
        server = self.proxy(idle_timeout=20)
        client, idle = ClientEnd(server), ClientEnd(server)
        self.call(client, "BLPOP k 0", f"SET a {'x' * 100_000}", "PING")
        self.assertFalse(client.reading)
        self.advance(30, 0.5)
        self.assertEqual((client.closed, idle.closed), (False, True))

    def test_idle_subscribers(self) -> None:
        """A client that has subscriptions is not idle, as on a server."""
        server = self.proxy(idle_timeout=5)
        client, idle = ClientEnd(server), ClientEnd(server)
        self.call(client, "SUBSCRIBE a")
        self.advance(20, 0.5)
        self.assertEqual((client.closed, idle.closed), (False, True))
        self.call(client, "UNSUBSCRIBE")
        self.advance(20, 0.5)
        self.assertTrue(client.closed)

    def test_a_watch_and_another_version(self) -> None:
        """After HELLO with another version, nobody knows whether watched keys have changed: EXEC executes nothing."""
        server = self.proxy()
        client = ClientEnd(server)
        self.call(client, "WATCH {k}1")
        self.call(client, "HELLO 3")
        self.assertEqual(self.call(client, "MULTI", "SET {k}1 a", "EXEC"), b"+OK\r\n+QUEUED\r\n_\r\n")
        self.assertEqual(self.call(client, "MULTI", "SET {k}1 a", "EXEC"), b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
        self.call(client, "WATCH {k}1")
        self.call(client, "HELLO 3")
        self.assertEqual(self.call(client, "MULTI", "SET {k}1 a", "EXEC"), b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")

    def test_the_longest_wait_first(self) -> None:
        """An element goes to the client that waits for the longest time, also if it was too late for another one."""
        server = self.proxy()
        keys = [self.key_of(node) for node in self.nodes]
        clients = [ClientEnd(server) for _ in range(10)]
        for client in clients:
            self.call(client, " ".join(["BLPOP", *keys, "0"]))
        thief = ClientEnd(server)
        for number in range(30):
            key = keys[number % 3]
            if number % 3:
                # Only the wait of the proxy hears of this element, which is taken at once.
                self.store.lists[key.encode()] = [b"x"]
                self.store.serve(key.encode())
                self.store.lists[key.encode()] = []
                self.network.settle()
            else:
                self.call(thief, f"RPUSH {key} {number}")
        self.assertEqual([client.received.count(b"\r\n") for client in clients], [5] * 10)
        values = [int(client.received.split(b"\r\n")[4]) for client in clients]
        self.assertEqual(values, sorted(values))
        self.assertEqual(self.waiting(), [])

    def test_a_time_that_is_no_number(self) -> None:
        """What can be read as a number, but is no time, is refused by the server; nothing waits for it."""
        server = self.proxy()
        key = self.key_of(self.nodes[0])
        for node in self.nodes:
            node.script = lambda node, words, connection: (
                b"-ERR timeout is not a float or out of range\r\n"
                if words[0] == b"BLPOP"
                else self.store(node, words, connection)
            )
        for time in ("nan", "-nan", "inf", "-inf", "1e400", "1_0", "x"):
            client = ClientEnd(server)
            self.assertEqual(
                self.call(client, f"BLPOP {key} {time}", "PING"),
                b"-ERR timeout is not a float or out of range\r\n+PONG\r\n",
                time,
            )

    def test_block_twice(self) -> None:
        """An attempt that must not block has no BLOCK, also if the client gave several: it would block all clients."""
        client = ClientEnd(self.proxy())
        read: list[list[bytes]] = []

        def answer(node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
            if words[0] == b"XREAD":
                read.append(words)
                return SILENCE if b"BLOCK" in words else b"*-1\r\n"
            return self.store(node, words, connection)

        for node in self.nodes:
            node.script = answer
        keys = [self.key_of(node) for node in self.nodes]
        self.call(client, f"XREAD BLOCK 5 COUNT 1 BLOCK 0 STREAMS {' '.join(keys)} 0 0 0")
        calls = [f"XREAD {block}COUNT 1 STREAMS {key} 0" for block in ("", "BLOCK 0 ") for key in keys]
        self.assertEqual(sorted(b" ".join(words).decode() for words in read), sorted(calls))

    def test_many_lists_and_streams(self) -> None:
        """If many connections wait already, further clients try again and again, and get what they wait for."""
        self.patch(several_slots, "MOST_WAITS", 4)
        server = self.proxy()
        keys = [self.key_of(node, number) for number in range(4) for node in self.nodes]
        one, two, three = clients = [ClientEnd(server) for _ in range(3)]
        self.call(one, " ".join(["BLPOP", *keys[:3], "0"]))
        self.call(two, " ".join(["BLPOP", *keys[3:], "0"]))
        self.call(three, " ".join(["BLPOP", *keys[3:], "0.2"]))
        self.assertEqual(len(self.waiting()), 3)
        self.push(keys[11], b"x")
        self.advance(0.1)
        self.assertIn(b"x\r\n", two.received)
        self.advance(0.2)
        self.assertEqual(bytes(three.received), b"*-1\r\n")
        for client in clients:
            client.close()
        self.network.settle()
        self.assertEqual(self.waiting(), [])

    def test_the_end_while_a_list_is_no_list(self) -> None:
        """Nothing is left to be called when the last client has left that waits for keys of which one is no list."""
        for node in self.nodes:
            node.script = lambda node, words, connection: (
                b"-WRONGTYPE no list\r\n" if words[0] == b"BLMOVE" else self.store(node, words, connection)
            )
        server = self.proxy()
        client = ClientEnd(server)
        before = len(self.clock.getDelayedCalls())
        self.call(client, " ".join(["BLPOP", *[self.key_of(node) for node in self.nodes], "0"]))
        self.advance(1)
        self.assertGreater(self.cluster.count(b"LPOP"), 30)
        client.close()
        self.network.settle()
        self.assertFalse([call for call in self.clock.getDelayedCalls() if "deferLater" in str(call)], before)
        self.assertEqual(len(next(iter(server.upstreams)).list_waits), 0)


class RealNodeTests(ProxyTests):
    async def test_a_client_that_leaves_with_many_requests(self) -> None:
        """It is noticed that a client has left, also if more is behind its command than the proxy reads."""
        for keys in (("a",), ("a", "b", "c")):
            await self.leave_with_many_requests(*keys)

    async def leave_with_many_requests(self, *keys: str) -> None:
        client = await self.wire()
        client.send(request("BLPOP", *keys, 0) + request("SET", "d", "x" * 100_000) * 2)
        sessions = self.service.server.sessions
        [session] = sessions.values()
        await until(lambda: session.blocked is not None and not session.reading)
        transport: Any = client.transport
        transport.abortConnection()
        await until(lambda: not sessions and session.blocked is None)

    async def test_a_wait_for_replicas(self) -> None:
        """WAIT without end ends when its client leaves, or the proxy stops."""
        server = self.service.server
        for stop in (False, True):
            client = await self.wire()
            [session] = server.sessions.values()
            client.send(request("SET", "a", 1) + request("WAIT", 5, 0))
            await until(lambda session=session: session.blocked)  # type: ignore[misc]
            if stop:
                await self.service.stopService()
                self.assertEqual(await client.ended(), b"+OK\r\n")
            else:
                client.close()
            await until(lambda: not server.sessions)
            self.assertIsNone(session.blocked)
            # Nothing asks the servers any more.
            await until(lambda: not sum(each.client.statistics.pending for each in server.upstreams))
