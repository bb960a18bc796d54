"""The slot map: which node serves which slots.

`model` holds the immutable values: a new slot map is a new `Topology`.  `parsers` and `nodes_parser` read the replies
to CLUSTER SLOTS, CLUSTER SHARDS and CLUSTER NODES, and reject invalid ones.  This package does not use connections: the
package `routing` asks for slot maps and installs them.
"""

from .model import Node, OpenSlot, Shard, Topology

__all__ = ["Node", "OpenSlot", "Shard", "Topology"]
