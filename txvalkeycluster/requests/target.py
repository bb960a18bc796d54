"""Where a request goes.

Most go to the owner of a slot: their target is its number, 0 to 16383.  The others have one of these.  A new kind of
target, such as a replica that a policy picks, is a class here and a case of `SlotMap.destination_of`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..topology.model import Shard


class Keyless(Enum):
    """Targets that no key tells."""

    ANY_NODE = "any node"  # any primary will do
    THIS_NODE = "this node"  # the one it was given to: no redirect, no repetition
    UNROUTED = "a node not known yet"  # nobody can tell yet

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class PrimaryOf:
    """The primary of a shard, whichever node that is by the time the request is sent."""

    shard: Shard

    def __str__(self) -> str:
        return f"the primary of a shard of {len(self.shard.nodes)} nodes"


#: A slot, or one of the others.
Target = int | Keyless | PrimaryOf

ANY_NODE, THIS_NODE, UNROUTED = Keyless.ANY_NODE, Keyless.THIS_NODE, Keyless.UNROUTED
