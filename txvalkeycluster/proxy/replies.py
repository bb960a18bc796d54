"""Writes replies of the proxy as RESP2 or RESP3.

Source: https://valkey.io/topics/protocol
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from ..errors import (
    AuthenticationFailed,
    ClientClosed,
    ClusterUnavailable,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    MaybeExecuted,
    PartialFailure,
    ReplyError,
    RoutingError,
    TooManyPending,
    ValkeyError,
)

#: The errors that a command can have for reasons outside the proxy.
EXPECTED = (ValkeyError, TypeError, ValueError)
OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
SYNTAX = b"-ERR syntax error\r\n"
NOT_INTEGER = b"-ERR value is not an integer or out of range\r\n"
_CROSSSLOT = "Keys in request don't hash to the same slot"


class Status(str):
    """A reply that is a simple string, such as OK."""

    __slots__ = ()


class Verbatim(bytes):
    """A reply that is a text for people, such as that of INFO."""

    __slots__ = ()


def encode(value: Any, protocol: int) -> bytes:
    """Write a value as a reply.

    Args:
        value: bytes, str, int, float, bool, None, a `Status`, a `Verbatim`, an exception, or a list, set or mapping
            of these.
        protocol: The version of RESP, 2 or 3.

    Returns:
        The bytes of the reply.

    Raises:
        TypeError: There is no reply for such a value.
    """
    parts: list[bytes] = []
    _write(value, protocol, parts.append)
    return b"".join(parts)


def _write(value: Any, protocol: int, add: Any) -> None:
    if isinstance(value, Status):
        add(b"+%b\r\n" % value.encode())
    elif isinstance(value, Verbatim) and protocol == 3:
        add(b"=%d\r\ntxt:%b\r\n" % (len(value) + 4, value))
    elif isinstance(value, (bytes, str)):
        data = value if isinstance(value, bytes) else value.encode()
        add(b"$%d\r\n%b\r\n" % (len(data), data))
    elif value is None:
        add(b"_\r\n" if protocol == 3 else b"$-1\r\n")
    elif isinstance(value, bool):
        add((b"#t\r\n" if value else b"#f\r\n") if protocol == 3 else b":%d\r\n" % value)
    elif isinstance(value, int):
        add(b":%d\r\n" % value)
    elif isinstance(value, float):
        text = repr(value).encode()
        add(b",%b\r\n" % text if protocol == 3 else b"$%d\r\n%b\r\n" % (len(text), text))
    elif isinstance(value, Mapping):
        add(b"%b%d\r\n" % (b"%", len(value)) if protocol == 3 else b"*%d\r\n" % (2 * len(value)))
        for name, item in value.items():
            _write(name, protocol, add)
            _write(item, protocol, add)
    elif isinstance(value, (Sequence, Set)):
        add(b"%b%d\r\n" % (b"~" if protocol == 3 and isinstance(value, Set) else b"*", len(value)))
        for item in value:
            _write(item, protocol, add)
    elif isinstance(value, Exception):
        add(error_frame(value))
    else:
        raise TypeError(f"{type(value).__name__} is no reply")


def error(text: str) -> bytes:
    """Write an error reply.

    Args:
        text: The code and the description, such as ``"ERR no such key"``.
    """
    line = text.rstrip("\r\n").replace("\r", " ").replace("\n", " ")
    return b"-%b\r\n" % line.encode("utf-8", "surrogateescape")


def error_frame(reason: BaseException) -> bytes:
    """Write an error of the client as an error reply.

    A command that may have been executed gets ``CONNLOST`` or ``TIMEOUT``; the text says that it may have been.

    Args:
        reason: The error.
    """
    if isinstance(reason, ReplyError):
        return error(str(reason))
    if isinstance(reason, PartialFailure):
        texts = {str(each) if isinstance(each, ReplyError) else "" for _, each in reason.outcomes}
        if len(texts) == 1 and "" not in texts:
            # All servers say the same, as a single server would.
            return error(texts.pop())
        errors = [each for _, each in reason.outcomes if isinstance(each, Exception)]
        doubtful = [each for each in errors if isinstance(each, MaybeExecuted) and each.maybe_executed]
        inner = next(iter(doubtful or errors), None)
        code = error_frame(inner)[1:].partition(b" ")[0].decode() if inner is not None else "ERR"
        if doubtful:
            executed = "; it may have been executed"
        else:
            executed = (
                "; the other parts were executed" if len(errors) < len(reason.outcomes) else "; it was not executed"
            )
        return error(f"{code} {reason}{executed}")
    if isinstance(reason, RoutingError) and "in several slots" in str(reason):
        return error(f"CROSSSLOT {_CROSSSLOT}")
    return error(f"{_code(reason)} {reason}{_executed(reason)}")


def _code(reason: BaseException) -> str:
    for kind, code in _CODES:
        if isinstance(reason, kind):
            return code
    return "ERR"


def _executed(reason: BaseException) -> str:
    if not isinstance(reason, MaybeExecuted):
        return ""
    return "; it may have been executed" if reason.maybe_executed else "; it was not executed"


_CODES: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionLost, "CONNLOST"),
    (CommandTimeout, "TIMEOUT"),
    (TooManyPending, "BUSY"),
    (AuthenticationFailed, "NOAUTH"),
    (ConnectFailed, "CLUSTERDOWN"),
    (ClusterUnavailable, "CLUSTERDOWN"),
    (ClientClosed, "SHUTDOWN"),
)
