"""What an error reply or a lost connection means for a command: a pure function from values to what to do.

Its rows are a table of the project's design; `recovery` carries them out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from ..address import Address, parse_address
from ..errors import ReplyError
from ..slots import SLOT_COUNT

# A map that lags is caught up with in one or two steps; nodes that point at each other are not worth a busy loop.
IMMEDIATE_REDIRECTS = 5


class Action(Enum):
    """What is done with the command."""

    FOLLOW = auto()  # point the slot at the target and send the command there
    ASK = auto()  # send ASKING and the command to the target, the map stays
    REDIAL = auto()  # the address now names another machine: connect anew, and send it there
    REROUTE = auto()  # send it where the map says, if that is another node; else wait
    AGAIN = auto()  # send it where the map says, at once
    WAIT = auto()  # wait a little, then send it where the map says
    FAIL = auto()  # tell the caller


class Refresh(Enum):
    """What the slot map needs."""

    NO = auto()
    SOON = auto()  # within the rate limit
    NOW = auto()  # outside of it


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision.  ``target`` belongs to FOLLOW and ASK, ``slot`` to FOLLOW; ``refresh`` may belong to any."""

    action: Action
    refresh: Refresh = Refresh.NO
    target: Address | None = None
    slot: int = -1


_FAIL = Decision(Action.FAIL)
# Every error line that servers since 7.0 send before they execute anything, for the codes that a client acts on.
# A command that can fail after it has written is believed only if it answers one of these, to the letter.
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
# What a server tells the clients that it holds up as it turns from a primary into a replica.
_DEMOTED = "instance state changed"
_WAITS = {
    "TRYAGAIN": Decision(Action.WAIT),
    "CLUSTERDOWN": Decision(Action.WAIT, Refresh.SOON),
    # A supposed primary that loads, or misses its primary, may have come back as a replica.
    "LOADING": Decision(Action.WAIT, Refresh.SOON),
    "MASTERDOWN": Decision(Action.WAIT, Refresh.SOON),
    "READONLY": Decision(Action.WAIT, Refresh.NOW),
}

#: Of errors that say that a command was not executed, and belongs elsewhere or has to wait.
NOT_HERE_OR_NOT_NOW = frozenset(["MOVED", "ASK", *_WAITS])


def decide_on_reply(error: ReplyError, sender: Address, *, from_replica: bool, redirects: int) -> Decision:
    """Judge an error reply to a routed command that has been redirected ``redirects`` times."""
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
    """Whether WAIT or WAITAOF was asked of a node that is no primary any more."""
    return "cannot be used with replica instances" in str(error)


def proves_not_executed(error: ReplyError, slots: Collection[int]) -> bool:
    """Whether an error of a command that can fail after it has written shows that it was not executed.

    A redirect must name one of the command's own ``slots``; anything else must be the server's own text.
    """
    if error.code in ("MOVED", "ASK"):
        return _redirected_slot(error) in slots
    return str(error) in _SENT_BEFORE_EXECUTION


def ends_transaction(error: ReplyError) -> bool:
    """Whether the server has left the MULTI state though it answered EXEC with this error."""
    return error.code in ("EXECABORT", *NOT_HERE_OR_NOT_NOW) or "without MULTI" in str(error)


def decide_on_loss(*, written: bool, repeatable: bool) -> Decision:
    """Judge a routed command whose connection ended before its reply: only safe ones are sent again."""
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
    """The slot that a MOVED or ASK names; None if it names none."""
    text = str(error).split(" ", 2)[1:2]
    # More digits than a slot has are not worth a number, and of some thousands Python makes none.
    if not text or not (text[0].isascii() and text[0].isdigit() and len(text[0]) <= 5):
        return None
    slot = int(text[0])
    return slot if slot < SLOT_COUNT else None
