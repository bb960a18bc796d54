"""One command: its flags and key specifications.  Source: the server's documents "Key specifications" and "COMMAND"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import RoutingError

_STATEFUL = "it changes the state of a connection that other commands share"
_BLOCKING = "it blocks, and would hold up every other command on the shared connection"
_PUBSUB = "subscriptions do not go over the shared connection: its reply is a push"

# Commands that a multiplexed connection must never carry, whatever node they are for, each with the reason.
_REFUSED = {
    **dict.fromkeys(["AUTH", "HELLO", "SELECT", "RESET", "QUIT", "READONLY", "READWRITE", "ASKING"], _STATEFUL),
    **dict.fromkeys(["MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "CLIENT REPLY", "DEBUG PROTOCOL"], _STATEFUL),
    **dict.fromkeys(["CLIENT TRACKING", "CLIENT CACHING", "SCRIPT DEBUG"], _STATEFUL),
    **dict.fromkeys(["MONITOR", "SYNC", "PSYNC", "REPLCONF"], "its replies never end"),
    **dict.fromkeys(["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"], _PUBSUB),
    **dict.fromkeys(["UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"], _PUBSUB),
}
# The options of XREAD and XREADGROUP that take values, with the arguments each takes up: a group may be named BLOCK.
_WIDTHS = {b"COUNT": 2, b"GROUP": 3}
# Neither reads nor writes by their flags, yet harmless to run twice.
_REPEATABLE = frozenset(["PING", "ECHO", "TIME", "LASTSAVE", "DBSIZE", "ROLE", "INFO"])
# The tips of these say every shard, though any one node gives the answer that a caller wants.
_ANY_NODE = frozenset(["PING", "RANDOMKEY"])


@dataclass(frozen=True, slots=True)
class KeySpec:
    """Where some keys of a command stand.  Argument 0 is the command's name.

    ``begin`` is an index (``keyword`` is None), or where to look for ``keyword`` from, backwards if negative.
    ``keynum`` is None for a range that ends at ``last`` (relative to its begin, or to the end if negative) shortened
    to one in ``limit``; otherwise the place of the number of keys, relative to the begin, as ``first`` is.
    """

    begin: int
    keyword: bytes | None = None
    first: int = 0
    last: int = 0
    step: int = 1
    limit: int = 0
    keynum: int | None = None

    def positions(self, args: Sequence[Any]) -> range:
        """The indexes of the keys in ``args``; empty if they are not there."""
        count = len(args)
        begin = self.begin if self.keyword is None else self._after_keyword(args)
        if not 0 < begin < count:
            return range(0)
        if self.keynum is not None:
            try:
                number = int(args[begin + self.keynum])
            except (IndexError, ValueError, TypeError, OverflowError):
                return range(0)
            first = begin + self.first
            return range(first, min(first + max(number, 0) * self.step, count), self.step)
        if self.last >= 0:
            last = begin + self.last
        elif self.limit > 1:
            last = begin + (count - begin) // self.limit + self.last
        else:
            last = count + self.last
        return range(begin, min(last + 1, count), self.step)

    def _after_keyword(self, args: Sequence[Any]) -> int:
        backwards = self.begin < 0
        places = range(len(args) + self.begin, 0, -1) if backwards else range(self.begin, len(args))
        for place in places:
            if _upper(args[place]) == self.keyword:
                return place + 1
        return 0


@dataclass(frozen=True, slots=True)
class Command:
    """A command or subcommand, with what routing and repeating it need to know."""

    name: str
    flags: frozenset[str] = frozenset()
    key_specs: tuple[KeySpec, ...] = ()
    request_policy: str | None = None
    response_policy: str | None = None
    subcommands: dict[str, Command] = field(default_factory=dict, repr=False)
    # The argument that is the first key, or 0 if `resolve` and `first_key` have to look.
    key_index: int = field(init=False, default=0)
    # Whether running it twice does no harm, so that it is sent again when its reply was lost.
    repeatable: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        spec = self.key_specs[0] if self.key_specs else None
        plain = spec is not None and spec.keyword is None and spec.keynum is None and spec.begin > 0
        if plain and spec is not None and not self.subcommands and not self._needs_a_look():
            object.__setattr__(self, "key_index", spec.begin)
        object.__setattr__(self, "repeatable", "readonly" in self.flags or self.name in _REPEATABLE)

    @property
    def needs_every_node(self) -> bool:
        """Whether its answer takes more than one node (``request_policy`` all_nodes or all_shards)."""
        return self.request_policy in ("all_nodes", "all_shards", "special") and self.name not in _ANY_NODE

    def resolve(self, args: Sequence[Any]) -> Command:
        """The subcommand that ``args`` names, or the command itself."""
        if self.subcommands and len(args) > 1:
            return self.subcommands.get(_upper(args[1]).decode("utf-8", "replace"), self)
        return self

    def keys(self, args: Sequence[Any]) -> Iterator[Any]:
        """The keys among ``args``, as far as the key specifications tell."""
        specs = self.key_specs
        if self.name == "MIGRATE" and len(specs) == 2:
            # One key, or "" in its place and the keys behind KEYS, which may also be the password behind AUTH.
            several = any(arg in (b"", "") for arg in args[3:4]) and specs[1].positions(args)
            specs = specs[1:] if several else specs[:1]
        for spec in specs:
            for position in spec.positions(args):
                yield args[position]

    def check_shareable(self, args: Sequence[Any]) -> None:
        """Raise RoutingError if the connections that all commands share must not carry this call."""
        reason = self._refusal(args)
        if reason is not None:
            raise RoutingError(f"{self.name} is not sent: {reason}")

    def _refusal(self, args: Sequence[Any]) -> str | None:
        sub = _upper(args[1]).decode("utf-8", "replace") if len(args) > 1 else ""
        reason = _REFUSED.get(self.name) or _REFUSED.get(f"{self.name} {sub}")
        if reason is None and "blocking" in self.flags:
            reason = _BLOCKING if self.name not in ("XREAD", "XREADGROUP") or _blocks(args) else None
        return reason

    def _needs_a_look(self) -> bool:
        refusable = "blocking" in self.flags or any(name.split()[0] == self.name for name in _REFUSED)
        return refusable or self.name == "MIGRATE"


def _blocks(args: Sequence[Any]) -> bool:
    """Whether an XREAD or XREADGROUP has a BLOCK, read option by option as the server does."""
    place = 1
    while place < len(args):
        word = _upper(args[place])
        if word in (b"BLOCK", b"STREAMS"):
            return word == b"BLOCK"
        place += _WIDTHS.get(word, 1)
    return False


def _upper(arg: Any) -> bytes:
    if isinstance(arg, str):
        return arg.upper().encode()
    return bytes(arg).upper() if isinstance(arg, (bytes, bytearray, memoryview)) else b""
