"""Clients that do harm: they do not read, disappear, send far too much, or are far too many."""

from __future__ import annotations

import gc
import resource
import select
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, ClassVar

from tests.proxy.base import request
from tests.proxy.programs import HOST, ProxyProcess, ProxyTests, pause, until
from txvalkeycluster import key_slot

MIB = 1 << 20
#: What one idle client may use, in bytes.
IDLE_CLIENT = 5 << 10


def connected(port: int) -> socket.socket:
    """Return a connection that reads nothing by itself."""
    sock = socket.create_connection((HOST, port))
    sock.setblocking(False)
    return sock


def gets(keys: list[str]) -> bytes:
    """Return a pipeline of GETs."""
    return b"".join(request("GET", key) for key in keys)


@contextmanager
def many_files(count: int) -> Iterator[int]:
    """Allow this process, and those that it starts, many open files; give the number of those that are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, soft), hard))
    try:
        yield wanted
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class AbuseTests(ProxyTests):
    timeout = 180
    options: ClassVar[dict[str, Any]] = {"replicas": 0}

    async def numbers(self, port: int) -> dict[str, str]:
        """Return the section of a proxy about itself."""
        client = await self.plain(port)
        text = await client.call("INFO", "proxy")
        client.close()
        await client.lost
        return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)

    async def connections(self) -> list[int]:
        """Return how many connections each node has ever accepted, without those of this method."""
        found = [await self.cluster.ask(server, "INFO", "stats") for server in self.cluster.servers]
        return [int(text.partition(b"total_connections_received:")[2].split()[0]) for text in found]

    async def memory_of(self, proxy: ProxyProcess) -> int:
        """Return the memory of a proxy when only one client is left."""
        while int((await self.numbers(proxy.port))["proxy_clients"]) > 2:
            await pause(0.05)
        return proxy.memory

    async def test_clients_that_do_not_read(self) -> None:
        """100 clients ask for 64 values of 1 MB again and again: a few MB for each, no delay for others."""
        proxy = await self.proxy_process(output_timeout=600)
        other = await self.plain(proxy.port)
        keys = [f"large:{number}" for number in range(20)]
        for key in keys:
            self.assertEqual(await other.call("SET", key, b"x" * MIB), b"OK")
        before, used = proxy.memory, []
        for _ in range(2):
            stuck = [connected(proxy.port) for _ in range(100)]
            for _ in range(5):
                for sock in stuck:
                    if select.select([], [sock], [], 0)[1]:
                        sock.send(gets(keys * 3))
                for _ in range(100):
                    self.assertEqual(await other.batch(("ECHO", "x"), ("GET", "nothing")), [b"x", None])
                used.append(proxy.memory - before)
            for sock in stuck:
                sock.close()
            await self.memory_of(proxy)
        # Four values each at first, and then two.
        self.assertLess(max(used), 600 * MIB, used)
        # What they do further, and further such clients, take no more.
        self.assertLess(max(used) - used[0], 150 * MIB, used)

    async def test_clients_that_disappear(self) -> None:
        """1,000 clients that leave in the middle of a request or of a reply cost memory and nodes nothing."""
        proxy = await self.proxy_process()
        keys = [f"large:{number}" for number in range(30)]
        writer = await self.plain(proxy.port)
        for key in keys:
            self.assertEqual(await writer.call("SET", key, b"x" * 200_000), b"OK")
        used: list[int] = []
        connections = await self.connections()
        for turn in range(4):
            for number in range(250):
                with closing(connected(proxy.port)) as sock:
                    kind = number % 5
                    if kind == 0:
                        sock.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n" + bytes(10_000))
                    elif kind == 1:
                        sock.send(gets(keys))
                    elif kind == 2:
                        sock.send(gets(keys))
                        while not select.select([sock], [], [], 0)[0]:
                            await pause(0.001)
                        sock.recv(100_000)
                    elif kind == 3:
                        sock.send(gets(keys) + b"*2\r\n$3\r\nGE")
                        # With SO_LINGER, the proxy gets a reset.
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    else:
                        sock.send(b"DBSIZE\r\nSCAN 0\r\nINFO\r\nPING\r\n")
                if number % 10 == 0:
                    self.assertEqual(await writer.call("SET", f"turn:{turn}", number), b"OK")
            used.append(await self.memory_of(proxy))
        self.assertLess(used[-1] - used[0], 30 * MIB, used)
        numbers = await self.numbers(proxy.port)
        # Only the request for these numbers is under way.
        self.assertEqual(numbers["proxy_request_bytes"], str(len(request("INFO", "proxy"))))
        self.assertEqual(numbers["proxy_pending_commands"], "0")
        self.assertEqual(await self.connections(), connections)
        self.assertEqual(proxy.log.partition("Traceback")[2], "")

    async def test_node_connections(self) -> None:
        """Each write to a client that has gone leaves the connections to the nodes as they are."""
        service = await self.proxy()
        port = self.port_of(service)
        clients = [await self.plain(port) for _ in range(50)]
        upstream = service.server.upstreams.of(2)
        assert upstream is not None
        before = upstream.client.statistics
        for client in clients:
            sent = client.send(*[("SET", f"k:{number}", "v") for number in range(100)], ("WAIT", 0, 1))
            for each in sent:
                each.addErrback(lambda _: None)
            # The requests are on their way.
            await pause(0)
            client.close()
        await until(lambda: not service.server.sessions)
        await until(lambda: not upstream.client.statistics.pending)
        after = upstream.client.statistics
        self.assertEqual((after.connections.shared, after.open.shared), (before.connections.shared, before.open.shared))
        self.assertGreater(after.commands, before.commands)

    async def test_idle_clients(self) -> None:
        """10,000 idle clients use at most 5 KB each."""
        with many_files(10_600) as files:
            count = min(10_000, files - 600)
            proxy = await self.proxy_process(max_clients=20_000)
            client = await self.plain(proxy.port)
            self.assertEqual(await client.call("PING"), b"PONG")
            before = await self.memory_of(proxy)
            idle: list[socket.socket] = []
            try:
                while len(idle) < count:
                    idle += [connected(proxy.port) for _ in range(min(500, count - len(idle)))]
                    self.assertEqual(await client.call("PING"), b"PONG")
                while int((await self.numbers(proxy.port))["proxy_clients"]) < count + 2:
                    await pause(0.05)
                each = (proxy.memory - before) / count
                self.assertLess(each, IDLE_CLIENT)
            finally:
                for sock in idle:
                    sock.close()

    async def test_large_requests(self) -> None:
        """100 MB are written and read; 600 MB are refused before they come."""
        proxy = await self.proxy_process()
        client = await self.plain(proxy.port)
        value = bytes(range(256)) * (100 * MIB // 256)
        self.assertEqual(await client.call("SET", "large", value), b"OK")
        self.assertTrue(await client.call("GET", "large") == value)
        gc.collect()
        too_large = await self.plain(proxy.port)
        before = proxy.memory
        assert too_large.transport is not None
        too_large.transport.write(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (600 * MIB))
        await too_large.lost
        self.assertEqual([str(each) for each in too_large.unexpected], ["ERR Protocol error: invalid bulk length"])
        # Two values of 300 MB are too large together.
        half = await self.plain(proxy.port)
        assert half.transport is not None
        half.transport.write(b"*5\r\n$4\r\nMSET\r\n$1\r\nk\r\n$%d\r\n" % (300 * MIB))
        for _ in range(300):
            half.transport.write(bytes(MIB))
            await pause(0)
        half.transport.write(b"\r\n$1\r\nl\r\n$%d\r\n" % (300 * MIB))
        await half.lost
        self.assertIn("larger than", str(half.unexpected))
        self.assertLess(proxy.memory - before, 450 * MIB)
        self.assertEqual(await client.call("GET", "k"), None)

    async def test_a_flood(self) -> None:
        """While a pipeline of 100,000 commands runs, each request of others waits for a few windows of it at most."""
        service = await self.proxy()
        flood = await self.plain(self.port_of(service))
        others = [await self.plain(self.port_of(service)) for _ in range(2)]
        most = service.server.settings.max_pending
        (session,) = [each for each in service.server.sessions.values() if each.number == 2]
        keys = [self.key_in(slot) for slot in (0, 8000, 16000)]
        count = 100_000
        sent = flood.send(*[("SET", keys[number % 3], number) for number in range(count)])
        waits: list[int] = []
        await until(lambda: session.commands > most)
        while session.commands < count:
            before = session.commands
            await others[0].call("PING")
            await others[1].call("GET", keys[0])
            waits.append(session.commands - before)
        self.assertGreater(len(waits), 10)
        # In each turn of the reactor, the flood advances by a window.  The two requests of the others need some turns,
        # because this process is the client, too.
        self.assertLessEqual(max(waits), 8 * most, waits)
        for each in sent:
            self.assertEqual(await each, b"OK")

    def key_in(self, slot: int) -> str:
        """Return a key in or after a slot."""
        return min((f"k:{number}" for number in range(2000)), key=lambda key: (key_slot(key) - slot) % 16384)
