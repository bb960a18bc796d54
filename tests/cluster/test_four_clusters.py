"""The same on each of the four clusters that the C library is tested on.

They are started here, unless ``TXVALKEYCLUSTER_RUNNING`` is set: then they must be up on their ports, however they were
started, and ``TXVALKEYCLUSTER_CA`` (or ``certs/client.pem`` of the checkout) is the authority of the last one's
certificates.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from txvalkeycluster import ClusterClient, ClusterUnavailable, ReplyError, RoutingError, connect, key_slot
from txvalkeycluster.testing import LocalCluster

RUNNING = bool(os.environ.get("TXVALKEYCLUSTER_RUNNING"))
# Made absolute here, since trial changes the folder before it runs a test.
AUTHORITY = os.path.abspath(os.environ.get("TXVALKEYCLUSTER_CA") or Path(__file__).parents[2] / "certs" / "client.pem")


class PlainTests(TestCase):
    timeout = 60
    running: ClassVar[tuple[str, dict[str, Any]]] = ("valkey://127.0.0.1:7000", {})
    local: ClassVar[dict[str, Any]] = {}

    async def setUp(self) -> None:
        if RUNNING:
            self.url, self.options = self.running
        else:
            cluster = LocalCluster(reactor, **self.local)
            self.addCleanup(cluster.stop)
            await cluster.start()
            self.url, self.options = cluster.url, cluster.options
        self.prefix = uuid4().hex
        self.client: ClusterClient = await connect(reactor, self.url, **self.options)
        self.addCleanup(self.client.abort)

    async def test_keys_of_every_shard(self) -> None:
        """A thousand keys, written and read at once, come back in the caller's order; each node is asked alone."""
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

    async def test_what_is_an_error(self) -> None:
        """The server's errors are the caller's, in their places among replies."""
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

    async def test_one_node_alone(self) -> None:
        """A node asked alone for the key of another says MOVED, and the caller hears it."""
        topology = self.client.topology
        key = next(f"{self.prefix}:{n}" for n in range(1000) if key_slot(f"{self.prefix}:{n}") < 5000)
        other = next(node for node in topology.primaries if node != topology.owner(key_slot(key)))
        error = await self.assertFailure(self.client.execute_on(other, "SET", key, "v"), ReplyError)
        self.assertEqual(error.code, "MOVED")

    async def test_one_connection_for_each_node(self) -> None:
        """However many commands at once."""
        work = [Deferred.fromCoroutine(self.one_after_the_other(number)) for number in range(50)]
        await gatherResults(work)
        self.assertLessEqual(self.client.statistics.connections, 6)

    async def one_after_the_other(self, worker: int) -> None:
        key = f"{self.prefix}:{worker}"
        for number in range(1, 21):
            self.assertEqual(await self.client.execute("INCR", key), number)
        await self.client.execute("DEL", key)


class PasswordTests(PlainTests):
    running = ("valkey://:secretword@127.0.0.1:7100", {})
    local: ClassVar[dict[str, Any]] = {"password": "secretword"}

    async def test_without_it(self) -> None:
        """No password, no entry."""
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
        """A certificate of an authority we do not know."""
        error = await self.assertFailure(connect(reactor, self.url), ClusterUnavailable)
        self.assertIn("certificate verify failed", str(error))
