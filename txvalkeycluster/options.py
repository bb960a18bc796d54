"""Every setting of a client: its name, default and unit; and the reading of a URL into them."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from random import Random
from types import NoneType
from typing import Any, Literal, TypedDict, get_args, get_type_hints
from urllib.parse import parse_qsl, unquote

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import PrivateCertificate

from .address import Address, parse_address
from .commands import CommandTable
from .sentinel import Sentinel
from .topology.parsers import SOURCES

DEFAULT_PORT = 6379


#: In the place of a timeout: the client's option of that name.
DEFAULT: Any = Sentinel("DEFAULT")

# What a URL says elsewhere.
_NOT_IN_A_QUERY = ("seeds", "tls", "username", "password")
_AddressMap = Mapping[tuple[str, int], tuple[str, int]] | Callable[[str, int], tuple[str, int]]
Seeds = str | Sequence[str | tuple[str, int]]
_SCHEMES = {"valkey": False, "redis": False, "valkeys": True, "rediss": True}


class ClientOptions(TypedDict, total=False):
    """The keywords of `connect` and `ClusterClient`, beside ``encoding``: every option, which `Options` explains."""

    seeds: Seeds
    username: str | None
    password: str | None
    db: int
    protocol: Literal[2, 3]
    encoding_errors: str
    client_name: str | None
    tls: bool
    trust_root: Any
    client_certificate: str | bytes | PrivateCertificate | None
    server_name: str | None
    timeout: float | None
    connect_timeout: float
    unresponsive_after: float
    close_timeout: float
    max_pending: int
    max_exclusive: int
    max_nodes: int
    max_unsent_bytes: int
    topology_source: Literal["auto", "slots", "shards", "nodes"]
    refresh_period: float | None
    refresh_interval: float
    backoff_min: float
    backoff_max: float
    warm_up: bool
    endpoint_for: Callable[[str, int], IStreamClientEndpoint] | None
    address_map: _AddressMap | None
    on_socket: Callable[[Any, Address], None] | None
    commands: CommandTable
    check_redirects: bool
    split_keys: bool
    repeat_scripts: bool
    random: Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The settings of one client.  Times are seconds; a time of None is no limit."""

    #: Where to ask for the first slot map, and again when no known node answers; names are resolved each time.
    seeds: tuple[Address, ...] = ()
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    #: Numbered database, for servers that have them in a cluster (Valkey 9).
    db: int = 0
    #: RESP version.  3 falls back to 2 where the server has no HELLO; 2 sends nothing but AUTH and SELECT.
    protocol: int = 3
    #: Decode replies to str with this encoding; None leaves them bytes.
    encoding: str | None = None
    encoding_errors: str = "strict"
    #: Shown by CLIENT LIST on the server.
    client_name: str | None = None

    #: TLS to every node, certificate and host name verified.
    tls: bool = False
    #: PEM file, PEM bytes, or a Twisted trust root; None trusts what the platform trusts.
    trust_root: Any = field(default=None, repr=False)
    #: PEM file or bytes with our certificate and its key, or a twisted.internet.ssl.PrivateCertificate.
    client_certificate: str | bytes | PrivateCertificate | None = field(default=None, repr=False)
    #: The name to verify in every node's certificate, for clusters that announce addresses the certificates lack.
    server_name: str | None = None

    #: Deadline of a command over all its attempts.
    timeout: float | None = 10.0
    #: From dialling a node to its answered handshake.
    connect_timeout: float = 2.0
    #: A connection that owes replies and has sent nothing for this long is aborted.
    unresponsive_after: float = 5.0
    #: A connection that does not end by itself is aborted this long after its close began.
    close_timeout: float = 1.0
    #: Unanswered commands of one node, sent and unsent, before TooManyPending.
    max_pending: int = 100_000
    #: Connections of one node beside the one all commands share: for commands that block, WATCH and SCRIPT KILL.
    max_exclusive: int = 64
    #: Nodes that the client deals with at a time: a larger map is not believed, a redirect to one more is not followed.
    max_nodes: int = 10_000
    #: Unsent bytes of one node before TooManyPending.
    max_unsent_bytes: int = 64 * 1024 * 1024

    #: Which reply the slot map comes from: "slots", "shards" or "nodes".
    topology_source: str = "auto"
    #: Unasked refresh of the slot map; None is never.
    refresh_period: float | None = 60.0
    #: Least time between two refreshes.
    refresh_interval: float = 1.0
    #: First and longest wait before a node is dialled again; in between they double, with full jitter.
    backoff_min: float = 0.01
    backoff_max: float = 1.0
    #: Dial every node as soon as it is known, not at its first command.
    warm_up: bool = False

    #: ``(host, port) -> IStreamClientEndpoint``; replaces our own dialling, TLS included.
    endpoint_for: Callable[[str, int], IStreamClientEndpoint] | None = None
    #: Announced address -> address to dial, for NAT: a mapping of (host, port) pairs, or a callable.
    address_map: _AddressMap | None = None
    #: Called with socket and address right after the TCP connect, before TLS and AUTH.
    on_socket: Callable[[Any, Address], None] | None = None
    #: What the commands mean; the server is asked about those that it does not hold.
    commands: CommandTable = field(default_factory=CommandTable)
    #: Without TLS, log in to the target of a redirect that no map lists only if another node knows it, too.
    check_redirects: bool = True
    #: Spread MGET, MSET, MSETEX, DEL, UNLINK, EXISTS and TOUCH over the slots of their keys; else they are refused.
    split_keys: bool = True
    #: Follow redirects of, and repeat, scripts, functions and module commands when the server says that they did not
    #: run.  A script can forge the server's words: with False it is never sent twice.
    repeat_scripts: bool = True
    #: The source of every random choice.
    random: Random = field(default_factory=Random, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", parse_seeds(self.seeds))
        for name in ("username", "password", "encoding", "client_name", "server_name"):
            text = getattr(self, name)
            if not isinstance(text, (str, type(None))):
                raise TypeError(f"{name} is {type(text).__name__}, not str")
            if text is not None and any("\ud800" <= character <= "\udfff" for character in text):
                raise ValueError(f"{name} holds half of a surrogate pair, which has no UTF-8 form")
        if self.protocol not in (2, 3):
            raise ValueError(f"protocol is {self.protocol!r}, not 2 or 3")
        if self.topology_source not in ("auto", *SOURCES):
            raise ValueError(f"topology_source is not one of auto, {', '.join(SOURCES)}")
        if not _codec_exists(self.encoding or "utf-8", self.encoding_errors):
            raise ValueError("encoding or encoding_errors is none that Python knows")
        if self.db < 0:
            raise ValueError(f"db is {self.db}, below 0")
        if self.protocol == 2 and self.client_name is not None:
            raise ValueError("client_name needs protocol=3: with protocol=2 nothing but AUTH and SELECT is sent")
        if not all("!" <= character <= "~" for character in self.client_name or ""):
            raise ValueError("client_name holds more than printable ASCII without spaces, which servers refuse")
        if self.username is not None and self.password is None:
            raise ValueError("username is given without password")
        for name in ("connect_timeout", "unresponsive_after", "close_timeout", "refresh_interval", "backoff_min"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not above 0")
        if not self.backoff_max >= self.backoff_min:
            raise ValueError("backoff_max is below backoff_min")
        for name in ("timeout", "refresh_period"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}, neither None nor above 0")
        for name in ("max_pending", "max_unsent_bytes", "max_exclusive", "max_nodes"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}, below 1")
        if self.tls and self.endpoint_for is not None:
            raise ValueError("tls and endpoint_for exclude each other: an endpoint of your own brings its own TLS")
        if not self.tls and (self.trust_root or self.client_certificate or self.server_name):
            raise ValueError("trust_root, client_certificate and server_name need TLS: a valkeys:// URL or tls=True")

    def backoff(self, failures: int) -> float:
        """How long to wait before dialling again after so many failures in a row: doubling, with full jitter."""
        longest = min(self.backoff_max, self.backoff_min * 2.0 ** min(failures, 30))
        return self.random.uniform(self.backoff_min / 2, longest)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Options:
        """Read ``valkeys://user:password@host:port,host:port/db?option=value``; keywords win over the URL.

        Schemes: ``valkey``, ``redis``, and with TLS ``valkeys``, ``rediss``.  Raises ValueError, which never repeats
        any part of the URL that could hold the password.
        """
        check_names(options)
        scheme, found, rest = url.partition("://")
        if not found or scheme not in _SCHEMES:
            raise ValueError(f"the URL does not start with one of {', '.join(f'{name}://' for name in _SCHEMES)}")
        rest, _, query = rest.partition("?")
        location, _, path = rest.partition("/")
        user_info, _, hosts = location.rpartition("@")
        values: dict[str, Any] = {"tls": _SCHEMES[scheme]}
        if user_info:
            username, found, password = user_info.partition(":")
            values["username"] = _unquoted(username) or None
            if found:
                values["password"] = _unquoted(password)
        if path:
            if not (path.isascii() and path.isdigit()):
                raise ValueError("the path of the URL is not the number of a database")
            values["db"] = int(path)
        values["seeds"] = parse_seeds(hosts)
        for number, (name, text) in enumerate(parse_qsl(query, keep_blank_values=True), 1):
            values[name] = _from_text(name, text, number)
        values.update(options)
        return cls(**values)


def check_names(names: Iterable[str]) -> None:
    """Raise TypeError for the first name that is no option; it says which option is spelt most like it."""
    known = list(Options.__dataclass_fields__)
    for name in names:
        if name not in known:
            nearest = get_close_matches(name, known, 1)
            raise TypeError(f"there is no option {name!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else ""))


def parse_seeds(seeds: Seeds) -> tuple[Address, ...]:
    """Read ``"host:port,host:port"`` or a sequence of such texts or (host, port) pairs."""
    entries = seeds.split(",") if isinstance(seeds, str) else seeds
    return tuple(
        _seed(entry, number) if isinstance(entry, str) else _pair(entry, number)
        for number, entry in enumerate(entries, 1)
    )


def _seed(text: str, number: int) -> Address:
    try:
        address = parse_address(text.strip(), DEFAULT_PORT)
    except ValueError as error:
        raise ValueError(f"seed {number}: {error}") from None
    return _pair(address, number)


def _pair(entry: tuple[str, int], number: int) -> Address:
    host, port = entry
    if not host:
        raise ValueError(f"seed {number}: no host")
    if any(character in "@/?#[] ," or not character.isprintable() for character in host):
        raise ValueError(f"seed {number}: the host holds characters that no host name can have")
    if type(port) is not int or not 0 < port < 65536:
        raise ValueError(f"seed {number}: the port is not a number from 1 to 65535")
    return Address(host, port)


def _unquoted(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("the user name or the password in the URL is not UTF-8") from None


def _codec_exists(encoding: str, errors: str) -> bool:
    try:
        codecs.lookup_error(errors)
        # Raises LookupError also for codecs that decode to something else than text, such as hex.
        b"".decode(encoding)
        b"a".decode(encoding, "replace")
    except UnicodeError:
        return True
    except (LookupError, ValueError):
        return False
    return True


def _from_text(name: str, text: str, number: int) -> Any:
    """A query parameter as the type of its option; only those that text can say are allowed."""
    kind = get_type_hints(Options).get(name) if name not in _NOT_IN_A_QUERY else None
    kinds = get_args(kind) or (kind,)
    try:
        if name in ("trust_root", "client_certificate") or str in kinds:
            return text
        if float in kinds:
            return None if text == "none" and NoneType in kinds else float(text)
        if kind is int:
            return int(text)
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except (ValueError, KeyError):
        named = " | ".join("None" if each is NoneType else each.__name__ for each in kinds)
        raise ValueError(f"the URL's parameter {name} is not a valid {named}") from None
    # The name stays out: it may be what follows a question mark in a password.
    raise ValueError(f"parameter {number} of the URL is no option that a URL can hold")
