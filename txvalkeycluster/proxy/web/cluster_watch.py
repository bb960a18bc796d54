"""`ClusterWatch`: what the clients of the cluster tell about it, for the status page and for ``/readyz``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.logger import ILogObserver, LogEvent, formatEvent
from zope.interface import implementer

from ...address import Address
from ...client import ClusterClient
from ...errors import AuthenticationFailed
from ...events import (
    Closed,
    Event,
    LoginFailed,
    NodeConnected,
    NodeConnectFailed,
    TopologyRefreshFailed,
    TopologyRefreshRestored,
    TopologyUpdated,
)
from ...log import ClusterLog
from ...slots import SLOT_COUNT
from ...topology.model import Node, Topology
from .history import History

_Connect = Callable[[int, str | None, str | None], ClusterClient[bytes]]
# The most characters of an error.
_LONGEST = 300
# The most nodes that cannot be reached of which the reason is kept.  Redirects can name addresses without end.
_MOST_FAILED = 1000
# Lines that every new client would add.
_BEGINNING = re.compile(r"reached the cluster|connected to (?!.* again$)").match


class ClusterWatch:
    """Follows all clients of the cluster that a proxy has."""

    def __init__(self, seconds: Callable[[], float], wall_clock: Callable[[], float], history: History) -> None:
        """Make a watch that follows no client.

        Args:
            seconds: Returns the time.
            wall_clock: Returns the seconds since 1970.
            history: Gets the changes of state.
        """
        self.seconds = seconds
        self.wall_clock = wall_clock
        self.history = history
        #: The slot map that a client has got last, and when, in seconds since 1970.
        self.topology = Topology(0, ())
        self.changed = 0.0
        #: The nodes that could not be reached at the last attempt, with the reasons.
        self.failed: dict[Address, str] = {}
        self.clients: set[_Follower] = set()
        self._number = 0
        self._shown: tuple[Topology, list[dict[str, Any]]] = (self.topology, [])

    def followed(self, connect: _Connect) -> _Connect:
        """Return a function that makes clients, and follows them.

        Args:
            connect: Makes a client for a version of RESP, a user and a password; None means those of the proxy.
        """

        def connected(protocol: int, user: str | None, password: str | None) -> ClusterClient[bytes]:
            client = connect(protocol, user, password)
            self._number += 1
            follower = _Follower(self, self._number, first=protocol == 2 and user is None, own=user is None)
            self.clients.add(follower)
            client.add_listener(follower.note)
            return client

        return connected

    def updated(self, topology: Topology) -> None:
        """Note the slot map that a client has got."""
        self.topology = topology
        self.changed = self.wall_clock()
        known = {node.address for node in topology.nodes}
        self.failed = {address: reason for address, reason in self.failed.items() if address in known}

    def unreachable(self, address: Address, reason: Exception) -> None:
        """Note that a node cannot be reached."""
        if len(self.failed) < _MOST_FAILED:
            self.failed[address] = _short(str(reason).removeprefix(str(address)).lstrip(": "))

    @property
    def failure(self) -> str | None:
        """Why no client could refresh its slot map at the last attempt; None if one could, or none has tried."""
        reasons = [client.failure for client in self.clients]
        failures = [reason for reason in reasons if reason is not None]
        if not failures or len(failures) < len([client for client in self.clients if client.tried]):
            return None
        return failures[0]

    def shards(self) -> list[dict[str, Any]]:
        """Return the slot map as values that JSON has.  Do not change them."""
        topology = self.topology
        if self._shown[0] is not topology:
            # With 16,384 ranges it takes some milliseconds, so it is done once.
            self._shown = (topology, [_shard(each.primary, each.replicas, each.slots) for each in topology.shards])
        return self._shown[1]

    @property
    def missing_slots(self) -> int:
        """How many slots have no primary."""
        served: int = sum(shard["slot_count"] for shard in self.shards() if shard["primary"] is not None)
        return SLOT_COUNT - served


@implementer(ILogObserver)
class _Follower:
    """Follows one client."""

    def __init__(self, watch: ClusterWatch, number: int, *, first: bool, own: bool) -> None:
        self._watch = watch
        self._number = number
        # Whether it tells of its first connections, too.
        self._first = first
        # Everybody can try logins: what happens to those of others is no news, unless it is about the cluster.
        self._own = own
        self._log = ClusterLog(watch.seconds, "", self)
        self._knows_map = False
        #: Whether it has got a slot map, or could not get one.
        self.tried = False
        #: Why it could not get a slot map; None if the last attempt has succeeded.
        self.failure: str | None = None

    def note(self, event: Event) -> None:
        """Note an event of the client."""
        watch = self._watch
        if isinstance(event, TopologyUpdated):
            self.tried = self._knows_map = True
            self.failure = None
            watch.updated(event.topology)
        elif isinstance(event, TopologyRefreshFailed):
            if not self._own and not self._knows_map:
                return
            self.tried = True
            self.failure = _short(str(event.reason))
        elif isinstance(event, TopologyRefreshRestored):
            self.failure = None
        elif isinstance(event, NodeConnected):
            watch.failed.pop(event.address, None)
        elif isinstance(event, NodeConnectFailed):
            if isinstance(event.reason, AuthenticationFailed) and not self._own:
                return
            watch.unreachable(event.address, event.reason)
        elif isinstance(event, LoginFailed):
            if not self._own:
                return
        elif isinstance(event, Closed):
            watch.clients.discard(self)
        self._log.note(event)

    def __call__(self, event: LogEvent) -> None:
        """Note a line of the log."""
        text = formatEvent(event)
        if self._first or not _BEGINNING(text):
            self._watch.history.add(event["log_level"].name, text, self._number)


def _shard(primary: Node | None, replicas: tuple[Node, ...], slots: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    return {
        "primary": None if primary is None else _node(primary),
        "replicas": [_node(each) for each in replicas],
        "slot_count": sum(last - first + 1 for first, last in slots),
        # One text is much faster to encode than a list.
        "slots": " ".join(f"{first}-{last}" for first, last in slots),
    }


def _node(node: Node) -> dict[str, Any]:
    return {"id": node.id, "address": str(node.address or "unknown"), "health": node.health}


def _short(text: str) -> str:
    text = "; ".join(line.strip() for line in text.splitlines())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
