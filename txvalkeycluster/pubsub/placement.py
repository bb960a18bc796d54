"""Placement: where channels belong, and why they are lost, as functions of the slot map."""

from __future__ import annotations

from enum import Enum

from ..address import Address
from ..messages import LostReason
from ..topology.model import Topology


class Scope(Enum):
    """The nodes at which a channel or pattern is subscribed."""

    ANY_NODE = "any node"  # classic: every node passes on every message
    SLOT_OWNER = "the owner of the slot"  # sharded
    PRIMARIES = "every primary"  # events of the node's own keys
    ALL_NODES = "every node"


def addresses_of(topology: Topology, scope: Scope) -> list[Address]:
    """Return the nodes of a scope with several nodes."""
    nodes = topology.primaries if scope is Scope.PRIMARIES else topology.nodes
    return [node.address for node in nodes if node.address is not None]


def why_node_left(topology: Topology, address: Address) -> LostReason:
    """Return why a node does not belong to a scope any more."""
    listed = any(node.address == address for node in topology.nodes)
    return LostReason.FAILOVER if listed else LostReason.NODE_REMOVED


def why_node_came(topology: Topology, previous: Topology | None, address: Address) -> LostReason:
    """Return why a node belongs to a scope now: a failover in its shard, or the shard is new."""
    before = {node.id for node in previous.nodes} if previous is not None else set()
    for shard in topology.shards:
        if any(node.address == address for node in shard.nodes) and any(node.id in before for node in shard.nodes):
            return LostReason.FAILOVER
    return LostReason.NODE_ADDED


def why_slot_moved(topology: Topology, slot: int, before: Address) -> LostReason:
    """Return why a slot does not belong to a node any more."""
    owner = topology.shard_of(slot)
    same = owner is not None and any(node.address == before for node in owner.nodes)
    return LostReason.FAILOVER if same else LostReason.SLOT_MOVED


def may_repeat(topology: Topology, scope: Scope, before: Address | None, now: Address) -> bool:
    """Return whether a node may deliver messages again that another node has delivered before."""
    if before is None or before == now or scope not in (Scope.ANY_NODE, Scope.SLOT_OWNER):
        return False
    # Sharded messages do not leave their shard.
    shards = [{node.address for node in shard.nodes} for shard in topology.shards]
    return scope is Scope.ANY_NODE or any({before, now} <= shard for shard in shards)
