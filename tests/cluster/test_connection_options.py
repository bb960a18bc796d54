"""The ways to connect to a cluster: TLS, passwords, IPv6, databases, Unix sockets, NAT and RESP2."""

from __future__ import annotations

import socket
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import deferLater

from tests.cluster.base import ClusterTests
from txvalkeycluster import Address, ClusterUnavailable, ReplyError, connect, key_slot
from txvalkeycluster.testing import NoServer, find_server


class PlainTests(ClusterTests):
    async def test_resp2(self) -> None:
        """protocol=2 gives the replies of RESP2.  RESP3 sets the names of the client and of the library."""
        client = await self.connect(protocol=2)
        await client.execute("HSET", "h", "f", "v")
        self.assertEqual(await client.execute("HGETALL", "h"), [b"f", b"v"])
        client3 = await self.connect(client_name="three")
        self.assertEqual(await client3.execute("HGETALL", "h"), {b"f": b"v"})
        owner = client.topology.owner(key_slot("h"))
        assert owner is not None
        listed = (await client3.execute_on(owner, "CLIENT", "LIST")).decode()
        self.assertIn("lib-name=txvalkeycluster", listed)
        self.assertIn("name=three", listed)

    async def test_every_topology_source(self) -> None:
        """CLUSTER SLOTS, SHARDS and NODES give the same slot map."""
        maps = []
        for source in ("slots", "shards", "nodes"):
            client = await self.connect(topology_source=source)
            topology = client.topology
            maps.append((list(topology.ranges()), sorted(node.id for node in topology.replicas)))
            self.assertEqual(await client.execute("SET", "k", source), b"OK")
        owners = [([(start, end, node.id) for start, end, node in ranges], ids) for ranges, ids in maps]
        self.assertEqual(owners, [owners[0]] * 3)

    async def test_the_first_map_equals_the_next(self) -> None:
        """The first map (CLUSTER SHARDS) and the next (CLUSTER SLOTS) are equal, for every preferred endpoint type."""

        async def everywhere(*words: str) -> list[Any]:
            return await gatherResults([self.cluster.ask(server, *words) for server in self.cluster.servers])

        for hostname in ("", "localhost"):
            await everywhere("CONFIG", "SET", "cluster-announce-hostname", hostname)
            while hostname and any(text.count(b",localhost") < 6 for text in await everywhere("CLUSTER", "NODES")):
                await deferLater(reactor, 0.05)
            for kind in ("ip", "hostname", "unknown-endpoint"):
                await everywhere("CONFIG", "SET", "cluster-preferred-endpoint-type", kind)
                await everywhere("CONFIG", "RESETSTAT")
                client = await self.connect()
                self.assertTrue(any(b"cluster|shards" in text for text in await everywhere("INFO", "COMMANDSTATS")))
                witness = await self.connect(topology_source="slots")
                self.assertEqual(client.topology.shards, witness.topology.shards)
                await client.refresh_topology()
                self.assertEqual(client.topology.version, 1)

    async def test_encoding(self) -> None:
        """With ``encoding`` replies are str at every depth.  A reply that cannot be decoded fails its command alone."""
        client = await self.connect(encoding="utf-8")
        await client.execute("HSET", "h", "naïve", "é")
        self.assertEqual(await client.execute("HGETALL", "h"), {"naïve": "é"})
        await client.execute("SET", "raw", b"\xff")
        await self.assertFailure(client.execute("GET", "raw"), UnicodeDecodeError)
        self.assertEqual(await client.execute("GET", "none"), None)

    async def test_nat_and_sockets(self) -> None:
        """address_map replaces announced addresses, and on_socket gets every socket."""
        real = {Address("gate", 1000 + n): address for n, address in enumerate(self.cluster.addresses)}
        shown: list[Any] = []

        def elsewhere(host: str, port: int) -> tuple[str, int]:
            return real.get(Address(host, port), Address(host, port))

        def on_socket(sock: Any, address: Address) -> None:
            shown.append(address)
            self.assertTrue(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        seeds = (Address("gate", 1000),)
        client = await connect(reactor, seeds=seeds, address_map=elsewhere, on_socket=on_socket, warm_up=True)
        self.addCleanup(client.abort)
        await gatherResults([client.execute("SET", f"k{n}", n) for n in range(100)])
        self.assertEqual(shown[0], self.cluster.addresses[0])
        self.assertLessEqual(set(self.cluster.addresses[:3]), set(shown))

    async def test_a_server_without_slots(self) -> None:
        """connect() to a node that is in no cluster fails, and the error asks whether the cluster is formed."""
        single = self.cluster.servers[5]
        await self.cluster.ask(single, "CLUSTER", "RESET", "HARD")
        address = Address(self.cluster.host, single.port)
        error = await self.assertFailure(connect(reactor, f"valkey://{address}"), ClusterUnavailable)
        self.assertIn("check that the cluster was created", str(error))


class UnixTests(ClusterTests):
    options: ClassVar[dict[str, Any]] = {"config": {"unixsocket": "socket"}, "replicas": 0}

    async def test_unix_sockets(self) -> None:
        """endpoint_for makes the endpoint of each node, here a Unix socket."""
        folders = {server.port: server.folder for server in self.cluster.servers}

        def endpoint_for(host: str, port: int) -> Any:
            return UNIXClientEndpoint(reactor, str(folders[port] / "socket"))  # type: ignore[no-untyped-call]

        client = await self.connect(endpoint_for=endpoint_for)
        replies = await gatherResults([client.execute("SET", f"k{n}", n) for n in range(100)])
        self.assertEqual(replies, [b"OK"] * 100)


class DatabaseTests(ClusterTests):
    options: ClassVar[dict[str, Any]] = {"config": {"cluster-databases": "4"}, "replicas": 0, "password": "secretword"}

    async def test_databases_and_passwords(self) -> None:
        """``db`` selects a database, a user has the rights of its ACL, and errors name no password."""
        one, two = await self.connect(db=1), await self.connect(db=2)
        await one.execute("SET", "k", "one")
        self.assertEqual(await two.execute("GET", "k"), None)
        self.assertEqual(await one.execute("GET", "k"), b"one")
        error = await self.assertFailure(connect(reactor, self.cluster.url, db=9), ClusterUnavailable)
        self.assertIn("refused SELECT 9", str(error))

        for server in self.cluster.servers:
            await self.cluster.ask(server, "ACL", "SETUSER", "app", "on", ">pass:/@word", "+@all", "-flushall", "~*")
        hosts = self.cluster.url.partition("@")[2]
        app = await connect(reactor, f"valkey://app:pass%3A%2F%40word@{hosts}/1")
        self.addCleanup(app.abort)
        self.assertEqual(await app.execute("GET", "k"), b"one")
        node = app.topology.primaries[0]
        refusal = await self.assertFailure(app.execute_on(node, "FLUSHALL"), ReplyError)
        self.assertEqual(refusal.code, "NOPERM")
        for url in (f"valkey://:wrongword@{hosts}", f"valkey://{hosts}", f"valkey://app:wrongword@{hosts}"):
            for protocol in (2, 3):
                error = await self.assertFailure(connect(reactor, url, protocol=protocol), ClusterUnavailable)
                self.assertEqual(len(error.attempts), 3)
                self.assertRegex(str(error), "NOAUTH|WRONGPASS")
                self.assertNotIn("wrongword", str(error))


class IPv6Tests(ClusterTests):
    options: ClassVar[dict[str, Any]] = {"host": "::1", "replicas": 0}

    async def test_ipv6(self) -> None:
        """Seeds have IPv6 addresses in brackets.  Redirects have IPv6 addresses without brackets."""
        client = await self.connect()
        await gatherResults([client.execute("SET", f"k{n}", n) for n in range(100)])
        one, two = self.cluster.servers[:2]
        await self.cluster.migrate_by_key(range(50), one, two)
        await gatherResults([client.execute("SET", f"k{n}", n) for n in range(1000)])
        self.assertGreater(client.statistics.moved, 0)


class TerminatedTLSTests(ClusterTests):
    options: ClassVar[dict[str, Any]] = {"tls": "terminator", "verify_clients": True}

    async def test_commands_and_failover(self) -> None:
        """Commands, redirects and a failover work over TLS with certificates of both sides."""
        client = await self.connect()

        async def hand_over(_: Any) -> None:
            await self.cluster.failover(self.cluster.servers[3])

        report = await self.under_load(hand_over, client)
        self.assertEqual(dict(report.errors), {})
        value = bytes(range(256)) * 40_000
        await client.execute("SET", "large", value)
        self.assertEqual(await client.execute("GET", "large"), value)
        await client.close()

    async def test_without_certificate_or_trust(self) -> None:
        """connect() fails without a client certificate, and without trust_root."""
        trust = {"trust_root": self.cluster.options["trust_root"]}
        for options in (trust, {"client_certificate": self.cluster.options["client_certificate"]}):
            error = await self.assertFailure(connect(reactor, self.cluster.url, **options), ClusterUnavailable)
            self.assertEqual(len(error.attempts), 6)
            self.assertIn("TLS", str(error))


class ServerTLSTests(TerminatedTLSTests):
    options: ClassVar[dict[str, Any]] = {"tls": "server", "verify_clients": True}

    try:
        find_server(tls=True)
    except NoServer as reason:
        skip = str(reason)
