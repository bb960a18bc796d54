"""How a proxy starts and ends: signals, requests under way, daemons, and what is left behind."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from twisted.internet.defer import Deferred

from tests.proxy.operation import OperationTests, TwistdProxy, children_of, is_running
from tests.proxy.programs import HOST, PlainClient, pause, until
from txvalkeycluster import ConnectionLost, key_slot
from txvalkeycluster.testing import Server
from txvalkeycluster.testing.ports import free_ports


class StopTests(OperationTests):
    async def proxy(self, workers: int, **settings: Any) -> TwistdProxy:
        """Start a proxy that waits without a limit, unless the settings say otherwise."""
        (self.port,) = free_ports(HOST, 1)
        file = self.group.folder / "proxy.toml"
        values = {"stop_timeout": 1000, "timeout": 1000, **settings}
        file.write_text("".join(f"{name} = {value}\n" for name, value in values.items()))
        words = (f"--listen=tcp:{self.port}:interface={HOST}", f"--workers={workers}", f"--config={file}")
        proxy = self.start(*words)
        await self.ready(proxy, self.port, workers)
        self.running = proxy.workers
        return proxy

    async def under_way(self) -> tuple[Server, PlainClient, Sequence[Deferred[Any]]]:
        """Return a server that does not answer, a client, and two requests of it that the proxy has read."""
        client = await self.plain(self.port)
        name = f"busy{self.port}"
        self.assertEqual(await client.batch(("CLIENT", "SETNAME", name), ("SET", "key", "value")), [b"OK", b"OK"])
        server = await self.cluster.owner_of(key_slot("key"))
        await self.cluster.pause(server)
        replies = client.send(("GET", "key"), ("STRLEN", "key"))
        asking = await self.plain(self.port)
        read = False
        while not read:
            lines = (await asking.call("CLIENT", "LIST")).decode().splitlines()
            read = any(f" name={name} " in line and " tot-cmds=4" in line for line in lines)
        asking.close()
        await asking.lost
        return server, client, replies

    async def gone(self, proxy: TwistdProxy) -> None:
        """Wait for the end of a proxy; fail if it leaves anything behind."""
        await proxy.ended()
        await until(lambda: not any(map(is_running, self.running)))
        self.assertEqual(proxy.left, [])
        self.assertNotIn("Traceback", proxy.log)

    async def drain(self, workers: int, everybody: bool = False) -> None:
        """Stop a proxy while requests are under way."""
        proxy = await self.proxy(workers)
        idle = await self.plain(self.port)
        self.assertEqual(await idle.call("PING"), b"PONG")
        server, client, replies = await self.under_way()
        for number in [proxy.process.pid, *(self.running if everybody else ())]:
            os.kill(number, signal.SIGTERM)
        # It has stopped to listen, and clients without requests are disconnected.
        await idle.lost
        await self.refused()
        self.assertTrue(client.open)
        await self.cluster.resume(server)
        self.assertEqual([await each for each in replies], [b"value", 5])
        await client.lost
        await self.gone(proxy)

    async def refused(self) -> None:
        """Wait until nobody listens."""
        while True:
            with closing(socket.socket()) as probe:
                if probe.connect_ex((HOST, self.port)):
                    return
            await pause()

    async def test_drain(self) -> None:
        """SIGTERM lets requests end, and disconnects everybody else."""
        await self.drain(0)

    async def test_drain_workers(self) -> None:
        await self.drain(2)

    async def test_a_signal_for_everybody(self) -> None:
        """Systemd sends SIGTERM to all processes.  It is one signal, so requests end."""
        await self.drain(2, everybody=True)

    async def ended(self, request: Deferred[Any]) -> None:
        """Wait until a request gets the error that the proxy stops, or until its connection is closed."""
        try:
            reply = await request
        except ConnectionLost:
            return
        self.assertTrue(str(reply).startswith("SHUTDOWN "), reply)
        self.assertTrue(str(reply).endswith("; it may have been executed"), reply)

    async def hurry(self, workers: int, number: int) -> None:
        """Stop a proxy with two signals while requests are under way."""
        proxy = await self.proxy(workers)
        server, client, replies = await self.under_way()
        proxy.kill(number)
        await self.refused()
        self.assertTrue(client.open)
        proxy.kill(number)
        for each in replies:
            await self.ended(each)
        await self.gone(proxy)
        await self.cluster.resume(server)

    async def test_hurry(self) -> None:
        """A second SIGTERM ends the requests at once."""
        await self.hurry(0, signal.SIGTERM)

    async def test_hurry_workers(self) -> None:
        await self.hurry(2, signal.SIGTERM)

    async def test_hurry_with_control_c(self) -> None:
        """A second Ctrl-C does the same."""
        await self.hurry(0, signal.SIGINT)

    async def late(self, workers: int) -> None:
        """Stop a proxy whose requests do not end."""
        proxy = await self.proxy(workers, stop_timeout=0.5)
        server, _, replies = await self.under_way()
        proxy.kill(signal.SIGTERM)
        for each in replies:
            await self.ended(each)
        await self.gone(proxy)
        await self.cluster.resume(server)

    async def test_a_hangup_without_workers(self) -> None:
        """SIGHUP does not end a proxy that has no workers to replace."""
        proxy = await self.proxy(0)
        client = await self.plain(self.port)
        proxy.kill(signal.SIGHUP)
        await proxy.has_logged("SIGHUP replaces workers, and this proxy has none")
        self.assertEqual(await client.call("PING"), b"PONG")

    async def test_late(self) -> None:
        """After stop_timeout the requests are ended."""
        await self.late(0)

    async def test_late_workers(self) -> None:
        await self.late(2)

    async def test_requests_of_a_client_that_has_gone(self) -> None:
        """They do not hold up the end for longer than stop_timeout either."""
        proxy = await self.proxy(0, stop_timeout=0.5)
        server, client, replies = await self.under_way()
        client.close()
        for each in replies:
            await self.assertFailure(each, ConnectionLost)
        proxy.kill(signal.SIGTERM)
        await self.gone(proxy)
        await self.cluster.resume(server)

    async def test_a_worker_that_hangs(self) -> None:
        """A worker that does nothing any more is killed."""
        proxy = await self.proxy(2)
        os.kill(self.running[0], signal.SIGSTOP)
        proxy.kill(signal.SIGTERM)
        await self.refused()
        proxy.kill(signal.SIGTERM)
        await self.gone(proxy)
        self.assertIn("is killed: it does not end", proxy.log)

    async def test_stop_during_a_replacement(self) -> None:
        """SIGTERM after SIGHUP ends old and new workers; requests at old ones end first."""
        proxy = await self.proxy(1)
        server, client, replies = await self.under_way()
        proxy.kill(signal.SIGHUP)
        # The new worker accepts clients, and the old one drains.
        await until(lambda: len(self.sockets_of(proxy)) == 2)
        self.running = proxy.workers
        other = await self.plain(self.port)
        self.assertEqual(await other.call("PING"), b"PONG")
        proxy.kill(signal.SIGTERM)
        await self.refused()
        await other.lost
        self.assertTrue(client.open)
        await self.cluster.resume(server)
        self.assertEqual([await each for each in replies], [b"value", 5])
        await self.gone(proxy)

    async def test_stop_before_the_workers_are_ready(self) -> None:
        """SIGTERM right after the start ends everything."""
        (port,) = free_ports(HOST, 1)
        proxy = self.start(f"--listen=tcp:{port}:interface={HOST}", "--workers=2")
        await until(lambda: len(proxy.workers) == 2)
        self.running = proxy.workers
        # twistd has its handlers when the log says that the proxy listens and its loop runs.
        client = await self.plain(port)
        proxy.kill(signal.SIGTERM)
        await self.gone(proxy)
        client.close()
        await client.lost


class DaemonTests(OperationTests):
    async def daemon(self, workers: int) -> None:
        """Start and end a proxy as a daemon."""
        (port,) = free_ports(HOST, 1)
        folder = self.group.folder
        pid, log = folder / "proxy.pid", folder / "proxy.log"
        launcher = self.start(
            f"--listen=tcp:{port}:interface={HOST}",
            f"--workers={workers}",
            daemon=(f"--pidfile={pid}", f"--logfile={log}"),
        )
        self.assertEqual(await launcher.ended(), 0)
        number = int(pid.read_text())
        self.addCleanup(self.kill_all, number)
        self.assertTrue(is_running(number))
        client = await self.plain(port)
        self.assertEqual(await client.batch(("SET", "key", 1), ("GET", "key")), [b"OK", b"1"])
        running = [number, *children_of(number)]
        self.assertEqual(len(running), workers + 1)
        if workers:
            os.kill(number, signal.SIGHUP)
            await client.lost
            await until(lambda: len(children_of(number)) == 2 and not set(running[1:]) & set(children_of(number)))
            running += children_of(number)
            client = await self.plain(port)
            self.assertEqual(await client.call("GET", "key"), b"1")
        os.kill(number, signal.SIGTERM)
        await client.lost
        await until(lambda: not any(map(is_running, running)))
        self.assertFalse(pid.exists())
        self.assertEqual(launcher.left, [])
        self.assertIn("Server Shut Down", log.read_text())
        self.assertNotIn("Traceback", log.read_text())

    def kill_all(self, number: int) -> None:
        """End a daemon that is left."""
        if is_running(number):
            os.kill(number, signal.SIGKILL)

    async def test_daemon(self) -> None:
        """Twistd without -n: the process goes to the background, with a pidfile and a log."""
        await self.daemon(0)

    async def test_daemon_with_workers(self) -> None:
        await self.daemon(2)

    async def refused(self, workers: int, *daemon: str) -> TwistdProxy:
        """Start a proxy with a port that is in use; wait for its end."""
        unix = self.group.folder / "x.sock"
        with closing(socket.create_server((HOST, 0))) as taken:
            port = taken.getsockname()[1]
            words = (f"--listen=unix:{unix}", f"--listen=tcp:{port}:interface={HOST}", f"--workers={workers}")
            proxy = self.start(*words, daemon=daemon or ("-n", "--pidfile="))
            self.assertEqual(await proxy.ended(), 1)
        self.problem = f"Couldn't listen on {HOST}:{port}: [Errno 98] Address already in use."
        self.description = f"tcp:{port}:interface={HOST}"
        self.assertFalse(unix.exists())
        self.assertEqual(proxy.left, [])
        return proxy

    async def test_a_port_in_use(self) -> None:
        """The process ends with status 1.  The log names the endpoint and the reason, and nothing is left."""
        for workers in (0, 2):
            proxy = await self.refused(workers)
            self.assertIn(f"the proxy cannot listen at {self.description}: {self.problem}", proxy.log)

    async def test_a_port_in_use_by_a_daemon(self) -> None:
        """The command that was to start the daemon fails with the reason."""
        log = self.group.folder / "daemon.log"
        pid = self.group.folder / "x.pid"
        for workers in (0, 2):
            proxy = await self.refused(workers, f"--pidfile={pid}", f"--logfile={log}")
            self.assertIn("An error has occurred", proxy.log)
            self.assertIn(self.problem, log.read_text())
            # Twisted's daemon reports the error to the command first, and then removes its pidfile.
            await until(lambda: not pid.exists())

    async def test_metrics_at_a_port_in_use(self) -> None:
        """The same for the endpoint of the metrics."""
        with closing(socket.create_server((HOST, 0))) as taken:
            metrics = f"tcp:{taken.getsockname()[1]}:interface={HOST}"
            for workers in (0, 2):
                proxy = self.start(f"--listen=tcp:0:interface={HOST}", f"--metrics={metrics}", f"--workers={workers}")
                self.assertEqual(await proxy.ended(), 1)
                self.assertIn(f"the proxy cannot listen at {metrics}", proxy.log)
                self.assertEqual(proxy.left, [])
