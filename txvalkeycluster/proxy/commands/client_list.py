"""The clients of the proxy as CLIENT LIST, CLIENT INFO and CLIENT KILL see them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence, Sized
from typing import TYPE_CHECKING, Any

from ..numbers import integer

if TYPE_CHECKING:
    from ..server import ProxyServer
    from ..session import ClientSession

_Test = Callable[["ClientSession"], bool]
_TYPES = frozenset([b"normal", b"replica", b"slave", b"pubsub", b"master", b"primary"])
# The flags and capabilities that a client of a server can have.
_FLAGS = frozenset(b"ABEIMNOPRSTUbcdeirtux")
_DATABASES = range(16)


class FilterError(ValueError):
    """A filter is not valid.  The text is for the client."""


class ClientFilter:
    """Which clients CLIENT LIST shows or CLIENT KILL ends."""

    def __init__(self, server: ProxyServer, words: Sequence[bytes], *, skip_me: bool = False) -> None:
        """Read the filters.

        Args:
            server: The proxy.
            words: Names of filters, each with its value.
            skip_me: Whether the client that asks is left out if the filters do not say it.

        Raises:
            FilterError: A filter is not valid.
        """
        self._server = server
        self._tests: list[_Test] = []
        #: Whether the client that asks is left out.
        self.skip_me = skip_me
        place = 0
        while place < len(words):
            name = words[place].upper()
            if place + 1 == len(words):
                raise FilterError("syntax error")
            if name in (b"ID", b"NOT-ID"):
                place = self._numbers(words, place + 1, name == b"ID")
                continue
            value = words[place + 1]
            if name == b"SKIPME" and value.lower() in (b"yes", b"no"):
                self.skip_me = value.lower() == b"yes"
            else:
                wanted = name.removeprefix(b"NOT-")
                test = self._test(wanted, value, name.decode("utf-8", "replace"))
                self._tests.append(test if wanted == name else _inverted(test))
            place += 2

    def selects(self, session: ClientSession) -> bool:
        """Tell whether all filters fit a client."""
        return all(test(session) for test in self._tests)

    def _numbers(self, words: Sequence[bytes], place: int, wanted: bool) -> int:
        """Read the numbers of clients from ``place`` on; return the place after them."""
        numbers: set[int] = set()
        while place < len(words) and (number := integer(words[place])) is not None:
            if number < 1:
                raise FilterError("client-id should be greater than 0")
            numbers.add(number)
            place += 1
        if not numbers:
            raise FilterError("syntax error")
        self._tests.append(lambda session: (session.number in numbers) == wanted)
        return place

    def _test(self, name: bytes, value: bytes, given: str) -> _Test:
        server = self._server
        text = value.decode("utf-8", "surrogateescape")
        if name == b"TYPE":
            if value.lower() not in _TYPES:
                raise FilterError(f"Unknown client type '{text}'")
            return lambda session: value.lower() == (b"pubsub" if session.subscriptions else b"normal")
        if name == b"USER":
            if not server.has_user(text):
                raise FilterError(f"No such user '{text}'")
            return lambda session: (session.user or "default") == text
        if name == b"ADDR":
            return lambda session: session.peer == text
        if name == b"LADDR":
            return lambda session: server.address_of(session.transport, "getHost") == text
        if name == b"IP":
            return lambda session: session.peer.rpartition(":")[0].strip("[]") == text
        if name in (b"MAXAGE", b"IDLE") and not given.startswith("NOT-"):
            seconds = _positive(value, given.lower())
            if name == b"MAXAGE":
                return lambda session: server.seconds() - session.begun >= seconds
            return lambda session: server.seconds() - session.heard_at >= seconds
        if name == b"FLAGS":
            _check_characters(value, _FLAGS, "flags", given)
            return lambda session: set(value) <= set(session.flags)
        if name == b"CAPA":
            _check_characters(value, b"r", "capa", given)
            return lambda session: not value
        if name == b"NAME":
            return lambda session: session.name == value != b""
        if name == b"LIB-NAME":
            return lambda session: session.library == value != b""
        if name == b"LIB-VER":
            return lambda session: session.library_version == value != b""
        if name == b"DB":
            number = integer(value)
            if number is None:
                raise FilterError(f"{given} is not an integer or out of range")
            if number not in _DATABASES:
                raise FilterError(f"{given} number should be between 0 and {_DATABASES[-1]}")
            return lambda session: server.settings.database == number
        raise FilterError("syntax error")


def _inverted(test: _Test) -> _Test:
    return lambda session: not test(session)


def _positive(value: bytes, name: str) -> int:
    number = integer(value)
    if number is None:
        raise FilterError(f"{name} is not an integer or out of range")
    if number < 1:
        raise FilterError(f"{name} should be greater than 0")
    return number


def _check_characters(value: bytes, known: Container[int], what: str, given: str) -> None:
    if not all(character in known for character in value):
        where = f"the {given} filter" if given.startswith("NOT-") else "the provided filter"
        raise FilterError(f"Unknown {what} found in {where}: {value.decode('utf-8', 'surrogateescape')}")


def _subscribed(session: ClientSession) -> dict[str, bytes]:
    names: Iterable[Sized] = session.subscriptions.names.values() if session.subscriptions is not None else [()] * 3
    return dict(zip(("sub", "psub", "ssub"), [b"%d" % len(each) for each in names], strict=True))


def describe(server: ProxyServer, session: ClientSession) -> bytes:
    """Return the line of a client, with the fields of a server.  Those that a proxy does not have are 0."""
    now = server.seconds()
    queued = session.partial
    transport: Any = session.transport
    fields = {
        "id": b"%d" % session.number,
        "addr": session.peer.encode(),
        "laddr": server.address_of(session.transport, "getHost").encode(),
        "fd": b"%d" % (transport.fileno() if hasattr(transport, "fileno") else -1),
        "name": session.name,
        "age": b"%d" % (now - session.begun),
        "idle": b"%d" % (now - session.heard_at),
        "flags": session.flags,
        "capa": b"",
        "db": b"%d" % server.settings.database,
        **_subscribed(session),
        "multi": b"%d" % (len(session.transaction.requests) if session.transaction is not None else -1),
        "watch": b"%d" % (len(session.watch.keys) if session.watch is not None else 0),
        "qbuf": b"%d" % queued,
        **dict.fromkeys(("qbuf-free", "argv-mem", "multi-mem", "rbs", "rbp", "obl"), b"0"),
        "oll": b"%d" % bool(session.unread),
        "omem": b"%d" % session.unread,
        "tot-mem": b"%d" % (queued + session.unread),
        "events": b"rw" if session.unread else b"r",
        "cmd": session.last_command.lower() or b"NULL",
        "user": (session.user or "default").encode("utf-8", "surrogateescape"),
        "redir": b"-1",
        "resp": b"%d" % session.protocol,
        "lib-name": session.library,
        "lib-ver": session.library_version,
        "tot-net-in": b"%d" % session.bytes_in,
        "tot-net-out": b"%d" % session.bytes_out,
        "tot-cmds": b"%d" % session.commands,
    }
    return b" ".join(b"%b=%b" % (name.encode(), value) for name, value in fields.items()) + b"\n"
