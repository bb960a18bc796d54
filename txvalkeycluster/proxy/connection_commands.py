"""Commands about the connection of the client, which the proxy answers itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import AuthenticationFailed, ValkeyError
from .replies import OK, PONG, encode, error, error_frame

if TYPE_CHECKING:
    from .server import ProxyServer
    from .session import ClientSession

#: What a handler returns: the reply; a function that starts a coroutine which returns the reply, to be called when no
#: other request of the client is under way; or None if the reply comes by itself.
Answer = bytes | Callable[[], Coroutine[Any, Any, bytes]] | None

_WRONG_PASSWORD = error("WRONGPASS invalid username-password pair or user is disabled.")
_NO_PASSWORD = error(
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
_PRINTABLE = re.compile(rb"[!-~]*").fullmatch


def wrong_arguments(name: str) -> bytes:
    """Return the error for a wrong number of arguments."""
    return error(f"ERR wrong number of arguments for '{name.lower()}' command")


def ping(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """PING."""
    if len(words) > 2:
        return wrong_arguments("ping")
    return encode(words[1], session.protocol) if len(words) == 2 else PONG


def echo(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """ECHO."""
    return encode(words[1], session.protocol) if len(words) == 2 else wrong_arguments("echo")


def quit_(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """QUIT: reply, then close."""
    session.reply(OK)
    session.end("quit")
    return None


def no_http(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """POST and Host:, which only a browser sends, on behalf of a page from elsewhere: close."""
    session.end("a request of HTTP")
    return None


def select(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """SELECT: there is one database."""
    if len(words) != 2:
        return wrong_arguments("select")
    if not words[1].removeprefix(b"-").isdigit():
        return error("ERR value is not an integer or out of range")
    return OK if int(words[1][:20]) == server.settings.database else error("ERR DB index is out of range")


def reset(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """RESET: as a new connection."""
    session.name = b""
    session.reply_mode = "on"
    if not session.speak(2):
        return error("ERR the proxy has too many logins at the moment")
    if not server.lets_everybody_in:
        session.leave_out()
    elif session.user is not None:
        upstream = server.upstreams.of(2)
        assert upstream is not None
        session.let_in(upstream, None, None)
    return b"+RESET\r\n"


def auth(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """AUTH."""
    if len(words) not in (2, 3):
        return wrong_arguments("auth") if len(words) < 2 else error("ERR syntax error")
    user = words[1] if len(words) == 3 else b"default"
    return partial(_log_in, server, session, user, words[-1], session.protocol, OK)


async def _log_in(
    server: ProxyServer, session: ClientSession, user: bytes, password: bytes, protocol: int, reply: bytes
) -> bytes:
    """Check a login, and return ``reply`` or an error."""
    name = user.decode("utf-8", "surrogateescape")
    if server.passes_logins_through:
        return await _pass_through(server, session, name, password, protocol, reply)
    if server.users is None:
        if name == "default" and server.lets_everybody_in and not password:
            return reply
        return _NO_PASSWORD if name == "default" else _WRONG_PASSWORD
    if not await server.users.check(name, password):
        server.counters.logins_refused += 1
        return _WRONG_PASSWORD
    upstream = server.upstreams.of(protocol)
    assert upstream is not None
    if not session.closed:
        session.let_in(upstream, name, None)
    return reply


async def _pass_through(
    server: ProxyServer, session: ClientSession, name: str, password: bytes, protocol: int, reply: bytes
) -> bytes:
    try:
        text = password.decode()
    except UnicodeDecodeError:
        return _WRONG_PASSWORD
    upstream = server.upstreams.of(protocol, name, text)
    if upstream is None:
        return error("ERR the proxy has too many logins at the moment")
    # It must not be closed while it is tried.
    upstream.sessions += 1
    try:
        await upstream.client.refresh_topology()
    except ValkeyError as reason:
        refused = isinstance(reason, AuthenticationFailed) or "WRONGPASS" in str(reason) or "NOAUTH" in str(reason)
        if refused:
            server.counters.logins_refused += 1
        return _WRONG_PASSWORD if refused else error_frame(reason)
    else:
        if not session.closed:
            session.let_in(upstream, name, text)
        return reply
    finally:
        upstream.sessions -= 1
        if not upstream.sessions:
            server.upstreams.drop(upstream)


def hello(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """HELLO, with AUTH and SETNAME."""
    version = session.protocol
    rest = words[1:]
    if rest:
        if rest[0] not in (b"2", b"3"):
            known = rest[0].removeprefix(b"-").isdigit()
            return error(
                "NOPROTO unsupported protocol version"
                if known
                else "ERR Protocol version is not an integer or out of range"
            )
        version = int(rest[0])
        rest = rest[1:]
    login: tuple[bytes, bytes] | None = None
    name: bytes | None = None
    while rest:
        option = rest[0].upper()
        if option == b"AUTH" and len(rest) > 2:
            login = rest[1], rest[2]
            rest = rest[3:]
        elif option == b"SETNAME" and len(rest) > 1:
            name = rest[1]
            rest = rest[2:]
        else:
            return error(f"ERR Syntax error in HELLO option '{rest[0].decode('utf-8', 'replace')}'")
    if name is not None and not _PRINTABLE(name):
        return _BAD_NAME
    if login is None and not session.known:
        return error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH "
            "<user> <pass> option can be used to authenticate the client and select the RESP protocol version at "
            "the same time"
        )
    return partial(_hello, server, session, version, login, name)


async def _hello(
    server: ProxyServer, session: ClientSession, version: int, login: tuple[bytes, bytes] | None, name: bytes | None
) -> bytes:
    if login is not None:
        refused = await _log_in(server, session, *login, version, b"")
        if refused:
            return refused
    if session.closed:
        return b""
    if not session.speak(version):
        return error("ERR the proxy has too many logins at the moment")
    if name is not None:
        session.name = name
    return encode(
        {
            "server": "valkey",
            "version": server.version,
            "proto": version,
            "id": session.number,
            "mode": "standalone",
            "role": "master",
            "modules": [],
        },
        version,
    )


_BAD_NAME = error("ERR Client names cannot contain spaces, newlines or special characters.")


def client(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """CLIENT and its subcommands, for the connections of the proxy."""
    if len(words) < 2:
        return wrong_arguments("client")
    sub = words[1].upper().decode("utf-8", "replace")
    handler = _CLIENT.get(sub)
    if handler is None:
        return error(f"ERR CLIENT {sub} is not available through a proxy")
    return handler(server, session, words[2:])


def _client_id(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    return encode(session.number, session.protocol)


def _client_getname(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    return encode(session.name or None, session.protocol)


def _client_setname(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    if len(words) != 1:
        return wrong_arguments("client|setname")
    if not _PRINTABLE(words[0]):
        return _BAD_NAME
    session.name = words[0]
    return OK


def _client_setinfo(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    if len(words) != 2:
        return wrong_arguments("client|setinfo")
    option = words[0].upper()
    if option not in (b"LIB-NAME", b"LIB-VER"):
        return error(f"ERR Unrecognized option '{words[0].decode('utf-8', 'replace')}'")
    if not _PRINTABLE(words[1]):
        return error(f"ERR {option.decode().lower()} cannot contain spaces, newlines or special characters.")
    if option == b"LIB-NAME":
        session.library = words[1]
    else:
        session.library_version = words[1]
    return OK


def _client_info(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    return encode(server.describe(session) + b"\n", session.protocol)


def _client_list(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    numbers: list[int] | None = None
    if words and words[0].upper() == b"ID" and len(words) > 1:
        if not all(each.isdigit() for each in words[1:]):
            return error("ERR Invalid client ID")
        numbers = [int(each) for each in words[1:]]
    elif len(words) == 2 and words[0].upper() == b"TYPE":
        if words[1].lower() != b"normal":
            return encode(b"", session.protocol)
    elif words:
        return error("ERR syntax error")
    if server.peers is None:
        return encode(server.client_lines(numbers), session.protocol)
    return partial(_all_clients, server, session, numbers)


async def _all_clients(server: ProxyServer, session: ClientSession, numbers: list[int] | None) -> bytes:
    assert server.peers is not None
    others = await server.peers.ask_all("CLIENTS", *(numbers or ()))
    return encode(b"".join([server.client_lines(numbers), *others]), session.protocol)


def _client_kill(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    if len(words) == 1:
        # The old form: it ends also the client itself, and its reply is no number.
        filters = [b"ADDR", words[0], b"SKIPME", b"no"]
    elif words and len(words) % 2 == 0:
        filters = words
    else:
        return error("ERR syntax error")
    try:
        found = kill_filter(filters)
    except ValueError as reason:
        return error(f"ERR {reason}")
    old_form = len(words) == 1
    if server.peers is None:
        return _killed(session, server.kill(found, session), old_form)
    return partial(_kill_everywhere, server, session, filters, found, old_form)


def kill_filter(words: list[bytes]) -> KillFilter:
    """Read the filters of CLIENT KILL.

    Raises:
        ValueError: A filter is not valid.
    """
    found = KillFilter()
    for option, value in zip(words[::2], words[1::2], strict=True):
        name = option.upper()
        if name == b"SKIPME" and value.lower() in (b"yes", b"no"):
            found.skip_me = value.lower() == b"yes"
        elif name == b"TYPE" and value.lower() in (b"normal", b"master", b"primary", b"replica", b"slave", b"pubsub"):
            found.wanted &= value.lower() == b"normal"
        elif name in (b"ID", b"MAXAGE"):
            if not value.isdigit():
                raise ValueError("client-id should be greater than 0" if name == b"ID" else "maxage is not an integer")
            setattr(found, {b"ID": "number", b"MAXAGE": "age"}[name], int(value))
        elif name in (b"ADDR", b"LADDR", b"USER"):
            setattr(found, name.decode().lower(), value.decode("utf-8", "replace"))
        else:
            raise ValueError("syntax error")
    return found


@dataclass(slots=True)
class KillFilter:
    """Which clients CLIENT KILL ends.  None means any."""

    number: int | None = None
    addr: str | None = None
    laddr: str | None = None
    user: str | None = None
    age: int | None = None
    wanted: bool = True
    skip_me: bool = True


async def _kill_everywhere(
    server: ProxyServer, session: ClientSession, filters: list[bytes], found: KillFilter, old_form: bool
) -> bytes:
    assert server.peers is not None
    others = await server.peers.ask_all("KILL", *filters)
    return _killed(session, sum(others) + server.kill(found, session), old_form)


def _killed(session: ClientSession, count: int, old_form: bool) -> bytes:
    if old_form:
        return OK if count else error("ERR No such client")
    return encode(count, session.protocol)


def _client_reply(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    mode = words[0].upper() if len(words) == 1 else b""
    if mode == b"ON":
        session.reply_mode = "on"
        return OK
    if mode not in (b"OFF", b"SKIP"):
        return error("ERR syntax error")
    session.reply_mode = "on"
    session.reply(b"")
    session.reply_mode = "off" if mode == b"OFF" else "skip"
    return None


def _client_unblock(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    if len(words) not in (1, 2) or not words[0].isdigit():
        return error("ERR value is not an integer or out of range") if words else wrong_arguments("client|unblock")
    # No client is blocked: blocking commands are refused.
    return encode(0, session.protocol)


def _client_ok(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    return OK


_CLIENT: dict[str, Callable[[Any, Any, list[bytes]], Answer]] = {
    "ID": _client_id,
    "GETNAME": _client_getname,
    "SETNAME": _client_setname,
    "SETINFO": _client_setinfo,
    "INFO": _client_info,
    "LIST": _client_list,
    "KILL": _client_kill,
    "REPLY": _client_reply,
    "UNBLOCK": _client_unblock,
    # They concern only the memory of the server and of this connection.
    "NO-EVICT": _client_ok,
    "NO-TOUCH": _client_ok,
    "CAPA": _client_ok,
}
