"""The first words on a connection, in a single write, with a second try for servers without HELLO."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from twisted.internet.defer import DeferredList

from ..errors import AuthenticationFailed, ConnectFailed, ReplyError
from ..options import Options
from .protocol import RESPProtocol

try:
    _VERSION = version("txvalkeycluster")
except PackageNotFoundError:  # run from a source tree that is not installed
    _VERSION = "0"

# Characters of what a server says of itself.
_LONGEST = 128
_AUTH_CODES = ("WRONGPASS", "NOAUTH", "NOPERM")


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the server said of itself; empty where it said nothing (RESP2)."""

    protocol: int
    version: str = ""
    role: str = ""
    mode: str = ""
    #: What CLIENT UNBLOCK and CLIENT KILL call the connection; 0 if it was not told.
    client_id: int = 0
    availability_zone: str = ""

    @property
    def major(self) -> int:
        """The first number of its version; 0 if it was not told."""
        first = self.version.partition(".")[0]
        return int(first) if first.isdecimal() and len(first) < 5 else 0


async def handshake(connection: RESPProtocol, options: Options) -> ServerInfo:
    """Introduce ourselves.  Raises AuthenticationFailed or ConnectFailed, whose texts hold no secret."""
    if options.protocol == 3:
        hello, replies = await _say(connection, [_hello(options), *_courtesies(options), *_select(options)])
        if not isinstance(hello, Exception):
            _check_select(connection, options, replies)
            return _server_info(connection, hello)
        if not _lacks_hello(hello):
            _refuse(connection, options, "HELLO", hello)
    answers = await _say(connection, [*_auth(options), *_select(options)])
    replies = [answers[0], *answers[1]]
    if options.password is not None and isinstance(replies[0], Exception):
        _refuse(connection, options, "AUTH", replies[0])
    _check_select(connection, options, replies)
    return ServerInfo(protocol=2)


def _hello(options: Options) -> tuple[str, ...]:
    words = ["HELLO", "3"]
    if options.password is not None:
        words += ["AUTH", options.username or "default", options.password]
    if options.client_name is not None:
        words += ["SETNAME", options.client_name]
    return tuple(words)


def _courtesies(options: Options) -> list[tuple[str, ...]]:
    """What a server may refuse without harm."""
    return [
        ("CLIENT", "SETINFO", "LIB-NAME", "txvalkeycluster"),
        ("CLIENT", "SETINFO", "LIB-VER", _VERSION),
        ("CLIENT", "CAPA", "redirect"),
    ]


def _auth(options: Options) -> list[tuple[str, ...]]:
    if options.password is None:
        return []
    user = [options.username] if options.username is not None else []
    return [("AUTH", *user, options.password)]


def _select(options: Options) -> list[tuple[str, ...]]:
    return [("SELECT", str(options.db))] if options.db else []


async def _say(connection: RESPProtocol, commands: list[tuple[str, ...]]) -> tuple[Any, list[Any]]:
    """Send commands in one write; return the first reply and the others, errors in their places."""
    if not commands:
        await connection.when_secured()
    results = await DeferredList([connection.call(*command) for command in commands], consumeErrors=True)
    replies: list[Any] = []
    if results and not results[0][0] and isinstance(results[0][1].value, ReplyError):
        # A server that refuses to talk at all says so, and closes.
        return results[0][1].value, []
    for success, result in results:
        if not success and not isinstance(result.value, ReplyError):
            result.raiseException()
        replies.append(result if success else result.value)
    return (replies[0], replies[1:]) if replies else (None, [])


def _lacks_hello(error: Exception) -> bool:
    text = str(error).lower()
    return text.startswith("noproto") or "unknown command" in text


def _check_select(connection: RESPProtocol, options: Options, replies: list[Any]) -> None:
    if options.db and isinstance(replies[-1], Exception):
        _refuse(connection, options, f"SELECT {options.db}", replies[-1])


def _refuse(connection: RESPProtocol, options: Options, what: str, error: Exception) -> None:
    # Servers quote the arguments of commands they do not know, cut at some length.
    text = str(error).partition(", with args")[0]
    for secret in (options.password, options.username):
        text = text.replace(secret, "***") if secret else text
    if text.split(" ")[0] in _AUTH_CODES or "AUTH" in text:
        raise AuthenticationFailed(f"{connection.peer} refused {what}: {text}")
    raise ConnectFailed(f"{connection.peer} refused {what}: {text}")


def _server_info(connection: RESPProtocol, hello: Any) -> ServerInfo:
    if not isinstance(hello, (dict, list)):
        raise ConnectFailed(f"{connection.peer} answered HELLO with {type(hello).__name__}, not a map")
    pairs = hello.items() if isinstance(hello, dict) else zip(hello[::2], hello[1::2], strict=False)
    facts = {name: value for name, value in pairs if isinstance(name, bytes)}
    return ServerInfo(
        protocol=_number(facts.get(b"proto"), 3),
        version=_text(facts.get(b"version")),
        role="replica" if _text(facts.get(b"role")) in ("replica", "slave") else "primary",
        mode=_text(facts.get(b"mode")),
        client_id=_number(facts.get(b"id"), 0),
        availability_zone=_text(facts.get(b"availability_zone")),
    )


def _number(value: Any, default: int) -> int:
    return value if type(value) is int and value >= 0 else default


def _text(value: Any) -> str:
    # Kept as long as the connection: no more of it than makes sense.
    return value[:_LONGEST].decode("utf-8", "replace") if isinstance(value, bytes) else ""
