"""One run: a cluster with proxies, clients that work, faults one after the other, and all checks."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from txvalkeycluster import ClusterClient, ReplyError
from txvalkeycluster.testing import LocalCluster
from txvalkeycluster.testing.slot_moves import MigrationFailed

from .ending import CLIENT_NAME, Leftovers, still_connected, still_waiting
from .findings import HEALTHY, Count, Findings, described
from .health import Health
from .ledger import Ledger
from .network import NetworkFaults
from .proxy import Proxy
from .servers import ServerFaults
from .work import WORK, Environment, Work, acl_file

#: The faults, by name: methods of `ServerFaults` and of `NetworkFaults`.
SERVER_FAULTS = (
    "kill",
    "pause_long",
    "pause_short",
    "failover",
    "takeover",
    "move_by_key",
    "slots_half_open",
    "move_atomically",
    "client_kill",
    "debug_sleep",
    "script_flush",
    "new_addresses",
)
NETWORK_FAULTS = ("delay", "cut", "cut_in_reply", "blackhole")
FAULTS = SERVER_FAULTS + NETWORK_FAULTS
# The host name of the proxy of a server, with the number of the server.  address_map replaces it.
_SEED = "server-{}.invalid"
_SEED_PORT = 6379
# How long the work goes on after the last fault, in seconds.
_AFTERWARDS = 3.0
# The limit for close() of a client without work, in seconds.
_CLOSE = 5.0


class Run:
    """One run.  The same seed makes the same random choices; the timing differs from run to run."""

    def __init__(
        self,
        reactor: Any,
        *,
        seed: int,
        duration: float,
        faults: Iterable[str] = FAULTS,
        work: Iterable[str] = tuple(WORK),
        pauses: tuple[float, float] = (0.5, 3.0),
        healthy: float = HEALTHY,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare a run.

        Args:
            reactor: The Twisted reactor.
            seed: The seed of all random choices.
            duration: For how many seconds faults start.  The run goes on until each kind has happened once.
            faults: The names of the faults.
            work: The names of the kinds of work.
            pauses: The shortest and longest pause between two faults, in seconds.
            healthy: The limit for a command on a healthy cluster, and for the recovery of a client, in seconds.
            say: Is called with a line for each fault and each violation.
        """
        self.findings = Findings(reactor, say, healthy)
        self._reactor = reactor
        self._seed = seed
        self._duration = duration
        self._kinds = tuple(faults)
        self._work_names = tuple(work)
        self._pauses = pauses
        self._say = say
        self._random = Random(seed)
        self._ledger = Ledger()
        self._cluster: LocalCluster | None = None
        self._proxies: list[Proxy] = []
        self._clients: list[ClusterClient[bytes]] = []
        self._interrupted = False

    def interrupt(self) -> None:
        """Make the current fault the last one."""
        self._interrupted = True

    async def end_at_once(self) -> None:
        """End everything, and print nothing more."""
        self.findings.say = lambda _: None
        await self.abort()

    async def run(self) -> Findings:
        """Run, and return the findings."""
        # When the reactor runs, because it adds readers of its own at its start.
        await deferLater(self._reactor, 0)
        leftovers = Leftovers(self._reactor)
        unwatch = self.findings.watch_log()
        try:
            with TemporaryDirectory() as folder:
                users = Path(folder) / "users.acl"
                users.write_text(acl_file())
                await self._work_under_faults(users)
            await self.abort()
            gc.collect()
            for found in await leftovers.found():
                self.findings.violation("the end", found)
        finally:
            await self.abort()
            unwatch()
        return self.findings

    async def abort(self) -> None:
        """End everything at once."""
        clients, self._clients = self._clients, []
        for client in clients:
            await client.abort()
        proxies, self._proxies = self._proxies, []
        for proxy in proxies:
            await proxy.stop()
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            await cluster.stop()

    async def _work_under_faults(self, users: Path) -> None:
        cluster = await self._start_cluster(users)
        client = self._connect(random=Random(self._seed))
        environment = Environment(
            self._reactor, client, self._connect, self.findings, self._ledger, Random(self._random.random())
        )
        work = [WORK[name](environment) for name in self._work_names]
        health = Health(self._reactor, cluster, client, self.findings, self._ledger)
        for each in work:
            self.findings.work[each.name] = Count()
            await each.prepare()
        await health.settle(set())
        health.start()
        for each in work:
            each.start()
        await self._cause_faults(cluster, health, work)
        self.findings.happening = "after the last fault"
        if not self._interrupted:
            await deferLater(self._reactor, _AFTERWARDS)
        await gatherResults([Deferred.fromCoroutine(each.stop()) for each in work])
        health.stop()
        for each in work:
            await each.check()
        for suspect in self._ledger.suspects:
            if suspect.is_violation():
                self.findings.violation(suspect.work, suspect.text)
        await self._close(cluster)

    async def _start_cluster(self, users: Path) -> LocalCluster:
        self._cluster = cluster = LocalCluster(self._reactor, node_timeout=2.0, config={"aclfile": str(users)})
        await cluster.start()
        for server in cluster.servers:
            proxy = Proxy(self._reactor, lambda s=server: (cluster.host, s.client_port))  # type: ignore[misc]
            await proxy.start()
            self._proxies.append(proxy)
        return cluster

    def _connect(self, **options: Any) -> ClusterClient[bytes]:
        seeds = ",".join(f"{_SEED.format(number)}:{_SEED_PORT}" for number in range(len(self._proxies)))
        client = ClusterClient(
            self._reactor,
            seeds=seeds,
            address_map=self._address_of,
            client_name=CLIENT_NAME,
            connect_timeout=1.0,
            unresponsive_after=1.0,
            **{"random": Random(self._random.random()), **options},
        )
        self._clients.append(client)
        return client

    def _address_of(self, host: str, port: int) -> tuple[str, int]:
        """Return the address of the proxy of a server.  An address that no server has any more stays as it is."""
        assert self._cluster is not None
        for server, proxy in zip(self._cluster.servers, self._proxies, strict=True):
            if host == _SEED.format(server.index) or port == server.client_port:
                return self._cluster.host, proxy.port
        return host, port

    # ---- faults

    async def _cause_faults(self, cluster: LocalCluster, health: Health, work: list[Work]) -> None:
        random = Random(self._random.random())
        servers = ServerFaults(self._reactor, cluster, self._ledger, random, [each.keys() for each in work])
        network = NetworkFaults(self._reactor, self._proxies, random)
        probes = {name: probe for each in work for name, probe in each.probes().items()}
        for kind in self._order(random):
            await deferLater(self._reactor, random.uniform(*self._pauses))
            if self._interrupted:
                return
            self.findings.healthy_until_now()
            self.findings.happening = f"during {kind}, fault {self.findings.faults.total() + 1}"
            servers.explained = set()
            began = self.findings.elapsed
            try:
                text = await getattr(servers if kind in SERVER_FAULTS else network, kind)()
                self.findings.faults[kind] += 1
            except (ReplyError, MigrationFailed, TimeoutError) as error:
                text = f"was not possible: {error}"
                await servers.restore()
            await cluster.wait_until_whole()
            whole_after = self.findings.elapsed - began
            self.findings.happening = f"after {kind}, fault {self.findings.faults.total()}"
            recovery = await health.recovery(probes)
            self.findings.recovered(kind, recovery)
            await health.settle(servers.explained)
            self.findings.healthy_from_now()
            self._say(
                f"{began:6.1f} s  {kind:15}  {text}; the cluster was whole after {whole_after:.2f} s, "
                f"the client {recovery:.2f} s later"
            )

    def _order(self, random: Random) -> Iterator[str]:
        """Yield the kinds of faults in random order: each kind once before the next round, until the time is over."""
        while self.findings.elapsed < self._duration or any(not self.findings.faults[kind] for kind in self._kinds):
            for kind in random.sample(self._kinds, len(self._kinds)):
                if self.findings.elapsed < self._duration or not self.findings.faults[kind]:
                    yield kind

    # ---- the end

    async def _close(self, cluster: LocalCluster) -> None:
        for client in self._clients:
            for found in still_waiting(client):
                self.findings.violation("the end", found)
        clients, self._clients = self._clients, []
        for client in clients:
            closed = await self.findings.observe("the end", "close()", client.close(), _CLOSE)
            if closed.error is not None:
                self.findings.violation("the end", f"close() failed: {described(closed.error)}")
            for found in still_waiting(client):
                self.findings.violation("the end", found)
        for found in await still_connected(self._reactor, cluster, self._proxies):
            self.findings.violation("the end", found)
