"""What neither a command's JSON nor the server's COMMAND tells, or tells wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

_STATEFUL = "it changes the state of a connection that other commands share"
_PUBSUB = "subscriptions do not go over the shared connection: its reply is a push"
_REPLICATION = "it is what replicas say to primaries"

#: Commands that no connection of a client must carry, each with the reason.
REFUSED = {
    **dict.fromkeys(["AUTH", "HELLO", "SELECT", "RESET", "QUIT", "READONLY", "READWRITE", "ASKING"], _STATEFUL),
    **dict.fromkeys(["MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "CLIENT REPLY", "DEBUG PROTOCOL"], _STATEFUL),
    **dict.fromkeys(["CLIENT TRACKING", "CLIENT CACHING", "CLIENT CAPA", "SCRIPT DEBUG"], _STATEFUL),
    **dict.fromkeys(["CLIENT NO-EVICT", "CLIENT NO-TOUCH", "CLIENT IMPORT-SOURCE"], _STATEFUL),
    **dict.fromkeys(["MONITOR", "SYNC", "PSYNC", "REPLCONF"], "its replies never end"),
    **dict.fromkeys(["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"], _PUBSUB),
    **dict.fromkeys(["UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"], _PUBSUB),
    "CLUSTER SYNCSLOTS": _REPLICATION,
}

#: Request and response policy in place of the tips.
POLICIES: dict[str, tuple[str | None, str | None]] = {
    # Any one node gives the answer that a caller wants.
    "PING": (None, None),
    # The tip asks every shard and leaves open what to make of the replies: an empty shard has no key to give.
    "RANDOMKEY": ("all_shards", "any_not_null"),
    # Of one connection, while each node has its own; the option client_name and the handshake see to all of them.
    "CLIENT SETNAME": (None, None),
    "CLIENT SETINFO": (None, None),
    # These have no tips, though a server knows its own subscribers only.
    "PUBSUB CHANNELS": ("all_nodes", "union"),
    "PUBSUB SHARDCHANNELS": ("all_nodes", "union"),
    "PUBSUB NUMPAT": ("all_nodes", "agg_sum"),
    "PUBSUB NUMSUB": ("all_nodes", "sum_by_name"),
    "PUBSUB SHARDNUMSUB": ("all_nodes", "sum_by_name"),
}

#: Neither reads nor writes by their flags, yet harmless to run twice.
REPEATABLE = frozenset(["PING", "ECHO", "TIME", "LASTSAVE", "DBSIZE", "ROLE", "INFO"])

#: Commands that run a program, which can write first and then fail with an error of its own.
SCRIPTS = frozenset(["EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"])

# The options of XREAD and XREADGROUP that take values, with the arguments each takes up: a group may be named BLOCK.
_WIDTHS = {b"COUNT": 2, b"GROUP": 3}
# The options of SORT that take values, and those of MIGRATE, so that a value is not taken for an option.
_SORT_WIDTHS = {b"LIMIT": 3, b"GET": 2, b"BY": 2}
_MIGRATE_WIDTHS = {b"AUTH": 2, b"AUTH2": 3}


def word(arg: Any) -> bytes:
    """An argument as the server compares it with its options; empty if it is a number."""
    if isinstance(arg, str):
        return arg.upper().encode("utf-8", "replace")
    return bytes(arg).upper() if isinstance(arg, (bytes, bytearray, memoryview)) else b""


def place_of_block(args: Sequence[Any]) -> int:
    """Where an XREAD or XREADGROUP has its BLOCK, read option by option as the server does; 0 if it has none."""
    place = 1
    while place < len(args):
        option = word(args[place])
        if option in (b"BLOCK", b"STREAMS"):
            return place if option == b"BLOCK" else 0
        place += _WIDTHS.get(option, 1)
    return 0


def block_time(name: str, args: Sequence[Any]) -> tuple[int, float] | None:
    """Where a blocking command says how long it blocks, and how many of its units make a second; None if unknown."""
    if name in ("XREAD", "XREADGROUP"):
        return place_of_block(args) + 1, 1000.0
    if name in ("BLMPOP", "BZMPOP"):
        return 1, 1.0
    if name in ("BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX"):
        return len(args) - 1, 1.0
    return None


def _keys_of_sort(args: Sequence[Any]) -> Iterator[int]:
    if len(args) > 1:
        yield 1
    place, destination = 2, 0
    while place < len(args):
        option = word(args[place])
        if option == b"STORE" and place + 1 < len(args):
            destination = place + 1
            place += 1
        place += _SORT_WIDTHS.get(option, 1)
    if destination:
        yield destination


def _keys_of_migrate(args: Sequence[Any]) -> Iterator[int]:
    # One key, or "" in its place and the keys behind KEYS, which may also be the password behind AUTH.
    if len(args) > 3 and args[3] in (b"", ""):
        place = 6
        while place < len(args):
            option = word(args[place])
            if option == b"KEYS":
                yield from range(place + 1, len(args))
                return
            place += _MIGRATE_WIDTHS.get(option, 1)
    if len(args) > 3:
        yield 3


def _keys_of_georadius(args: Sequence[Any]) -> Iterator[int]:
    # Each of its keywords has a specification of its own; the server takes the last of them alone.
    if len(args) > 1:
        yield 1
    places = [place for place in range(5, len(args) - 1) if word(args[place]) in (b"STORE", b"STOREDIST")]
    if places:
        yield places[-1] + 1


#: Where the keys are of commands whose key specifications do not tell it all.
KEYS: dict[str, Callable[[Sequence[Any]], Iterator[int]]] = {
    "SORT": _keys_of_sort,
    "MIGRATE": _keys_of_migrate,
    "GEORADIUS": _keys_of_georadius,
    "GEORADIUSBYMEMBER": _keys_of_georadius,
}
