"""What the status page is made of: the changes of state, the slot map, and whether the proxy is ready."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.cases import SynchronousTestCase
from tests.proxy.base import request
from tests.proxy.memory import ClientEnd, MemoryProxyTests
from txvalkeycluster import (
    Address,
    AuthenticationFailed,
    Closed,
    ClusterUnavailable,
    CommandsWaiting,
    ConnectFailed,
    Event,
    LoginFailed,
    Node,
    NodeConnected,
    NodeConnectFailed,
    NodeDisconnected,
    Shard,
    Topology,
    TopologyRefreshFailed,
    TopologyRefreshRestored,
    TopologyUpdated,
)
from txvalkeycluster.proxy.snapshot import Snapshot
from txvalkeycluster.proxy.web.cluster_watch import ClusterWatch
from txvalkeycluster.proxy.web.history import History
from txvalkeycluster.proxy.web.status import (
    Part,
    Readiness,
    part_of,
    readiness_of,
    readiness_of_all,
    status_of,
    worker_row,
)

FIRST, SECOND, THIRD = (Address("10.0.0.1", port) for port in (7000, 7001, 7002))
_HALF = 8192


def node(address: Address, role: Any = "primary") -> Node:
    return Node(str(address.port) * 10, address.host, address.port, role)


def topology(version: int, *primaries: Address, replicas: tuple[Address, ...] = ()) -> Topology:
    """Return a slot map of two shards.  The first one has the replicas."""
    ranges = (((0, _HALF - 1),), ((_HALF, 16383),))
    found = zip(primaries, ranges, ((), ()), strict=False)
    shards = [Shard(node(primary), others, slots) for primary, slots, others in found]
    shards[0] = Shard(shards[0].primary, tuple(node(each, "replica") for each in replicas), shards[0].slots)
    return Topology(version, tuple(shards))


class HistoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1000.0
        self.history = History(lambda: self.now)

    def texts(self) -> list[str]:
        return [each["text"] for each in self.history.as_json()]

    def test_entries(self) -> None:
        """Each has a number, a time, a level and a text, and is passed on."""
        passed: list[tuple[str, str]] = []
        self.history.on_entry = lambda level, text: passed.append((level, text))
        self.history.add("info", "one")
        self.now += 1
        self.history.add("error", "two")
        self.assertEqual(
            self.history.as_json(),
            [
                {"number": 1, "time": 1000.0, "level": "info", "text": "one"},
                {"number": 2, "time": 1001.0, "level": "error", "text": "two"},
            ],
        )
        self.assertEqual(passed, [("info", "one"), ("error", "two")])

    def test_the_same_change(self) -> None:
        """What several sources see is one entry; what one source sees again is another."""
        for source in (1, 2, 3, 2):
            self.history.add("info", "one", source)
        self.assertEqual(self.texts(), ["one", "one"])
        self.now += 1000
        self.history.add("info", "one", 3)
        self.assertEqual(self.texts(), ["one"] * 3)

    def test_a_limited_number(self) -> None:
        """Only the last entries are kept."""
        for number in range(250):
            self.history.add("info", str(number))
        self.assertEqual(self.texts(), [str(number) for number in range(150, 250)])


class FakeClient:
    def __init__(self) -> None:
        self.emit: Callable[[Event], object] = lambda event: None

    def add_listener(self, listener: Callable[[Event], object]) -> None:
        self.emit = listener


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.history = History(self.clock.seconds)
        self.watch = ClusterWatch(self.clock.seconds, lambda: 1000.0 + self.clock.seconds(), self.history)

    def client(self, protocol: int = 2, user: str | None = None) -> FakeClient:
        fake = FakeClient()
        made: Any = fake
        self.assertIs(self.watch.followed(lambda *_: made)(protocol, user, None), made)
        return fake

    def texts(self) -> list[str]:
        return [each["text"] for each in self.history.as_json()]

    def started(self, **login: Any) -> FakeClient:
        """Return a client that has a slot map, and forget what it has told."""
        client = self.client(**login)
        client.emit(TopologyUpdated(topology(1, FIRST, SECOND, replicas=(THIRD,)), None))
        self.history = self.watch.history = History(self.clock.seconds)
        return client

    def test_a_failover(self) -> None:
        """The slot map is the newest one, and the change of the primary is an event."""
        client = self.started()
        self.clock.advance(5)
        client.emit(TopologyUpdated(topology(2, THIRD, SECOND, replicas=(FIRST,)), None))
        self.assertEqual(self.texts(), [f"{THIRD} is the primary of 8192 slots now, after {FIRST}"])
        self.assertEqual(self.watch.changed, 1005.0)
        first, second = self.watch.shards()
        self.assertEqual(first["primary"]["address"], str(THIRD))
        self.assertEqual([each["address"] for each in first["replicas"]], [str(FIRST)])
        self.assertEqual((second["slots"], second["slot_count"]), ("8192-16383", 8192))
        self.assertIs(self.watch.shards(), self.watch.shards())
        self.assertEqual(self.watch.missing_slots, 0)
        # Another client sees it later.
        self.clock.advance(60)
        other = self.client(3)
        other.emit(TopologyUpdated(topology(1, FIRST, SECOND, replicas=(THIRD,)), None))
        other.emit(TopologyUpdated(topology(2, THIRD, SECOND, replicas=(FIRST,)), None))
        self.assertEqual(len(self.texts()), 1)

    def test_nodes(self) -> None:
        """A node that cannot be reached has its reason, until it is connected or leaves the cluster."""
        client = self.started()
        for _ in range(3):
            client.emit(NodeConnectFailed(FIRST, ConnectFailed(f"{FIRST}: refused\nagain")))
            client.emit(NodeConnectFailed(SECOND, ConnectFailed("x" * 1000)))
        self.assertEqual(self.watch.failed[FIRST], "refused; again")
        self.assertEqual(len(self.watch.failed[SECOND]), 300)
        self.assertEqual(len(self.texts()), 2)
        client.emit(NodeConnected(FIRST))
        client.emit(TopologyUpdated(topology(2, FIRST), None))
        self.assertEqual(self.watch.failed, {})

    def test_a_lost_connection(self) -> None:
        client = self.started()
        client.emit(NodeConnected(FIRST))
        client.emit(NodeDisconnected(FIRST, ConnectFailed("gone"), False, 3))
        client.emit(NodeConnected(FIRST))
        client.emit(CommandsWaiting(7, 3.0, "waiting for x"))
        self.assertEqual(
            self.texts(),
            [
                f"connected to {FIRST}",
                f"lost the connection to {FIRST} with 3 commands unanswered: gone",
                f"connected to {FIRST} again",
                "7 commands wait, the oldest for 3.0 s: waiting for x",
            ],
        )

    def test_the_beginnings_of_other_clients(self) -> None:
        """Only the first client tells that it connects: there may be many logins."""
        for login in ({"protocol": 3}, {"user": "alice"}):
            client = self.started(**login)
            client.emit(NodeConnected(FIRST))
            self.assertEqual(self.texts(), [])
            client.emit(NodeConnectFailed(FIRST, ConnectFailed("refused")))
            client.emit(NodeConnected(FIRST))
            self.assertEqual(self.texts(), [f"cannot connect to {FIRST}: refused", f"connected to {FIRST} again"])

    def test_logins_of_others(self) -> None:
        """Everybody can try passwords: that is no event, and does not make the proxy unready."""
        refused = AuthenticationFailed("WRONGPASS")
        for own in (False, True):
            client = self.client(user=None if own else "alice")
            client.emit(TopologyRefreshFailed(ClusterUnavailable("no node")))
            client.emit(TopologyUpdated(topology(1, FIRST, SECOND), None))
            client.emit(NodeConnectFailed(FIRST, refused))
            client.emit(LoginFailed(FIRST, refused))
            self.assertEqual(len(self.texts()), 4 if own else 0)
            self.assertEqual(len(self.watch.failed), 1 if own else 0)

    def test_failures(self) -> None:
        """The cluster cannot be reached if no client can that has tried."""
        first, second = self.client(), self.client(3)
        self.assertIsNone(self.watch.failure)
        first.emit(TopologyRefreshFailed(ClusterUnavailable("no node")))
        self.assertEqual(self.watch.failure, "no node")
        second.emit(TopologyUpdated(topology(1, FIRST, SECOND), None))
        self.assertIsNone(self.watch.failure)
        second.emit(TopologyRefreshFailed(ClusterUnavailable("no node")))
        self.assertEqual(self.watch.failure, "no node")
        first.emit(TopologyRefreshRestored())
        self.assertIsNone(self.watch.failure)
        first.emit(Closed())
        self.assertEqual(self.watch.failure, "no node")
        second.emit(Closed())
        self.assertIsNone(self.watch.failure)
        self.assertEqual(self.watch.clients, set())

    def test_many_addresses(self) -> None:
        """Redirects can name addresses without end."""
        client = self.started()
        for port in range(1, 3000):
            client.emit(NodeConnectFailed(Address("10.0.0.9", port), ConnectFailed("refused")))
        self.assertEqual(len(self.watch.failed), 1000)
        self.assertLessEqual(len(self.texts()), 100)

    def test_a_shard_without_a_primary(self) -> None:
        client = self.started()
        client.emit(TopologyUpdated(Topology(2, (Shard(None, (), ((0, 99),)),)), None))
        self.assertEqual(self.watch.shards()[0]["primary"], None)
        self.assertEqual(self.watch.missing_slots, 16384)


class ReadinessTests(MemoryProxyTests):
    def test_ready(self) -> None:
        server = self.proxy()
        self.assertEqual(readiness_of(server), Readiness(True, "the proxy serves requests for all slots"))

    def test_own_users(self) -> None:
        """The proxy connects before a client has logged in: else nobody would send it one."""
        users = self.mktemp()
        with open(users, "w") as file:
            file.write("alice:scrypt:14:00:" + "00" * 32 + "\n")
        self.assertTrue(readiness_of(self.proxy(users=users)).ready)

    def test_before_the_first_answer(self) -> None:
        for each in self.nodes:
            self.network.instead[each.address] = Deferred
        self.assertEqual(readiness_of(self.proxy()), Readiness(False, "the cluster has not answered yet"))

    def test_no_node(self) -> None:
        """The text says why no node can be reached; and the proxy is ready as soon as one can."""
        for each in self.nodes:
            self.network.refuse(each)
        server = self.proxy()
        ClientEnd(server).send(request("GET", "a"))
        self.advance(1)
        found = readiness_of(server)
        self.assertFalse(found.ready)
        self.assertTrue(found.text.startswith("the cluster cannot be reached: "), found.text)
        self.assertIn("refused", found.text)
        self.network.instead.clear()
        self.advance(5)
        self.assertTrue(readiness_of(server).ready)

    def test_a_lost_cluster(self) -> None:
        """A proxy that has lost all nodes is not ready, although it knows a slot map."""
        server = self.proxy()
        client = ClientEnd(server)
        for each in self.nodes:
            self.network.refuse(each)
        client.send(request("GET", "a"))
        self.advance(3)
        self.assertFalse(readiness_of(server).ready)

    def test_passed_logins(self) -> None:
        """Without a login there is no slot map."""
        self.assertTrue(readiness_of(self.proxy(pass_through=True)).ready)

    def test_missing_slots(self) -> None:
        """The proxy serves the others, and no other proxy could do more."""
        server = self.proxy()
        server.watch.updated(topology(2, FIRST))
        text = "the proxy serves requests, but 8192 of 16384 slots have no primary"
        self.assertEqual(readiness_of(server), Readiness(True, text))
        server.watch.updated(Topology(3, ()))
        self.assertEqual(readiness_of(server), Readiness(False, "no slot has a primary"))

    def test_stopping(self) -> None:
        server = self.proxy()
        server.stop()
        self.assertFalse(readiness_of(server).ready)

    def test_workers(self) -> None:
        """One that is ready is enough."""
        no, other, yes = Readiness(False, "no"), Readiness(False, "other"), Readiness(True, "yes")
        self.assertEqual(readiness_of_all([no, yes, other]), yes)
        self.assertEqual(readiness_of_all([no, other]), no)
        self.assertEqual(readiness_of_all([]), Readiness(False, "no worker accepts clients yet"))

    # ---- the whole status

    def test_a_part(self) -> None:
        """What a worker tells arrives as it was, also from another version of this package."""
        server = self.proxy()
        client = ClientEnd(server)
        client.send(request("GET", self.key_of(self.nodes[0])))
        self.network.settle()
        part = part_of(server)
        sent = part.as_json()
        self.assertEqual(Part.from_json(json.loads(json.dumps(sent))), part)
        sent["numbers"]["new"] = 1
        self.assertEqual(Part.from_json(sent), part)
        numbers = part.nodes[str(self.nodes[0].address)]
        self.assertEqual((numbers["open"], numbers["pending"], numbers["errors"]), (1, 0, 0))
        self.assertGreater(numbers["commands"], 0)

    def test_parts_together(self) -> None:
        """Numbers are added; the slot map is the newest one."""
        parts = [
            Part(Readiness(True, ""), Snapshot(), 2.0, [{"new": 1}], {"a": {"open": 1, "moved": 2}}, {"x": "down"}),
            Part(Readiness(True, ""), Snapshot(), 1.0, [{"old": 1}], {"a": {"open": 2}, "b": {"open": 1}}),
        ]
        rows = [worker_row(3, "running", Snapshot(clients=1, requests=7))]
        shown = status_of(
            parts,
            Snapshot(requests=9),
            Readiness(True, "yes"),
            history=[{"text": "one"}],
            now=1000.0,
            uptime=5.0,
            max_clients=10,
            workers=rows,
        )
        self.assertEqual(shown["shards"], [{"new": 1}])
        self.assertEqual(shown["nodes"], {"a": {"open": 3, "moved": 2}, "b": {"open": 1}})
        self.assertEqual(shown["failed"], {"x": "down"})
        self.assertEqual(shown["workers"], [{"number": 3, "state": "running", "clients": 1, "requests": 7}])
        self.assertEqual((shown["ready"], shown["text"], shown["numbers"]["requests"]), (True, "yes", 9))
        json.dumps(shown)
        self.assertEqual(
            status_of([], Snapshot(), Readiness(False, ""), history=[], now=0, uptime=0, max_clients=1, workers=[])[
                "shards"
            ],
            [],
        )

    def test_no_secret(self) -> None:
        """Neither keys, nor values, nor passwords are in it."""
        server = self.proxy()
        client = ClientEnd(server)
        client.send(request("SET", "secret-key", "secret-value") + request("AUTH", "secret-user", "secret-password"))
        self.network.settle()
        text = json.dumps(part_of(server).as_json()) + json.dumps(server.history.as_json())
        self.assertNotIn("secret", text)
