"""Subscriptions on real clusters: every gap is reported, and nothing is left on the servers."""

from __future__ import annotations

import gc
import json
import os
import re
from collections.abc import AsyncIterable, Awaitable, Callable
from itertools import count, cycle
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SkipTest

from tests.cluster.base import ClusterTests
from tests.cluster.command_line import output_of
from tests.cluster.numbered import Numbers, Publishers, Trails
from txvalkeycluster import (
    Address,
    ClusterClient,
    Lost,
    LostReason,
    Message,
    ReplyError,
    Resubscribed,
    Subscription,
    key_slot,
)
from txvalkeycluster.testing import Server

#: The number of sharded channels.
CHANNELS = int(os.environ.get("TXVALKEYCLUSTER_CHANNELS", "300"))
#: The limit in seconds until all channels are subscribed again, on a cluster that is healthy.
HEALTHY = float(os.environ.get("TXVALKEYCLUSTER_HEALTHY", "10"))
# The seed of clients whose cluster changes its addresses.
SEED = ("cluster.invalid", 1)


class NumberedTests(ClusterTests):
    """Sharded channels with a publisher each, through everything that can happen to a cluster."""

    protocol: ClassVar[int] = 3
    channels: ClassVar[int] = CHANNELS

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.violations: list[str] = []
        self.step = ""

    def violation(self, text: str) -> None:
        """Record a violation."""
        self.violations.append(f"{self.step}: {text}")

    async def follower(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client that finds the cluster at other addresses, and detects a dead server fast."""

        def address_of(host: str, port: int) -> tuple[str, int]:
            return self.cluster.addresses[0] if (host, port) == SEED else (host, port)

        return await self.connect(
            seeds=(SEED,), address_map=address_of, unresponsive_after=1.0, protocol=self.protocol, **options
        )

    async def test_sharded_channels(self) -> None:
        """A number is missing only between a Lost and its Resubscribed, and none comes twice or too late."""
        subscriber, publisher = await self.follower(), await self.follower()
        channels = [f"channel:{number}" for number in range(self.channels)]
        trails = Trails(map(Numbers, channels), self.violation)
        # One half has a listener, the other half an iterator.
        listening = subscriber.ssubscribe(*channels[::2], listener=trails.item)
        iterated = subscriber.ssubscribe(*channels[1::2])
        await gatherResults([listening.ready(), iterated.ready()])
        trails.begin()
        iteration = Deferred.fromCoroutine(trails.iterate(iterated))
        self.publishers = publishers = Publishers(reactor, [subscriber, publisher], trails, interval=0.3)
        self.addCleanup(publishers.stop)
        publishers.start()
        for change, reasons in self.changes(sorted(set(map(key_slot, channels)))):
            self.step = change.__name__
            await self.have_current_maps(subscriber, publisher)
            await publishers.all_received()
            before = trails.reasons.copy()
            await change()
            await self.cluster.wait_until_whole()
            await self.is_healthy()
            happened = set(trails.reasons - before)
            self.assertLessEqual(happened, reasons, f"{self.step}: {trails.details}")
        await publishers.stop()
        await gatherResults([listening.close(), iterated.close(), iteration])
        self.assertEqual(self.violations, [])
        for server in self.cluster.servers:
            self.assertEqual(await self.cluster.ask(server, "PUBSUB", "SHARDCHANNELS"), [])

    async def have_current_maps(self, *clients: ClusterClient[bytes]) -> None:
        """Wait until clients know all primaries.

        A replica accepts SPUBLISH and SSUBSCRIBE, so a client may use a demoted primary for a while.  Its messages then
        pass through the cluster bus, which may drop them.
        """
        primaries = {server.client_port for server in await self.cluster.primaries()}
        for client in clients:
            while {node.port for node in (await client.refresh_topology()).primaries} != primaries:
                await deferLater(reactor, 0.05)

    async def is_healthy(self) -> None:
        """Check that all channels receive messages within two seconds."""
        self.assertLess(await self.publishers.all_received(), HEALTHY, self.step)
        self.assertEqual(self.violations[:10], [])

    def changes(self, slots: list[int]) -> list[tuple[Callable[[], Awaitable[None]], set[LostReason]]]:
        """Return each change, and the reasons that a Lost may then have."""
        connection, moved = {LostReason.CONNECTION}, {LostReason.SLOT_MOVED}
        # A demoted primary ends the subscriptions before the client knows the reason.
        replaced = moved | {LostReason.FAILOVER}

        async def move_by_key() -> None:
            await self.move_by_key(slots)

        return [
            (self.move_atomically, moved),
            (move_by_key, moved),
            (self.fail_over, replaced),
            (self.kill_connections, connection),
            (self.pause_shortly, connection),
            (self.pause_until_replaced, connection | replaced),
            (self.kill, connection),
            (self.new_addresses, connection | replaced | {LostReason.NODE_REMOVED}),
        ]

    async def halves(self) -> list[tuple[Server, Server, list[range]]]:
        """Return each primary, the next primary, and the upper half of each range of its slots."""
        primaries = await self.cluster.primaries()
        following = cycle(primaries)
        next(following)
        found = []
        for server in primaries:
            ranges = await self.cluster.ranges_of(server)
            found.append((server, next(following), [owned[len(owned) // 2 :] for owned in ranges]))
        return found

    async def move_atomically(self) -> None:
        """Move half of all slots atomically."""
        for source, target, ranges in await self.halves():
            for owned in ranges:
                await self.cluster.migrate_atomically(owned.start, owned.stop - 1, source, target)

    async def move_by_key(self, slots: list[int]) -> None:
        """Move half of the slots that have channels, with SETSLOT."""
        for source, target, ranges in await self.halves():
            await self.cluster.migrate_by_key([s for s in slots if any(s in owned for owned in ranges)], source, target)

    async def fail_over(self) -> None:
        """Fail over every shard gracefully."""
        for primary in await self.cluster.primaries():
            (replica,) = await self.cluster.replicas_of(primary)
            await self.cluster.failover(replica)
            await self.cluster.wait_until_whole()

    async def kill_connections(self) -> None:
        """Close every connection with subscriptions."""
        for server in self.cluster.servers:
            await self.cluster.ask(server, "CLIENT", "KILL", "TYPE", "pubsub")

    async def pause_shortly(self) -> None:
        """Stop a primary, but not long enough for a failover."""
        victim = (await self.cluster.primaries())[0]
        await self.cluster.pause(victim)
        await deferLater(reactor, 1.5)
        await self.cluster.resume(victim)

    async def pause_until_replaced(self) -> None:
        """Stop a primary until its replica has taken over."""
        victim = (await self.cluster.primaries())[1]
        await self.cluster.pause(victim)
        await self.cluster.wait_for_takeover(victim)
        await self.is_healthy()
        await self.cluster.resume(victim)

    async def kill(self) -> None:
        """Kill a primary with SIGKILL."""
        victim = (await self.cluster.primaries())[2]
        await self.cluster.kill(victim)
        await self.cluster.wait_for_takeover(victim)
        await self.is_healthy()
        await self.cluster.restart(victim)

    async def new_addresses(self) -> None:
        """Restart every server on other ports."""
        await self.cluster.restart_elsewhere()


class NumberedRESP2Tests(NumberedTests):
    """The same with RESP2, and fewer channels."""

    protocol = 2
    channels = CHANNELS // 3


class PubSubTests(ClusterTests):
    """A client with subscriptions, and the items of a listener."""

    options: ClassVar[dict[str, Any]] = {"replicas": 0}

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.items: list[Any] = []

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        while not condition():
            await deferLater(reactor, 0.01)

    async def asked(self, *words: str) -> list[Any]:
        """Return the replies of all servers to a command."""
        return [await self.cluster.ask(server, *words) for server in self.cluster.servers if server.alive]

    async def subscribed(self) -> list[Any]:
        """Return all channels that are subscribed at any server, and the number of patterns."""
        found: list[Any] = []
        for kind in ("CHANNELS", "SHARDCHANNELS"):
            found += [channel for reply in await self.asked("PUBSUB", kind) for channel in reply]
        return [*found, sum(await self.asked("PUBSUB", "NUMPAT"))]

    async def connections(self) -> int:
        """Return the number of connections with subscriptions at all servers."""
        listed = await self.asked("CLIENT", "LIST", "TYPE", "pubsub")
        return sum(len(text.splitlines()) for text in listed)

    async def nothing_is_left(self) -> None:
        """Wait until no server has a subscription or a connection for it."""

        async def nothing() -> bool:
            return await self.subscribed() == [0] and not await self.connections()

        await self.cluster.until(nothing, "the end of all subscriptions")

    async def home(self, channel: str) -> Server:
        """Return the server at which a classic channel is subscribed."""
        for server in self.cluster.servers:
            if await self.cluster.ask(server, "PUBSUB", "CHANNELS", channel):
                return server
        raise LookupError(channel)


class EndTests(PubSubTests):
    """Nothing is left on the servers."""

    async def everything(self, client: ClusterClient[bytes], **options: Any) -> list[Subscription[bytes]]:
        """Return one subscription of each kind."""
        subscriptions = [
            client.subscribe("a", "b", **options),
            client.psubscribe("p*", "q*", **options),
            client.ssubscribe(*map("s{}".format, range(20)), **options),
            client.keyspace_events("k*", **options),
            client.keyevent_events("set", replicas=True, **options),
        ]
        await gatherResults([each.ready() for each in subscriptions])
        # Each events pattern is at all three servers.
        self.assertEqual((len(await self.subscribed()) - 1, (await self.subscribed())[-1]), (22, 2 + 6))
        return subscriptions

    async def test_close(self) -> None:
        """After close() and after remove() of all channels."""
        client = await self.connect()
        for subscription in await self.everything(client):
            await subscription.close()
        await self.nothing_is_left()
        *others, by_key, by_event = await self.everything(client)
        for subscription in others:
            await subscription.remove(*subscription.channels)
        self.assertEqual(await self.subscribed(), [len(by_key.channels + by_event.channels) * 3])
        self.assertEqual(await client.ping(), b"PONG")

    async def test_pausing(self) -> None:
        """After close() of subscriptions with connections of their own."""
        client = await self.connect()
        for subscription in await self.everything(client, overflow="pause"):
            await subscription.close()
        await self.nothing_is_left()

    async def test_dropped(self) -> None:
        """After the program has dropped subscriptions and an iterator."""
        client = await self.connect()
        subscriptions = await self.everything(client)
        messages = subscriptions[0].messages()
        waiting = Deferred.fromCoroutine(_next(messages))
        await client.publish("a", "1")
        self.assertEqual((await waiting).data, b"1")
        del subscriptions, messages, waiting
        gc.collect()
        await self.nothing_is_left()

    async def test_closed_clients(self) -> None:
        """After close() and abort() of the client."""
        for end in ("close", "abort"):
            client = await self.connect()
            listening = client.ssubscribe("s", listener=self.items.append)
            await listening.ready()
            await self.everything_else(client)
            await getattr(client, end)()
            await self.nothing_is_left()

    async def everything_else(self, client: ClusterClient[bytes]) -> None:
        """Subscribe, and wait for a message that never comes."""
        subscription = client.subscribe("never")
        await subscription.ready()
        self.never = Deferred.fromCoroutine(_next(subscription)).addErrback(lambda _: None)


class FailoverTests(PubSubTests):
    """Classic channels, patterns and events, through failovers."""

    options: ClassVar[dict[str, Any]] = {"config": {"notify-keyspace-events": "KEA"}}
    protocol = 3

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.violations: list[str] = []

    async def test_classic_channels(self) -> None:
        """Channels and patterns move to another node when theirs is killed, and every gap is reported."""
        client, publisher = await self.connect(protocol=self.protocol), await self.connect(protocol=self.protocol)
        first = client.subscribe("channel:0", listener=lambda _: None)
        await first.ready()
        home = await self.home("channel:0")
        # Messages that a killed node has not passed on yet are lost, which no client can detect.
        owned = await self.cluster.ranges_of(home)
        channels = [f"channel:{n}" for n in range(60) if not any(key_slot(f"channel:{n}") in each for each in owned)]
        trails = Trails(map(Numbers, channels), self.violations.append)
        by_pattern: list[Any] = []
        async with (
            client.subscribe(*channels, listener=trails.item),
            client.psubscribe("channel:*", listener=by_pattern.append),
        ):
            publishers = Publishers(reactor, [publisher], trails, sharded=False, interval=0.05)
            self.addCleanup(publishers.stop)
            publishers.start()
            await publishers.all_received()
            (replica,) = await self.cluster.replicas_of(home)
            await self.cluster.failover(replica)
            await self.cluster.wait_until_whole()
            await publishers.all_received()
            self.assertEqual((self.violations, trails.reasons), ([], {}))
            await self.cluster.kill(home)
            await publishers.all_received()
            await self.cluster.restart(home)
            await publishers.all_received()
            await publishers.stop()
        self.assertEqual((self.violations, trails.reasons), ([], {LostReason.CONNECTION: len(channels)}))
        self.assertEqual([item.channels for item in by_pattern if not isinstance(item, Message)], [(b"channel:*",)] * 2)
        numbers: dict[bytes, list[int]] = {}
        for item in by_pattern:
            if isinstance(item, Message):
                self.assertEqual(item.pattern, b"channel:*")
                numbers.setdefault(item.channel, []).append(int(item.data))
        self.assertEqual(set(numbers), {channel.encode() for channel in channels})
        for each in numbers.values():
            self.assertEqual(each, sorted(set(each)))
        await first.close()
        await self.nothing_is_left()

    async def test_events(self) -> None:
        """Events come from the primary of their key.  Those that are missing lie in a gap that names the node."""
        client = await self.connect(protocol=self.protocol, refresh_period=1.0)
        writer = await self.connect(protocol=self.protocol)
        (old, replica) = self.cluster.servers[0], self.cluster.servers[3]
        tag = next(str(n) for n in count() if key_slot(str(n)) < 5000)
        # A client that only receives events does not notice a graceful failover before the next refresh.
        by_key = client.keyspace_events(f"{{{tag}}}:*", listener=self.items.append)
        events: list[Any] = []
        by_event = client.keyevent_events("set", listener=events.append)
        await gatherResults([by_key.ready(), by_event.ready()])
        # The number of each write that has had a reply.
        written: list[int] = []

        async def write() -> None:
            for number in count():
                if self.enough:
                    return
                await writer.set(f"{{{tag}}}:{number}", "x")
                written.append(number)
                await deferLater(reactor, 0.001)

        self.enough = False
        writing = Deferred.fromCoroutine(write())
        await self.until(lambda: len(written) > 100)
        await self.cluster.failover(replica)
        await self.cluster.wait_until_whole()
        await self.until(lambda: Resubscribed in map(type, self.items))
        await self.until(lambda: isinstance(self.items[-1], Message) and isinstance(events[-1], Message))
        at = len(written)
        await self.until(lambda: len(written) > at + 100)
        self.enough = True
        await writing
        last = f"{{{tag}}}:{written[-1]}".encode()
        await self.until(lambda: self.items[-1].channel.endswith(last) and events[-1].data == last)
        places = {server: Address(self.cluster.host, server.port) for server in (old, replica)}
        for items, number_of in ((self.items, _number_in_channel), (events, _number_in_data)):
            gaps = [(type(item), item.node) for item in items if not isinstance(item, Message)]
            self.assertEqual(gaps, [(Lost, places[old]), (Lost, places[replica]), (Resubscribed, places[replica])])
            kinds = [type(item) for item in items]
            before, after = items[: kinds.index(Lost)], items[kinds.index(Resubscribed) + 1 :]
            self.assertEqual(set(map(type, before + after)), {Message})
            self.assertEqual({item.node for item in before}, {places[old]})
            self.assertEqual({item.node for item in after}, {places[replica]})
            first_numbers, last_numbers = list(map(number_of, before)), list(map(number_of, after))
            self.assertEqual(first_numbers, list(range(len(first_numbers))))
            self.assertEqual(last_numbers, list(range(last_numbers[0], written[-1] + 1)))
            self.assertGreater(last_numbers[0], first_numbers[-1])
        await gatherResults([by_key.close(), by_event.close()])
        await self.nothing_is_left()

    async def test_events_that_are_off(self) -> None:
        """A warning names each node that sends no events."""
        await self.asked("CONFIG", "SET", "notify-keyspace-events", "")
        client = await self.connect(protocol=self.protocol)
        with capturedLogs() as events:

            def warnings() -> list[str]:
                texts = [formatEvent(event) for event in events]
                return [text for text in texts if "sends no keyspace events" in text]

            async with client.keyspace_events():
                await self.until(lambda: len(warnings()) >= 3)
        self.assertEqual(len(warnings()), 3)


class FailoverRESP2Tests(FailoverTests):
    """The same with RESP2."""

    protocol = 2


class TLSTests(PubSubTests):
    """Over TLS."""

    options: ClassVar[dict[str, Any]] = {"tls": "auto"}

    async def test_a_failover(self) -> None:
        """Messages of all kinds, and a gap."""
        client, violations = await self.connect(), list[str]()
        sharded, classic = (Trails([Numbers(f"c{n}") for n in range(50)], violations.append) for _ in range(2))
        async with (
            client.ssubscribe(*sharded.by_channel, listener=sharded.item),
            client.subscribe(*classic.by_channel, listener=classic.item),
        ):
            several = [
                Publishers(reactor, [client], sharded, interval=0.05),
                Publishers(reactor, [client], classic, sharded=False, interval=0.05),
            ]
            for publishers in several:
                self.addCleanup(publishers.stop)
                publishers.start()
            for change in (
                self.cluster.failover(self.cluster.servers[3]),
                self.asked("CLIENT", "KILL", "TYPE", "pubsub"),
            ):
                await change
                await self.cluster.wait_until_whole()
                for publishers in several:
                    self.assertLess(await publishers.all_received(), HEALTHY)
            for publishers in several:
                await publishers.stop()
        self.assertEqual(violations, [])
        # The nodes are asked one after another.  A connection to the first one can be replaced by one to the next,
        # which is killed, too.
        self.assertIn(classic.reasons, [{LostReason.CONNECTION: 50 * times} for times in (1, 2, 3)])
        await self.nothing_is_left()


# The parent has subscriptions.  The child has copies of the sockets, and its reactor runs on for a while.
FORK = """
import json, os, sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from txvalkeycluster import ClientClosed, connect

async def in_child(client, items, subscriptions, iterated):
    try:
        errors = []
        items.clear()
        try:
            await client.subscribe("b", timeout=1.0).ready()
        except ClientClosed as error:
            errors.append(str(error))
        async for item in iterated:
            errors.append(str(item))
        await deferLater(reactor, 0.5)
        for each in subscriptions:
            await each.close()
        await client.close()
        return [errors, len(items)]
    except BaseException as error:
        return [[repr(error)], 0]

async def main():
    client = await connect(reactor, sys.argv[1], unresponsive_after=0.2)
    items = []
    subscriptions = [each("a", listener=items.append) for each in (client.subscribe, client.ssubscribe)]
    iterated = client.subscribe("a")
    for each in (*subscriptions, iterated):
        await each.ready()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        outcome = await in_child(client, items, subscriptions, iterated)
        os.write(write, json.dumps(outcome).encode())
        os._exit(0)
    os.close(write)
    number = 0
    while not os.waitpid(child, os.WNOHANG)[0]:
        number += 1
        await client.publish("a", str(number))
        await client.spublish("a", str(number))
        await deferLater(reactor, 0.001)
    while len(items) < 2 * number:
        await deferLater(reactor, 0.01)
    received = [int(item.data) for item in items]
    in_order = sorted(received) == sorted([*range(1, number + 1)] * 2)
    again = client.ssubscribe("b")
    await again.ready()
    await client.close()
    print(json.dumps([json.loads(os.read(read, 10000)), in_order, number > 0]))

Deferred.fromCoroutine(main()).addErrback(lambda failure: print(failure)).addBoth(lambda _: reactor.stop())
reactor.run()
"""


class ForkTests(PubSubTests):
    """Processes that fork."""

    async def test_a_child(self) -> None:
        """Subscriptions end in the child, and those of the parent are not disturbed."""
        if not hasattr(os, "fork"):
            raise SkipTest("this system does not fork")
        out, err, status = await output_of(["-c", FORK, self.cluster.url], os.environ)
        self.assertEqual(status, 0, f"{out}{err}")
        (errors, items), in_order, some = json.loads(out)
        self.assertIn("make a new client", errors[0])
        self.assertEqual((items, in_order, some), (0, True, True))
        await self.nothing_is_left()


class UserTests(PubSubTests):
    """A user who may use a few channels."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.asked("ACL", "SETUSER", "reader", "on", ">word", "+@all", "~*", "resetchannels", "&mine*")

    async def test_refused(self) -> None:
        """ready() and add() fail with NOPERM, and no channel of the same call stays subscribed."""
        client = await self.connect(username="reader", password="word")
        for protocol in (2, 3):
            client = await self.connect(username="reader", password="word", protocol=protocol)
            mine = [f"mine{number}" for number in range(30)]
            for subscription in (
                client.subscribe(*mine, "theirs"),
                client.psubscribe("mine*", "m*"),
                client.ssubscribe(*mine, "theirs"),
                client.keyspace_events("*"),
            ):
                error = await self.assertFailure(subscription.ready(), ReplyError)
                self.assertEqual(error.code, "NOPERM")
                self.assertEqual(await self.subscribed(), [0], subscription)
            async with client.ssubscribe("mine1", listener=self.items.append) as listening:
                error = await self.assertFailure(listening.add("mine2", "theirs", "mine3"), ReplyError)
                self.assertEqual(error.code, "NOPERM")
                self.assertEqual((await self.subscribed(), listening.channels), ([b"mine1", 0], (b"mine1",)))
            await self.nothing_is_left()

    async def test_rights_that_change(self) -> None:
        """The server ends the connection of a user who loses a right: a gap, until the user has it again."""
        client = await self.connect(username="reader", password="word")
        listening = client.ssubscribe("mine{x}1", "mine{x}2", listener=self.items.append)
        await listening.ready()
        await self.asked("ACL", "SETUSER", "reader", "resetchannels", "&mine{x}1")
        await self.until(lambda: len(self.items) == 2)
        await self.asked("ACL", "SETUSER", "reader", "&mine*")
        await self.until(lambda: len(self.items) == 3)
        self.assertEqual([type(item) for item in self.items], [Lost, Resubscribed, Resubscribed])
        lost, *gained = ({name[-1:] for name in item.channels} for item in self.items)
        self.assertEqual((lost, gained), ({b"1", b"2"}, [{b"1"}, {b"2"}]))
        await client.spublish("mine{x}2", "x")
        await self.until(lambda: isinstance(self.items[-1], Message))
        await listening.close()


class SlowTests(PubSubTests):
    """Subscribers that do not keep up."""

    async def publish(self, client: ClusterClient[bytes], count: int, size: int) -> None:
        """Publish numbers from 0, each filled up to some bytes."""
        for start in range(0, count, 500):
            numbers = range(start, min(start + 500, count))
            await gatherResults([client.publish("a", str(number).ljust(size)) for number in numbers])

    async def test_one_that_never_reads(self) -> None:
        """Nine others receive 200,000 messages of 1 KiB, and the memory for the tenth stays within its bound."""
        count = 200_000
        # The publisher is faster than a reactor that also does all of the receiving.
        await self.asked("CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")
        client, publisher = await self.connect(), await self.connect()
        stuck = client.subscribe("a", max_bytes=4 << 20)
        others = [client.subscribe("a") for _ in range(9)]
        await gatherResults([each.ready() for each in (stuck, *others)])

        async def receive(subscription: Subscription[bytes]) -> None:
            expected = 0
            async for message in subscription:
                assert isinstance(message, Message), message
                assert int(message.data) == expected, (message, expected)
                expected += 1
                if expected == count:
                    return

        receiving = [Deferred.fromCoroutine(receive(each)) for each in others]
        before = _resident()
        await self.publish(publisher, count, 1024)
        await gatherResults(receiving)
        # 4,000 messages with their objects.  All messages would be 200 MiB.
        self.assertLess(_resident() - before, 64 << 20)
        lost = await _next(stuck)
        kept = (4 << 20) // 1025
        self.assertEqual(lost, Lost((b"a",), LostReason.OVERFLOW, dropped=count - kept))
        self.assertEqual([int((await _next(stuck)).data) for _ in range(kept)], list(range(count - kept, count)))
        self.assertEqual(client.statistics.messages_dropped, count - kept)

    async def test_paused(self) -> None:
        """A client that stops reading loses nothing that the server keeps for it."""
        client, publisher = await self.connect(unresponsive_after=1.0), await self.connect()
        slow = client.subscribe("a", overflow="pause", max_messages=100)
        await slow.ready()
        # More than the system buffers for a socket, and less than the limit of the server.
        count = 30_000
        await self.asked("CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")
        await self.publish(publisher, count, 1024)
        server = await self.home("a")
        listed = (await self.cluster.ask(server, "CLIENT", "LIST", "TYPE", "pubsub")).decode()
        (kept,) = re.findall(r"\bomem=(\d+)", listed)
        self.assertGreater(int(kept), 1 << 20)
        self.assertEqual([int((await _next(slow)).data) for _ in range(count)], list(range(count)))
        await slow.close()

    async def test_the_limit_of_the_server(self) -> None:
        """If the server ends the connection of a client that does not read, the gap says so."""
        client, publisher = await self.connect(), await self.connect()
        await self.asked("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 0")
        slow = client.subscribe("a", overflow="pause", max_messages=100)
        await slow.ready()
        server = await self.home("a")
        count = 0
        while await self.cluster.ask(server, "PUBSUB", "CHANNELS"):
            await publisher.publish("a", str(count).ljust(100_000))
            count += 1
        numbers = []
        while isinstance(item := await _next(slow), Message):
            numbers.append(int(item.data))
        self.assertEqual(numbers, list(range(len(numbers))))
        self.assertLess(len(numbers), count)
        self.assertIsInstance(item, Lost)
        self.assertEqual(item.reason, LostReason.OUTPUT_LIMIT)
        self.assertIsInstance(await _next(slow), Resubscribed)
        await publisher.publish("a", "after")
        self.assertEqual((await _next(slow)).data, b"after")
        await slow.close()


def _number_in_channel(message: Any) -> int:
    return int(message.channel.rpartition(b":")[2])


def _number_in_data(message: Any) -> int:
    return int(message.data.rpartition(b":")[2])


async def _next(items: AsyncIterable[Any]) -> Any:
    return await anext(aiter(items))


def _resident() -> int:
    """Return the memory of this process, in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
