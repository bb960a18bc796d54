"""The kinds of work, by name."""

from .base import Environment, Work
from .broadcasts import Broadcasts
from .confirmed import Confirmed
from .counters import Counters
from .pipelines import Pipelines
from .queues import Queues
from .scans import Scans
from .scripts import Scripts
from .steady import Cancels, Timeouts
from .subscriptions import Subscriptions
from .tokens import TokenWork
from .transfers import Transfers
from .users import Users, acl_file

WORK: dict[str, type[Work]] = {
    kind.name: kind
    for kind in (
        Counters,
        TokenWork,
        Transfers,
        Queues,
        Scans,
        Confirmed,
        Broadcasts,
        Scripts,
        Users,
        Cancels,
        Timeouts,
        Pipelines,
        Subscriptions,
    )
}

__all__ = ["WORK", "Environment", "Work", "acl_file"]
