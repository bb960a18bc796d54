"""The slot map: which node serves which slots.

`model` holds the values, which never change: a new map is a new `Topology`.  `parsers` and `nodes_parser` make them of
what servers reply to CLUSTER SLOTS, SHARDS and NODES, and refuse what cannot be true.  Nothing here knows a
connection: asking for maps and putting them in force is done in ``routing``.
"""

from .model import Node, OpenSlot, Shard, Topology

__all__ = ["Node", "OpenSlot", "Shard", "Topology"]
