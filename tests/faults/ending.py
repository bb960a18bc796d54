"""Checks at the end of a run: no sockets, delayed calls or connections to servers are left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from twisted.internet.task import deferLater

from txvalkeycluster import ClusterClient
from txvalkeycluster.testing import LocalCluster

from .proxy import Proxy

#: The option client_name of the clients of a run, which CLIENT LIST shows.
CLIENT_NAME = "faults"
# In seconds: the end of a connection takes a moment to pass through a proxy, and to remove sockets from the reactor.
_MOMENT = 0.25


class Leftovers:
    """Compares the delayed calls and readers of the reactor with those at the time when this object was made."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._calls = set(reactor.getDelayedCalls())
        self._readers = set(reactor.getReaders())

    async def found(self) -> list[str]:
        """Return the delayed calls and readers that are new."""
        await deferLater(self._reactor, _MOMENT)
        calls = set(self._reactor.getDelayedCalls()) - self._calls
        readers = set(self._reactor.getReaders()) - self._readers
        return [*(f"a delayed call is left: {call}" for call in calls), *(f"a reader is left: {r}" for r in readers)]


async def still_connected(reactor: Any, cluster: LocalCluster, proxies: Sequence[Proxy]) -> list[str]:
    """Return the connections that are left after all clients have closed."""
    await deferLater(reactor, _MOMENT)
    found = [f"{proxy} still has connections" for proxy in proxies if proxy.connections]
    for server in cluster.servers:
        listed = (await cluster.ask(server, "CLIENT", "LIST")).decode().splitlines()
        found += [f"server {server.index} still lists {line}" for line in listed if f"name={CLIENT_NAME}" in line]
    return found


def still_waiting(client: ClusterClient[bytes]) -> list[str]:
    """Return a text if commands wait in a client, although the work has ended."""
    text = repr(client)
    return [f"something waits: {text}"] if any(map(int, re.findall(r"\bwaiting=(\d+)", text))) else []
