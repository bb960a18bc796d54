"""Decides what to do with a command after an error reply or a lost connection.

These are pure functions.  `recovery` carries out their decisions.  Source of the error codes:
https://valkey.io/topics/cluster-spec
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from ..address import Address, parse_address
from ..errors import ReplyError
from ..slots import SLOT_COUNT

#: How many redirects of one command are followed without a pause.  One or two are enough after a slot has moved.  More
#: happen if two nodes redirect to each other, and must not become a busy loop.
IMMEDIATE_REDIRECTS = 5


class Action(Enum):
    """What to do with the command."""

    #: Assign the slot to the target, and send the command there.
    FOLLOW = auto()
    #: Send ASKING and the command to the target.  The slot map does not change.
    ASK = auto()
    #: The address now belongs to another server: connect again, and send the command there.
    REDIAL = auto()
    #: Send the command to the node in the slot map if that is another node.  Otherwise wait.
    REROUTE = auto()
    #: Send the command at once to the node in the slot map.
    AGAIN = auto()
    #: Wait a little, then send the command to the node in the slot map.
    WAIT = auto()
    #: Fail the command.
    FAIL = auto()


class Refresh(Enum):
    """Whether to fetch a new slot map."""

    #: No new map is needed.
    NO = auto()
    #: Fetch one, as soon as the rate limit allows.
    SOON = auto()
    #: Fetch one now, without regard to the rate limit.
    NOW = auto()


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision."""

    #: What to do with the command.
    action: Action
    #: Whether to fetch a new slot map.
    refresh: Refresh = Refresh.NO
    #: The target of FOLLOW or ASK.
    target: Address | None = None
    #: The slot of FOLLOW.
    slot: int = -1


_FAIL = Decision(Action.FAIL)
# All error texts that servers since 7.0 send before they execute anything, for the error codes that the client handles.
# A command that can fail after it has written was certainly not executed only if its error is exactly one of these.
_SENT_BEFORE_EXECUTION = frozenset(
    [
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN The cluster is down",
        "CLUSTERDOWN The cluster is down and only accepts read commands",
        "CLUSTERDOWN Hash slot not served",
        "LOADING Valkey is loading the dataset in memory",
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' "
        "and 'allow-stale' flag is not set on the script.",
        "READONLY You can't write against a read only replica.",
        "READONLY Can not run script with write flag on readonly replica",
    ]
)
# Part of the error that ends blocked commands when a primary becomes a replica.
_DEMOTED = "instance state changed"
_WAITS = {
    "TRYAGAIN": Decision(Action.WAIT),
    "CLUSTERDOWN": Decision(Action.WAIT, Refresh.SOON),
    # A node that the slot map lists as primary may have restarted as a replica.
    "LOADING": Decision(Action.WAIT, Refresh.SOON),
    "MASTERDOWN": Decision(Action.WAIT, Refresh.SOON),
    "READONLY": Decision(Action.WAIT, Refresh.NOW),
}

#: The codes of errors that mean: the command was not executed, and must be sent to another node or later.
NOT_HERE_OR_NOT_NOW = frozenset(["MOVED", "ASK", *_WAITS])


def decide_on_reply(error: ReplyError, sender: Address, *, from_replica: bool, redirects: int) -> Decision:
    """Decide on an error reply.

    Args:
        error: The reply.
        sender: The address of the node that sent it.
        from_replica: Whether the slot map lists this node as a replica.
        redirects: How many redirects the command has followed without a pause.

    Returns:
        The decision.
    """
    code = error.code
    if code in ("MOVED", "ASK"):
        return _decide_on_redirect(error, sender, redirects)
    if code == "UNBLOCKED" and _DEMOTED in str(error):
        return Decision(Action.WAIT, Refresh.NOW)
    if from_replica and code in ("LOADING", "MASTERDOWN"):
        return Decision(Action.REROUTE)
    if is_from_demoted(error):
        return Decision(Action.FAIL, Refresh.NOW)
    return _WAITS.get(code, _FAIL)


def is_from_demoted(error: ReplyError) -> bool:
    """Tell whether an error reply to WAIT or WAITAOF means that the node is no longer a primary."""
    return "cannot be used with replica instances" in str(error)


def proves_not_executed(error: ReplyError, slots: Collection[int]) -> bool:
    """Tell whether an error proves that a command was not executed, although it can fail after it has written.

    Args:
        error: The reply.
        slots: The slots of the command.  A redirect must name one of them.  Other errors must be exact texts of the
            server.
    """
    if error.code in ("MOVED", "ASK"):
        return _redirected_slot(error) in slots
    return str(error) in _SENT_BEFORE_EXECUTION


def ends_transaction(error: ReplyError) -> bool:
    """Tell whether the server has ended the transaction although it answered EXEC with this error."""
    return error.code in ("EXECABORT", *NOT_HERE_OR_NOT_NOW) or "without MULTI" in str(error)


def decide_on_loss(*, written: bool, repeatable: bool) -> Decision:
    """Decide on a command whose connection ended before its reply.

    Args:
        written: Whether the command was written to the connection.
        repeatable: Whether it does no harm to execute it twice.

    Returns:
        The decision: send it again if that is safe.
    """
    return Decision(Action.AGAIN, Refresh.SOON) if repeatable or not written else Decision(Action.FAIL, Refresh.SOON)


def _decide_on_redirect(error: ReplyError, sender: Address, redirects: int) -> Decision:
    words = str(error).split(" ")
    slot = _redirected_slot(error)
    if slot is None or len(words) < 3:
        return _FAIL
    try:
        host, port = parse_address(words[2])
    except ValueError:
        return _FAIL
    if host == "?":
        return Decision(Action.WAIT, Refresh.SOON)
    target = Address(host or sender.host, port)
    if redirects >= IMMEDIATE_REDIRECTS:
        return Decision(Action.WAIT, Refresh.SOON)
    if words[0] == "ASK":
        return Decision(Action.ASK, target=target)
    if target == sender:
        return Decision(Action.REDIAL, Refresh.SOON)
    return Decision(Action.FOLLOW, Refresh.SOON, target, slot)


def _redirected_slot(error: ReplyError) -> int | None:
    """Return the slot in a MOVED or ASK error; None if it is not valid."""
    text = str(error).split(" ", 2)[1:2]
    # A slot has at most 5 digits.  Python raises an error for an int of some thousand digits.
    if not text or not (text[0].isascii() and text[0].isdigit() and len(text[0]) <= 5):
        return None
    slot = int(text[0])
    return slot if slot < SLOT_COUNT else None
