"""The target of a request: where the request goes.

Most requests go to the owner of a slot; their target is the number of the slot, 0 to 16383.  Other requests have a
target of this module.  A new kind of target, such as a replica that a policy selects, needs a class here and a case in
`SlotMap.destination_of`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..topology.model import Shard


class Keyless(Enum):
    """Targets that do not depend on a key."""

    #: Any primary.
    ANY_NODE = "any primary"
    #: Only the node that the request was given to; the request is never redirected or repeated.
    THIS_NODE = "this node"
    #: Not known yet.
    UNROUTED = "a node not known yet"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class PrimaryOf:
    """The node that is the primary of a shard when the request is sent."""

    shard: Shard

    def __str__(self) -> str:
        return f"the primary of a shard of {len(self.shard.nodes)} nodes"


#: The number of a slot, or another kind of target.
Target = int | Keyless | PrimaryOf

ANY_NODE, THIS_NODE, UNROUTED = Keyless.ANY_NODE, Keyless.THIS_NODE, Keyless.UNROUTED
