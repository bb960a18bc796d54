"""`LocalCluster`: real valkey-server processes that form a cluster, and methods that disturb it."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Unpack, overload

from twisted.internet.interfaces import IReactorTime

from ..address import Address
from ..client import ClusterClient
from ..errors import ValkeyError
from ..options import ClientOptions
from ..slots import SLOT_COUNT
from .ports import PortTaken, free_ports, is_server_of, ports_for, server_in
from .processes import NoServer, ProcessGroup, Server, find_server, returns_deferred, server_path
from .slot_moves import SlotMoves
from .terminator import Certificates, terminate_tls


class LocalCluster(SlotMoves):
    """A cluster of real servers on this machine.

    The servers end with this process, whatever way it ends.  All methods that return a Deferred act at once, also if
    the Deferred is not awaited.

    Example:
        cluster = LocalCluster(reactor, password="secret")
        await cluster.start()
        client = cluster.client()
        await client.set("key", "value")
        await cluster.kill(cluster.servers[0])
        await cluster.wait_for_takeover(cluster.servers[0])
        await client.close()
        await cluster.stop()
    """

    def __init__(
        self,
        reactor: IReactorTime,
        *,
        primaries: int = 3,
        replicas: int = 1,
        host: str = "127.0.0.1",
        first_port: int | None = None,
        password: str | None = None,
        tls: Literal[False, "auto", "server", "terminator"] = False,
        verify_clients: bool = False,
        node_timeout: float = 2.0,
        server: str | None = None,
        config: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a cluster; `start` starts it.

        Args:
            reactor: The Twisted reactor.
            primaries: How many primaries it has; they share the slots evenly.
            replicas: How many replicas each primary has.
            host: The address that the servers listen on, such as ``"::1"``.
            first_port: The port of the first server; the next server has the next port.  None: free ports.
            password: The password that clients need.  None: no password.
            tls: ``"server"``: the servers use TLS themselves.  ``"terminator"``: a TLS terminator in this process
                stands before each server.  ``"auto"``: as ``"server"`` if there is a server that was built with TLS,
                else as ``"terminator"``.  False: no TLS.
            verify_clients: Whether servers ask clients for a certificate.
            node_timeout: The servers' ``cluster-node-timeout`` in seconds: after this long without an answer a node
                counts as failed.
            server: The path or the name of the server's program.  None: `find_server` finds it.
            config: More lines for the configuration of each server: from name to value.

        Raises:
            NoServer: There is no program for the server, or none with TLS.
            ValueError: The ports are not all from 1 to 65535.
        """
        #: The address that the servers listen on.
        self.host = host
        #: The password that clients need, or None.
        self.password = password
        #: The servers: first the primaries, then the replicas, as they were at the start.
        self.servers: list[Server] = []
        #: The Twisted reactor.
        self.reactor = reactor
        self._primaries = primaries
        self._count = primaries * (1 + replicas)
        self._wanted = range(first_port, first_port + self._count) if first_port is not None else range(0)
        if self._wanted and not 0 < self._wanted[0] <= self._wanted[-1] < 65536:
            raise ValueError(f"ports {self._wanted[0]} to {self._wanted[-1]} must all be from 1 to 65535")
        self._node_timeout = node_timeout
        self._config = dict(config or {})
        self._verify_clients = verify_clients
        self._terminates = False
        named = server_path(server) if server is not None else None
        self._serves_tls = False
        #: The certificates in use with TLS, or None.
        self.certificates: Certificates | None = None
        if tls:
            self.certificates = Certificates.make(host, "localhost")
            try:
                self._binary = named or find_server(tls=tls != "terminator")
                self._serves_tls = tls != "terminator"
            except NoServer:
                if tls == "server":
                    raise
                self._binary = find_server()
            self._terminates = not self._serves_tls
        else:
            self._binary = named or find_server()
        self._group: ProcessGroup | None = None
        self._admin: ClusterClient | None = None

    def __repr__(self) -> str:
        alive = sum(server.alive for server in self.servers)
        return f"<LocalCluster {self.host} servers={len(self.servers)} alive={alive}>"

    @property
    def addresses(self) -> list[Address]:
        """The addresses of the servers for clients."""
        return [Address(self.host, server.client_port) for server in self.servers]

    @property
    def url(self) -> str:
        """The URL of the cluster for clients: all servers, and the password."""
        user = f":{self.password}@" if self.password else ""
        scheme = "valkeys" if self.certificates else "valkey"
        return f"{scheme}://{user}{','.join(map(str, self.addresses))}"

    @property
    def options(self) -> ClientOptions:
        """The options that a client needs beside the URL: with TLS, the trust root and the client certificate."""
        if self.certificates is None:
            return {}
        options: ClientOptions = {"trust_root": self.certificates.authority}
        if self._verify_clients:
            options["client_certificate"] = self.certificates.client
        return options

    @overload
    def client(self, *, encoding: str, **options: Unpack[ClientOptions]) -> ClusterClient[str]: ...

    @overload
    def client(self, *, encoding: None = None, **options: Unpack[ClientOptions]) -> ClusterClient[bytes]: ...

    def client(self, **options: Any) -> ClusterClient[Any]:
        """Make a lazy client of this cluster.

        Args:
            **options: Options of the client.

        Returns:
            A `ClusterClient`.  Close it before the cluster stops.
        """
        return ClusterClient(self.reactor, self.url, **{**self.options, **options})

    # ---- start and stop

    @returns_deferred
    async def start(self) -> LocalCluster:
        """Start the servers and form the cluster.

        Returns:
            A Deferred that fires with this cluster when every server knows all others and all slots are served.

        Raises:
            PortTaken: Another program uses a port.
            RuntimeError: A server ended; the text has the end of its log.
            TimeoutError: The cluster is not ready after 30 s.
        """
        self._group = ProcessGroup()
        try:
            await self._launch_all(self._group.folder)
            self._admin = self._make_admin()
            await self._form()
        except BaseException:
            await self.stop()
            raise
        return self

    @returns_deferred
    async def stop(self) -> None:
        """Kill every server and remove its files; does nothing if the cluster is not started."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.abort()
        for server in self.servers:
            await self._stop_listening(server)
        group, self._group = self._group, None
        if group is not None:
            group.close()

    async def _launch_all(self, folder: Path) -> None:
        ports = await ports_for(self.reactor, self.host, 3 * self._count, self._wanted)
        for index in range(self._count):
            own = folder / str(index)
            own.mkdir()
            inner, outer, bus = ports[3 * index : 3 * index + 3]
            if self._wanted:
                outer = self._wanted[index]
            server = Server(index, own, inner if self._terminates else outer, outer, bus)
            self.servers.append(server)
            await self._launch(server)

    def _make_admin(self) -> ClusterClient:
        options: dict[str, Any] = {"password": self.password} if self.password else {}
        if self._serves_tls:
            options |= {"tls": True, **self.options}
        seeds = ",".join(str(Address(self.host, server.port)) for server in self.servers)
        return ClusterClient(self.reactor, seeds=seeds, refresh_period=None, **options)

    async def _form(self) -> None:
        nodes = self.servers
        for server in nodes:
            await self._reachable(server)
            server.id = (await self.ask(server, "CLUSTER", "MYID")).decode()
        for server in nodes[: self._primaries]:
            start = server.index * SLOT_COUNT // self._primaries
            end = (server.index + 1) * SLOT_COUNT // self._primaries - 1
            await self.ask(server, "CLUSTER", "ADDSLOTSRANGE", start, end)
            await self.ask(server, "CLUSTER", "SET-CONFIG-EPOCH", server.index + 1)
        await self._meet()
        for server in nodes[self._primaries :]:
            primary = nodes[server.index % self._primaries]
            await self._patiently(lambda s=server, p=primary: self.ask(s, "CLUSTER", "REPLICATE", p.id))  # type: ignore[misc]
        await self.wait_until_whole()

    async def _meet(self) -> None:
        first = self.servers[0]
        for server in self.servers[1:]:
            await self.ask(first, "CLUSTER", "MEET", self.host, server.port, server.bus_port)
        for server in self.servers:
            await self.until(lambda s=server: self._knows_all(s), f"{server} to know all others")  # type: ignore[misc]

    async def _knows_all(self, server: Server) -> bool:
        lines = (await self.ask(server, "CLUSTER", "NODES")).decode().splitlines()
        return len(lines) == len(self.servers) and not any("handshake" in line for line in lines)

    @returns_deferred
    async def wait_until_whole(self) -> None:
        """Wait until all live servers report that the cluster is up, and all live replicas are connected.

        Raises:
            TimeoutError: This is not so after 30 s.
        """
        alive = [server for server in self.servers if server.alive]
        for server in alive:
            await self.until(lambda s=server: self._is_whole(s, alive), f"{server} to see a whole cluster")  # type: ignore[misc]

    async def _is_whole(self, server: Server, alive: list[Server]) -> bool:
        if b"cluster_state:ok" not in await self.ask(server, "CLUSTER", "INFO"):
            return False
        if b"master_link_status:down" in await self.ask(server, "INFO", "replication"):
            return False
        listed = {n for row in await self.ask(server, "CLUSTER", "SLOTS") for n in (node[2] for node in row[2:])}
        return {s.id.encode() for s in alive} <= listed

    async def _launch(self, server: Server) -> None:
        assert self._group is not None
        config = {
            "bind": self.host,
            "port": "0" if self._serves_tls else str(server.port),
            "cluster-enabled": "yes",
            "cluster-port": str(server.bus_port),
            "cluster-node-timeout": str(int(self._node_timeout * 1000)),
            "cluster-config-file": "nodes.conf",
            "save": "",
            "repl-diskless-sync-delay": "0",
            # Without it, the other nodes take the address from the socket: 127.0.0.1 for any 127.x.y.z.
            "cluster-announce-ip": self.host,
            "enable-debug-command": "local",
        }
        if self.password:
            config |= {"requirepass": self.password, "primaryauth": self.password}
        if self._serves_tls:
            config |= self._tls_config(server)
        if self._terminates:
            config["cluster-announce-client-port"] = str(server.client_port)
        lines = [f'{name} "{value}"' for name, value in {**config, **self._config}.items()]
        (server.folder / "valkey.conf").write_text("\n".join(lines) + "\n")
        server.process = self._group.start([self._binary, "valkey.conf"], server.folder)
        if self._terminates and self.certificates is not None:
            server.listening = await terminate_tls(
                self.reactor,
                self.host,
                server.client_port,
                server.port,
                self.certificates,
                verify_clients=self._verify_clients,
            )

    def _tls_config(self, server: Server) -> dict[str, str]:
        assert self.certificates is not None
        made = self.certificates
        for name, pem in {"ca": made.authority, "cert": made.server, "key": made.server_key}.items():
            (server.folder / f"{name}.pem").write_bytes(pem)
        return {
            "tls-port": str(server.port),
            "tls-cluster": "yes",
            "tls-replication": "yes",
            "tls-ca-cert-file": "ca.pem",
            "tls-cert-file": "cert.pem",
            "tls-key-file": "key.pem",
            "tls-auth-clients": "yes" if self._verify_clients else "optional",
        }

    async def _stop_listening(self, server: Server) -> None:
        listening, server.listening = server.listening, None
        if listening is not None and (stopped := listening.stopListening()) is not None:
            await stopped

    # ---- disturb it

    @returns_deferred
    async def kill(self, server: Server) -> None:
        """Kill a server with SIGKILL.  The Deferred fires when its process has ended."""
        if server.process is not None:
            server.process.kill()
            server.process.wait()

    @returns_deferred
    async def pause(self, server: Server) -> None:
        """Stop a server with SIGSTOP: its sockets stay open, but it answers nothing."""
        if server.process is not None:
            server.process.send_signal(signal.SIGSTOP)

    @returns_deferred
    async def resume(self, server: Server) -> None:
        """Let a paused server go on, with SIGCONT."""
        if server.process is not None:
            server.process.send_signal(signal.SIGCONT)

    @returns_deferred
    async def restart(self, server: Server) -> None:
        """Kill a server and start it again.

        It keeps its id and its place in the cluster, from its file nodes.conf.  It does not keep its keys, since they
        are not saved to disk; a replica gets them from its primary.

        Returns:
            A Deferred that fires with None when the server answers.

        Raises:
            RuntimeError: The server ended; the text has the end of its log.
            TimeoutError: The server does not answer within 30 s.
        """
        await self.kill(server)
        await self._stop_listening(server)
        await self._launch(server)
        await self._reachable(server)

    @returns_deferred
    async def restart_elsewhere(self, host: str | None = None) -> None:
        """Move the whole cluster to other addresses: save the data, stop every server, and start it again elsewhere.

        The servers keep their ids and their data.

        Args:
            host: The new address to listen on; the ports stay the same.  None: the address stays the same, and the
                ports change.

        Returns:
            A Deferred that fires with None when the cluster is up again.

        Raises:
            TimeoutError: The cluster is not up again after 30 s.
        """
        for server in self.servers:
            if server.alive:
                await self.ask(server, "SAVE")
            await self.kill(server)
            await self._stop_listening(server)
        if host is None:
            ports = free_ports(self.host, 3 * len(self.servers))
            for server in self.servers:
                inner, outer, server.bus_port = ports[3 * server.index : 3 * server.index + 3]
                server.port, server.client_port = inner if self._terminates else outer, outer
        else:
            self.host = host
        for server in self.servers:
            await self._launch(server)
        for server in self.servers:
            await self._reachable(server)
        await self._meet()
        await self.wait_until_whole()

    async def _reachable(self, server: Server) -> None:
        async def answers() -> bool:
            if not server.alive:
                log = (server.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"{server} ended; the end of its log:\n{log[-2000:]}")
            try:
                info = await self.ask(server, "INFO", "server", timeout=1.0)
                if not is_server_of(server.folder, info):
                    raise PortTaken(Address(self.host, server.port), server_in(info))
                await self.ask(server, "PING", timeout=1.0)
            except ValkeyError:
                return False
            return True

        await self.until(answers, f"{server} to answer")
