"""What an error reply or a lost connection means for a command: a pure function from values to what to do.

Its rows are a table of the project's design; the router carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from .address import Address, parse_address
from .errors import ReplyError
from .slots import SLOT_COUNT

# A map that lags is caught up with in one or two steps; nodes that point at each other are not worth a busy loop.
IMMEDIATE_REDIRECTS = 5


class Act(Enum):
    """What the router does with the command."""

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
class Verdict:
    """One decision.  ``target`` belongs to FOLLOW and ASK, ``slot`` to FOLLOW."""

    act: Act
    refresh: Refresh = Refresh.NO
    target: Address | None = None
    slot: int = -1


_FAIL = Verdict(Act.FAIL)
# What a server tells the clients that it holds up as it turns from a primary into a replica.
_DEMOTED = "instance state changed"
_WAITS = {
    "TRYAGAIN": Verdict(Act.WAIT),
    "CLUSTERDOWN": Verdict(Act.WAIT, Refresh.SOON),
    # A supposed primary that loads, or misses its primary, may have come back as a replica.
    "LOADING": Verdict(Act.WAIT, Refresh.SOON),
    "MASTERDOWN": Verdict(Act.WAIT, Refresh.SOON),
    "READONLY": Verdict(Act.WAIT, Refresh.NOW),
}

#: Of errors that say that a command was not executed, and belongs elsewhere or has to wait.
NOT_HERE_OR_NOT_NOW = frozenset(["MOVED", "ASK", *_WAITS])


def judge_reply(error: ReplyError, sender: Address, *, from_replica: bool, redirects: int) -> Verdict:
    """Judge an error reply to a routed command that has been redirected ``redirects`` times."""
    code = error.code
    if code in ("MOVED", "ASK"):
        return _judge_redirect(error, sender, redirects)
    if code == "UNBLOCKED" and _DEMOTED in str(error):
        return Verdict(Act.WAIT, Refresh.NOW)
    if from_replica and code in ("LOADING", "MASTERDOWN"):
        return Verdict(Act.REROUTE)
    return _WAITS.get(code, _FAIL)


def judge_loss(*, written: bool, repeatable: bool) -> Verdict:
    """Judge a routed command whose connection ended before its reply: only safe ones are sent again."""
    return Verdict(Act.AGAIN, Refresh.SOON) if repeatable or not written else Verdict(Act.FAIL, Refresh.SOON)


def _judge_redirect(error: ReplyError, sender: Address, redirects: int) -> Verdict:
    words = str(error).split(" ")
    if len(words) < 3 or not (words[1].isascii() and words[1].isdigit()) or int(words[1]) >= SLOT_COUNT:
        return _FAIL
    slot = int(words[1])
    try:
        host, port = parse_address(words[2])
    except ValueError:
        return _FAIL
    if host == "?":
        return Verdict(Act.WAIT, Refresh.SOON)
    target = Address(host or sender.host, port)
    if redirects >= IMMEDIATE_REDIRECTS:
        return Verdict(Act.WAIT, Refresh.SOON)
    if words[0] == "ASK":
        return Verdict(Act.ASK, target=target)
    if target == sender:
        return Verdict(Act.REDIAL, Refresh.SOON)
    return Verdict(Act.FOLLOW, Refresh.SOON, target, slot)
