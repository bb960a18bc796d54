"""The same tests on four clusters: plain, with a password, over IPv6 and over TLS.

The tests start the clusters, unless ``TXVALKEYCLUSTER_RUNNING`` is set.  Then the clusters must be running on the ports
below, and ``TXVALKEYCLUSTER_CA`` names the authority of the TLS certificates.  Without it the authority is
``certs/client.pem`` of the checkout.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from tests.cases import TestCase
from txvalkeycluster import (
    ClientOptions,
    ClusterClient,
    ClusterUnavailable,
    ReplyError,
    RoutingError,
    connect,
    key_slot,
)
from txvalkeycluster.testing import LocalCluster

RUNNING = bool(os.environ.get("TXVALKEYCLUSTER_RUNNING"))
# Made absolute here, because trial changes the current folder before it runs a test.
AUTHORITY = os.path.abspath(os.environ.get("TXVALKEYCLUSTER_CA") or Path(__file__).parents[2] / "certs" / "client.pem")


class PlainTests(TestCase):
    timeout = 60
    running: ClassVar[tuple[str, ClientOptions]] = ("valkey://127.0.0.1:7000", {})
    local: ClassVar[dict[str, Any]] = {}

    async def setUp(self) -> None:  # type: ignore[override]
        if RUNNING:
            self.url, self.options = self.running
        else:
            cluster = LocalCluster(reactor, **self.local)
            self.addCleanup(cluster.stop)
            await cluster.start()
            self.url, self.options = cluster.url, cluster.options
        self.prefix = uuid4().hex
        self.client: ClusterClient[bytes] = await connect(reactor, self.url, **self.options)
        self.addCleanup(self.client.abort)

    async def test_keys_of_every_shard(self) -> None:
        """1000 keys of all shards are written and read at once, and execute_on() reaches every node."""
        client = self.client
        keys = [f"{self.prefix}:{n}" for n in range(1000)]
        self.assertEqual(await gatherResults([client.execute("SET", key, key) for key in keys]), [b"OK"] * 1000)
        replies = await gatherResults([client.execute("GET", key) for key in keys])
        self.assertEqual(replies, [key.encode() for key in keys])
        owners = {client.topology.owner(key_slot(key)) for key in keys}
        self.assertEqual(owners, set(client.primaries()))
        for node in client.nodes():
            self.assertEqual(await client.execute_on(node, "PING"), b"PONG")
        self.assertEqual(await gatherResults([client.execute("DEL", key) for key in keys]), [1] * 1000)

    async def test_errors(self) -> None:
        """A command that the server or the client refuses fails, and the commands beside it succeed."""
        key = f"{self.prefix}:text"
        results = [
            self.client.execute("SET", key, "text", "EX", 60),
            self.client.execute("INCR", key),
            self.client.execute("GET", key),
        ]
        self.assertEqual(await results[0], b"OK")
        await self.assertFailure(results[1], ReplyError)
        self.assertEqual(await results[2], b"text")
        await self.assertFailure(self.client.execute("SINTER", key, f"{key}2"), RoutingError)
        await self.assertFailure(self.client.execute("NONSENSE", key), ReplyError)

    async def test_execute_on_a_node_without_the_slot(self) -> None:
        """execute_on() fails with MOVED for a key of another node."""
        topology = self.client.topology
        key = next(f"{self.prefix}:{n}" for n in range(1000) if key_slot(f"{self.prefix}:{n}") < 5000)
        other = next(node for node in topology.primaries if node != topology.owner(key_slot(key)))
        error = await self.assertFailure(self.client.execute_on(other, "SET", key, "v"), ReplyError)
        self.assertEqual(error.code, "MOVED")

    async def test_one_connection_for_each_node(self) -> None:
        """The client has one connection to each node, however many commands run at once."""
        work = [Deferred.fromCoroutine(self.one_after_the_other(number)) for number in range(50)]
        await gatherResults(work)
        self.assertLessEqual(self.client.statistics.connections.shared, 6)

    async def one_after_the_other(self, worker: int) -> None:
        key = f"{self.prefix}:{worker}"
        for number in range(1, 21):
            self.assertEqual(await self.client.execute("INCR", key), number)
        await self.client.execute("DEL", key)


class PasswordTests(PlainTests):
    running = ("valkey://:secretword@127.0.0.1:7100", {})
    local: ClassVar[dict[str, Any]] = {"password": "secretword"}

    async def test_without_password(self) -> None:
        """connect() without the password fails with NOAUTH."""
        url = self.url.replace(":secretword@", "")
        error = await self.assertFailure(connect(reactor, url, **self.options), ClusterUnavailable)
        self.assertIn("NOAUTH", str(error))


class IPv6Tests(PlainTests):
    running = ("valkey://[::1]:7200", {})
    local: ClassVar[dict[str, Any]] = {"host": "::1"}


class TLSTests(PlainTests):
    running = ("valkeys://127.0.0.1:7300", {"trust_root": AUTHORITY})
    local: ClassVar[dict[str, Any]] = {"tls": "auto"}

    async def test_without_trust(self) -> None:
        """connect() fails if it does not know the authority of the certificates."""
        error = await self.assertFailure(connect(reactor, self.url), ClusterUnavailable)
        self.assertIn("certificate verify failed", str(error))
