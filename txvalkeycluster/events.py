"""What a client tells its listeners; one frozen value per event."""

from __future__ import annotations

from dataclasses import dataclass

from .address import Address
from .topology.model import Topology


@dataclass(frozen=True, slots=True)
class TopologyUpdated:
    """A slot map that differs from the previous one is in force."""

    topology: Topology
    previous: Topology | None


@dataclass(frozen=True, slots=True)
class Ready:
    """The first slot map is in force; sent once, after the first TopologyUpdated."""

    topology: Topology


@dataclass(frozen=True, slots=True)
class TopologyRefreshFailed:
    """A refresh ended without a map that can be believed; the old map stays in force."""

    reason: Exception


@dataclass(frozen=True, slots=True)
class NodeConnected:
    """A connection has finished its handshake."""

    address: Address


@dataclass(frozen=True, slots=True)
class NodeConnectFailed:
    """A node could not be dialled, or refused the handshake; it is dialled again while it is needed."""

    address: Address
    reason: Exception


@dataclass(frozen=True, slots=True)
class NodeDisconnected:
    """A connection that was connected has ended; ``clean`` if we asked for it and every reply had come."""

    address: Address
    reason: Exception
    clean: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """The client is closed and will do nothing any more; the last event."""


Event = TopologyUpdated | Ready | TopologyRefreshFailed | NodeConnected | NodeConnectFailed | NodeDisconnected | Closed
