"""What a client counts, and the record of a finished command."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import Context
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

from .address import Address

# A node that invents error codes must not fill the memory.  Further codes are counted as this one.
_MOST_CODES = 64
_OTHER = "other"
# The same for the names of commands, which can be what a user of the application has typed.
_MOST_NAMES = 300
_WORD = re.compile(r"[A-Z0-9_.-]{1,40}")


@dataclass(slots=True)
class FinishedCommand:
    """One command of the application that has ended, for `ClusterClient.add_command_listener`.

    A pipeline and a transaction are one record each.  All listeners get the same record, so they must not change it.

    To make this record takes half of the time that a listener costs.  A listener that does not need it can have an
    attribute ``note_time``, a function of name, seconds and error.  While it is the only listener, this function is
    called in its place for most commands.
    """

    #: The name in upper case: ``"GET"``, ``"CONFIG SET"``.  A pipeline is ``"PIPELINE"`` and a transaction ``"MULTI"``,
    #: followed by the name of the command if all of their commands have the same one: ``"PIPELINE GET"``.
    name: str
    #: The node of the last attempt.  None: there was none, or several nodes took part.
    node: Address | None
    #: The time from the call to the end, in seconds.
    seconds: float
    #: How often the command was tried: 1, and one more for each redirect, repetition and lost connection.  A command
    #: that the client splits and a pipeline count as 1.
    attempts: int
    #: None if the command succeeded.  The results of a pipeline or a transaction can still hold errors.
    error: BaseException | None
    #: The number of commands: 1, or those of the pipeline or the transaction.
    commands: int
    #: The context variables at the call.
    context: Context


#: What a connection is for; the fields of `ByKind`.
Purpose = Literal["shared", "exclusive", "subscriber"]


@dataclass(slots=True)
class ByKind:
    """Numbers of connections, by what they are for."""

    #: Connections that all ordinary commands share, one for each node.
    shared: int = 0
    #: Connections of blocking commands and of watch sessions.
    exclusive: int = 0
    #: Connections of subscriptions.
    subscriber: int = 0

    def count(self, purpose: Purpose) -> None:
        """Count one more connection."""
        setattr(self, purpose, getattr(self, purpose) + 1)

    def add(self, other: ByKind) -> None:
        """Add the numbers of another object."""
        self.shared += other.shared
        self.exclusive += other.exclusive
        self.subscriber += other.subscriber


@dataclass(slots=True)
class NodeStatistics:
    """What one node has done since the client was made.

    All numbers but ``pending`` and ``open`` only grow, until the node leaves the cluster.
    """

    #: Commands that were written, repetitions and the client's own commands included.
    commands: int = 0
    #: Bytes of these commands, before TLS.
    bytes_sent: int = 0
    #: Bytes of replies and messages, after TLS.
    bytes_received: int = 0
    #: Error replies by their code, which is the first word, such as ``"MOVED"``.  After 64 different codes, a new one
    #: is counted as ``"other"``.  Errors inside of the reply to EXEC are not counted.
    errors: dict[str, int] = field(default_factory=dict)
    #: MOVED redirects that were followed.
    moved: int = 0
    #: ASK redirects that were followed.
    asked: int = 0
    #: Commands that waited in a retry queue because the node could not serve them yet.
    put_off: int = 0
    #: Commands that were sent again because their connection was lost.
    repeated: int = 0
    #: Commands of the application whose deadline passed while they were sent to the node or waited for it.
    timeouts: int = 0
    #: Messages of subscriptions, once for each channel or pattern.
    messages: int = 0
    #: Connections that finished their handshake.
    connections: ByKind = field(default_factory=ByKind)
    #: Connections that are open now.
    open: ByKind = field(default_factory=ByKind)
    #: Commands that wait for the node or for its reply now.
    pending: int = 0

    def count_error(self, code: str, count: int = 1) -> None:
        """Count error replies with a code."""
        errors = self.errors
        if code not in errors and len(errors) >= _MOST_CODES:
            code = _OTHER
        errors[code] = errors.get(code, 0) + count

    def copy(self) -> Self:
        """Return a copy that does not change."""
        changing: dict[str, Any] = {
            each.name: copy(getattr(self, each.name)) for each in fields(self) if each.type != "int"
        }
        return replace(self, **changing)

    def add(self, other: NodeStatistics) -> None:
        """Add the numbers of another node."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for code, count in other.errors.items():
            self.count_error(code, count)
        self.connections.add(other.connections)
        self.open.add(other.open)


_SUMS = [name for name, kind in NodeStatistics.__annotations__.items() if kind == "int"]


@dataclass(slots=True)
class Statistics(NodeStatistics):
    """What all nodes together have done, and what belongs to none of them."""

    #: Refreshes of the slot map that were started.
    refreshes: int = 0
    #: Refreshes of the slot map that failed.
    refreshes_failed: int = 0
    #: Messages that a full buffer of a subscription has dropped.
    messages_dropped: int = 0
    #: Channels and patterns that were lost: their connection ended, or they belong to another node.
    lost: int = 0
    #: Channels and patterns that were subscribed again after a loss.
    resubscribed: int = 0
    #: The nodes by address: those of the slot map, the seeds, and the targets of redirects.
    nodes: dict[Address, NodeStatistics] = field(default_factory=dict)


class Labels:
    """Makes labels of metrics from the names of commands and the codes of errors.

    There are few different labels, and none holds an argument: a program can pass ``"GET secret"`` as the name of a
    command, and a script can return any text as an error.
    """

    def __init__(self, commands: Mapping[Any, Any], other: str) -> None:
        """Begin without names.

        Args:
            commands: The table of commands, which knows the subcommands.
            other: The label of everything that is no name or no code, and of names after the first 300.
        """
        self._commands = commands
        self._other = other
        self._names: set[str] = set()

    def of_command(self, name: str) -> str:
        """Return the label of `FinishedCommand.name`."""
        if name in self._names:
            return name
        if len(self._names) >= _MOST_NAMES or not self._is_name(name):
            return self._other
        self._names.add(name)
        return name

    def of_code(self, code: str) -> str:
        """Return the label of an error code."""
        return code if _WORD.fullmatch(code) else self._other

    def _is_name(self, name: str) -> bool:
        kind, _, rest = name.partition(" ")
        first, _, sub = (rest if rest and kind in ("PIPELINE", "MULTI") else name).partition(" ")
        return bool(_WORD.fullmatch(first)) and (not sub or sub in self._commands[first].subcommands)
