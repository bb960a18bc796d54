"""What the status page shows, and whether the proxy is ready: of one process, and of all workers together."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred

from ...slots import SLOT_COUNT
from ..snapshot import BUCKETS, Snapshot

if TYPE_CHECKING:
    from ..server import ProxyServer

# The fields of a part that JSON has already.
_SHARED = ("changed", "shards", "nodes", "failed")
# The numbers of a node.  Those of all clients and workers are added.
_OF_NODES = ("open", "pending", "commands", "errors", "moved", "asked")


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a proxy can serve requests."""

    ready: bool
    #: Why, or why not, as one sentence.
    text: str


DRAINS = Readiness(False, "the proxy is stopping: it accepts no more clients")
STARTS = Readiness(False, "no worker accepts clients yet")


@dataclass(slots=True)
class Part:
    """What one process knows."""

    readiness: Readiness
    numbers: Snapshot
    #: When the slot map has changed, in seconds since 1970.
    changed: float = 0.0
    #: The slot map, see `ClusterWatch.shards`.
    shards: list[dict[str, Any]] = field(default_factory=list)
    #: The numbers of each node, by its address.
    nodes: dict[str, dict[str, int]] = field(default_factory=dict)
    #: Why nodes cannot be reached, by their addresses.
    failed: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return values that JSON has.  Do not change them."""
        # Not `asdict`, which copies: with 500 shards that takes 60 ms.
        shared = {name: getattr(self, name) for name in _SHARED}
        return {"readiness": asdict(self.readiness), "numbers": self.numbers.as_json(), **shared}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Part:
        """Make a part of what `as_json` has returned."""
        known = {name: values[name] for name in _SHARED}
        return cls(Readiness(**values["readiness"]), Snapshot.from_json(values["numbers"]), **known)


class Source(Protocol):
    """What a web site shows: a proxy."""

    def snapshot(self) -> Deferred[Snapshot]:
        """Return all numbers.  It fails if some are not known."""

    def status(self) -> Deferred[dict[str, Any]]:
        """Return what the status page shows, as values that JSON has."""

    def readiness(self) -> Deferred[Readiness]:
        """Return whether the proxy can serve requests."""


def readiness_of(server: ProxyServer) -> Readiness:
    """Return whether a process can serve requests.

    A proxy is ready although some slots have no primary: it serves the others, and no other proxy could do more.
    """
    watch = server.watch
    if server.stopping:
        return DRAINS
    failure = watch.failure
    if failure is not None and not server.snapshot().node_connections:
        return Readiness(False, f"the cluster cannot be reached: {failure}")
    if not watch.topology.version:
        if server.passes_logins_through:
            return Readiness(True, "the proxy connects to the cluster when a client logs in")
        return Readiness(False, "the cluster has not answered yet")
    missing = watch.missing_slots
    if missing == SLOT_COUNT:
        return Readiness(False, "no slot has a primary")
    if missing:
        return Readiness(True, f"the proxy serves requests, but {missing} of {SLOT_COUNT} slots have no primary")
    return Readiness(True, "the proxy serves requests for all slots")


def part_of(server: ProxyServer) -> Part:
    """Return what a process knows."""
    watch = server.watch
    nodes: dict[str, dict[str, int]] = {}
    for upstream in server.upstreams:
        for address, each in upstream.client.statistics.nodes.items():
            opened = each.open.shared + each.open.exclusive + each.open.subscriber
            errors = sum(each.errors.values())
            numbers = (opened, each.pending, each.commands, errors, each.moved, each.asked)
            _add(nodes.setdefault(str(address), {}), dict(zip(_OF_NODES, numbers, strict=True)))
    failed = {str(address): reason for address, reason in watch.failed.items()}
    return Part(readiness_of(server), server.snapshot(), watch.changed, watch.shards(), nodes, failed)


def readiness_of_all(found: Sequence[Readiness]) -> Readiness:
    """Return whether a proxy with workers can serve requests: one that can is enough.

    Args:
        found: What the workers that accept clients have said.
    """
    if not found:
        return STARTS
    return next((each for each in found if each.ready), found[0])


def status_of(
    parts: Sequence[Part],
    total: Snapshot,
    readiness: Readiness,
    *,
    history: list[dict[str, Any]],
    now: float,
    uptime: float,
    max_clients: int,
    workers: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return what the status page shows.

    Args:
        parts: What the processes know.
        total: The numbers of all processes, also of those that have ended.
        readiness: Whether the proxy can serve requests.
        history: The last changes of state.
        now: Seconds since 1970.
        uptime: For how many seconds it has run.
        max_clients: How many clients there may be.
        workers: A description of each worker; none if there is only this process.
    """
    nodes: dict[str, dict[str, int]] = {}
    failed: dict[str, str] = {}
    for part in parts:
        failed |= part.failed
        for address, numbers in part.nodes.items():
            _add(nodes.setdefault(address, {}), numbers)
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "version": version("txvalkeycluster"),
        "now": now,
        "uptime": uptime,
        **asdict(readiness),
        "max_clients": max_clients,
        "workers": workers,
        "numbers": {**total.as_json(), "errors": total.errors_by_label},
        "buckets": BUCKETS,
        "shards": max(parts, key=lambda part: part.changed).shards if parts else [],
        "nodes": nodes,
        "failed": failed,
        "events": history,
    }


def _add(total: dict[str, int], numbers: Mapping[str, int]) -> None:
    for name, number in numbers.items():
        total[name] = total.get(name, 0) + number


def worker_row(number: int, state: str, numbers: Snapshot) -> dict[str, Any]:
    """Return the description of a worker for the status page."""
    return {"number": number, "state": state, "clients": numbers.clients, "requests": numbers.requests}
