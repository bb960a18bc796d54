"""A proxy with several processes, as an administrator runs it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import hiredis

from tests.proxy.operation import OperationTests, TwistdProxy, is_running
from tests.proxy.programs import HOST, PlainClient, until
from txvalkeycluster.testing.ports import free_ports


class WorkerTests(OperationTests):
    async def proxy(self, *words: str, workers: int = 2) -> TwistdProxy:
        """Start a proxy whose workers accept clients."""
        (self.port,) = free_ports(HOST, 1)
        proxy = self.start(f"--listen=tcp:{self.port}:interface={HOST}", f"--workers={workers}", *words)
        await self.ready(proxy, self.port, workers)
        return proxy

    async def client_at(self, proxy: TwistdProxy, worker: int) -> PlainClient:
        """Return a client that a certain worker serves, by its place among those that run."""
        numbers = sorted(int(Path(each).stem) for each in self.sockets_of(proxy))
        while True:
            client = await self.plain(self.port)
            if await client.call("CLIENT", "ID") % 4096 == numbers[worker]:
                return client
            client.close()
            await client.lost

    async def all_gone(self, proxy: TwistdProxy, running: list[int]) -> None:
        """Wait until processes have ended; fail if there are files of the proxy."""
        await until(lambda: not any(map(is_running, running)))
        self.assertEqual(proxy.left, [])

    # ---- replacement

    async def test_hangup_under_load(self) -> None:
        """SIGHUP replaces all workers.  No connection is refused, and no reply is wrong."""
        proxy = await self.proxy()
        clients = await self.reconnecting(self.port)
        for number in range(2):
            old = proxy.workers
            proxy.kill(signal.SIGHUP)
            await until(lambda old=old: len(proxy.workers) == 2 and not set(old) & set(proxy.workers))  # type: ignore[misc]
            await self.advance(clients)
            self.assertEqual([each.bad for each in clients], [[] for _ in clients])
            # A client that connects again can reach a worker that is replaced later.
            self.assertTrue(all(each.losses <= 2 * (number + 1) for each in clients))
        self.assertNotIn("Traceback", proxy.log)
        self.assertEqual(len(self.sockets_of(proxy)), 2)

    async def test_hangups_in_a_row(self) -> None:
        """SIGHUP during a replacement replaces also the workers that were just started."""
        proxy = await self.proxy()
        proxy.kill(signal.SIGHUP)
        await until(lambda: len(proxy.workers) > 2)
        seen = set(proxy.workers)
        proxy.kill(signal.SIGHUP)
        proxy.kill(signal.SIGHUP)
        await until(lambda: len(proxy.workers) == 2 and not seen & set(proxy.workers))
        await self.ready(proxy, self.port, 2)

    async def test_a_change_that_is_not_valid(self) -> None:
        """If the new workers cannot start, the old ones stay."""
        users = self.group.folder / "users"
        users.write_text("alice:scrypt:14:00:" + "00" * 32)
        proxy = await self.proxy_with_users(str(users))
        old = proxy.workers
        users.write_text("broken")
        proxy.kill(signal.SIGHUP)
        await proxy.has_logged("stays, because its successor has ended")
        self.assertIn("line 1 is not name:scrypt:cost:salt:hash", proxy.log)
        self.assertEqual(proxy.workers, old)
        client = await self.plain(self.port)
        self.assertIn("NOAUTH", str(await client.call("PING")))

    async def proxy_with_users(self, users: str) -> TwistdProxy:
        (self.port,) = free_ports(HOST, 1)
        proxy = self.start(f"--listen=tcp:{self.port}:interface={HOST}", "--workers=2", f"--users={users}")
        await until(lambda: len(self.sockets_of(proxy)) == 2 or proxy.process.poll() is not None)
        return proxy

    async def test_clients_that_wait(self) -> None:
        """CLIENT UNBLOCK ends the command of a client of another worker; SIGHUP disconnects those that wait."""
        proxy = await self.proxy()
        waiting = [await self.client_at(proxy, 0) for _ in range(3)]
        other = await self.client_at(proxy, 1)
        number = await waiting[0].call("CLIENT", "ID")
        calls = [
            waiting[0].call("BLPOP", "a", 0),
            waiting[1].call("BLPOP", "a", "b", "c", 0),
            waiting[2].call("SUBSCRIBE", "a"),
        ]
        self.assertEqual(await calls[2], [b"subscribe", b"a", 1])

        async def unblocked() -> bool:
            return bool(await other.call("CLIENT", "UNBLOCK", number, "ERROR") == 1)

        await self.cluster.until(unblocked, "the command waits")
        self.assertIn("UNBLOCKED", str(await calls[0]))
        # It waits for its next one when the worker is told to end.
        waiting[0].call("BLPOP", "a", 0).addErrback(lambda _: None)
        calls[1].addErrback(lambda _: None)
        proxy.kill(signal.SIGHUP)
        for client in waiting:
            await client.lost
        again = await self.plain(self.port)
        self.assertEqual(await again.call("RPUSH", "a", "x"), 1)
        self.assertEqual(await again.call("LPOP", "a"), b"x")
        self.assertNotIn("Traceback", proxy.log)

    # ---- ends that nobody asked for

    async def test_a_killed_worker(self) -> None:
        """It is started again, and the others go on."""
        proxy = await self.proxy()
        victim, other = proxy.workers
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(proxy.workers) == 2 and victim not in proxy.workers)
        self.assertIn(other, proxy.workers)
        await self.ready(proxy, self.port, 2)
        await proxy.has_logged(r"worker \d+ has ended: A process has ended with a probable error condition: .*signal 9")

    async def test_a_worker_that_was_told_to_end(self) -> None:
        """SIGTERM to a worker drains it, and another one takes its place."""
        proxy = await self.proxy()
        victim = proxy.workers[0]
        os.kill(victim, signal.SIGTERM)
        os.kill(victim, signal.SIGTERM)
        await until(lambda: len(proxy.workers) == 2 and victim not in proxy.workers)
        await self.ready(proxy, self.port, 2)
        self.assertNotIn("Traceback", proxy.log)

    async def test_signals_for_everybody(self) -> None:
        """A terminal sends SIGINT and SIGHUP to all processes; only the supervisor heeds them."""
        proxy = await self.proxy()
        workers = proxy.workers
        for number in workers:
            os.kill(number, signal.SIGINT)
            os.kill(number, signal.SIGHUP)
        for place in range(2):
            client = await self.client_at(proxy, place)
            self.assertEqual(await client.call("PING"), b"PONG")
        self.assertEqual(proxy.workers, workers)

    async def test_a_killed_supervisor(self) -> None:
        """The workers end, and nobody listens any more."""
        proxy = await self.proxy()
        workers = proxy.workers
        client = await self.client_at(proxy, 0)
        proxy.process.kill()
        await until(lambda: not any(map(is_running, workers)))
        await client.lost
        self.assertEqual(proxy.left, [])

    # ---- one proxy for its clients

    async def test_a_scan_at_several_workers(self) -> None:
        """A scan that begins at one worker goes on at another."""
        proxy = await self.proxy()
        first, second = await self.client_at(proxy, 0), await self.client_at(proxy, 1)
        await first.call("MSET", *(word for number in range(500) for word in (f"key{number}", number)))
        clients = [first, second]
        cursor, found, steps = b"0", [], 0
        while steps == 0 or cursor != b"0":
            cursor, keys = await clients[steps % 2].call("SCAN", cursor, "COUNT", 20)
            found += keys
            steps += 1
        self.assertGreater(steps, 10)
        self.assertEqual(sorted(set(found)), sorted(b"key%d" % number for number in range(500)))
        # An error of the other worker is that of a scan at this one.
        cursor, _ = await first.call("SCAN", 0)
        for client in clients:
            self.assertIn("this cursor is not known", str(await client.call("SCAN", cursor, "MATCH", "x*")))

    async def test_clients_of_several_workers(self) -> None:
        """CLIENT LIST shows all clients, CLIENT KILL reaches all, and no two have the same CLIENT ID."""
        proxy = await self.proxy()
        clients = [await self.client_at(proxy, place) for place in (0, 1, 0, 1)]
        numbers = [await each.call("CLIENT", "ID") for each in clients]
        self.assertEqual(len(set(numbers)), 4)
        for asking in clients[:2]:
            listed = (await asking.call("CLIENT", "LIST")).decode()
            self.assertEqual(sorted(map(int, re.findall(r"^id=(\d+) ", listed, re.M))), sorted(numbers))
            listed = (await asking.call("CLIENT", "LIST", "ID", *numbers[2:])).decode()
            self.assertEqual(sorted(map(int, re.findall(r"^id=(\d+) ", listed, re.M))), sorted(numbers[2:]))
        self.assertEqual(await clients[0].call("CLIENT", "KILL", "ID", numbers[3]), 1)
        await clients[3].lost
        self.assertEqual(await clients[0].call("CLIENT", "KILL", "ID", numbers[3]), 0)
        # All but the one that asks.
        self.assertEqual(await clients[1].call("CLIENT", "KILL", "TYPE", "normal"), 2)
        await clients[0].lost
        await clients[2].lost
        self.assertEqual(await clients[1].call("PING"), b"PONG")

    async def test_a_worker_that_does_not_answer(self) -> None:
        """What concerns all clients fails if one worker does not answer, since its clients would be left out."""
        proxy = await self.proxy()
        first = await self.client_at(proxy, 0)
        second = await self.client_at(proxy, 1)
        number = await first.call("CLIENT", "ID") % 4096
        os.kill(await self.process_of(proxy, number), signal.SIGSTOP)
        for words in (("CLIENT", "LIST"), ("CLIENT", "KILL", "LADDR", "none")):
            reply = await second.call(*words)
            self.assertIsInstance(reply, hiredis.ReplyError)
            self.assertIn(f"worker {number} does not answer", str(reply))

    async def process_of(self, proxy: TwistdProxy, number: int) -> int:
        """Return the process of a worker: the one that listens on its socket."""
        (path,) = [proxy.temporary / each for each in self.sockets_of(proxy) if Path(each).stem == str(number)]
        inodes = {
            line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines() if line.endswith(str(path))
        }
        for process in proxy.workers:
            held = {os.readlink(each) for each in Path(f"/proc/{process}/fd").iterdir() if each.is_symlink()}
            if held & {f"socket:[{inode}]" for inode in inodes}:
                return process
        raise AssertionError(f"no process has the socket of worker {number}")

    async def test_the_number_of_clients(self) -> None:
        """max_clients holds for all workers together, wherever the clients are."""
        file = self.group.folder / "proxy.toml"
        file.write_text("max_clients = 5\n")
        proxy = await self.proxy(f"--config={file}", workers=3)
        clients: list[PlainClient] = []
        for _ in range(5):
            clients.append(await self.plain(self.port))
            self.assertEqual(await clients[-1].call("PING"), b"PONG")
        for _ in range(3):
            refused = await self.plain(self.port)
            self.assertIn("max number of clients reached", str(await refused.call("PING")))
            await refused.lost
        clients[2].close()
        await clients[2].lost
        await self.accepted()
        for each in (*clients[:2], *clients[3:]):
            self.assertEqual(await each.call("PING"), b"PONG")
        self.assertNotIn("Traceback", proxy.log)

    async def accepted(self) -> None:
        """Connect until a client is accepted: the end of another is known a moment later."""
        while True:
            client = await self.plain(self.port)
            reply: Any = await client.call("PING")
            if reply == b"PONG":
                return
            self.assertIn("max number of clients reached", str(reply))
            await client.lost

    async def test_arguments(self) -> None:
        """The password of the URL is in no argument and no environment of a worker, and in no log."""
        password = "v3ry-secret"
        for server in self.cluster.servers:
            await self.cluster.ask(server, "ACL", "SETUSER", "app", "on", f">{password}", "~*", "&*", "+@all")
        (self.port,) = free_ports(HOST, 1)
        url = self.cluster.url.replace("://", f"://app:{password}@")
        proxy = self.start(f"--listen=tcp:{self.port}:interface={HOST}", "--workers=2", "--cluster", url)
        await self.ready(proxy, self.port, 2)
        for number in proxy.workers:
            for name in ("cmdline", "environ"):
                self.assertNotIn(password.encode(), Path(f"/proc/{number}/{name}").read_bytes())
        old = proxy.workers
        proxy.kill(signal.SIGHUP)
        await until(lambda: len(proxy.workers) == 2 and not set(old) & set(proxy.workers))
        proxy.kill(signal.SIGTERM)
        await proxy.ended()
        self.assertNotIn(password, proxy.log)
