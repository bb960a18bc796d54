"""Passwords, users and TLS files that change while clients are under load, on real servers."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.cluster.base import ClusterTests
from tests.cluster.numbered import Numbers, Publishers, Trails
from txvalkeycluster import (
    Address,
    AuthenticationFailed,
    ClusterClient,
    CommandTimeout,
    Credentials,
    ReplyError,
    key_slot,
)
from txvalkeycluster.events import LoginFailed, LoginRestored, NodeConnectFailed, TLSReloaded, TLSReloadFailed
from txvalkeycluster.testing import Certificates, Workload
from txvalkeycluster.testing.terminator import terminate_tls

#: How long passwords are rotated, in seconds: every second, and every five seconds from 30 seconds on.
SECONDS = float(os.environ.get("TXVALKEYCLUSTER_ROTATION", "6"))
EVERY = 5.0 if SECONDS >= 30 else 1.0


class Load:
    """Runs every kind of command again and again, and keeps each error."""

    def __init__(self, client: ClusterClient[bytes], name: str) -> None:
        self.client = client
        self.name = name
        #: How many actions of each kind succeeded.
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self._random = client.options.random
        self._running: list[Deferred[None]] = []
        self._stopping = False

    def start(self, workers: int = 3) -> None:
        """Start some workers of each kind."""
        kinds = (self.block, self.watch, self.transact, self.pipe, self.everywhere)
        self._running = [
            Deferred.fromCoroutine(self._repeat(kind, f"{{{self.name}:{kind.__name__}:{number}}}"))
            for kind in kinds
            for number in range(workers)
        ]

    async def stop(self) -> None:
        """Wait until each worker has ended its action."""
        self._stopping = True
        await gatherResults(self._running)

    async def once(self) -> None:
        """Run one action of each kind, one after the other."""
        for kind in (self.block, self.watch, self.transact, self.pipe, self.everywhere):
            await self._try(kind, f"{{{self.name}:{kind.__name__}}}", self.counts[kind.__name__])

    async def _repeat(self, kind: Callable[[str, int], Awaitable[None]], key: str) -> None:
        for number in count():
            if self._stopping:
                return
            await self._try(kind, key, number)

    async def _try(self, kind: Any, key: str, number: int) -> None:
        try:
            await kind(key, number)
        except Exception as error:
            self.errors.append(f"{kind.__name__}: {type(error).__name__}: {error}")
        else:
            self.counts[kind.__name__] += 1

    async def pause(self, seconds: float) -> None:
        await deferLater(reactor, self._random.uniform(0.0, seconds))

    async def block(self, key: str, number: int) -> None:
        """Block until an element comes."""
        popped = self.client.blpop(key, timeout=0)
        await self.pause(0.5)
        await self.client.rpush(key, number)
        self.check(await popped, (key.encode(), b"%d" % number))

    async def watch(self, key: str, number: int) -> None:
        """Increment a counter in a watch session that lasts for some time."""

        async def increment(session: Any) -> Any:
            value = int(await session.get(key) or 0)
            await self.pause(0.5)
            return await session.transaction().set(key, value + 1).get(key).execute()

        self.check(await self.client.optimistically(increment, key), [b"OK", b"%d" % (number + 1)])

    async def transact(self, key: str, number: int) -> None:
        """Increment a counter twice in a transaction."""
        self.check(await self.client.transaction().incr(key).incr(key).execute(), [2 * number + 1, 2 * number + 2])

    async def pipe(self, key: str, number: int) -> None:
        """Write and read in all slots in a pipeline."""
        pipeline = self.client.pipeline()
        for place in range(20):
            pipeline.set(f"{place}:{key}", number).get(f"{place}:{key}")
        self.check(await pipeline.execute(), [b"OK", b"%d" % number] * 20)

    async def everywhere(self, key: str, number: int) -> None:
        """Write and read several keys at a time, and ask every node."""
        keys = [f"{place}:{key}" for place in range(10)]
        await self.client.mset(dict.fromkeys(keys, number))
        self.check(await self.client.mget(*keys), [b"%d" % number] * 10)
        await self.client.dbsize()
        await self.pause(0.02)

    def check(self, result: object, expected: object) -> None:
        if result != expected:
            raise AssertionError(f"{result!r}, not {expected!r}")


class PasswordTests(ClusterTests):
    """Clients of the user "app", whose password a function gives."""

    options: ClassVar[dict[str, Any]] = {"replicas": 0}

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        #: All passwords that there have been.  The servers accept the last two.
        self.passwords = ["password-0"]
        #: What the function gives instead.
        self.user: Credentials | None = None
        self.events: list[Any] = []
        await self.create_user()

    async def create_user(self) -> None:
        user = ("app", "on", "allkeys", "allchannels", "+@all", f">{self.passwords[-1]}")
        await self.at_each_server("ACL", "SETUSER", *user)

    async def at_each_server(self, *words: str | int) -> list[Any]:
        """Return the reply of each server to a command."""
        return await gatherResults([self.cluster.ask(server, *words) for server in self.cluster.servers])

    def function(self, address: Address) -> Any:
        """Give the newest password, or the credentials of another user."""
        return self.user or Credentials("app", self.passwords[-1])

    async def connect(self, **options: Any) -> ClusterClient[bytes]:
        client = await super().connect(**{"credentials": self.function, **options})
        client.add_listener(self.events.append)
        return client

    def of(self, kind: type) -> list[Any]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    async def rotate(self) -> None:
        """Add a password, and remove the one before the last."""
        self.passwords.append(f"password-{len(self.passwords)}")
        await self.at_each_server("ACL", "SETUSER", "app", f">{self.passwords[-1]}")
        if len(self.passwords) > 2:
            await self.at_each_server("ACL", "SETUSER", "app", f"<{self.passwords[-3]}")

    async def kill(self, name: str) -> int:
        """Close the connections with a name; return how many there were."""
        killed = 0
        for server in self.cluster.servers:
            listed = (await self.cluster.ask(server, "CLIENT", "LIST")).decode().splitlines()
            fields = [dict(word.partition("=")[::2] for word in line.split(" ")) for line in listed]
            for each in fields:
                if each["name"] == name:
                    killed += await self.cluster.ask(server, "CLIENT", "KILL", "ID", each["id"])
        return killed

    async def calls(self, command: str) -> dict[str, int]:
        """Return how often the servers executed a command, and how often it failed."""
        found: Counter[str] = Counter({"calls": 0, "failed_calls": 0, "rejected_calls": 0})
        for text in await self.at_each_server("INFO", "COMMANDSTATS"):
            for line in text.decode().splitlines():
                name, _, values = line.partition(":")
                if name == f"cmdstat_{command}":
                    numbers = dict(pair.split("=") for pair in values.split(","))
                    found.update({key: int(numbers[key]) for key in found})
        return dict(found)


class RotationTests(PasswordTests):
    """Two overlapping passwords, which are rotated."""

    timeout = int(SECONDS) + 120
    later = False

    def function(self, address: Address) -> Any:
        """Give the newest password, which is valid until the next rotation but one: at once, or later."""
        given = Credentials("app", self.passwords[-1], expires_in=EVERY)
        self.later = not self.later
        return deferLater(reactor, 0.05, lambda: given) if self.later else given

    async def test_under_load(self) -> None:
        """No command fails, and no subscription has a gap, while passwords change and idle connections are killed."""
        busy, idle = [await self.connect(client_name=name) for name in ("busy", "idle")]
        loads = Load(busy, "busy"), Load(idle, "idle")
        workload = Workload(reactor, busy, workers=10)
        violations: list[str] = []
        trails = [
            Trails([Numbers(f"{kind}:{n}") for n in range(20)], violations.append) for kind in ("sharded", "classic")
        ]
        sharded = busy.ssubscribe(*trails[0].by_channel, listener=trails[0].item)
        classic = busy.subscribe(*trails[1].by_channel, listener=trails[1].item)
        await gatherResults([sharded.ready(), classic.ready()])
        publishers = [Publishers(reactor, [busy], each, sharded=each is trails[0], interval=0.1) for each in trails]
        for each, publisher in zip(trails, publishers, strict=True):
            each.begin()
            publisher.start()
        workload.start()
        loads[0].start()
        await loads[1].once()
        made = busy.statistics.connections
        began = reactor.seconds()
        killed = rounds = 0
        while reactor.seconds() < began + SECONDS:
            await self.rotate()
            await deferLater(reactor, EVERY / 2)
            killed += await self.kill("idle")
            await deferLater(reactor, EVERY / 2)
            await loads[1].once()
            rounds += 1
        for publisher in publishers:
            await publisher.all_received()
            await publisher.stop()
        await loads[0].stop()
        report = await workload.stop()
        auth, hello = await self.calls("auth"), await self.calls("hello")
        figures = {
            "seconds": SECONDS, "rotations": rounds, "killed": killed, "workload": report.commands,
            "busy": dict(loads[0].counts), "idle": dict(loads[1].counts), "messages": sum(t.messages for t in trails),
            "auth": auth, "hello": hello, "connections made": str(busy.statistics.connections),
        }  # fmt: skip
        if "TXVALKEYCLUSTER_ROTATION" in os.environ:
            print(json.dumps(figures))
        self.assertEqual(loads[0].errors + loads[1].errors, [])
        self.assertEqual((dict(report.errors), report.wrong, report.unfired), ({}, [], 0))
        self.assertEqual([dict(publisher.errors) for publisher in publishers], [{}, {}])
        self.assertEqual((violations, [dict(each.reasons) for each in trails]), ([], [{}, {}]))
        self.assertEqual(self.of(LoginFailed), [])
        self.assertEqual((auth["failed_calls"], hello["failed_calls"]), (0, 0), figures)
        # The connections of the busy client have logged in again, and were not replaced.
        self.assertGreater(auth["calls"], 10 * rounds)
        self.assertEqual(
            (busy.statistics.connections.shared, busy.statistics.connections.subscriber), (3, made.subscriber)
        )
        self.assertGreater(killed, 3 * (rounds - 1))
        self.assertEqual(set(loads[1].counts.values()), {rounds + 1})
        self.assertTrue(all(number > 5 for number in loads[0].counts.values()), figures)

    async def test_with_resp2(self) -> None:
        """With RESP2 no command fails either; subscriptions report their gaps, and are complete after them."""
        client = await self.connect(protocol=2)
        load = Load(client, "load")
        violations: list[str] = []
        trails = Trails([Numbers(f"sharded:{n}") for n in range(20)], violations.append)
        sharded = client.ssubscribe(*trails.by_channel, listener=trails.item)
        await sharded.ready()
        publishers = Publishers(reactor, [client], trails, interval=0.1)
        trails.begin()
        publishers.start()
        load.start()
        for _ in range(3):
            await self.rotate()
            await deferLater(reactor, 1.0)
        await load.stop()
        client.remove_listener(self.events.append)
        await publishers.all_received()
        await publishers.stop()
        self.assertEqual((load.errors, dict(publishers.errors), violations), ([], {}, []))
        self.assertGreater(sum(trails.reasons.values()), 0)
        self.assertEqual({reason.name for reason in trails.reasons}, {"CONNECTION"})
        for detail in trails.details:
            self.assertIn("had to be replaced to log in", detail)
        self.assertEqual(self.of(LoginFailed), [])


class ChangedUserTests(PasswordTests):
    """Passwords and users that change at once."""

    async def test_reauthenticate(self) -> None:
        """After reauthenticate(), every connection has the rights of the other user; a blocked one follows."""
        client = await self.connect()
        await self.at_each_server("ACL", "SETUSER", "reader", "on", "allkeys", "+@all", "-set", ">password-reader")
        await gatherResults([client.set(f"key:{number}", 1) for number in range(20)])
        blocked = client.blpop("list", timeout=0)
        self.user = Credentials("reader", "password-reader")
        await client.reauthenticate()
        for number in range(20):
            refused = await self.assertFailure(client.set(f"key:{number}", 2), ReplyError)
            self.assertEqual(refused.code, "NOPERM")
            self.assertEqual(await client.get(f"key:{number}"), b"1")
        await client.rpush("list", "x")
        self.assertEqual(await blocked, (b"list", b"x"))
        async with client.watch("list") as session:
            self.assertEqual(await session.execute("ACL", "WHOAMI"), b"reader")
        self.assertEqual(client.statistics.connections.exclusive, 1)

    async def test_refused(self) -> None:
        """A wrong password leaves the old login: commands go on, and the error names the node and no password."""
        client = await self.connect(warm_up=True)
        await gatherResults([client.set(f"key:{number}", 1) for number in range(20)])
        self.passwords.append("password-wrong")
        error = await self.assertFailure(client.reauthenticate(), AuthenticationFailed)
        self.assertIn("refused AUTH: WRONGPASS", str(error))
        self.assertNotIn("password-", str(error))
        await gatherResults([client.set(f"key:{number}", 1) for number in range(20)])
        self.assertEqual({event.address for event in self.of(LoginFailed)}, set(self.cluster.addresses))
        self.passwords.append("password-0")
        while len(self.of(LoginRestored)) < 3:
            await deferLater(reactor, 0.05)

    async def test_a_user_that_is_created_again(self) -> None:
        """While the user is gone, commands wait; only writes that were on their way fail."""
        client = await self.connect()
        workload = Workload(reactor, client, workers=20)
        workload.start()
        await self.progress(workload)
        await self.at_each_server("ACL", "DELUSER", "app")
        await deferLater(reactor, 1.0)
        self.passwords.append("password-1")
        await self.create_user()
        await self.progress(workload)
        report = await workload.stop()
        self.assertEqual((report.wrong, report.unfired), ([], 0))
        self.assertLessEqual(set(report.errors), {"SET: ConnectionLost, maybe executed"})
        refused = [event for event in self.of(NodeConnectFailed) if isinstance(event.reason, AuthenticationFailed)]
        self.assertTrue(refused)
        self.assertEqual(self.of(LoginFailed), [])

    async def test_a_function_that_hangs_for_one_node(self) -> None:
        """Only commands to this node wait.  Its open connection goes on; a new one fails with a clear error."""
        victim = self.cluster.addresses[1]
        hangs = False

        def function(address: Address) -> Any:
            return Deferred() if hangs and address == victim else Credentials("app", self.passwords[-1], expires_in=1.0)

        client = await self.connect(credentials=function, connect_timeout=0.5, timeout=2.0)
        names = [f"key:{number}" for number in range(100)]
        owners = {node.address: name for name in names if (node := client.topology.owner(key_slot(name)))}
        keys = {address: owners[address] for address in self.cluster.addresses}
        await gatherResults([client.set(key, 1) for key in keys.values()])
        hangs = True
        failed = len(self.of(LoginFailed))
        while len(self.of(LoginFailed)) < failed + 2:
            await gatherResults([client.with_options(timeout=1.0).incr(key) for key in keys.values()])
            await deferLater(reactor, 0.02)
        self.assertEqual({event.address for event in self.of(LoginFailed)}, {victim})
        await self.cluster.ask(self.cluster.servers[1], "CLIENT", "KILL", "USER", "app")
        waiting = client.get(keys[victim])
        for _ in range(20):
            await gatherResults([client.with_options(timeout=1.0).incr(keys[a]) for a in keys if a != victim])
            await deferLater(reactor, 0.05)
        error = await self.assertFailure(waiting, CommandTimeout)
        self.assertIn(f"{victim}: the function for credentials gave no result within 0.5 s", str(error))
        hangs = False
        self.assertTrue(await client.get(keys[victim]))


class TLSFileTests(ClusterTests):
    """Clients whose certificates are in files."""

    options: ClassVar[dict[str, Any]] = {"tls": "terminator", "verify_clients": True, "replicas": 0}

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        assert self.cluster.certificates is not None
        self.old, self.new = self.cluster.certificates, Certificates.make(self.cluster.host)
        self.write(ca=self.old.authority, client=self.old.client)
        self.events: list[Any] = []

    def write(self, **files: bytes) -> None:
        """Replace files, each as a whole."""
        for name, pem in files.items():
            (self.folder / "new").write_bytes(pem)
            (self.folder / "new").replace(self.folder / f"{name}.pem")

    async def follower(self, **options: Any) -> ClusterClient[bytes]:
        """Return a client that uses the files."""
        paths = {"trust_root": self.folder / "ca.pem", "client_certificate": self.folder / "client.pem"}
        client = await self.connect(**paths, **options)
        client.add_listener(self.events.append)
        return client

    async def replace_servers(self, made: Certificates) -> None:
        """Let the servers use other certificates for new connections, and trust only clients of their authority."""
        self.cluster.certificates = made
        for server in self.cluster.servers:
            await self.cluster._stop_listening(server)
            server.listening = await terminate_tls(
                reactor, self.cluster.host, server.client_port, server.port, made, verify_clients=True
            )

    async def kill_connections(self) -> None:
        """Close every connection of clients; the terminators' connections to the servers look like them."""
        for server in self.cluster.servers:
            await self.cluster.ask(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def test_both_sides_are_replaced(self) -> None:
        """A new authority and new certificates on both sides, under load: only the cut connections are noticed."""
        client = await self.follower()
        workload = Workload(reactor, client, workers=10)
        workload.start()
        await self.progress(workload)
        # First trust both authorities, then change the servers and the own certificate, then trust only the new one.
        self.write(ca=self.old.authority + self.new.authority)
        await self.kill_connections()
        await self.progress(workload)
        self.write(client=self.new.client)
        await self.replace_servers(self.new)
        await self.kill_connections()
        await self.progress(workload)
        self.write(ca=self.new.authority)
        await self.kill_connections()
        await self.progress(workload)
        report = await workload.stop()
        self.assertEqual((report.wrong, report.unfired), ([], 0))
        self.assertLessEqual(set(report.errors), {"SET: ConnectionLost, maybe executed"})
        kinds = [type(event) for event in self.events if isinstance(event, (TLSReloaded, TLSReloadFailed))]
        self.assertEqual(kinds, [TLSReloaded] * 3)

    async def test_files_that_lag_behind(self) -> None:
        """Servers with a new authority are refused until the client's files are there; then commands go on."""
        client = await self.follower(timeout=30.0)
        await client.set("key", "value")
        await self.replace_servers(self.new)
        await self.kill_connections()
        waiting = client.get("key")
        while not any(isinstance(event, NodeConnectFailed) for event in self.events):
            await deferLater(reactor, 0.02)
        # The file is written in two pieces.
        (self.folder / "ca.pem").write_bytes(self.new.authority[:300])
        while not any(isinstance(event, TLSReloadFailed) for event in self.events):
            await deferLater(reactor, 0.02)
        self.assertFalse(waiting.called)
        self.write(client=self.new.client)
        (self.folder / "ca.pem").write_bytes(self.new.authority)
        self.assertEqual(await waiting, b"value")
        kinds = [type(event) for event in self.events if isinstance(event, (TLSReloaded, TLSReloadFailed))]
        self.assertEqual(set(kinds), {TLSReloaded, TLSReloadFailed})
        self.assertIs(kinds[-1], TLSReloaded)

    async def test_reload_tls(self) -> None:
        """``reload_tls()`` reads the files without a connection, and says which one cannot be used."""
        client = await self.follower()
        self.write(client=b"nonsense")
        error = self.assertRaises(ValueError, client.reload_tls)
        self.assertIn("client_certificate holds no PEM certificate", str(error))
        await client.set("key", "value")
        self.write(client=self.new.client, ca=self.new.authority)
        client.reload_tls()
        self.assertEqual([type(event) for event in self.events if isinstance(event, TLSReloaded)], [TLSReloaded])
        # The open connection goes on; a new one needs the new certificates.
        self.assertEqual(await client.get("key"), b"value")
        await self.replace_servers(self.new)
        await self.kill_connections()
        self.assertEqual(await client.get("key"), b"value")
