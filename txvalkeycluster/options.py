"""`Options`: every setting of a client, with its default and unit.  Settings can also come from a URL."""

from __future__ import annotations

import codecs
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from random import Random
from types import NoneType
from typing import Any, Literal, TypedDict, get_args, get_type_hints
from urllib.parse import parse_qsl, unquote

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import PrivateCertificate

from .address import Address
from .commands import CommandTable
from .credentials import Credentials, CredentialsFunction, check_text
from .seeds import Seeds, parse_seeds
from .sentinel import Sentinel
from .topology.parsers import SOURCES

#: The value of a ``timeout`` argument that is not given: the option ``timeout`` applies.
DEFAULT: Any = Sentinel("DEFAULT")

# The URL has its own place for each of these.
_NOT_IN_A_QUERY = ("seeds", "tls", "username", "password")
_AddressMap = Mapping[tuple[str, int], tuple[str, int]] | Callable[[str, int], tuple[str, int]]
_SCHEMES = {"valkey": False, "redis": False, "valkeys": True, "rediss": True}


class ClientOptions(TypedDict, total=False):
    """The types of the keywords of `connect` and `ClusterClient`.  `Options` explains each of them.

    ``encoding`` is not here: it decides the type of the client, so the functions declare it themselves.
    """

    seeds: Seeds
    username: str | None
    password: str | None
    credentials: Credentials | CredentialsFunction | None
    db: int
    protocol: Literal[2, 3]
    encoding_errors: str
    client_name: str | None
    raw_replies: bool
    log: bool
    tls: bool
    trust_root: Any
    client_certificate: str | bytes | os.PathLike[str] | PrivateCertificate | None
    client_key: str | bytes | os.PathLike[str] | None
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
    on_socket: Callable[[socket.socket, Address], None] | None
    commands: CommandTable
    check_redirects: bool
    split_keys: bool
    repeat_scripts: bool
    random: Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The settings of one client, which cannot be changed afterwards.  All times are in seconds.

    Every field is a keyword of `connect` and `ClusterClient`.  Fields that text can express are also parameters of the
    URL; `from_url` reads it.

    Raises:
        TypeError: A field that must be str has another type.
        ValueError: A value is not allowed.  The text names the option, and never holds a password.

    Example:
        Options(seeds="10.0.0.1:7000,10.0.0.2:7000", username="app", password="secret", timeout=2.5)
    """

    # ---- where the cluster is, and how replies look

    #: The nodes to ask for the first slot map, and again if no known node answers: ``"host:port,host:port"``, or a
    #: sequence of such texts and of (host, port) pairs.  Name several nodes, so that one of them can be down.  Host
    #: names are resolved again for each connection.
    seeds: tuple[Address, ...] = ()
    #: The name of the server's user.  None: the server's user ``default``.  Needs ``password``.
    username: str | None = None
    #: The password of the user.  None: the client does not log in.
    password: str | None = field(default=None, repr=False)
    #: How to log in, in place of ``username`` and ``password``: `Credentials`, or a function that is called with the
    #: address of the node before each login and gives `Credentials`, at once or later (a Deferred or a coroutine).  Use
    #: a function if the password changes while the client runs.  It must not block.
    credentials: Credentials | CredentialsFunction | None = field(default=None, repr=False)
    #: The number of the database.  Only servers from Valkey 9 on have more than database 0 in a cluster.
    db: int = 0
    #: The version of RESP, 3 or 2.  With 3, the client uses 2 at a server that does not know HELLO.  Set it to 2 for a
    #: proxy or a user that permits only AUTH and SELECT: with 2, the client sends nothing else when it connects.
    protocol: int = 3
    #: The encoding of text in replies, such as ``"utf-8"``: replies hold str.  None: replies hold bytes, which is
    #: faster and takes any value.
    encoding: str | None = None
    #: What to do with bytes that are not valid in ``encoding``, as in `bytes.decode`.  ``"strict"`` fails the command
    #: with UnicodeDecodeError.
    encoding_errors: str = "strict"
    #: The name that the server shows for the client's connections in CLIENT LIST: printable ASCII without spaces.
    #: None: no name.  Needs ``protocol=3``.
    client_name: str | None = None
    #: Whether the replies to requests of `ClusterClient.submit` are the server's own bytes.  All other replies cost
    #: more then.  False: they are values, as for other commands.
    raw_replies: bool = False
    #: Whether the client writes lines to Twisted's log, such as that a node is connected or lost.  Set it to False for
    #: a client that only tries a password, or for one of very many.  Events are reported in any case.
    log: bool = True

    # ---- TLS

    #: Whether to use TLS to every node.  The client verifies the certificate and the host name.  A ``valkeys://`` or
    #: ``rediss://`` URL sets it.
    tls: bool = False
    #: Which authorities to trust: the path of a PEM file, PEM bytes, or a trust root of Twisted, such as that of
    #: `twisted.internet.ssl.trustRootFromCertificates`.  None: those that the operating system trusts.  Set it if the
    #: certificates of the cluster come from an authority of your own.  A file is read again when it has changed and a
    #: new connection is made.  This is also true for the next two options.
    trust_root: Any = field(default=None, repr=False)
    #: The client's certificate, for servers that ask for one (``tls-auth-clients yes``): the path of a PEM file, PEM
    #: bytes, or a `twisted.internet.ssl.PrivateCertificate`.  Certificates of authorities between it and the one that
    #: the servers trust may follow it.
    client_certificate: str | bytes | os.PathLike[str] | PrivateCertificate | None = field(default=None, repr=False)
    #: The key of ``client_certificate``, without a pass phrase: the path of a PEM file, or PEM bytes.  None: it is in
    #: ``client_certificate``.
    client_key: str | bytes | os.PathLike[str] | None = field(default=None, repr=False)
    #: The name that every node's certificate must hold.  None: the host name or IP address that the client connects to.
    #: Set it if the cluster announces addresses that are not in the certificates.
    server_name: str | None = None

    # ---- time limits, in seconds

    #: How long a command may take in all, with every redirect and retry, before it fails with CommandTimeout.  None: no
    #: limit.  To let commands wait for a failover, set it some seconds above the servers' ``cluster-node-timeout``
    #: (15 s by default).
    timeout: float | None = 10.0
    #: How long one attempt to connect may take: name look-up, TCP, TLS and log-in.  Raise it for a slow network.
    connect_timeout: float = 2.0
    #: A connection is cut if replies are due and not one byte has come for this long.  It is below ``timeout``, so that
    #: a command that only reads can still be sent again.  Raise it if the servers run scripts or commands that take
    #: longer, since a server sends nothing meanwhile.  Blocking commands have connections without this limit.
    unresponsive_after: float = 5.0
    #: A connection that is being closed is cut after this long.  TLS needs it: a server that hangs would keep the
    #: connection open for ever.
    close_timeout: float = 1.0

    # ---- limits of memory and connections

    #: How many unanswered commands one node may have, sent or waiting.  The next one fails with TooManyPending; a
    #: pipeline waits instead.  Lower it to refuse work early when a node is slow.
    max_pending: int = 100_000
    #: How many connections to one node there may be beside the shared one.  Each serves one blocking command, one watch
    #: session, SCRIPT KILL or FUNCTION KILL at a time; others wait for a connection until their deadline.  Raise it if
    #: more of them are under way at the same time.
    max_exclusive: int = 64
    #: How many nodes the client accepts: it rejects a slot map with more, and does not follow a redirect to one more.
    #: It keeps a hostile server from filling the memory.  Valkey recommends at most 1000 nodes
    #: (https://valkey.io/topics/cluster-spec).
    max_nodes: int = 10_000
    #: How many bytes may wait to be sent to one node.  Above this, commands fail with TooManyPending.  The default is
    #: 64 MiB.  Raise it to send many large values at the same time.
    max_unsent_bytes: int = 64 * 1024 * 1024

    # ---- the slot map

    #: The command that fetches the slot map: ``"slots"`` (CLUSTER SLOTS), ``"shards"`` (CLUSTER SHARDS) or ``"nodes"``
    #: (CLUSTER NODES).  ``"auto"`` uses CLUSTER SLOTS, which servers answer fastest; from servers of version 8 on it
    #: uses CLUSTER SHARDS for the first map and for maps of more than 2048 slot ranges, where that reply is smaller.
    #: Change it if the user of the client may run only one of them.
    topology_source: str = "auto"
    #: How often the slot map is fetched when nothing asks for it, in seconds; it finds changes that no redirect shows,
    #: such as new replicas.  None: never.
    refresh_period: float | None = 60.0
    #: The least time between two fetches of the slot map, in seconds.  It limits the load on the servers while slots
    #: move.  Lower it to learn of changes sooner.
    refresh_interval: float = 1.0

    # ---- connecting

    #: The shortest upper limit of the wait before the client tries again to connect to a node, in seconds.  The wait is
    #: random, so that many clients do not connect at the same moment.  Its upper limit doubles with each failure.
    backoff_min: float = 0.01
    #: The longest wait before the client tries again to connect to a node, in seconds.  Raise it to spare a server that
    #: many clients wait for; lower it to find a restarted server sooner.
    backoff_max: float = 1.0
    #: Whether to connect to every node of a new slot map at once.  False: to a node at its first command, which saves
    #: connections to nodes that are not used.  True makes the first command to each node faster.
    warm_up: bool = False

    #: A function that makes the endpoint for a host and a port, for your own way to connect, such as through a proxy.
    #: The options of TLS cannot be used with it, and ``on_socket`` is not called.  None: the client connects itself.
    endpoint_for: Callable[[str, int], IStreamClientEndpoint] | None = None
    #: Where to connect in place of an address that the cluster announces, for NAT and containers: a mapping from
    #: (host, port) to (host, port), or a function that takes host and port and returns such a pair.
    address_map: _AddressMap | None = None
    #: A function that is called with the socket and the address after each TCP connect, before TLS and log-in; for
    #: socket options.  If it raises, the attempt to connect fails.
    on_socket: Callable[[socket.socket, Address], None] | None = None

    # ---- commands

    #: The table of commands: which arguments are keys, and which commands only read.  It holds Valkey's commands; the
    #: client asks a server about others.  Add the commands of a module to know them before.
    commands: CommandTable = field(default_factory=CommandTable)
    #: Whether to check a redirect to an address that no slot map lists, when a password is used without TLS: the client
    #: logs in there only if another node lists the address.  It keeps a hostile server from collecting the password.
    #: False skips this check.
    check_redirects: bool = True
    #: Whether MGET, MSET, MSETEX, DEL, UNLINK, EXISTS and TOUCH may have keys in several slots.  The client sends one
    #: part for each slot, so the command is not atomic.  False: they fail with RoutingError.
    split_keys: bool = True
    #: Whether to send scripts, functions and commands of modules again, or to another node, if the server says that
    #: they did not run.  A script can make up such an error after it has written.  False: they are never sent twice.
    repeat_scripts: bool = True
    #: The source of all random choices.  Pass ``Random(seed)`` to make a test repeatable.
    random: Random = field(default_factory=Random, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", parse_seeds(self.seeds))
        for name in ("username", "password", "encoding", "client_name", "server_name"):
            check_text(name, getattr(self, name))
        if self.credentials is not None and (self.username is not None or self.password is not None):
            raise ValueError("credentials cannot be used together with username and password")
        if not (self.credentials is None or isinstance(self.credentials, Credentials) or callable(self.credentials)):
            raise TypeError(f"credentials is {type(self.credentials).__name__}; it must be Credentials or a function")
        if self.protocol not in (2, 3):
            raise ValueError(f"protocol is {self.protocol!r}; it must be 2 or 3")
        if self.topology_source not in ("auto", *SOURCES):
            raise ValueError(f"topology_source must be one of auto, {', '.join(SOURCES)}")
        if not _codec_exists(self.encoding or "utf-8", self.encoding_errors):
            raise ValueError("Python does not know this encoding or encoding_errors")
        if self.db < 0:
            raise ValueError(f"db is {self.db}; it must be at least 0")
        if self.protocol == 2 and self.client_name is not None:
            raise ValueError("client_name needs protocol=3: with protocol=2 the client sends only AUTH and SELECT")
        if not all("!" <= character <= "~" for character in self.client_name or ""):
            raise ValueError("client_name may hold only printable ASCII characters without spaces")
        if self.username is not None and self.password is None:
            raise ValueError("username is given without a password")
        for name in ("connect_timeout", "unresponsive_after", "close_timeout", "refresh_interval", "backoff_min"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be above 0")
        if not self.backoff_max >= self.backoff_min:
            raise ValueError("backoff_max must not be below backoff_min")
        for name in ("timeout", "refresh_period"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be above 0, or None")
        for name in ("max_pending", "max_unsent_bytes", "max_exclusive", "max_nodes"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be at least 1")
        if self.tls and self.endpoint_for is not None:
            raise ValueError("tls and endpoint_for cannot be used together: your own endpoints must use TLS themselves")
        if not self.tls and (self.trust_root or self.client_certificate or self.client_key or self.server_name):
            options = "trust_root, client_certificate, client_key and server_name"
            raise ValueError(f"{options} need TLS: use valkeys:// or tls=True")
        if self.client_key is not None and not isinstance(self.client_certificate, (str, bytes, os.PathLike)):
            raise ValueError("client_key needs client_certificate as a path or as PEM bytes")

    @property
    def logs_in(self) -> bool:
        """Whether the client logs in."""
        return self.password is not None or self.credentials is not None

    def backoff(self, failures: int) -> float:
        """Draw the wait before the next attempt to connect.

        Args:
            failures: How many attempts have failed in a row.

        Returns:
            Seconds, drawn from ``backoff_min / 2`` to ``backoff_min * 2 ** failures``, but at most ``backoff_max``.
        """
        longest = min(self.backoff_max, self.backoff_min * 2.0 ** min(failures, 30))
        return self.random.uniform(self.backoff_min / 2, longest)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Options:
        """Read options from a URL.

        The form is ``valkeys://user:password@host:port,host:port/db?option=value&option=value``.  The schemes
        ``valkey`` and ``redis`` mean TCP; ``valkeys`` and ``rediss`` mean TLS.  Write user and password
        percent-encoded, and an IPv6 address in brackets.  The port is 6379 if it is left out.  All but the hosts may
        be left out.

        Args:
            url: The URL.  A parameter's value is text, a number, ``true`` or ``false``, or ``none`` where an option
                may be None.  Callables, ``commands`` and ``random`` cannot be parameters.
            **options: Options as keywords; they override the URL.

        Returns:
            The options.

        Raises:
            ValueError: The URL or a value is not valid.  The text never holds a part of the URL that can be a password.
            TypeError: There is no such option, or a keyword has a wrong type.

        Example:
            Options.from_url("valkeys://app:secret@10.0.0.1:7300,10.0.0.2:7300/1?timeout=2.5", trust_root="ca.pem")
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
                raise ValueError("the path of the URL must be the number of a database")
            values["db"] = int(path)
        values["seeds"] = parse_seeds(hosts)
        for number, (name, text) in enumerate(parse_qsl(query, keep_blank_values=True), 1):
            values[name] = _from_text(name, text, number)
        values.update(options)
        return cls(**values)


