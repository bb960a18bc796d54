"""Facts about commands that neither Valkey's JSON files nor a server's COMMAND reply tell correctly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .encoder import Arg

_STATEFUL = "it changes the state of a connection that other commands share"
_TRANSACTION = f"{_STATEFUL}; use transaction() or watch() of the client"
_REPLICATION = "replicas send it to primaries"

#: Commands that a client must not send, each with the reason.
REFUSED = {
    **dict.fromkeys(["AUTH", "HELLO", "SELECT", "RESET", "QUIT", "READONLY", "READWRITE", "ASKING"], _STATEFUL),
    **dict.fromkeys(["MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH"], _TRANSACTION),
    **dict.fromkeys(["CLIENT REPLY", "DEBUG PROTOCOL", "CLIENT TRACKING", "CLIENT CACHING"], _STATEFUL),
    **dict.fromkeys(["CLIENT CAPA", "SCRIPT DEBUG"], _STATEFUL),
    **dict.fromkeys(["CLIENT NO-EVICT", "CLIENT NO-TOUCH", "CLIENT IMPORT-SOURCE"], _STATEFUL),
    **dict.fromkeys(["MONITOR", "SYNC", "PSYNC", "REPLCONF"], "its replies never end"),
    **{name: f"use {name.lower()}() of the client" for name in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE")},
    **{
        f"{kind}UNSUBSCRIBE": "use remove() or close() of the subscription that the client's "
        f"{kind.lower()}subscribe() has returned"
        for kind in ("", "P", "S")
    },
    "CLUSTER SYNCSLOTS": _REPLICATION,
}

#: Request policy and response policy of commands whose tips are wrong or missing.
#: Source of the policies: https://valkey.io/topics/command-tips/
POLICIES: dict[str, tuple[str | None, str | None]] = {
    # The tip is every shard, but a reply of any node is enough.
    "PING": (None, None),
    # The tip is every shard, without a response policy.  An empty shard answers null.
    "RANDOMKEY": ("all_shards", "any_not_null"),
    # The tip is every node, but these set one connection.  The option client_name and the handshake set all of them.
    "CLIENT SETNAME": (None, None),
    "CLIENT SETINFO": (None, None),
    # These have no tips, but a server knows only its own subscribers.
    "PUBSUB CHANNELS": ("all_nodes", "union"),
    "PUBSUB SHARDCHANNELS": ("all_nodes", "union"),
    "PUBSUB NUMPAT": ("all_nodes", "agg_sum"),
    "PUBSUB NUMSUB": ("all_nodes", "sum_by_name"),
    "PUBSUB SHARDNUMSUB": ("all_nodes", "sum_by_name"),
}

#: Commands that any node can execute, and the argument whose slot selects the node.  This keeps the order of the
#: messages that one client publishes to one channel.
SPREAD = {"PUBLISH": 1}

#: Commands without the flag ``readonly`` that may still be repeated.
REPEATABLE = frozenset(["PING", "ECHO", "TIME", "LASTSAVE", "DBSIZE", "ROLE", "INFO"])

#: Commands that run a script or a function, which can write first and then fail with an error of its own.
SCRIPTS = frozenset(["EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"])

# Options that take values, with their number of words: a value can look like an option, such as a group named BLOCK.
# Options of XREAD and XREADGROUP.
_WIDTHS = {b"COUNT": 2, b"GROUP": 3}
# Options of SORT and of MIGRATE.
_SORT_WIDTHS = {b"LIMIT": 3, b"GET": 2, b"BY": 2}
_MIGRATE_WIDTHS = {b"AUTH": 2, b"AUTH2": 3}


def word(arg: object) -> bytes:
    """Return an argument as the server compares it with its options: upper-case bytes, empty for a number."""
    if isinstance(arg, str):
        return arg.upper().encode("utf-8", "replace")
    return bytes(arg).upper() if isinstance(arg, (bytes, bytearray, memoryview)) else b""


def place_of_block(args: Sequence[Arg]) -> int:
    """Return the index of BLOCK in an XREAD or XREADGROUP; 0 if there is none.

    It reads the options one by one, as the server does.
    """
    place = 1
    while place < len(args):
        option = word(args[place])
        if option in (b"BLOCK", b"STREAMS"):
            return place if option == b"BLOCK" else 0
        place += _WIDTHS.get(option, 1)
    return 0


def block_time(name: str, args: Sequence[Arg]) -> tuple[int, float] | None:
    """Find the timeout among the arguments of a blocking command.

    Args:
        name: The name of the command.
        args: The name and the arguments.

    Returns:
        The index of the timeout, and how many of its units are one second.  None if the command is not known.
    """
    if name in ("XREAD", "XREADGROUP"):
        return place_of_block(args) + 1, 1000.0
    if name in ("BLMPOP", "BZMPOP"):
        return 1, 1.0
    if name in ("BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX"):
        return len(args) - 1, 1.0
    return None


def _keys_of_sort(args: Sequence[Arg]) -> Iterator[int]:
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


def _keys_of_migrate(args: Sequence[Arg]) -> Iterator[int]:
    # One key; or "" instead, and the keys after KEYS.  The password after AUTH may also be "KEYS".
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


def _keys_of_georadius(args: Sequence[Arg]) -> Iterator[int]:
    # STORE and STOREDIST have one specification each, but the server uses only the last of them.
    if len(args) > 1:
        yield 1
    places = [place for place in range(5, len(args) - 1) if word(args[place]) in (b"STORE", b"STOREDIST")]
    if places:
        yield places[-1] + 1


#: Functions that find the keys of commands whose key specifications are incomplete.
KEYS: dict[str, Callable[[Sequence[Arg]], Iterator[int]]] = {
    "SORT": _keys_of_sort,
    "MIGRATE": _keys_of_migrate,
    "GEORADIUS": _keys_of_georadius,
    "GEORADIUSBYMEMBER": _keys_of_georadius,
}
