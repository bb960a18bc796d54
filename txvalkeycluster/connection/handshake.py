"""The handshake on a new connection: HELLO, AUTH, CLIENT and SELECT in one write.

A server that does not know HELLO gets a second write, with AUTH and SELECT for RESP2.
See https://valkey.io/commands/hello.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from twisted.internet.defer import DeferredList

from ..credentials import Credentials
from ..errors import AuthenticationFailed, ConnectFailed, ReplyError
from ..options import Options
from .protocol import RESPProtocol

try:
    _VERSION = version("txvalkeycluster")
except PackageNotFoundError:  # a source tree that is not installed
    _VERSION = "0"

# The most characters that are kept of a text in the server's HELLO reply.
_LONGEST = 128
_AUTH_CODES = ("WRONGPASS", "NOAUTH", "NOPERM")


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Facts about the server from its HELLO reply.  With RESP2 there are none: texts are empty, numbers are 0.

    Only with ``raw_replies`` the number of the connection is known with RESP2, too.
    """

    #: The RESP version of the connection, 2 or 3.
    protocol: int
    #: The version of the server, such as "9.1.0".
    version: str = ""
    #: "primary" or "replica".
    role: str = ""
    #: "cluster", "standalone" or "sentinel".
    mode: str = ""
    #: The number of the connection for CLIENT UNBLOCK and CLIENT KILL; 0 if it is unknown.
    client_id: int = 0
    availability_zone: str = ""

    @property
    def major(self) -> int:
        """The major version of the server; 0 if it is unknown."""
        first = self.version.partition(".")[0]
        return int(first) if first.isdecimal() and len(first) < 5 else 0


async def handshake(connection: RESPProtocol, options: Options, credentials: Credentials | None) -> ServerInfo:
    """Log in, select the database and negotiate the protocol on a new connection.

    Args:
        connection: A connection that has sent nothing but handshakes.
        options: The options of the client.
        credentials: How to log in; None: not at all.

    Returns:
        Facts about the server.

    Raises:
        AuthenticationFailed: The server refused the user name or the password.  The text contains neither.
        ConnectFailed: The server refused another command of the handshake.
        MaybeExecuted: The connection ended, a reply was invalid, or no reply came in time.
    """
    if options.protocol == 3:
        hello, replies = await _say(connection, [_hello(options, credentials), *_courtesies(), *_select(options)])
        if not isinstance(hello, Exception):
            _check_select(connection, options, replies)
            return _server_info(connection, hello)
        if not _lacks_hello(hello):
            _refuse(connection, credentials, "HELLO", hello)
    said = [*_auth(credentials), *_select(options), *_identity(options)]
    answers = await _say(connection, said)
    replies = [answers[0], *answers[1]]
    number = replies.pop() if _identity(options) and len(replies) == len(said) else None
    if credentials is not None and isinstance(replies[0], Exception):
        _refuse(connection, credentials, "AUTH", replies[0])
    _check_select(connection, options, replies)
    return ServerInfo(protocol=2, client_id=_number(number, 0))


async def authenticate(connection: RESPProtocol, credentials: Credentials | None) -> None:
    """Log in again on a connection that is in use.

    Args:
        connection: The connection.
        credentials: The new credentials; None: nothing is done.

    Raises:
        AuthenticationFailed: The server refused them.  The old login stays valid.
        MaybeExecuted: The connection ended, or no reply came in time.
    """
    for command in _auth(credentials):
        try:
            await connection.call(*command)
        except ReplyError as error:
            raise AuthenticationFailed(f"{connection.peer} refused AUTH: {_cleaned(error, credentials)}") from None


def _hello(options: Options, credentials: Credentials | None) -> tuple[str, ...]:
    words = ["HELLO", "3"]
    if credentials is not None:
        words += ["AUTH", credentials.username or "default", credentials.password]
    if options.client_name is not None:
        words += ["SETNAME", options.client_name]
    return tuple(words)


def _courtesies() -> list[tuple[str, ...]]:
    """Return commands whose refusal by the server does no harm."""
    return [
        ("CLIENT", "SETINFO", "LIB-NAME", "txvalkeycluster"),
        ("CLIENT", "SETINFO", "LIB-VER", _VERSION),
        ("CLIENT", "CAPA", "redirect"),
    ]


def _auth(credentials: Credentials | None) -> list[tuple[str, ...]]:
    if credentials is None:
        return []
    user = [credentials.username] if credentials.username else []
    return [("AUTH", *user, credentials.password)]


def _select(options: Options) -> list[tuple[str, ...]]:
    return [("SELECT", str(options.db))] if options.db else []


def _identity(options: Options) -> list[tuple[str, ...]]:
    """Return the command that asks for the number of the connection, which a relay needs to end blocking commands."""
    return [("CLIENT", "ID")] if options.raw_replies else []


async def _say(connection: RESPProtocol, commands: list[tuple[str, ...]]) -> tuple[Any, list[Any]]:
    """Send commands in one write; return the first reply and the list of the others, errors included."""
    if not commands:
        await connection.when_secured()
    results = await DeferredList([connection.call(*command) for command in commands], consumeErrors=True)
    replies: list[Any] = []
    if results and not results[0][0] and isinstance(results[0][1].value, ReplyError):
        # A server that refuses the connection sends one error and closes the connection.
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
        _refuse(connection, None, f"SELECT {options.db}", replies[-1])


def _cleaned(error: Exception, credentials: Credentials | None) -> str:
    """Return the text of an error without the credentials."""
    # The error for an unknown command quotes its arguments, perhaps shortened.  A shortened secret would not be found.
    text = str(error).partition(", with args")[0]
    for secret in (credentials.password, credentials.username) if credentials is not None else ():
        text = text.replace(secret, "***") if secret else text
    return text


def _refuse(connection: RESPProtocol, credentials: Credentials | None, what: str, error: Exception) -> None:
    text = _cleaned(error, credentials)
    if text.split(" ")[0] in _AUTH_CODES or "AUTH" in text:
        raise AuthenticationFailed(f"{connection.peer} refused {what}: {text}")
    raise ConnectFailed(f"{connection.peer} refused {what}: {text}")


def _server_info(connection: RESPProtocol, hello: Any) -> ServerInfo:
    if not isinstance(hello, (dict, list)):
        raise ConnectFailed(f"{connection.peer} answered HELLO with {type(hello).__name__}, not with a map")
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
    # The text is kept as long as the connection, so its length is limited.
    return value[:_LONGEST].decode("utf-8", "replace") if isinstance(value, bytes) else ""
