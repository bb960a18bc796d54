"""`Snapshot`: all numbers of a proxy at one moment.  Those of several workers can be added."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..statistics import Labels

#: The upper bounds of the buckets of times, in seconds.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: The numbers that say what a proxy does now.  All others only grow.
GAUGES = ("clients", "logins", "request_bytes", "scans", "pending_commands", "node_connections")
_LABELS = Labels({}, "other")


@dataclass(slots=True)
class Snapshot:
    """What a proxy has done, and what it does now."""

    #: Clients that are connected.
    clients: int = 0
    #: Clients that were accepted.
    clients_accepted: int = 0
    #: Clients that were refused, because there were too many.
    clients_refused: int = 0
    #: Clients that the proxy has disconnected.
    clients_cut: int = 0
    #: Elements that were taken for a client that left in the same moment.
    elements_lost: int = 0
    #: Gaps of clients' subscriptions, in which messages may be missing.
    subscription_gaps: int = 0
    #: Logins with a wrong user or password.
    logins_refused: int = 0
    #: Logins to the cluster that are in use.
    logins: int = 0
    #: Requests of clients.
    requests: int = 0
    #: Requests that took longer than ``slowlog_slower_than``.
    requests_slow: int = 0
    #: Bytes of requests that are under way.
    request_bytes: int = 0
    #: Bytes from clients.
    received_bytes: int = 0
    #: Bytes to clients.
    sent_bytes: int = 0
    #: Scans that are under way.
    scans: int = 0
    #: Commands that wait for a node or for its reply.
    pending_commands: int = 0
    #: Connections to nodes.
    node_connections: int = 0
    #: Commands sent again after a lost connection.
    commands_repeated: int = 0
    #: Commands that waited until a node could serve them.
    commands_put_off: int = 0
    #: Commands whose deadline passed.
    commands_timed_out: int = 0
    #: MOVED redirects that were followed.
    moved: int = 0
    #: ASK redirects that were followed.
    asked: int = 0
    #: Error replies of servers, by code.
    errors: dict[str, int] = field(default_factory=dict)
    #: The number of requests in each bucket of `BUCKETS`; the last one has no upper bound.
    times: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    #: The sum of the times of all requests at the cluster, in seconds.
    seconds: float = 0.0

    def add_time(self, seconds: float, requests: int) -> None:
        """Count requests that took the same time."""
        self.times[bisect_left(BUCKETS, seconds)] += requests
        self.seconds += seconds * requests

    def add(self, other: Snapshot) -> None:
        """Add the numbers of another proxy."""
        for each in fields(self):
            if each.type in ("int", "float"):
                setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        self.times = [mine + theirs for mine, theirs in zip(self.times, other.times, strict=True)]
        for code, count in other.errors.items():
            self.errors[code] = self.errors.get(code, 0) + count

    @property
    def errors_by_label(self) -> dict[str, int]:
        """Error replies by code; a code that is no usual one is ``"other"``, since a script can return any text."""
        found: dict[str, int] = {}
        for code, count in self.errors.items():
            label = _LABELS.of_code(code)
            found[label] = found.get(label, 0) + count
        return found

    def without_gauges(self) -> Snapshot:
        """Return what remains when the proxy has ended: what it has done, and nothing of what it does."""
        nothing: dict[str, Any] = dict.fromkeys(GAUGES, 0)
        return replace(self, **nothing)

    def as_json(self) -> dict[str, Any]:
        """Return the numbers as values that JSON has."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Snapshot:
        """Make a snapshot of what `as_json` has returned, also in another version of this package."""
        known = {each.name for each in fields(cls)}
        made = cls(**{name: value for name, value in values.items() if name in known})
        if len(made.times) != len(BUCKETS) + 1:
            # The bounds of the buckets are others there.
            made.times, made.seconds = cls().times, 0.0
        return made
