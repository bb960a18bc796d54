"""A client and a scripted cluster to which random things happen, and the check of what is left."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from tests.memory import MemoryTests
from tests.pubsub.random_user import CLASSIC, SHARDED, Stream, User, ignored
from txvalkeycluster import Address, ClusterClient, key_slot
from txvalkeycluster.testing import CLOSE, DEFAULT_REPLY, SILENCE, ScriptedNode
from txvalkeycluster.testing.scripted import Connection
from txvalkeycluster.testing.scripted_pubsub import deliver, end_sharded

_STEPS = 60
_EVENTS = ["__keyspace@0__:k0", "__keyspace@0__:k1"]
_SUBSCRIBE = frozenset([b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE"])
_UNSUBSCRIBE = frozenset([b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE"])
_EVERY_COMMAND: frozenset[bytes] = frozenset()
# Commands that a node does not answer as usual, and what it does instead.
_TROUBLES: list[tuple[frozenset[bytes], Any]] = [
    (_SUBSCRIBE, b"-NOPERM no\r\n"),
    (_SUBSCRIBE, b"-CLUSTERDOWN The cluster is down\r\n"),
    (_SUBSCRIBE, b"-LOADING Valkey is loading the dataset in memory\r\n"),
    (_SUBSCRIBE | {b"PING"}, b"-LOADING Valkey is loading the dataset in memory\r\n"),
    (_SUBSCRIBE | _UNSUBSCRIBE | {b"PING"}, b"-BUSY Valkey is busy running a script\r\n"),
    (frozenset([b"PING"]), b"-MISCONF Valkey is configured to save RDB snapshots\r\n"),
    (_UNSUBSCRIBE, b"-NOPERM no\r\n"),
    (_EVERY_COMMAND, SILENCE),
    (_SUBSCRIBE, CLOSE),
]


class World:
    """A client, the cluster, and everything that happens to them."""

    def __init__(self, test: MemoryTests, seed: int) -> None:
        self.test = test
        self.random = random = Random(seed)
        self.clock, self.network, self.cluster = test.clock, test.network, test.cluster
        self.nodes = list(test.nodes)
        for number in (3,):
            node = ScriptedNode(self.cluster, number)
            node.address = Address("node", 7000 + number)
            self.network.add(node)
            self.nodes.append(node)
        self.cluster.nodes = list(self.nodes)
        self.cluster.replicas = {self.nodes[0]: [self.nodes[3]]}
        self.trouble: dict[ScriptedNode, tuple[frozenset[bytes], Any]] = {}
        self.mute: set[Connection] = set()
        self.half = False
        self.sent: dict[Stream, int] = {}
        self.users: dict[User, None] = {}
        #: The Deferreds that have not fired, with what they wait for.
        self.open: dict[Deferred[Any], str] = {}
        self.violations: list[str] = []
        self.log: list[str] = []
        self.calm = False
        for node in self.nodes:
            node.script = self.answer
        self.client: ClusterClient[Any] = test.made(
            random=Random(seed),
            protocol=random.choice([2, 3]),
            encoding=random.choice([None, None, "utf-8"]),
            unresponsive_after=2.0,
            connect_timeout=1.0,
            refresh_interval=random.choice([0.1, 1.0]),
            timeout=random.choice([0.5, 5.0]),
        )
        test.addCleanup(self.client.abort)

    def violation(self, text: str) -> None:
        """Note what must not happen."""
        self.violations.append(f"{self.clock.seconds():.3f}: {text}")

    def no_error(self, error: BaseException | None) -> None:
        """Deal with the result of what must not fail."""
        if error is not None:
            self.violation(f"failed with {error!r}")

    def expect(self, what: str, deferred: Deferred[Any], ended: Callable[[BaseException | None], None]) -> None:
        """Wait for a Deferred that must fire once."""
        self.open[deferred] = what
        fired: list[object] = []

        def note(error: BaseException | None) -> None:
            fired.append(error)
            if len(fired) > 1:
                self.violation("a Deferred fired twice")
            self.open.pop(deferred, None)
            ended(error)

        deferred.addCallbacks(lambda _: note(None), lambda failure: note(failure.value))

    def answer(self, node: ScriptedNode, words: list[bytes], connection: Connection) -> Any:
        """The script of all nodes."""
        name = words[0]
        commands, instead = self.trouble.get(node, (_EVERY_COMMAND, DEFAULT_REPLY))
        if instead is not DEFAULT_REPLY and (not commands or name in commands):
            if instead is SILENCE:
                self.mute.add(connection)
            return instead
        if connection in self.mute:
            # A server never leaves out one reply only.
            return SILENCE
        if self.half and name in _SUBSCRIBE and len(words) > 2:
            # The connection ends after the confirmation of the first channel.
            self.half = False
            kind = name.lower()
            start = b">" if connection.resp3 else b"*"
            sizes = len(kind), kind, len(words[1]), words[1]
            connection.write(start + b"3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n:1\r\n" % sizes)
            return CLOSE
        if name == b"SUNSUBSCRIBE":
            slot = key_slot(words[1])
            owner = self.cluster.owner(slot)
            assert owner is not None
            if node is not owner and node not in self.cluster.replicas.get(owner, ()):
                return b"-MOVED %d %b\r\n" % (slot, str(owner.address).encode())
        return DEFAULT_REPLY

    # ---- what happens

    def act(self) -> None:
        """Do one thing."""
        random = self.random
        acts: list[tuple[int, Callable[[], object]]] = [
            (12, self.publish),
            (3, self.subscribe),
            (3, lambda: self.any_user(User.change)),
            (2, lambda: self.any_user(User.close)),
            (1, lambda: self.any_user(self.drop)),
            (1, lambda: self.any_user(User.cancel)),
            (2, lambda: self.any_user(lambda user: user.permit(random.randint(1, 8)))),
            (2, self.move),
            (2, lambda: random.choice(self.nodes).drop_subscribers()),
            (1, lambda: self.network.cut(random.choice(self.nodes))),
            (1, self.failover),
            (1, self.leave_or_return),
            (1, self.refuse_connections),
            (2, self.make_trouble),
            (2, self.refresh),
        ]
        act = random.choices([each for _, each in acts], [weight for weight, _ in acts])[0]
        act()
        pace = [self.network.settle, self.network.step, self.trickle, lambda: None, self.advance]
        random.choices(pace, [4, 3, 3, 2, 3])[0]()

    def trickle(self) -> None:
        """Let some bytes arrive."""
        self.network.trickle(self.random, 0.5)

    def advance(self) -> None:
        """Let some time pass."""
        self.test.advance(self.random.choice([0.01, 0.1, 0.5, 1.2, 3.0]), step=0.05)

    def any_user(self, do: Callable[[User], object]) -> None:
        """Do something with one subscription."""
        if self.users:
            do(self.random.choice(list(self.users)))

    def publish(self) -> None:
        """Publish some messages."""
        for _ in range(self.random.randint(1, 4)):
            self.publish_to(self.random.choice([*CLASSIC, *SHARDED, *_EVENTS]))

    def publish_to(self, channel: str) -> None:
        """Publish the next number to a channel; for events, at each node."""
        if channel in _EVENTS:
            for node in self.cluster.nodes:
                data = self.next((channel, node.address))
                for connection in list(node.connections):
                    deliver(connection, b"", channel.encode(), data)
        elif channel in CLASSIC:
            self.cluster.publish(channel.encode(), self.next((channel, None)))
        else:
            data, owner = self.next((channel, None)), self.cluster.owner(key_slot(channel))
            assert owner is not None
            # A primary passes the messages on to its replicas.
            for node in (owner, *self.cluster.replicas.get(owner, ())):
                for connection in list(node.connections):
                    deliver(connection, b"S", channel.encode(), data)

    def next(self, stream: Stream) -> bytes:
        """Return the next number of a stream."""
        self.sent[stream] = self.sent.get(stream, 0) + 1
        return b"%d" % self.sent[stream]

    def subscribe(self) -> None:
        """Make a subscription."""
        random = self.random
        if len(self.users) >= 8:
            return
        kind = random.choice(["subscribe", "psubscribe", "ssubscribe", "ssubscribe", "keyspace_events"])
        every = {
            "subscribe": CLASSIC,
            "psubscribe": ["c*", "c[01]", "__keyspace@0__:*"],
            "ssubscribe": SHARDED,
            "keyspace_events": ["__keyspace@0__:*"],
        }[kind]
        names = random.sample(every, random.randint(1, min(3, len(every))))
        listens = random.random() < 0.6
        options: dict[str, Any] = {}
        if not listens:
            options = random.choice(
                [{}, {"max_messages": 3}, {"overflow": "pause", "max_messages": 3}, {"max_bytes": 30}]
            )
        if kind == "keyspace_events" and random.random() < 0.4:
            options = {**options, "replicas": True}
        self.users[User(self, kind, names, listens, options)] = None

    def drop(self, user: User) -> None:
        """Drop a subscription that has no listener and no iterator."""
        if not user.listens and user.consumer is None:
            self.users.pop(user, None)
            user.closed = True
            del user.subscription

    def move(self) -> None:
        """Move a slot."""
        self.cluster.move(key_slot(self.random.choice(SHARDED)), self.random.choice(self.primaries()))

    def primaries(self) -> list[ScriptedNode]:
        """The nodes that have slots."""
        return list(dict.fromkeys(node for _, _, node in self.cluster.ranges))

    def give(self, old: ScriptedNode, new: ScriptedNode) -> None:
        """Give all slots of a node to another one."""
        self.cluster.ranges = [(start, end, new if node is old else node) for start, end, node in self.cluster.ranges]

    def end_channels(self, node: ScriptedNode) -> None:
        """End the sharded channels of a node whose slots belong to another one."""
        for channel in SHARDED:
            owner = self.cluster.owner(key_slot(channel))
            if owner is not node:
                for connection in list(node.connections):
                    end_sharded(connection, key_slot(channel))

    def failover(self) -> None:
        """A replica becomes the primary."""
        for primary, (replica, *_) in list(self.cluster.replicas.items()):
            if primary in self.primaries():
                self.give(primary, replica)
                self.cluster.replicas = {replica: [primary]}
                if self.random.random() < 0.5:
                    self.end_channels(primary)

    def leave_or_return(self) -> None:
        """A node without replicas leaves the cluster, or comes back."""
        away = [node for node in self.nodes if node not in self.cluster.nodes]
        if away:
            # It lost messages that the client cannot know of, unless its connections end.
            self.network.cut(away[0])
            self.cluster.nodes = list(self.nodes)
            channel = self.random.choice(SHARDED)
            self.cluster.move(key_slot(channel), away[0])
            return
        paired = {node for primary, replicas in self.cluster.replicas.items() for node in (primary, *replicas)}
        alone = [node for node in self.primaries() if node not in paired]
        if alone:
            node = self.random.choice(alone)
            others = [other for other in self.primaries() if other is not node]
            self.give(node, self.random.choice(others))
            self.cluster.nodes = [other for other in self.nodes if other is not node]
            self.end_channels(node)
            if self.random.random() < 0.5:
                self.network.cut(node)

    def refuse_connections(self) -> None:
        """A node accepts no connections, or accepts them again."""
        if self.network.instead:
            self.network.instead.clear()
        else:
            self.network.refuse(self.random.choice(self.nodes))

    def make_trouble(self) -> None:
        """A node refuses commands or is silent, or is healthy again."""
        if self.random.random() < 0.2:
            self.half = True
        elif self.trouble:
            self.trouble.clear()
        else:
            nodes = self.nodes if self.random.random() < 0.3 else [self.random.choice(self.nodes)]
            self.trouble = dict.fromkeys(nodes, self.random.choice(_TROUBLES))

    def refresh(self) -> None:
        """Let the client hear of the slot map."""
        refreshed: Deferred[Any] = self.client.refresh_topology()
        refreshed.addErrback(ignored)

    # ---- the end

    def sources(self, user: User) -> set[Address]:
        """The nodes whose events a subscription gets."""
        nodes = self.cluster.nodes if user.replicas else self.primaries()
        listed = {*self.primaries(), *(node for nodes in self.cluster.replicas.values() for node in nodes)}
        return {node.address for node in nodes if node in listed}

    def last_streams(self, user: User, name: str) -> list[tuple[Stream, int]]:
        """The streams that a name of a subscription gets, with their last numbers."""
        if user.kind == "keyspace_events":
            sources = self.sources(user)
            return [(stream, sent) for stream, sent in self.sent.items() if stream[1] in sources]
        matched = {"c*": CLASSIC, "c[01]": CLASSIC[:2]}.get(name, [name])
        return [((channel, None), self.sent[channel, None]) for channel in matched]

    def heal(self) -> None:
        """Let everything work again."""
        self.calm = True
        self.trouble.clear()
        self.half = False
        self.network.instead.clear()
        self.network.settle()
        self.refresh()
        self.test.advance(7.0, step=0.05)
        self.refresh()
        self.test.advance(2.0, step=0.05)
        for user in list(self.users):
            user.permit(float("inf"))
        self.test.advance(2.0, step=0.05)

    def live(self) -> None:
        """Let everything happen, then check what is left."""
        self.refresh()
        if self.random.random() < 0.8:
            self.network.settle()
        for _ in range(_STEPS):
            self.act()
            if self.violations:
                return
        self.heal()
        for channel in [*CLASSIC, *SHARDED, *_EVENTS]:
            self.publish_to(channel)
        self.network.settle()
        for user in self.users:
            user.check_caught_up()
        if self.violations:
            return
        self.check_end()

    def check_end(self) -> None:
        """Close everything, and look for what is left."""
        for user in list(self.users):
            user.close()
        # A paused subscription notices only now that its server is silent.
        self.test.advance(2.5, step=0.05)
        if self.open:
            self.violation(f"not fired: {[*self.open.values()]}")
        subscribed = [(node, pair) for node in self.nodes for each in node.connections for pair in each.subscribed]
        if subscribed:
            self.violation(f"still subscribed: {subscribed}")
        self.test.advance(1.5, step=0.05)
        for node in self.nodes:
            used = {number for number, words in node.received if words[0] in _SUBSCRIBE}
            left = [each.number for each in node.connections if each.number in used]
            if left or len(node.connections) > 1:
                self.violation(f"{node.address} still has {left} of {len(node.connections)} connections")
        closed = self.client.close()
        self.network.settle()
        if not closed.called:
            self.violation("close() of the client has not fired")
        if self.clock.getDelayedCalls():
            self.violation(f"timers are left: {[str(call) for call in self.clock.getDelayedCalls()]}")
