"""Says for each command what the proxy does with it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from ...commands import Command, CommandTable
from ..numbers import integer
from ..replies import error


class Way(Enum):
    """What happens to a command."""

    #: It goes to the owner of its keys, unchanged.  If they are in several slots, it is split or refused.
    KEYS = auto()
    #: It goes to one node, unchanged.
    ANY_NODE = auto()
    #: It goes to every primary or node, and the replies are combined.
    CLUSTER = auto()
    #: The proxy answers it.
    PROXY = auto()
    #: It is refused.
    REFUSED = auto()


_NODES = "acts on one server; send it to that server directly"
#: The error of the commands of a cluster, as of a server without cluster support.
NO_CLUSTER = "This instance has cluster support disabled"

#: Commands that are refused, with the text of the error after ``ERR``.
REFUSED: Mapping[str, str] = {
    **{
        name: f"{name} {_NODES}"
        for name in (
            *("ACL", "BGREWRITEAOF", "BGSAVE", "DEBUG", "FAILOVER", "LATENCY", "MEMORY", "MIGRATE", "MODULE"),
            *("PFDEBUG", "PFSELFTEST", "PSYNC", "REPLCONF", "REPLICAOF", "RESTORE-ASKING", "SAVE"),
            *("SHUTDOWN", "SLAVEOF", "SYNC", "COMMANDLOG", "LASTSAVE"),
        )
    },
    "MONITOR": "MONITOR is not available through a proxy",
    "SWAPDB": "SWAPDB is not allowed: the cluster has one database",
    "MOVE": "MOVE is not allowed: the cluster has one database",
    **dict.fromkeys(["ASKING", "CLUSTERSCAN"], NO_CLUSTER),
}
#: Commands that the proxy answers.
PROXY = frozenset(
    [
        *("PING", "ECHO", "QUIT", "RESET", "HELLO", "AUTH", "SELECT", "CLIENT", "SCAN", "INFO", "SLOWLOG"),
        *("TIME", "CONFIG", "CLUSTER", "READONLY", "READWRITE", "ROLE", "MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH"),
        *("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"),
    ]
)
#: Subcommands that are not refused although the others are.
_HAVE_KEYS = frozenset(["MEMORY USAGE"])
#: Commands of which the reply of any node is right.
ANY_NODE = frozenset(["COMMAND", "LOLWUT"])
# Commands whose arguments are pairs.
_PAIRS = frozenset(["MSET", "MSETNX"])
# An error shows so many bytes of a subcommand.
_SHOWN = 128


class Routes(dict[bytes, Command | None]):
    """The commands whose only key is their first argument, by name as clients write it; None for all others.

    A look-up of a known spelling is one access.
    """

    # A client may send any name.  The limit bounds the memory.
    _MOST = 10_000

    def __init__(self, commands: CommandTable) -> None:
        super().__init__()
        self._commands = commands

    def __missing__(self, name: bytes) -> Command | None:
        command = self._commands[name]
        if not command.known:
            return None
        found = command if command.keyed and way_of(command) is Way.KEYS else None
        if len(self) < self._MOST:
            self[name] = found
        return found


def way_of(command: Command) -> Way:
    """Return what the proxy does with a command."""
    name = command.name.partition(" ")[0]
    if command.name in _HAVE_KEYS:
        return Way.KEYS
    if name in REFUSED:
        return Way.REFUSED
    if name in PROXY:
        return Way.PROXY
    if name in ANY_NODE:
        return Way.ANY_NODE
    if command.key_specs or any(sub.key_specs for sub in command.subcommands.values()):
        return Way.KEYS
    return Way.CLUSTER


def refusal(command: Command) -> bytes:
    """Return the error for a command that is refused."""
    return error(f"ERR {REFUSED[command.name.partition(' ')[0]]}")


def misuse(command: Command, words: list[bytes]) -> bytes:
    """Return the error for an unknown subcommand or a wrong number of arguments, as of a server; empty if it is right.

    Args:
        command: The command, resolved to its subcommand.
        words: Its name and its arguments.
    """
    count = len(words)
    if command.subcommands and count > 1:
        sub = words[1].partition(b"\0")[0][:_SHOWN].decode("utf-8", "surrogateescape")
        return error(f"ERR unknown subcommand '{sub}'. Try {command.name} HELP.")
    fits = count == command.arity if command.arity > 0 else count >= -command.arity
    if fits and command.name in _PAIRS:
        fits = count % 2 == 1
    if fits and command.name == "MSETEX":
        pairs = integer(words[1])
        if pairs is not None and 2 + 2 * pairs > count:
            return error("ERR syntax error")
    if not fits and command.name == "EXEC":
        return error("EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command")
    return b"" if fits else wrong_arguments(command.name)


def unknown_command(words: list[bytes]) -> bytes:
    """Return the error for a command that no server knows."""
    rest = ""
    for word in words[1:]:
        if len(rest) >= _SHOWN:
            break
        rest += f"'{word[: _SHOWN - len(rest)].decode('utf-8', 'surrogateescape')}' "
    name = words[0][:_SHOWN].decode("utf-8", "surrogateescape")
    return error(f"ERR unknown command '{name}', with args beginning with: {rest}")


def wrong_arguments(name: str) -> bytes:
    """Return the error for a wrong number of arguments.

    Args:
        name: The name of the command, such as ``CLIENT KILL``.
    """
    return error(f"ERR wrong number of arguments for '{name.lower().replace(' ', '|')}' command")
