"""What must be gone at the end: sockets, delayed calls, and what the servers know of the client."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from twisted.internet.task import deferLater

from txvalkeycluster import ClusterClient
from txvalkeycluster.testing import LocalCluster

from .proxy import Proxy

#: By which the clients of a run are found on the servers.
CLIENT_NAME = "faults"
# The end of a connection needs a moment to pass through a proxy, and sockets one to leave the reactor.
_MOMENT = 0.25


class Leftovers:
    """Compares what the reactor has at the end with what it had when this was made."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._calls = set(reactor.getDelayedCalls())
        self._readers = set(reactor.getReaders())

    async def found(self) -> list[str]:
        """What is there that was not there before."""
        await deferLater(self._reactor, _MOMENT)
        calls = set(self._reactor.getDelayedCalls()) - self._calls
        readers = set(self._reactor.getReaders()) - self._readers
        return [*(f"a delayed call is left: {call}" for call in calls), *(f"a reader is left: {r}" for r in readers)]


async def still_connected(reactor: Any, cluster: LocalCluster, proxies: Sequence[Proxy]) -> list[str]:
    """Which connections are left after all clients have said that they are closed."""
    await deferLater(reactor, _MOMENT)
    found = [f"{proxy} still has connections" for proxy in proxies if proxy.connections]
    for server in cluster.servers:
        listed = (await cluster.ask(server, "CLIENT", "LIST")).decode().splitlines()
        found += [f"server {server.index} still lists {line}" for line in listed if f"name={CLIENT_NAME}" in line]
    return found


def still_waiting(client: ClusterClient[bytes]) -> list[str]:
    """Whether a client says that commands wait in it, though no work is done any more."""
    text = repr(client)
    return [f"something waits: {text}"] if any(map(int, re.findall(r"\bwaiting=(\d+)", text))) else []
