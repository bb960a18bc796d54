"""Commands about the connection of the client, which the proxy answers itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from ...errors import AuthenticationFailed, ValkeyError
from ..numbers import integer
from ..replies import NOT_INTEGER, OK, PONG, SYNTAX, Verbatim, encode, error, error_frame
from .client_list import ClientFilter, FilterError, describe
from .dispatch import wrong_arguments
from .info import learn_version

if TYPE_CHECKING:
    from ..server import ProxyServer
    from ..session import ClientSession

#: What a handler returns: the reply; a function that starts a coroutine which returns the reply, to be called when no
#: other request of the client is under way; or None if the reply comes by itself.
Answer = bytes | Callable[[], Coroutine[Any, Any, bytes]] | None

_WRONG_PASSWORD = error("WRONGPASS invalid username-password pair or user is disabled.")
_NO_PASSWORD = error(
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
_PRINTABLE = re.compile(rb"[!-~]*").fullmatch


def ping(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """PING."""
    if len(words) > 2:
        return wrong_arguments("ping")
    if session.restricted:
        return encode([b"pong", words[1] if len(words) == 2 else b""], 2)
    return encode(words[1], session.protocol) if len(words) == 2 else PONG


def echo(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """ECHO."""
    return encode(words[1], session.protocol)


def ok(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """A command that changes nothing for a client of the proxy, such as READONLY."""
    return OK


def quit_(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """QUIT: reply, then close."""
    session.reply(OK)
    session.end("quit")
    return None


def no_http(session: ClientSession) -> Answer:
    """POST and Host:, which only a browser sends, on behalf of a page from elsewhere: close without any reply."""
    session.cut("it has sent a request of HTTP")
    return None


def select(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """SELECT: there is one database."""
    number = integer(words[1])
    if number is None:
        return NOT_INTEGER
    if not -(1 << 31) <= number < 1 << 31:
        return error("ERR value is out of range, value must between -2147483648 and 2147483647")
    return OK if number == server.settings.database else error("ERR DB index is out of range")


def reset(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """RESET: as a new connection."""
    session.name = b""
    session.forget_transaction()
    session.forget_subscriptions()
    session.change_mode(reply_mode="on")
    if not server.lets_everybody_in:
        session.leave_out()
    session.speak(2)
    return b"+RESET\r\n"


def auth(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """AUTH."""
    if len(words) > 3:
        return SYNTAX
    if len(words) == 2 and server.lets_everybody_in:
        return _NO_PASSWORD
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
        # As on a server without a password: the default user may give any.
        return reply if name == "default" else _WRONG_PASSWORD
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
        server.counters.logins_refused += 1
        return _WRONG_PASSWORD
    upstream = server.upstreams.of(protocol, name, text)
    if upstream is None:
        return error("ERR the proxy has too many logins at the moment")
    # It must not be closed while it is tried.
    upstream.sessions += 1
    # Open connections go on with a password that the servers do not accept any more.  So they say nothing about it.
    client = server.connect(protocol, name, text) if upstream.accepted else upstream.client
    try:
        await client.refresh_topology()
    except ValkeyError as reason:
        refused = isinstance(reason, AuthenticationFailed) or "WRONGPASS" in str(reason) or "NOAUTH" in str(reason)
        if refused:
            server.counters.logins_refused += 1
        return _WRONG_PASSWORD if refused else error_frame(reason)
    else:
        upstream.accepted = True
        if not session.closed:
            session.let_in(upstream, name, text)
        return reply
    finally:
        if client is not upstream.client:
            client.abort()
        upstream.sessions -= 1
        if not upstream.sessions:
            server.upstreams.drop(upstream)


def hello(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """HELLO, with AUTH and SETNAME."""
    version = session.protocol
    rest = words[1:]
    if rest:
        if rest[0] not in (b"2", b"3"):
            return error(
                "ERR Protocol version is not an integer or out of range"
                if integer(rest[0]) is None
                else "NOPROTO unsupported protocol version"
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
            if not _PRINTABLE(name):
                return _BAD_NAME
            rest = rest[2:]
        else:
            return error(f"ERR Syntax error in HELLO option '{rest[0].decode('utf-8', 'surrogateescape')}'")
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
    await learn_version(server, session)
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
    if not _PRINTABLE(words[0]):
        return _BAD_NAME
    session.name = words[0]
    return OK


def _client_setinfo(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    option = words[0].decode("utf-8", "surrogateescape")
    if option.upper() not in ("LIB-NAME", "LIB-VER"):
        return error(f"ERR Unrecognized option '{option}'")
    if not _PRINTABLE(words[1]):
        return error(f"ERR {option} cannot contain spaces, newlines or special characters.")
    if option.upper() == "LIB-NAME":
        session.library = words[1]
    else:
        session.library_version = words[1]
    return OK


def _client_info(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    return encode(Verbatim(describe(server, session)), session.protocol)


def _client_list(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    try:
        wanted = ClientFilter(server, words)
    except FilterError as reason:
        return error(f"ERR {reason}")
    if server.peers is None:
        return encode(Verbatim(server.client_lines(wanted, session)), session.protocol)
    return partial(_all_clients, server, session, words, wanted)


async def _all_clients(server: ProxyServer, session: ClientSession, words: list[bytes], wanted: ClientFilter) -> bytes:
    assert server.peers is not None
    others = await server.peers.ask_all("CLIENTS", *words)
    return encode(Verbatim(b"".join([server.client_lines(wanted, session), *others])), session.protocol)


def _client_kill(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    old_form = len(words) == 1
    if old_form:
        # It ends also the client itself, and its reply is no number.
        words = [b"ADDR", words[0], b"SKIPME", b"no"]
    try:
        wanted = ClientFilter(server, words, skip_me=True)
    except FilterError as reason:
        return error(f"ERR {reason}")
    if server.peers is None:
        return _killed(session, server.kill(wanted, session), old_form)
    return partial(_kill_everywhere, server, session, words, wanted, old_form)


async def _kill_everywhere(
    server: ProxyServer, session: ClientSession, words: list[bytes], wanted: ClientFilter, old_form: bool
) -> bytes:
    assert server.peers is not None
    others = await server.peers.ask_all("KILL", *words)
    return _killed(session, sum(others) + server.kill(wanted, session), old_form)


def _killed(session: ClientSession, count: int, old_form: bool) -> bytes:
    if old_form:
        return OK if count else error("ERR No such client")
    return encode(count, session.protocol)


def _client_reply(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    mode = words[0].upper()
    if mode == b"ON":
        session.change_mode(reply_mode="on")
        return OK
    if mode not in (b"OFF", b"SKIP"):
        return SYNTAX
    if mode == b"SKIP" and session.reply_mode == "off":
        return b""
    session.change_mode(reply_mode="on")
    session.reply(b"")
    session.change_mode(reply_mode="off" if mode == b"OFF" else "skip")
    return None


def _client_unblock(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    if len(words) == 2 and words[1].upper() not in (b"TIMEOUT", b"ERROR"):
        return error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    if integer(words[0]) is None:
        return NOT_INTEGER
    number, with_error = int(words[0]), len(words) == 2 and words[1].upper() == b"ERROR"
    return partial(_unblock, server, session, number, with_error)


async def _unblock(server: ProxyServer, session: ClientSession, number: int, with_error: bool) -> bytes:
    ended = await server.unblock(number, with_error)
    if not ended and server.peers is not None:
        ended = sum(await server.peers.ask_all("UNBLOCK", number, int(with_error)))
    return encode(ended, session.protocol)


def _client_on_or_off(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    """NO-EVICT and NO-TOUCH, which concern only the memory of a server."""
    return OK if words[0].upper() in (b"ON", b"OFF") else SYNTAX


def _client_tracking(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    if words[0].upper() not in (b"ON", b"OFF"):
        return SYNTAX
    if words[0].upper() == b"OFF" and len(words) == 1:
        return OK
    return error("ERR CLIENT TRACKING is not available through a proxy")


def _client_caching(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    return error(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
    )


def _client_getredir(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    return encode(-1, session.protocol)


def _client_trackinginfo(server: ProxyServer, session: ClientSession, words: list[bytes]) -> Answer:
    return encode({"flags": _OFF, "redirect": -1, "prefixes": []}, session.protocol)


_OFF = frozenset(["off"])
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
    "NO-EVICT": _client_on_or_off,
    "NO-TOUCH": _client_on_or_off,
    # The capability to follow redirects is of no use: there are none.
    "CAPA": ok,
    # No client is paused, and none is in tracking mode.
    "UNPAUSE": ok,
    "TRACKING": _client_tracking,
    "CACHING": _client_caching,
    "GETREDIR": _client_getredir,
    "TRACKINGINFO": _client_trackinginfo,
}
