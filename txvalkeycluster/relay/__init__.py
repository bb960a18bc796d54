"""For programs that pass on requests of others, such as a proxy.

`batch` sends many encoded requests of several callers in one call.  `single` sends one transaction or one command that
can block.  `lease` gives a connection to one caller alone.  `methods` has the methods of the client for all of them.
"""

from .batch import OnReplies, RelayBatch
from .lease import RelayLease

__all__ = ["OnReplies", "RelayBatch", "RelayLease"]
