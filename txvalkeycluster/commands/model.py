"""A command with its flags and key specifications.

Sources: https://valkey.io/topics/key-specs/ and https://valkey.io/commands/command/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import RoutingError
from .encoder import Arg
from .overrides import KEYS, POLICIES, REFUSED, REPEATABLE, place_of_block, word

_CONTAINERS_OF_REFUSED = frozenset(name.split()[0] for name in REFUSED)


@dataclass(frozen=True, slots=True)
class KeySpec:
    """The positions of some keys of a command.  Position 0 is the name of the command.

    Without ``keynum``, the keys are a range from the begin to ``last``.  With ``keynum``, an argument holds the number
    of keys.
    """

    #: The position where the keys begin.  With a keyword: the position from which to search for it; if it is negative,
    #: the search starts that far from the end and goes backwards.
    begin: int
    #: The keyword before the keys, in upper case; None if the keys have a fixed begin.
    keyword: bytes | None = None
    #: With ``keynum``: the position of the first key, relative to the begin.
    first: int = 0
    #: Without ``keynum``: the position of the last key, relative to the begin; if negative, relative to the end.
    last: int = 0
    #: The distance between two keys.
    step: int = 1
    #: With a negative ``last``: the keys are the first 1/limit of the arguments.  0 and 1 mean all.
    limit: int = 0
    #: The position of the number of keys, relative to the begin.
    keynum: int | None = None
    #: False for an argument that determines the slot but is not a key, such as a shard channel.
    is_key: bool = True

    def positions(self, args: Sequence[Arg]) -> range:
        """Return the positions of the keys in ``args``.

        Args:
            args: The name of the command and its arguments.

        Returns:
            The positions; empty if the arguments have no keys there.
        """
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
                # No server sends this.  A range from there could be endless.
                return range(0)
            return range(first, min(first + max(number, 0) * self.step, count), self.step)
        if self.last >= 0:
            last = begin + self.last
        elif self.limit > 1:
            last = begin + (count - begin) // self.limit + self.last
        else:
            last = count + self.last
        return range(begin, min(last + 1, count), self.step)

    def _after_keyword(self, args: Sequence[Arg]) -> int:
        backwards = self.begin < 0
        places = range(len(args) + self.begin, 0, -1) if backwards else range(self.begin, len(args))
        for place in places:
            if word(args[place]) == self.keyword:
                return place + 1
        return 0


@dataclass(frozen=True, slots=True)
class Command:
    """A command or subcommand, with the facts that the client needs to route and to repeat it."""

    #: The name in upper case, such as ``GET`` or ``CLIENT KILL``.
    name: str
    #: The flags of the command, in lower case, such as ``readonly``.
    flags: frozenset[str] = frozenset()
    #: Where its keys are.
    key_specs: tuple[KeySpec, ...] = ()
    #: Which nodes it is sent to: https://valkey.io/topics/command-tips/
    request_policy: str | None = None
    #: How the replies of several nodes become one.
    response_policy: str | None = None
    #: The subcommands by name, such as ``KILL``.
    subcommands: dict[str, Command] = field(default_factory=dict, repr=False)
    #: The number of words, the name included.  A negative number is a minimum.  0 means unknown.
    arity: int = 0
    #: False for a command that is not in the table.  The client asks a server about it.
    known: bool = True
    #: Whether argument 1 is the only key, and routing does not depend on any other argument.
    keyed: bool = field(init=False, default=False)
    #: The name as it is sent, without the final line break: ``\r\n$3\r\nGET``.
    wire_name: bytes = field(init=False, repr=False, default=b"")
    #: Whether it does no harm to execute it twice.  Then it is sent again if its reply was lost.
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

    def resolve(self, args: Sequence[Arg]) -> Command:
        """Return the subcommand that ``args`` names, or the command itself.

        Args:
            args: The name of the command and its arguments.
        """
        if self.subcommands and len(args) > 1:
            return self.subcommands.get(word(args[1]).decode("utf-8", "replace"), self)
        return self

    def places(self, args: Sequence[Arg]) -> Sequence[int]:
        """Return the positions in ``args`` that determine the slot: keys, or a shard channel.

        Args:
            args: The name of the command and its arguments.
        """
        by_hand = KEYS.get(self.name)
        if by_hand is not None:
            return list(by_hand(args))
        if len(self.key_specs) == 1:
            return self.key_specs[0].positions(args)
        return [place for spec in self.key_specs for place in spec.positions(args)]

    def keys(self, args: Sequence[Arg]) -> Iterator[Arg]:
        """Iterate over the keys in ``args``, in the order of the server's COMMAND GETKEYS.

        Args:
            args: The name of the command and its arguments.
        """
        if all(spec.is_key for spec in self.key_specs):
            for place in self.places(args):
                yield args[place]

    def blocks(self, args: Sequence[Arg]) -> bool:
        """Tell whether the server may delay the reply to this call.

        Args:
            args: The name of the command and its arguments.
        """
        if "blocking" not in self.flags:
            return False
        return self.name not in ("XREAD", "XREADGROUP") or place_of_block(args) > 0

    def check_allowed(self, args: Sequence[Arg]) -> None:
        """Check that a client may send this call.

        Args:
            args: The name of the command and its arguments.

        Raises:
            RoutingError: The command is in `overrides.REFUSED`.  The text has the reason.
        """
        sub = word(args[1]).decode("utf-8", "replace") if len(args) > 1 else ""
        reason = REFUSED.get(self.name) or REFUSED.get(f"{self.name} {sub}")
        if reason is not None:
            raise RoutingError(f"{self.name} is not sent: {reason}")

    def _needs_a_look(self) -> bool:
        return "blocking" in self.flags or self.name in _CONTAINERS_OF_REFUSED or self.name in KEYS
