"""Asking the servers of a cluster, and waiting until they agree."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from ..address import Address
from ..client import ClusterClient
from ..commands.encoder import Arg
from ..errors import ReplyError
from .processes import Server, returns_deferred

# Seconds.  Servers do not report that they are ready.  So a condition is checked this often, and for this long.
_POLL = 0.05
_PATIENCE = 30.0


class ServerQuestions:
    """The methods of `LocalCluster` that ask servers."""

    reactor: IReactorTime
    #: All servers, also those that have ended.
    servers: list[Server]
    #: The address that the servers listen on.
    host: str
    #: The password that clients need, or None.
    password: str | None
    # The client that asks; None while the cluster does not run.
    _admin: ClusterClient[bytes] | None

    def ask(self, server: Server, *args: Arg, timeout: float = 5.0) -> Deferred[Any]:
        """Send a command to one server.

        Args:
            server: One of `servers`.
            *args: The name of the command and its arguments.
            timeout: Seconds until it fails with CommandTimeout.

        Returns:
            A Deferred that fires with the reply as the server sent it, or fails as `ClusterClient.execute_on` does.

        Raises:
            RuntimeError: The cluster is not started.
        """
        if self._admin is None:
            raise RuntimeError("the cluster is not started: call start() first")
        return self._admin.execute_on(Address(self.host, server.port), *args, timeout=timeout)

    @returns_deferred
    async def failover(self, replica: Server) -> None:
        """Make a replica the primary of its shard, with CLUSTER FAILOVER.  No write is lost.

        Source: https://valkey.io/commands/cluster-failover/

        Returns:
            A Deferred that fires with None when the replica is a primary.

        Raises:
            ReplyError: The server refused; for example, it is no replica.
            TimeoutError: The replica is no primary after 30 s.
        """
        await self.ask(replica, "CLUSTER", "FAILOVER")
        await self.until(lambda: self._is_primary(replica), f"{replica} to be a primary")

    @returns_deferred
    async def wait_for_takeover(self, server: Server) -> None:
        """Wait until another server serves the slots of a server that was killed or paused.

        Args:
            server: The server that was killed or paused.

        Returns:
            A Deferred that fires with None when all other live servers report so.

        Raises:
            TimeoutError: No server has taken over after 30 s.
        """
        for other in self.servers:
            if other.alive and other is not server:
                await self.until(lambda o=other: self._taken_over(o, server), f"{server} to be replaced")  # type: ignore[misc]

    @returns_deferred
    async def primaries(self) -> list[Server]:
        """Return a Deferred that fires with the live servers that report to be primaries."""
        return [server for server in self.servers if server.alive and await self._is_primary(server)]

    @returns_deferred
    async def replicas_of(self, primary: Server) -> list[Server]:
        """Return a Deferred that fires with the live replicas of a primary."""
        lines = (await self.ask(primary, "CLUSTER", "REPLICAS", primary.id)) or []
        ids = {line.split(b" ")[0].decode() for line in lines}
        return [server for server in self.servers if server.id in ids and server.alive]

    @returns_deferred
    async def ranges_of(self, server: Server) -> list[range]:
        """Return a Deferred that fires with the ranges of slots that a server reports to serve."""
        rows = await self.ask(server, "CLUSTER", "SLOTS")
        return [range(start, end + 1) for start, end, node, *_ in rows if node[2].decode() == server.id]

    @returns_deferred
    async def owner_of(self, slot: int) -> Server:
        """Return a Deferred that fires with the live server that serves a slot.

        Raises:
            LookupError: No live server serves it.
        """
        for server in await self.primaries():
            if any(slot in owned for owned in await self.ranges_of(server)):
                return server
        raise LookupError(f"slot {slot} has no live owner")

    async def _is_primary(self, server: Server) -> bool:
        return bool((await self.ask(server, "ROLE"))[0] == b"master")

    async def _taken_over(self, witness: Server, gone: Server) -> bool:
        if b"cluster_state:ok" not in await self.ask(witness, "CLUSTER", "INFO"):
            return False
        return all(row[2][2].decode() != gone.id for row in await self.ask(witness, "CLUSTER", "SLOTS"))

    async def _patiently(self, action: Callable[[], Deferred[Any]]) -> Any:
        """Repeat a command that a server refuses because it does not know the whole cluster yet."""
        result: list[Any] = []

        async def done() -> bool:
            try:
                result.append(await action())
            except ReplyError:
                return False
            return True

        await self.until(done, "a server to agree")
        return result[-1]

    @returns_deferred
    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until a condition holds; it is checked every 50 ms.

        Args:
            condition: An async function that returns whether it holds.
            what: What is waited for, for the text of the error.

        Raises:
            TimeoutError: The condition does not hold after 30 s.
        """
        give_up = self.reactor.seconds() + _PATIENCE
        while not await condition():
            if self.reactor.seconds() > give_up:
                raise TimeoutError(f"waited {_PATIENCE:g} s for {what}")
            await deferLater(self.reactor, _POLL)
