"""Writes docs/proxy-commands.md: what the proxy does with each command, from the tables of the proxy itself.

    python -m gencmd.proxy_page > docs/proxy-commands.md

Whether a command is passed on, answered or refused comes from `txvalkeycluster.proxy.commands.dispatch`.  The texts
about what is different stand here.  A command that the proxy answers itself, or that goes to several nodes, must have
one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from txvalkeycluster.commands import Command, CommandTable
from txvalkeycluster.commands.overrides import REFUSED as NOT_SENT
from txvalkeycluster.proxy.commands.connection import _CLIENT as CLIENT
from txvalkeycluster.proxy.commands.dispatch import NO_CLUSTER, REFUSED, Way, way_of

Verdict = Literal["same", "different", "refused"]

_ONE_SLOT = "All keys must be in one slot; else `-CROSSSLOT`."
_SPLIT = "Keys in several slots are split into a request for each slot. The call is then not atomic."
_ALL = "On all primaries, not at the same moment."
_SEVERAL = "Keys may be in several slots. The first key that has an element is taken, in the order of the keys."
_OF_THE_PROXY = "Of the proxy's own connections."
_SLOW = "Slow requests of the proxy's clients; with workers, those of one worker."
_SCRIPTS = "A script may use only the keys that the call names, all in one slot."

#: What is different, by command or subcommand.
_GAPS = (
    "After a failover or a lost node, the proxy disconnects the client, since messages may be missing "
    "(`subscription_gaps`). Events of keys come from all primaries. Not in a transaction."
)
DIFFERENT: dict[str, str] = {
    # Keys
    "COPY": f"{_ONE_SLOT} DB can only be the database of the cluster's URL.",
    "MSETEX": f"{_SPLIT} With NX or XX, all keys must be in one slot.",
    "SORT": f"{_ONE_SLOT} The servers of a cluster refuse BY and GET with patterns of keys.",
    "SORT_RO": "The servers of a cluster refuse BY and GET with patterns of keys.",
    "EVAL": _SCRIPTS,
    "EVAL_RO": _SCRIPTS,
    "EVALSHA": f"{_SCRIPTS} After EVAL only one node has the script; SCRIPT LOAD puts it on all nodes.",
    "EVALSHA_RO": f"{_SCRIPTS} After EVAL only one node has the script; SCRIPT LOAD puts it on all nodes.",
    "FCALL": _SCRIPTS,
    "FCALL_RO": _SCRIPTS,
    # Commands that can block
    "BLPOP": f"{_SEVERAL} Until there is one, the proxy waits with BLMOVE of a list onto itself, which takes nothing.",
    "BZPOPMIN": f"{_SEVERAL} With several slots, the proxy tries again every 50 ms.",
    "XREAD": "Keys may be in several slots.",
    "XREADGROUP": "Keys may be in several slots. With BLOCK the proxy then tries again every 50 ms.",
    # The whole cluster
    "DBSIZE": "The sum of all primaries.",
    "FLUSHALL": _ALL,
    "FLUSHDB": _ALL,
    "KEYS": "Of all primaries, not at the same moment.",
    "RANDOMKEY": "Of one of the primaries that have keys.",
    "SCAN": (
        "Over the whole cluster, also while slots move. A cursor belongs to one proxy, and expires after 10 minutes "
        "without use."
    ),
    "WAIT": "Waits for the writes of all clients of the proxy. The number is the lowest one of all primaries.",
    "WAITAOF": "Waits for the writes of all clients of the proxy. The numbers are the lowest ones of all primaries.",
    "FUNCTION DELETE": _ALL,
    "FUNCTION FLUSH": _ALL,
    "FUNCTION LOAD": _ALL,
    "FUNCTION RESTORE": _ALL,
    "FUNCTION KILL": "Ends the functions that run on all primaries.",
    "FUNCTION STATS": "Of the primary that runs a function; else of any.",
    "SCRIPT EXISTS": "1 only if all primaries have the script.",
    "SCRIPT FLUSH": "On all nodes, not at the same moment.",
    "SCRIPT LOAD": "On all nodes, not at the same moment.",
    "SCRIPT KILL": "Ends the scripts that run on all primaries.",
    # Subscriptions
    "SUBSCRIBE": _GAPS,
    "PSUBSCRIBE": _GAPS,
    "SSUBSCRIBE": f"{_GAPS} Channels may be in any slots.",
    "PUBLISH": "The number counts only the subscribers at one node, and a proxy once. The message reaches all.",
    "SPUBLISH": "The number counts a proxy once for all of its clients.",
    "PUBSUB CHANNELS": "Of all nodes.",
    "PUBSUB NUMPAT": "The sum of all nodes.",
    "PUBSUB NUMSUB": "The sums of all nodes. A proxy counts once for all of its clients.",
    "PUBSUB SHARDCHANNELS": "Of all nodes.",
    "PUBSUB SHARDNUMSUB": "The sums of all nodes. A proxy counts once for all of its clients.",
    # Transactions
    "MULTI": "The keys of all commands must be in one slot. A command with another slot is refused when it is queued.",
    "WATCH": f"{_ONE_SLOT} It must be that of the transaction.",
    # What the proxy answers
    "AUTH": "As a user of the proxy (`--users`), or of the cluster (`--pass-through`).",
    "HELLO": "The mode is standalone, and there are no modules.",
    "SELECT": "Only the database of the cluster's URL.",
    "INFO": "Totals of all primaries, and a section about the proxy.",
    "ROLE": "A primary without replicas.",
    "TIME": "The clock of the proxy.",
    "READONLY": "OK, without an effect: reads go to primaries.",
    "READWRITE": "OK, without an effect.",
    "CONFIG GET": "Of one node, without passwords.",
    "SLOWLOG GET": _SLOW,
    "SLOWLOG LEN": _SLOW,
    "SLOWLOG RESET": _SLOW,
    "CLIENT ID": "Other numbers.",
    "CLIENT INFO": _OF_THE_PROXY,
    "CLIENT LIST": _OF_THE_PROXY,
    "CLIENT KILL": _OF_THE_PROXY,
    "CLIENT UNBLOCK": _OF_THE_PROXY,
    "CLIENT TRACKING": "Only OFF: invalidations do not pass the proxy.",
    "CLIENT NO-EVICT": "OK, without an effect.",
    "CLIENT NO-TOUCH": "OK, without an effect.",
    "CLIENT CAPA": "OK, without an effect: there are no redirects.",
    "CLIENT UNPAUSE": "OK, without an effect: no client is paused.",
}
DIFFERENT |= {
    **dict.fromkeys(["BRPOP", "BLMPOP"], DIFFERENT["BLPOP"]),
    **dict.fromkeys(["BZPOPMAX", "BZMPOP"], DIFFERENT["BZPOPMIN"]),
}
# What the proxy answers as a server.
_SAME = frozenset(
    [
        *("PING", "ECHO", "QUIT", "RESET", "EXEC", "DISCARD", "UNWATCH", "CLUSTER KEYSLOT"),
        *("CLIENT GETNAME", "CLIENT SETNAME", "CLIENT SETINFO", "CLIENT REPLY", "CLIENT CACHING"),
        *("CLIENT GETREDIR", "CLIENT TRACKINGINFO"),
        *("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"),
    ]
)

_HEAD = """\
# Commands of the proxy

