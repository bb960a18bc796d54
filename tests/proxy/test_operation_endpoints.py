"""Every kind of endpoint that a proxy can listen on, with one process and with several."""

from __future__ import annotations

import signal
import socket
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet import reactor, ssl
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, PrivateCertificate

from tests.proxy.operation import OperationTests, is_running
from tests.proxy.programs import HOST, until
from txvalkeycluster import ConnectionLost
from txvalkeycluster.testing import Certificates
from txvalkeycluster.testing.ports import free_ports

_NAME = "localhost"


class EndpointTests(OperationTests):
    def file(self, name: str, data: bytes) -> Path:
        path = self.group.folder / name
        path.write_bytes(data)
        return path

    def tls(self, port: int, authority: bytes, client: bytes | None = None) -> Any:
        """Return an endpoint that trusts an authority, and shows a certificate."""
        trust = Certificate.loadPEM(authority)
        own = PrivateCertificate.loadPEM(client) if client is not None else None  # type: ignore[no-untyped-call]
        options = ssl.optionsForClientTLS(_NAME, trustRoot=trust, clientCertificate=own)
        return wrapClientTLS(options, TCP4ClientEndpoint(reactor, HOST, port))

    async def use(self, endpoint: Any, key: str) -> None:
        """Use a proxy through an endpoint."""
        client = await self.plain_at(endpoint)
        # More than one write of the proxy.
        value = key.encode() * 50_000
        self.assertEqual(await client.batch(("SET", key, value), ("GET", key), ("PING",)), [b"OK", value, b"PONG"])
        client.close()
        await client.lost

    async def refused(self, endpoint: Any) -> None:
        """Fail unless a proxy closes the connection without a reply."""
        client = await self.plain_at(endpoint)
        await self.assertFailure(client.call("PING"), ConnectionLost)

    async def endpoints(self, workers: int) -> None:
        """Start a proxy with endpoints of all kinds; use each, and stop the proxy."""
        certificates, foreign = Certificates.make(_NAME), Certificates.make(_NAME)
        key = self.file("key.pem", certificates.server_key)
        own = self.file("certificate.pem", certificates.server)
        both = self.file("both.pem", certificates.server_key + certificates.server)
        root = self.file("root.pem", certificates.authority)
        unix, passed = self.group.folder / "own.sock", self.group.folder / "passed.sock"
        tcp, tls, mutual, mutual_one_file, systemd = free_ports(HOST, 5)
        with (
            closing(socket.create_server((HOST, systemd))) as first,
            closing(socket.socket(socket.AF_UNIX)) as second,
        ):
            second.bind(str(passed))
            passed.chmod(0o600)
            second.listen()
            listen = (
                f"tcp:{tcp}:interface={HOST}",
                f"unix:{unix}:mode=600",
                f"ssl:{tls}:privateKey={key}:certKey={own}:interface={HOST}",
                f"mtls:{mutual}:privateKey={key}:certKey={own}:trustRoot={root}:interface={HOST}",
                f"mtls:{mutual_one_file}:privateKey={both}:trustRoot={root}:interface={HOST}",
                "systemd:domain=INET:index=0",
                "systemd:domain=UNIX:index=1",
            )
            words = [f"--listen={each}" for each in listen]
            proxy = self.start(*words, f"--workers={workers}", sockets=(first, second))
            await self.ready(proxy, tcp, workers)
            plain = TCP4ClientEndpoint(reactor, HOST, tcp)
            at_systemd = TCP4ClientEndpoint(reactor, HOST, systemd)
            # Several connections, so that each worker gets some.
            for number in range(2 * workers + 1):
                await self.use(plain, f"plain{number}")
                await self.use(UNIXClientEndpoint(reactor, str(unix)), f"unix{number}")  # type: ignore[no-untyped-call]
                await self.use(self.tls(tls, certificates.authority), f"tls{number}")
                await self.use(self.tls(mutual, certificates.authority, certificates.client), f"mutual{number}")
                await self.use(self.tls(mutual_one_file, certificates.authority, certificates.client), f"one{number}")
                await self.refused(self.tls(mutual, certificates.authority))
                await self.refused(self.tls(mutual, certificates.authority, foreign.client))
                await self.use(at_systemd, f"systemd{number}")
                await self.use(UNIXClientEndpoint(reactor, str(passed)), f"passed{number}")  # type: ignore[no-untyped-call]
            for path in (unix, passed):
                self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)
            running = proxy.workers
            self.assertEqual(len(running), workers)
            proxy.kill(signal.SIGTERM)
            await proxy.ended()
            await until(lambda: not any(map(is_running, running)))
            # What the proxy has made is gone, and what it was given is still there.
            self.assertFalse(unix.exists())
            self.assertFalse(Path(f"{unix}.lock").is_symlink())
            self.assertEqual(proxy.left, [])
            self.assertTrue(passed.is_socket())
            with closing(socket.create_connection((HOST, systemd))), closing(socket.socket(socket.AF_UNIX)) as client:
                client.connect(str(passed))
            self.assertNotIn("Traceback", proxy.log)

    async def test_one_process(self) -> None:
        """TCP, Unix, TLS, mutual TLS and sockets of systemd; a client without a certificate of ours is refused."""
        await self.endpoints(0)

    async def test_workers(self) -> None:
        """The same, when the sockets are inherited."""
        await self.endpoints(2)

    async def restart(self, workers: int) -> None:
        """Start a proxy again on a socket of systemd, under load."""
        (port,) = free_ports(HOST, 1)
        with closing(socket.create_server((HOST, port))) as kept:
            words = ("--listen=systemd:domain=INET:index=0", f"--workers={workers}")
            first = self.start(*words, sockets=[kept])
            await self.ready(first, port, workers)
            clients = await self.reconnecting(port)
            first.kill(signal.SIGTERM)
            await first.ended()
            second = self.start(*words, sockets=[kept])
            await self.advance(clients)
            for each in clients:
                await each.stop()
            self.assertEqual([each.bad for each in clients], [[] for _ in clients])
            # A client that one worker disconnects can reach another one that is told to stop a moment later.
            self.assertEqual([each for each in clients if not 1 <= each.losses <= max(workers, 1)], [])
            second.kill(signal.SIGTERM)
            await second.ended()

    async def test_restart_with_systemd(self) -> None:
        """Systemd holds the socket while the proxy is started again: no connection is refused."""
        await self.restart(0)

    async def test_restart_workers_with_systemd(self) -> None:
        await self.restart(2)