def options_of_client(url: str | None, options: Mapping[str, Any]) -> Options:
    """Read the options that a client was given.

    Args:
        url: The URL, or None.
        options: The options as keywords; they override the URL.

    Returns:
        The options, which have seeds.

    Raises:
        TypeError: There is no such option, or an option has a wrong type.
        ValueError: The URL or the value of an option is not valid, or there are no seeds.
    """
    check_names(options)
    read = Options.from_url(url, **options) if url is not None else Options(**options)
    if not read.seeds:
        raise ValueError("no seeds are given: pass a URL or the option seeds")
    return read


def check_names(names: Iterable[str]) -> None:
    """Check that options exist.

    Args:
        names: Names that may be options.

    Raises:
        TypeError: A name is not an option.  The text suggests the option with the most similar name.
    """
    known = list(Options.__dataclass_fields__)
    for name in names:
        if name not in known:
            nearest = get_close_matches(name, known, 1)
            raise TypeError(f"there is no option {name!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else ""))


def _unquoted(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("the user name or the password in the URL is not valid UTF-8") from None


def _codec_exists(encoding: str, errors: str) -> bool:
    try:
        codecs.lookup_error(errors)
        # Codecs that do not decode to text, such as hex, raise LookupError here too.
        b"".decode(encoding)
        b"a".decode(encoding, "replace")
    except UnicodeError:
        return True
    except (LookupError, ValueError):
        return False
    return True


def _from_text(name: str, text: str, number: int) -> Any:
    """Convert the value of a URL parameter to the type of its option."""
    kind = get_type_hints(Options).get(name) if name not in _NOT_IN_A_QUERY else None
    kinds = get_args(kind) or (kind,)
    try:
        if name in ("trust_root", "client_certificate", "client_key") or str in kinds:
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
    # The name is not in the text: it can be the part of a password after a question mark.
    raise ValueError(f"parameter {number} of the URL is not an option that a URL can hold")