What [the proxy](proxy.md) does with each command of Valkey, compared with one server:

- **same**: the reply is that of one server.
- **different**: the last column says how.
- **refused**: the client gets an error. The last column says why.

The proxy asks the cluster about commands that are not here, such as those of modules, and passes them on by their keys.
Keys are in one slot if they have the same `{hash tag}`.

This page is generated: `python -m gencmd.proxy_page > docs/proxy-commands.md`.

| command | compared with one server | how, or why |
| --- | --- | --- |
"""


# A row names at most so many subcommands; more are "all other subcommands".
_MOST = 6


@dataclass(frozen=True, slots=True)
class Row:
    """What the proxy does with a command."""

    name: str
    verdict: Verdict
    #: How it is different, or why it is refused.
    text: str = ""


class NoText(LookupError):
    """A command is different, and nothing here says how."""


def row_of(command: Command) -> Row:
    """Return what the proxy does with a command or a subcommand.

    Raises:
        NoText: There is no text about it.
    """
    name = command.name
    refusal = _refusal(command)
    if refusal:
        return Row(name, "refused", refusal)
    if name in DIFFERENT:
        return Row(name, "different", DIFFERENT[name])
    way = way_of(command)
    if way is Way.PROXY and name not in _SAME and not name.endswith(" HELP"):
        raise NoText(f"the proxy answers {name}, and gencmd/proxy_page.py does not say what is different")
    if way is Way.KEYS and command.request_policy == "multi_shard":
        return Row(name, "different", _SPLIT)
    if way is Way.KEYS and _may_have_several_keys(command):
        return Row(name, "different", _ONE_SLOT)
    if way is Way.CLUSTER and command.request_policy is not None:
        raise NoText(f"{name} goes to several nodes, and gencmd/proxy_page.py does not say what is different")
    return Row(name, "same")


def _refusal(command: Command) -> str:
    """Return why a command is refused; empty if it is not."""
    name = command.name
    first, _, sub = name.partition(" ")
    way = way_of(command)
    if (first == "CLUSTER" and sub not in ("", "KEYSLOT")) or REFUSED.get(first) == NO_CLUSTER:
        return "As on a server without cluster support, so that clients do not use the proxy as a cluster."
    if sub == "HELP":
        return ""
    if way is Way.REFUSED:
        return _sentence(REFUSED[first].removeprefix(f"{first} "))
    if first == "CLIENT" and sub and sub not in CLIENT:
        return "It is not available through a proxy."
    if first == "CONFIG" and sub not in ("", "GET"):
        return "It acts on one server; send it to that server directly."
    if way is not Way.PROXY and name in NOT_SENT:
        return _sentence(NOT_SENT[name])
    return ""


def _sentence(reason: str) -> str:
    verbs = ("acts ", "is ")
    text = f"It {reason}" if reason.startswith(verbs) else reason[0].upper() + reason[1:]
    return f"{text}."


def _may_have_several_keys(command: Command) -> bool:
    specs = command.key_specs
    return len(specs) > 1 or any(spec.last != 0 or spec.keynum is not None for spec in specs)


def rows() -> Iterator[Row]:
    """Yield a row for each command, or for each group of its subcommands of which the same is true.

    Raises:
        NoText: There is no text about a command.
    """
    table = CommandTable()
    for name in sorted(table):
        command = table[name]
        if not command.subcommands:
            yield row_of(command)
            continue
        groups: dict[tuple[Verdict, str], list[str]] = {}
        for sub in sorted(command.subcommands):
            row = row_of(command.subcommands[sub])
            groups.setdefault((row.verdict, row.text), []).append(sub)
        largest = max(groups.values(), key=len)
        for (verdict, text), subs in sorted(groups.items(), key=lambda item: item[1] is largest):
            names = f"{name} {', '.join(subs)}"
            if len(groups) == 1:
                names = name
            elif subs is largest and len(subs) > _MOST:
                names = f"{name}, all other subcommands"
            yield Row(names, verdict, text)


def page() -> str:
    """Return the page."""
    shown = {"same": "same", "different": "**different**", "refused": "*refused*"}
    return _HEAD + "".join(f"| {row.name} | {shown[row.verdict]} | {row.text} |\n" for row in rows())


if __name__ == "__main__":
    sys.stdout.write(page())
