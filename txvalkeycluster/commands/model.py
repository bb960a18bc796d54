"""One command: its flags and key specifications.  Source: the server's documents "Key specifications" and "COMMAND"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import RoutingError
from .overrides import KEYS, POLICIES, REFUSED, REPEATABLE, place_of_block, word

_CONTAINERS_OF_REFUSED = frozenset(name.split()[0] for name in REFUSED)


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
    #: False for what routes a command without being a key, such as a shard channel.
    is_key: bool = True

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
            if first < 1:
                # No server says so; counting from there could take for ever.
                return range(0)
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
            if word(args[place]) == self.keyword:
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
    #: Number of arguments, the name included; negative is at least that many; 0 is unknown.
    arity: int = 0
    #: False for a name that no table holds, of which the server has to be asked.
    known: bool = True
    #: Whether its one key is argument 1 of every call, and nothing else has to be looked at to route it.
    keyed: bool = field(init=False, default=False)
    #: Its name as the wire has it, without what ends it: ``\r\n$3\r\nGET``.
    wire_name: bytes = field(init=False, repr=False, default=b"")
    #: Whether running it twice does no harm, so that it is sent again when its reply was lost.
    repeatable: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        if self.name in POLICIES:
            request, response = POLICIES[self.name]
            object.__setattr__(self, "request_policy", request)
            object.__setattr__(self, "response_policy", response)
        object.__setattr__(self, "repeatable", "readonly" in self.flags or self.name in REPEATABLE)
        name = self.name.encode("utf-8", "replace")
        object.__setattr__(self, "wire_name", b"\r\n$%d\r\n%b" % (len(name), name))
        if len(self.key_specs) == 1 and not self.subcommands and not self._needs_a_look():
            (spec,) = self.key_specs
            one = spec.keyword is None and spec.keynum is None and spec.last == 0 and spec.begin == 1
            object.__setattr__(self, "keyed", one)

    def resolve(self, args: Sequence[Any]) -> Command:
        """The subcommand that ``args`` names, or the command itself."""
        if self.subcommands and len(args) > 1:
            return self.subcommands.get(word(args[1]).decode("utf-8", "replace"), self)
        return self

    def places(self, args: Sequence[Any]) -> Sequence[int]:
        """The indexes in ``args`` of what the slot follows from: its keys, or a shard channel."""
        by_hand = KEYS.get(self.name)
        if by_hand is not None:
            return list(by_hand(args))
        if len(self.key_specs) == 1:
            return self.key_specs[0].positions(args)
        return [place for spec in self.key_specs for place in spec.positions(args)]

    def keys(self, args: Sequence[Any]) -> Iterator[Any]:
        """The keys among ``args``, in the order in which the server's COMMAND GETKEYS gives them."""
        if all(spec.is_key for spec in self.key_specs):
            for place in self.places(args):
                yield args[place]

    def blocks(self, args: Sequence[Any]) -> bool:
        """Whether the server may hold back the reply of this call."""
        if "blocking" not in self.flags:
            return False
        return self.name not in ("XREAD", "XREADGROUP") or place_of_block(args) > 0

    def check_allowed(self, args: Sequence[Any]) -> None:
        """Raise RoutingError if no connection of a client must carry this call."""
        sub = word(args[1]).decode("utf-8", "replace") if len(args) > 1 else ""
        reason = REFUSED.get(self.name) or REFUSED.get(f"{self.name} {sub}")
        if reason is not None:
            raise RoutingError(f"{self.name} is not sent: {reason}")

    def _needs_a_look(self) -> bool:
        return "blocking" in self.flags or self.name in _CONTAINERS_OF_REFUSED or self.name in KEYS
