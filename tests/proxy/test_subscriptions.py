"""Subscriptions of clients of a proxy, before a real cluster."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, gatherResults

from tests.proxy.base import ProxyTests, Wire, frames_of, request
from tests.proxy.programs import until
from txvalkeycluster import key_slot
from txvalkeycluster.testing import Server

_CLIENTS = 1000
# Keys in all three primaries.
_KEYS = tuple(
    next(f"key:{number}" for number in range(100) if key_slot(f"key:{number}") * 3 // 16384 == third)
    for third in range(3)
)


def array(*words: Any, push: bool = False) -> bytes:
    """Return what a client receives."""
    frame = request(*words)
    # The number of subscriptions is no text.
    last = words[-1]
    if isinstance(last, int):
        frame = frame[: frame.rindex(b"$")] + b":%d\r\n" % last
    return b">" + frame[1:] if push else frame


class SubscriptionTests(ProxyTests):
    async def test_messages(self) -> None:
        """Messages of channels, patterns and sharded channels come as from one server."""
        publisher = await self.wire()
        for protocol in (2, 3):
            wire = await self.wire()
            await wire.call("HELLO", protocol)
            push = protocol == 3
            # A message can come late through the bus of the cluster.
            a = f"a{protocol}"
            for call, *acknowledged in (
                (("SUBSCRIBE", a, "b"), ("subscribe", a, 1), ("subscribe", "b", 2)),
                (("PSUBSCRIBE", "b*"), ("psubscribe", "b*", 3)),
                (("SSUBSCRIBE", *_KEYS), *(("ssubscribe", key, n) for n, key in enumerate(_KEYS, 1))),
            ):
                wire.send(request(*call))
                self.assertEqual(
                    await wire.replies(len(acknowledged)), [array(*words, push=push) for words in acknowledged]
                )
            for call, *messages in (
                (("PUBLISH", a, "1"), ("message", a, "1")),
                (("PUBLISH", "b", "2"), ("message", "b", "2"), ("pmessage", "b*", "b", "2")),
                *((("SPUBLISH", key, "3"), ("smessage", key, "3")) for key in _KEYS),
                (("PUBLISH", "bbb", ""), ("pmessage", "b*", "bbb", "")),
            ):
                await publisher.call(*call)
                received = await wire.replies(len(messages))
                self.assertEqual(sorted(received), sorted(array(*words, push=push) for words in messages))
            wire.send(request("UNSUBSCRIBE", a))
            self.assertEqual(await wire.replies(1), [array("unsubscribe", a, 2, push=push)])
            await publisher.call("PUBLISH", a, "not any more")
            await publisher.call("PUBLISH", "b", "still")
            self.assertIn(array("message", "b", "still", push=push), await wire.replies(2))
            wire.close()

    async def test_events_of_keys(self) -> None:
        """Events of keys come from all primaries, each once, by a pattern or by the name of a channel."""
        for server in await self.cluster.primaries():
            await self.cluster.ask(server, "CONFIG", "SET", "notify-keyspace-events", "KEA")
        by_pattern, by_name, publisher = [await self.wire() for _ in range(3)]
        await by_pattern.call("PSUBSCRIBE", "__keyevent@0__:s?t")
        await by_name.call("SUBSCRIBE", "__keyevent@0__:set")
        await by_name.call("SUBSCRIBE", f"__keyspace@0__:{_KEYS[0]}")
        for key in _KEYS:
            await publisher.call("SET", key, 1)
        self.assertEqual(
            Counter(await by_pattern.replies(3)),
            Counter(array("pmessage", "__keyevent@0__:s?t", "__keyevent@0__:set", key) for key in _KEYS),
        )
        self.assertEqual(
            Counter(await by_name.replies(4)),
            Counter(
                [
                    *(array("message", "__keyevent@0__:set", key) for key in _KEYS),
                    array("message", f"__keyspace@0__:{_KEYS[0]}", "set"),
                ]
            ),
        )
        by_name.send(request("UNSUBSCRIBE"))
        await by_name.replies(2)
        await publisher.call("SET", _KEYS[1], 2)
        await by_pattern.replies(1)
        self.assertEqual(await by_name.call("PING"), b"+PONG\r\n")

    async def test_patterns_that_match_everything(self) -> None:
        """A pattern that matches events of keys and other channels gets the events of all primaries, and each once."""
        for server in await self.cluster.primaries():
            await self.cluster.ask(server, "CONFIG", "SET", "notify-keyspace-events", "KA")
        wire, publisher = [await self.wire() for _ in range(2)]
        for pattern in ("*", "_[_]*", "__k*"):
            self.assertEqual(await wire.call("PSUBSCRIBE", pattern), array("psubscribe", pattern, 1))
            expected: Counter[bytes] = Counter()
            for key in _KEYS:
                await publisher.call("SET", key, 1)
                expected[array("pmessage", pattern, f"__keyspace@0__:{key}", "set")] += 1
            for number in range(9):
                await publisher.call("PUBLISH", f"__k{number}", "x")
                expected[array("pmessage", pattern, f"__k{number}", "x")] += 1
            self.assertEqual(Counter(await wire.replies(len(expected))), expected)
            self.assertEqual(await wire.call("PUNSUBSCRIBE", pattern), array("punsubscribe", pattern, 0))
        for server in await self.cluster.primaries():

            async def none(server: Server = server) -> bool:
                found: int = await self.cluster.ask(server, "PUBSUB", "NUMPAT")
                return not found

            await self.cluster.until(none, "the end of the subscriptions")

    async def test_without_replies(self) -> None:
        """Acknowledgements and messages come also after CLIENT REPLY OFF and SKIP, which are about replies."""
        publisher = await self.wire()
        for mode in ("OFF", "SKIP"):
            for protocol in (2, 3):
                wire = await self.wire()
                await wire.call("HELLO", protocol)
                push = protocol == 3
                wire.send(request("CLIENT", "REPLY", mode))
                self.assertEqual(await wire.call("SUBSCRIBE", "a"), array("subscribe", "a", 1, push=push))
                await publisher.call("PUBLISH", "a", "1")
                self.assertEqual(await wire.replies(1), [array("message", "a", "1", push=push)])
                self.assertEqual(await wire.call("UNSUBSCRIBE", "a"), array("unsubscribe", "a", 0, push=push))

    async def subscribers_at_servers(self, channel: str) -> int:
        """Return how many connections have subscribed to a channel at the servers."""
        found = 0
        for server in await self.cluster.primaries():
            found += (await self.cluster.ask(server, "PUBSUB", "NUMSUB", channel))[1]
        return found

    async def test_shared_by_all_clients(self) -> None:
        """A channel of many clients is subscribed once at the servers, as long as one of them wants it."""
        wires = [await self.wire() for _ in range(20)]
        for wire in wires:
            await wire.call("SUBSCRIBE", "a", "b")
        self.assertEqual(await self.subscribers_at_servers("a"), 1)
        publisher = await self.wire()
        listed = (await publisher.call("CLIENT", "LIST", "TYPE", "pubsub")).decode()
        self.assertEqual((listed.count(" sub=2 psub=0 ssub=0 "), listed.count(" flags=P ")), (20, 20))
        for number, wire in enumerate(wires):
            if number % 2:
                wire.close()
            else:
                wire.send(request("UNSUBSCRIBE", "a"))

        async def none() -> bool:
            return not await self.subscribers_at_servers("a")

        await self.cluster.until(none, "the end of the subscription")
        self.assertEqual(await self.subscribers_at_servers("b"), 1)

    async def test_refused(self) -> None:
        """If a server refuses a channel, the client gets its error, and none of the channels of the command."""
        for server in self.cluster.servers:
            await self.cluster.ask(server, "ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "resetchannels", "&ok*")
        host, port = self.cluster.url.removeprefix("valkey://").split(",")[0].rsplit(":", 1)
        service = await self.start_proxy(cluster=f"valkey://u:p@{host}:{port}")
        wire = await self.wire(self.port_of(service))
        self.assertTrue((await wire.call("SUBSCRIBE", "ok1", "secret")).startswith(b"-NOPERM "))
        self.assertEqual(await wire.call("PING"), b"+PONG\r\n")
        self.assertEqual(await wire.call("SUBSCRIBE", "ok2"), array("subscribe", "ok2", 1))
        self.assertTrue((await wire.call("SUBSCRIBE", "secret")).startswith(b"-NOPERM "))
        self.assertEqual(await self.subscribers_at_servers("ok1"), 0)
        await self.cluster.ask(self.cluster.servers[0], "PUBLISH", "ok2", "x")
        self.assertEqual(await wire.replies(1), [array("message", "ok2", "x")])

    async def test_a_client_that_does_not_read(self) -> None:
        """Messages that wait for a client are limited; the others get theirs meanwhile."""
        service = await self.start_proxy(max_unread_messages=1 << 20)
        port = self.port_of(service)
        slow, reader, publisher = [await self.wire(port) for _ in range(3)]
        for wire in (slow, reader):
            await wire.call("SUBSCRIBE", "a")
        transport: Any = slow.transport
        transport.pauseProducing()
        message = "x" * 100_000
        sent = 0
        while len(service.server.sessions) == 3:
            sent += 1
            await publisher.call("PUBLISH", "a", message)
            self.assertEqual(await reader.replies(1), [array("message", "a", message)])
        # The buffers of the system hold some megabytes.
        self.assertLess(sent, 200)
        transport.resumeProducing()
        await slow.ended()


class Numbers:
    """A client that subscribes, again after each disconnection, and notes the numbers that it receives."""

    def __init__(self, tests: ProxyTests, channel: str, command: str, port: int) -> None:
        self._tests = tests
        self._call = (command, channel)
        self._port = port
        #: The numbers, for each connection.
        self.connections: list[list[int]] = []
        self.stopping = False
        self.wire: Wire | None = None
        self.subscribed = 0
        self.ended = Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        while not self.stopping:
            self.wire = wire = await self._tests.wire(self._port)
            reply = await wire.call(*self._call)
            if not reply.startswith(b"*3\r\n"):
                wire.close()
                continue
            numbers: list[int] = []
            self.connections.append(numbers)
            self.subscribed += 1
            while True:
                frames = await wire.replies(1)
                if not frames:
                    break
                numbers += [int(frame.rpartition(b"\r\n$")[2].split(b"\r\n")[1]) for frame in frames]

    def stop(self) -> None:
        """End."""
        self.stopping = True
        if self.wire is not None:
            self.wire.close()

    @property
    def last(self) -> int:
        """The last number."""
        return next((numbers[-1] for numbers in reversed(self.connections) if numbers), 0)


class GapTests(ProxyTests):
    timeout = 180
    options: ClassVar[dict[str, Any]] = {"replicas": 1}

    async def test_many_clients_through_changes(self) -> None:
        """1,000 clients through all changes: whatever one of them misses is missing between two of its connections."""
        await self.through_changes("SUBSCRIBE", "PUBLISH", _CLIENTS)

    async def test_sharded_channels_through_changes(self) -> None:
        """The same for sharded channels, whose slots move."""
        await self.through_changes("SSUBSCRIBE", "SPUBLISH", 50)

    async def through_changes(self, subscribe: str, publish: str, clients: int) -> None:
        channel = _KEYS[0]
        running = [Numbers(self, channel, subscribe, self.port) for _ in range(clients)]
        await until(lambda: all(each.subscribed for each in running))
        publisher = await self.wire()
        self.number = 0
        publishing = True

        async def publish_numbers() -> None:
            while publishing:
                self.number += 1
                await publisher.call(publish, channel, self.number)
                # The messages of the fastest client are not far behind.
                await until(lambda: max(each.last for each in running) >= self.number - 20 or not publishing)

        published = Deferred.fromCoroutine(publish_numbers())
        slot = key_slot(channel)
        await self.heard(running)
        owner = await self.cluster.owner_of(slot)
        replica = (await self.cluster.replicas_of(owner))[0]
        await self.cluster.failover(replica)
        await self.cluster.wait_until_whole()
        await self.heard(running)
        other = next(each for each in await self.cluster.primaries() if each is not replica)
        await self.cluster.migrate_by_key([slot], replica, other)
        await self.heard(running)
        # The node that sends the messages dies.  It can be a replica, after the failover.
        primaries = await self.cluster.primaries()
        [victim] = [each for each in self.cluster.servers if await self.subscribers(each, subscribe, channel)]
        await self.cluster.kill(victim)
        if victim in primaries:
            await self.cluster.wait_for_takeover(victim)
        await self.heard(running)
        publishing = False
        await published
        for each in running:
            each.stop()
        await gatherResults([each.ended for each in running], consumeErrors=True)
        wrong = [
            pair
            for each in running
            for numbers in each.connections
            for pair in pairwise(numbers)
            if pair[1] != pair[0] + 1
        ]
        self.assertEqual(wrong, [])
        total = self.number * len(running)
        received = sum(len(set().union(*each.connections)) for each in running)
        connections = sum(len(each.connections) for each in running)
        print(f"{received} of {total} messages in {connections} connections of {clients} clients")
        self.assertGreater(connections, clients)

    async def subscribers(self, server: Server, subscribe: str, channel: str) -> int:
        """Return the number of subscribers at a server."""
        sub = "SHARDNUMSUB" if subscribe == "SSUBSCRIBE" else "NUMSUB"
        found: int = (await self.cluster.ask(server, "PUBSUB", sub, channel))[1]
        return found

    async def heard(self, running: list[Numbers]) -> None:
        """Wait until every client has received a message that is published from now on."""
        goal = self.number + 1
        await until(lambda: all(each.last >= goal for each in running))

    async def test_continue(self) -> None:
        """With the other policy a client stays connected, and the gap is counted."""
        service = await self.start_proxy(subscription_gaps="continue")
        wire, publisher = [await self.wire(self.port_of(service)) for _ in range(2)]
        await wire.call("SSUBSCRIBE", _KEYS[0])
        slot = key_slot(_KEYS[0])
        owner = await self.cluster.owner_of(slot)
        other = next(each for each in await self.cluster.primaries() if each is not owner)
        await self.cluster.migrate_by_key([slot], owner, other)

        async def comes() -> bool:
            await publisher.call("SPUBLISH", _KEYS[0], "x")
            return array("smessage", _KEYS[0], "x") in wire.received

        await self.cluster.until(comes, "a message after the move")
        self.assertFalse(wire.closed)
        self.assertEqual(service.server.snapshot().subscription_gaps, 1)
        self.assertEqual(set(frames_of(wire.received)[1:]), {array("smessage", _KEYS[0], "x")})
