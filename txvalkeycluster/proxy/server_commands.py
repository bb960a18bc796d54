"""Commands about the server, and commands for the whole cluster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .connection_commands import Answer, wrong_arguments
from .info import cluster_info
from .replies import OK, Status, encode, error
from .scans import UnknownCursor

if TYPE_CHECKING:
    from .server import ProxyServer
    from .session import ClientSession

_NOT_INTEGER = error("ERR value is not an integer or out of range")
_SYNTAX = error("ERR syntax error")
_UNKNOWN_CURSOR = error("ERR this cursor is not known: the scan has expired, or its options have changed; start with 0")


def time(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """TIME: that of the proxy."""
    if len(words) != 1:
        return wrong_arguments("time")
    seconds, rest = divmod(server.wall_clock(), 1)
    return encode([b"%d" % seconds, b"%d" % (rest * 1e6)], session.protocol)


def info(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """INFO: totals of the cluster, and a section about the proxy."""
    return partial(_info, server, session, [word.decode("utf-8", "replace").lower() for word in words[1:]])


async def _info(server: ProxyServer, session: ClientSession, sections: list[str]) -> bytes:
    text = await cluster_info(server, session, sections)
    return encode(text, session.protocol)


def config(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """CONFIG GET: that of one node.  The rest of CONFIG is for one server."""
    if len(words) < 2:
        return wrong_arguments("config")
    if words[1].upper() != b"GET":
        return error("ERR CONFIG is for one server; a proxy answers only CONFIG GET")
    if len(words) < 3:
        return wrong_arguments("config|get")
    return partial(run, session, words)


def slowlog(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """SLOWLOG of the proxy: GET, LEN and RESET."""
    sub = words[1].upper() if len(words) > 1 else b""
    if sub == b"LEN" and len(words) == 2:
        return encode(len(server.slowlog), session.protocol)
    if sub == b"RESET" and len(words) == 2:
        server.slowlog.clear()
        return OK
    if sub == b"GET" and len(words) in (2, 3):
        wanted = words[2] if len(words) == 3 else b"10"
        if not wanted.removeprefix(b"-").isdigit() or int(wanted[:20]) < -1:
            return error("ERR count should be greater than or equal to -1")
        count = int(wanted[:20])
        newest = list(server.slowlog)[::-1]
        return encode([entry.reply() for entry in (newest if count < 0 else newest[:count])], session.protocol)
    return error(f"ERR unknown subcommand or wrong number of arguments for '{sub.decode('utf-8', 'replace')}'")


def scan(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """SCAN, over the whole cluster."""
    if len(words) < 2:
        return wrong_arguments("scan")
    if not words[1].isdigit() or int(words[1][:21]) >= 1 << 64:
        return error("ERR invalid cursor")
    options: dict[bytes, bytes] = {}
    rest = words[2:]
    if len(rest) % 2:
        return _SYNTAX
    for name, value in zip(rest[::2], rest[1::2], strict=True):
        if name.upper() not in (b"MATCH", b"COUNT", b"TYPE"):
            return _SYNTAX
        options[name.upper()] = value
    count = options.pop(b"COUNT", b"10")
    if not count.removeprefix(b"-").isdigit():
        return _NOT_INTEGER
    if int(count[:20]) < 1:
        return _SYNTAX
    return partial(_scan, server, session, int(words[1]), options, min(int(count[:20]), 1 << 20))


async def _scan(
    server: ProxyServer, session: ClientSession, cursor: int, options: dict[bytes, bytes], count: int
) -> bytes:
    owner = session.user if server.passes_logins_through else None
    words = tuple(word for pair in sorted(options.items()) for word in pair)
    if not cursor:
        assert session.upstream is not None
        kind = options.get(b"TYPE")
        keys = session.upstream.client.scan_iter(
            options.get(b"MATCH"), count=max(count, 100), type=kind.decode("utf-8", "replace") if kind else None
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


async def run(session: ClientSession, words: Sequence[bytes]) -> bytes:
    """Send a command for several nodes or slots; return the reply."""
    assert session.upstream is not None
    value: Any = await session.upstream.client.execute(*words)
    # A simple string and a bulk string are the same value.  What is sent in this way says OK only as a simple string.
    return encode(Status("OK") if value == b"OK" else value, session.protocol)
