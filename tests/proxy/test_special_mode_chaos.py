"""Random transactions, blocking commands and subscriptions of many clients, on nodes that fail at random."""

from __future__ import annotations

import re
from random import Random
from typing import Any

from tests.fuzz.inputs import SEED
from tests.proxy.base import frames_of, request
from tests.proxy.memory import ClientEnd, MemoryProxyTests
from tests.proxy.test_special_modes import Store
from txvalkeycluster import key_slot
from txvalkeycluster.testing import CLOSE, SILENCE, ScriptedNode

_REFUSALS = (b"-TRYAGAIN later\r\n", b"-CLUSTERDOWN down\r\n", b"-LOADING wait\r\n", b"-ERR no\r\n")
_CHANNELS = (b"a", b"b", b"__keyspace@0__:x")
_VALUE = re.compile(rb"\bvalue\.\d+\b")


class ChaosTests(MemoryProxyTests):
    def setUp(self) -> None:
        super().setUp()
        self.random = Random(SEED)
        self.store = Store()
        #: How likely it is that a node fails at a command.
        self.faults = 0.0
        #: Connections on which nothing is answered any more.
        self.dead: set[Any] = set()
        self.values = 0
        for node in self.nodes:
            node.script = self.answer

    def answer(self, node: ScriptedNode, words: list[bytes], connection: Any) -> Any:
        """Answer a command, or fail."""
        del node.received[:]
        random = self.random
        if connection in self.dead:
            return SILENCE
        if random.random() < self.faults and words[0] not in (b"HELLO", b"CLUSTER"):
            kind = random.random()
            if kind < 0.2:
                return CLOSE
            if kind < 0.4:
                self.store(node, words, connection)
                return CLOSE
            if kind < 0.45:
                self.dead.add(connection)
                return SILENCE
            if kind < 0.7 and words[0] not in (b"EXEC", b"CLIENT"):
                slot = key_slot(words[1]) if len(words) > 1 else 0
                target = random.choice([each for each in self.nodes if each is not node]).address
                return b"-%b %d %b:%d\r\n" % (
                    random.choice((b"MOVED", b"ASK")), slot, target.host.encode(), target.port
                )  # fmt: skip
            if words[0] != b"EXEC":
                return random.choice(_REFUSALS)
        return self.store(node, words, connection)

    def words(self, keys: list[str]) -> list[Any]:
        """Return a random request."""
        random = self.random
        key = random.choice(keys)
        several = random.sample(keys, 3)
        self.values += 1
        return random.choice(
            [
                ["SET", key, 1], ["GET", key], ["MGET", *several], ["RPUSH", key, f"value.{self.values}"],
                ["MULTI"], ["MULTI"], ["EXEC"], ["EXEC"], ["DISCARD"], ["WATCH", key], ["UNWATCH"],
                ["BLPOP", key, random.choice((0, 0.1, 5))], ["BLPOP", *several, random.choice((0, 0.1, 5))],
                ["BRPOP", *several, 1], ["LPOP", key], ["PING"], ["ECHO", "x"],
                ["CLIENT", "UNBLOCK", random.randrange(1, 60), random.choice(("ERROR", "TIMEOUT"))],
                ["CLIENT", "KILL", "ID", random.randrange(1, 200)], ["HELLO", random.choice((2, 3))], ["RESET"],
            ]
        )  # fmt: skip

    def about_subscriptions(self) -> list[Any]:
        """Return a random request about subscriptions."""
        random = self.random
        some = random.choices(_CHANNELS, k=random.randrange(1, 4))
        kind = random.choice(("", "P", "S"))
        return random.choice([[f"{kind}SUBSCRIBE", *some], [f"{kind}UNSUBSCRIBE", *some], [f"{kind}UNSUBSCRIBE"]])

    def act(self, clients: dict[ClientEnd, list[int]], keys: list[str]) -> None:
        """Let one client do something."""
        random = self.random
        client = random.choice(list(clients))
        kind = random.random()
        if kind < 0.03:
            client.close()
        elif kind < 0.06:
            self.network.cut(random.choice(self.nodes))
        elif kind < 0.1:
            self.cluster.publish(random.choice(_CHANNELS), b"message")
        else:
            parts: list[bytes] = []
            for _ in range(random.choice((1, 1, 2, 5))):
                talks = client.session.number % 3 == 0 and random.random() < 0.5
                parts.append(request(*(self.about_subscriptions() if talks else self.words(keys))))
            if random.random() < 0.3 and not client.closed:
                marker = len(clients[client])
                clients[client].append(marker)
                parts += [request("DISCARD"), request("PING", f"marker.{marker}.")]
            client.send(b"".join(parts))

    def check(self, clients: dict[ClientEnd, list[int]]) -> None:
        """Check the replies of all clients."""
        values: list[bytes] = []
        for client, sent in clients.items():
            # Nothing but complete replies, and the replies of an open connection are all there, in order.
            data = bytes(client.received)
            self.assertEqual(b"".join(frames_of(data)), data)
            markers = [int(each) for each in re.findall(rb"marker\.(\d+)\.", data)]
            self.assertEqual(markers, sent[: len(markers)], client.session)
            if not client.closed:
                self.assertEqual(markers, sent, client.session)
            values += _VALUE.findall(data)
        self.assertEqual(len(values), len(set(values)))

    def test_nothing_is_left(self) -> None:
        """Every request has one reply, or the connection ends; when all clients have left, nothing is left of them."""
        for _ in range(10):
            self.faults = self.random.choice((0.0, 0.02, 0.1, 0.3))
            server = self.proxy()
            keys = [self.key_of(node, place) for node in self.nodes for place in range(2)]
            clients: dict[ClientEnd, list[int]] = {ClientEnd(server): [] for _ in range(12)}
            for _ in range(300):
                if self.random.random() < 0.05:
                    clients[ClientEnd(server)] = []
                self.act(clients, keys)
                if self.random.random() < 0.7:
                    self.network.trickle(self.random, 0.5)
                if self.random.random() < 0.2:
                    self.clock.advance(self.random.choice((0.01, 0.1, 1)))
            self.faults = 0.0
            # The kernel notices that the other side is gone.
            for connection in list(self.dead):
                if connection in connection.node.connections:
                    connection.close()
            self.advance(60, 0.1)
            # Those that wait for ever get an element, and what is behind it is done.
            for _ in range(200):
                if not any(client.session.blocked for client in clients):
                    break
                for key in keys:
                    self.values += 1
                    self.store.lists.setdefault(key.encode(), []).append(b"value.%d" % self.values)
                    self.store.serve(key.encode())
                self.advance(0.2, 0.05)
            for client, sent in clients.items():
                if not client.closed:
                    sent.append(len(sent))
                    client.send(request("DISCARD") + request("PING", f"marker.{sent[-1]}."))
            self.advance(5, 0.1)
            self.check(clients)
            for client in clients:
                client.close()
            self.advance(100, 0.5)
            self.assertEqual(server.sessions, {})
            counts = (server.cells_under_way, server.under_way, server.slow, server._touched)
            self.assertEqual(counts, (0, 0, set(), set()))
            for upstream in server.upstreams:
                self.assertEqual((upstream.sessions, len(upstream.list_waits)), (0, 0))
                hub = upstream.client._hub
                if hub is not None:
                    self.assertEqual((hub._feeds, hub._upstreams), (set(), {}))
                for node in upstream.client._router.factory.nodes.values():
                    self.assertEqual((node.pool.leases, node.pool.waiting()), ([], []))
            waiting = [each for each in self.store.blocked if each in each.node.connections]
            self.assertEqual(waiting, [])
            server.abort()
            self.advance(1)
            self.assertEqual([call for call in self.clock.getDelayedCalls() if "sweep" not in str(call)], [])
