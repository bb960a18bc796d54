"""LocalCluster itself: its methods and its ports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, ServerFactory

from tests.cases import TestCase
from tests.cluster.base import ClusterTests
from tests.cluster.command_line import ROOT, output_of
from txvalkeycluster.testing import LocalCluster, PortTaken, find_server
from txvalkeycluster.testing import cluster as testing_cluster
from txvalkeycluster.testing.ports import free_ports


class LocalClusterTests(ClusterTests):
    async def test_every_action_can_be_awaited(self) -> None:
        """Actions start at once and return a Deferred."""
        cluster, (first, *_) = self.cluster, self.cluster.servers
        await cluster.pause(first)
        await cluster.resume(first)
        killed = cluster.kill(first)
        self.assertFalse(first.alive)
        await killed
        await cluster.kill(first)

    async def test_every_query_returns_a_deferred(self) -> None:
        """Queries start at once and return a Deferred."""
        cluster, (first, second, _, replica, *_) = self.cluster, self.cluster.servers
        questions: list[Deferred[Any]] = [
            cluster.primaries(),
            cluster.replicas_of(first),
            cluster.ranges_of(second),
            cluster.owner_of(16383),
            cluster.until(self.yes, "nothing"),
        ]
        for question in questions:
            self.assertIsInstance(question, Deferred)
        answers = [await question for question in questions]
        self.assertEqual(answers, [cluster.servers[:3], [replica], [range(5461, 10922)], cluster.servers[2], None])

    async def yes(self) -> bool:
        return True


class PortTests(TestCase):
    timeout = 60

    def cluster(self, **options: Any) -> LocalCluster:
        cluster = LocalCluster(reactor, primaries=1, replicas=0, **options)
        self.addCleanup(cluster.stop)
        return cluster

    async def expect_refusal(self, first_port: int, who: str, **options: Any) -> None:
        """Check that a cluster does not start because of a port, and that the error names who uses it."""
        cluster = self.cluster(first_port=first_port, **options)
        error = await self.assertFailure(cluster.start(), PortTaken)
        self.assertEqual(str(error), f"port {first_port} of 127.0.0.1 is taken by {who}")
        self.assertEqual(cluster.servers, [])

    async def test_port_of_another_server(self) -> None:
        """PortTaken names the process of a Valkey server.  That server is not changed."""
        other = self.cluster()
        await other.start()
        (theirs,) = other.servers
        nodes = await other.ask(theirs, "CLUSTER", "NODES")
        assert theirs.process is not None
        for tls in (False, "terminator"):
            who = f"a Valkey or Redis server, process {theirs.process.pid}"
            await self.expect_refusal(theirs.client_port, who, tls=tls)
        self.assertEqual(await other.ask(theirs, "CLUSTER", "NODES"), nodes)

    async def test_port_of_a_server_with_a_password(self) -> None:
        """PortTaken says that the server wants a password."""
        other = self.cluster(password="secretword")
        await other.start()
        await self.expect_refusal(other.servers[0].port, "a server that requires a password")

    async def test_port_of_another_program(self) -> None:
        """PortTaken names a program that is no Valkey server, and closes every connection."""
        factory: Any = ServerFactory.forProtocol(HangUp)
        listening: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        await self.expect_refusal(listening.getHost().port, "another program")

    async def test_port_taken_during_the_start(self) -> None:
        """If another server takes a port between check and start, start() fails and does not change that server."""
        other = self.cluster()
        await other.start()
        (theirs,) = other.servers
        nodes = await other.ask(theirs, "CLUSTER", "NODES")
        one, two = free_ports("127.0.0.1", 2)
        for options, found in (({}, [one, theirs.port, two]), ({"tls": "terminator"}, [theirs.port, one, two])):
            self.patch(testing_cluster, "ports_for", AsyncMock(return_value=found))
            # Either our server ends first, or the cluster recognizes the other server.
            error = await self.assertFailure(self.cluster(**options).start(), RuntimeError)
            self.assertRegex(str(error), "is taken by a Valkey or Redis server|Address already in use")
            self.assertEqual(await other.ask(theirs, "CLUSTER", "NODES"), nodes)

    async def test_port_that_answers_for_another_server(self) -> None:
        """The cluster does not configure a server on its port that is not its own."""
        other, cluster = self.cluster(), self.cluster()
        await other.start()
        await cluster.start()
        nodes = await other.ask(other.servers[0], "CLUSTER", "NODES")
        cluster.servers[0].port = other.servers[0].port
        error = await self.assertFailure(Deferred.fromCoroutine(cluster._form()), PortTaken)
        self.assertIn(f"port {other.servers[0].port} of 127.0.0.1", str(error))
        self.assertEqual(await other.ask(other.servers[0], "CLUSTER", "NODES"), nodes)

    async def test_a_port_is_free_again(self) -> None:
        """A new cluster can use the port of a cluster that has stopped, though there were connections."""
        first = self.cluster()
        await first.start()
        port = first.servers[0].client_port
        client = first.client()
        await client.set("key", "value")
        await first.stop()
        await client.abort()
        second = self.cluster(first_port=port)
        await second.start()
        self.assertEqual(second.servers[0].client_port, port)

    def test_invalid_ports(self) -> None:
        """A first port is refused if it, or one of those behind it, is no valid port."""
        for first in (0, -1, 65536):
            self.assertRaises(ValueError, self.cluster, first_port=first)
        self.assertRaises(ValueError, LocalCluster, reactor, first_port=65531)
        LocalCluster(reactor, first_port=65530)


class HangUp(Protocol):
    def dataReceived(self, data: bytes) -> None:
        """Close the connection."""
        assert self.transport is not None
        self.transport.loseConnection()


class PathTests(TestCase):
    timeout = 60

    async def test_a_server_at_a_relative_path(self) -> None:
        """The path of the server program may be relative, though each server runs in a folder of its own."""
        Path("server").symlink_to(find_server())
        self.addCleanup(Path("server").unlink)
        self.patch(os, "environ", {**os.environ, "VALKEY_SERVER": "./server"})
        every: list[dict[str, Any]] = [{}, {"server": "./server"}]
        for options in every:
            cluster = LocalCluster(reactor, primaries=1, replicas=0, **options)
            self.addCleanup(cluster.stop)
            await cluster.start()
            await cluster.stop()

    async def test_an_authority_at_a_relative_path(self) -> None:
        """TXVALKEYCLUSTER_CA may be relative, though trial changes the current folder."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "ca.pem").write_text("the authority")
        program = "from tests.cluster.test_four_clusters import *; os.chdir('/'); print(open(AUTHORITY).read())"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TXVALKEYCLUSTER_CA": "ca.pem"}
        out, err, _ = await output_of(["-c", program], environment, folder)
        self.assertEqual((out, err), ("the authority\n", ""))
