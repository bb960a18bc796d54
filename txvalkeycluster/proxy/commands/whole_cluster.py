"""Commands about the server, and commands for the whole cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, succeed

from ...commands import Command, CommandTable
from ...errors import ReplyError
from ...slots import key_slot
from ..numbers import integer
from ..replies import NOT_INTEGER, OK, SYNTAX, Status, Verbatim, encode, error
from . import transactions
from .connection import Answer
from .dispatch import NO_CLUSTER, unknown_command
from .info import cluster_info
from .scans import UnknownCursor

if TYPE_CHECKING:
    from ..server import ProxyServer
    from ..session import ClientSession

_UNKNOWN_CURSOR = error("ERR this cursor is not known: the scan has expired, or its options have changed; start with 0")
_BAD_CURSOR = error("ERR invalid cursor")
_NO_CLUSTER = error(f"ERR {NO_CLUSTER}")
# A cursor, as the server reads it (strtoull).
_CURSOR = re.compile(rb"[ \t\n\v\f\r]*\+?(\d{1,20})").fullmatch
# The most keys that a step of a scan returns.
_MOST_KEYS = 1 << 14
# Settings of the cluster's servers that are secrets, which a client of the proxy need not know.
_SECRET = frozenset(
    [
        *(b"requirepass", b"masterauth", b"primaryauth", b"masteruser", b"primaryuser"),
        *(b"tls-key-file-pass", b"tls-client-key-file-pass"),
    ]
)


def time(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """TIME: that of the proxy."""
    seconds, rest = divmod(server.wall_clock(), 1)
    return encode([b"%d" % seconds, b"%d" % (rest * 1e6)], session.protocol)


def role(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """ROLE: a primary without replicas."""
    return encode([b"master", 0, []], session.protocol)


def cluster(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """CLUSTER: as on a server without cluster support."""
    return encode(key_slot(words[2]), session.protocol) if words[1].upper() == b"KEYSLOT" else _NO_CLUSTER


def info(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """INFO: totals of the cluster, and a section about the proxy."""
    return partial(_info, server, session, [word.decode("utf-8", "replace").lower() for word in words[1:]])


async def _info(server: ProxyServer, session: ClientSession, sections: list[str]) -> bytes:
    text = await cluster_info(server, session, sections)
    return encode(Verbatim(text.encode("utf-8", "surrogateescape")), session.protocol)


def config(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """CONFIG GET: that of one node.  The rest of CONFIG is for one server."""
    if words[1].upper() != b"GET":
        return error("ERR CONFIG is for one server; a proxy answers only CONFIG GET")
    return partial(_config_get, session, words)


async def _config_get(session: ClientSession, words: list[bytes]) -> bytes:
    assert session.upstream is not None
    reply: Any = await session.upstream.client.execute(*words)
    settings = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    for name in settings:
        if name in _SECRET:
            settings[name] = b""
        elif name == b"cluster-enabled":
            settings[name] = b"no"
    return encode(settings, session.protocol)


def slowlog(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """SLOWLOG of the proxy: GET, LEN and RESET."""
    sub = words[1].upper()
    if sub == b"LEN":
        return encode(len(server.slowlog), session.protocol)
    if sub == b"RESET":
        server.slowlog.clear()
        return OK
    if len(words) > 3:
        return error("ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.")
    count = integer(words[2]) if len(words) == 3 else 10
    if count is None or count < -1:
        return error("ERR count should be greater than or equal to -1")
    newest = islice(server.slowlog, count if count >= 0 else None)
    return encode([entry.reply() for entry in newest], session.protocol)


def scan(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """SCAN, over the whole cluster."""
    match = _CURSOR(words[1])
    cursor = int(match[1]) if match is not None else -1
    if not 0 <= cursor < 1 << 64:
        return _BAD_CURSOR
    options: dict[bytes, bytes] = {}
    count = 10
    rest = iter(words[2:])
    for word in rest:
        name, value = word.upper(), next(rest, None)
        if name == b"NOVALUES":
            return error("ERR NOVALUES option can only be used in HSCAN")
        if value is None or name not in (b"MATCH", b"COUNT", b"TYPE"):
            return SYNTAX
        if name == b"COUNT":
            number = integer(value)
            if number is None:
                return NOT_INTEGER
            if number < 1:
                return SYNTAX
            count = number
        else:
            options[name] = value
    return partial(_scan, server, session, cursor, options, min(count, _MOST_KEYS))


async def _scan(
    server: ProxyServer, session: ClientSession, cursor: int, options: dict[bytes, bytes], count: int
) -> bytes:
    owner = session.user
    words = tuple(word for pair in sorted(options.items()) for word in pair)
    if not cursor:
        assert session.upstream is not None
        kind = options.get(b"TYPE")
        keys = session.upstream.client.scan_iter(
            options.get(b"MATCH"),
            count=max(count, 100),
            type=kind.decode("utf-8", "replace") if kind is not None else None,
        )
        cursor = server.scans.begin(owner, words, keys)
    elif server.peers is not None:
        worker = server.scans.owner_among(server.peers.others, cursor)
        if worker is not None:
            reply = await server.peers.ask(worker, "SCAN", owner or "", cursor, count, *words)
            return _UNKNOWN_CURSOR if reply is None else encode(reply, session.protocol)
    try:
        following, found = await server.scans.step(owner, cursor, words, count)
    except UnknownCursor:
        return _UNKNOWN_CURSOR
    return encode([str(following), found], session.protocol)


# These reply with a name, which can also be OK.
_NAMES = frozenset(["RANDOMKEY", "FUNCTION LOAD"])


async def run(session: ClientSession, command: Command, words: Sequence[bytes]) -> bytes:
    """Send a command for several nodes or slots; return the reply."""
    assert session.upstream is not None
    replied = session.upstream.client.execute(*words)
    if command.name in ("WAIT", "WAITAOF"):
        with session.blocking(_WaitForReplicas(replied)):
            try:
                return encode(await replied, session.protocol)
            except CancelledError:
                return b""
    value: Any = await replied
    if command.name == "FUNCTION STATS":
        value = _function_stats(value)
    elif command.name in ("PUBSUB NUMSUB", "PUBSUB SHARDNUMSUB"):
        numbers = dict(_pairs(value))
        value = [item for channel in words[2:] for item in (channel, numbers.get(channel, 0))]
    # A simple string and a bulk string are the same value.  All others say OK only as a simple string.
    return encode(Status("OK") if value == b"OK" and command.name not in _NAMES else value, session.protocol)


class _WaitForReplicas:
    """WAIT or WAITAOF, which can be without end.  It ends when its client leaves."""

    def __init__(self, replied: Deferred[Any]) -> None:
        self.ended = False
        self._replied = replied

    def unblock(self, *, error: bool) -> Deferred[int]:
        """Do nothing: nobody knows what CLIENT UNBLOCK would have to reply."""
        return succeed(0)

    def end(self) -> None:
        """End it."""
        self.ended = True
        self._replied.cancel()


def _function_stats(by_node: dict[str, Any]) -> Any:
    """Return the reply of the node that runs a function; else that of any."""
    found = [dict(_pairs(reply)) for reply in by_node.values()]
    one = next((each for each in found if each.get(b"running_script") is not None), found[0])
    return {**one, b"engines": {name: dict(_pairs(of)) for name, of in _pairs(one[b"engines"])}}


def _pairs(reply: Any) -> Iterator[tuple[Any, Any]]:
    return iter(reply.items()) if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)


async def run_unknown(server: ProxyServer, session: ClientSession, frame: bytes, words: list[bytes]) -> bytes:
    """Send or queue a command that is not in the table; ask the cluster about it first.  Return the reply."""
    # The session has none any more when its client leaves meanwhile.
    upstream = session.upstream
    assert upstream is not None
    client, transaction = upstream.client, session.transaction
    name = words[0].decode("utf-8", "replace").upper()
    command = Command(name)
    known = False
    try:
        described = CommandTable.from_reply(await client.execute("COMMAND", "INFO", words[0]))[name]
    except ReplyError:
        # The user may not use COMMAND.  The command goes to any node, and follows a redirect.
        pass
    else:
        known = described.known
        if known:
            client.commands.learn([described])
            command = described.resolve(words)
    if session.transaction is not transaction:
        # The client has left, so there will be no EXEC.
        return b""
    if transaction is not None:
        if known:
            return transactions.queue(server, session, frame, command, words)
        transaction.refuse()
        return unknown_command(words)
    places = command.places(words)
    return await upstream.ask(session, words, key_slot(words[places[0]] if places else words[0]))
