"""The settings of a proxy: from the command line, or from a TOML file with the same names."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from ..options import Options

#: The most workers that there may be.
MOST_WORKERS = 1024
#: The forms of the log.
LOG_FORMATS = ("text", "json")
#: What can happen to a client whose subscriptions may miss messages.
SUBSCRIPTION_GAPS = ("disconnect", "continue")
_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class SettingsError(ValueError):
    """A setting is not valid.  The text names it, and never holds a password."""

    def __init__(self, name: str, problem: str) -> None:
        """Make an error.

        Args:
            name: The name of the setting.
            problem: What is wrong, as the rest of a sentence.
        """
        super().__init__(f"{name} {problem}")
        self.name = name
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """Every setting of a proxy.

    With workers, those of all clients together are divided among them: ``max_clients``, ``max_total_bytes`` and
    ``max_output``.
    """

    #: The cluster, as for `connect`: ``valkey://user:password@host:port,host:port?option=value``.
    cluster: str = field(default="", repr=False)
    #: The endpoints to listen on, as Twisted's endpoint strings.
    listen: tuple[str, ...] = ("tcp:6379:interface=127.0.0.1",)
    #: A file with the proxy's own users.  Every client must log in as one of them.
    users: str = ""
    #: Whether clients log in to the cluster with their own users.
    pass_through: bool = False
    #: How many different logins there may be at the same time, with ``pass_through``; with workers, in each of them.
    max_logins: int = 100
    #: The endpoint of the web site: a status page, ``/healthz``, ``/readyz`` and ``/metrics``; empty for none.
    metrics: str = ""
    #: The form of the log of twistd: ``"text"`` or ``"json"``.
    log_format: str = "text"
    #: How many processes serve the clients; 0 means the process itself.
    workers: int = 0
    #: Seconds until a command fails, over all attempts.
    timeout: float = 10.0
    #: How many clients there may be.
    max_clients: int = 10_000
    #: How many requests of one client may be under way.
    max_pending: int = 1024
    #: How many bytes of requests of one client may be under way; one request may be larger.
    max_pending_bytes: int = 64 << 20
    #: How many bytes of requests of all clients may be under way.  Above it, every client has only its fair share.
    max_total_bytes: int = 1 << 30
    #: The largest request, in bytes.
    max_request: int = 512 << 20
    #: Seconds without a request after which a client is disconnected; 0 means never.
    idle_timeout: float = 0.0
    #: Seconds that a client may take to send one request.
    request_timeout: float = 120.0
    #: Seconds after which a client is disconnected that does not read its replies.
    output_timeout: float = 30.0
    #: How many bytes of replies may wait for clients that do not read, in total.  Above it, those that have read
    #: nothing for the longest time are disconnected.
    max_output: int = 1 << 30
    #: What happens to a client if messages of its subscriptions may be missing, for example after a failover:
    #: ``"disconnect"``, so that it subscribes again and looks for what it has missed, or ``"continue"``.
    subscription_gaps: str = "disconnect"
    #: How many bytes may wait for a client that does not read its messages.  Above it, it is disconnected.
    max_unread_messages: int = 32 << 20
    #: Seconds that the clients' commands may take to end after the proxy was told to stop.
    stop_timeout: float = 10.0
    #: Commands that take longer than this are in SLOWLOG, in microseconds.
    slowlog_slower_than: int = 10_000
    #: How many commands SLOWLOG keeps.
    slowlog_max_len: int = 128

    def __post_init__(self) -> None:
        if not self.cluster:
            raise SettingsError("cluster", "is missing: give the URL of the cluster")
        if not self.listen:
            raise SettingsError("listen", "is empty: give at least one endpoint")
        if self.users and self.pass_through:
            raise SettingsError("users", "cannot be used together with pass_through")
        for each in fields(self):
            value = getattr(self, each.name)
            if each.type == "float" and not math.isfinite(value):
                raise SettingsError(each.name, f"is {value!r}; it must be a finite number")
        for name in ("timeout", "request_timeout", "output_timeout"):
            if not getattr(self, name) > 0:
                raise SettingsError(name, f"is {getattr(self, name)!r}; it must be above 0")
        for name in (
            *("max_logins", "max_clients", "max_pending", "max_pending_bytes", "max_total_bytes", "max_request"),
            *("max_output", "max_unread_messages"),
        ):
            if not getattr(self, name) >= 1:
                raise SettingsError(name, f"is {getattr(self, name)!r}; it must be at least 1")
        for name in ("workers", "idle_timeout", "stop_timeout", "slowlog_slower_than", "slowlog_max_len"):
            if not getattr(self, name) >= 0:
                raise SettingsError(name, f"is {getattr(self, name)!r}; it must be at least 0")
        if self.subscription_gaps not in SUBSCRIPTION_GAPS:
            raise SettingsError(
                "subscription_gaps", f"is {self.subscription_gaps!r}; it must be {' or '.join(SUBSCRIPTION_GAPS)}"
            )
        if self.log_format not in LOG_FORMATS:
            raise SettingsError("log_format", f"is {self.log_format!r}; it must be {' or '.join(LOG_FORMATS)}")
        if self.workers > MOST_WORKERS:
            raise SettingsError("workers", f"is {self.workers}; it must be at most {MOST_WORKERS}")
        if self.max_clients < self.workers:
            raise SettingsError("max_clients", f"is {self.max_clients}; it must be at least workers ({self.workers})")
        try:
            Options.from_url(self.cluster)
        except (TypeError, ValueError) as error:
            raise SettingsError("cluster", f"is not valid: {error}") from None

    @property
    def database(self) -> int:
        """The number of the database that the clients use."""
        return Options.from_url(self.cluster).db

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ProxySettings:
        """Make settings from values by name, with ``-`` or ``_`` between words.

        Raises:
            SettingsError: A name is not known, or a value has a wrong type.
        """
        types = get_type_hints(cls)
        known = {each.name for each in fields(cls)}
        given: dict[str, Any] = {}
        for name, value in values.items():
            plain = name.replace("-", "_")
            if plain not in known:
                raise SettingsError(name, "is not a setting")
            if plain in given:
                raise SettingsError(name, "is given twice")
            given[plain] = _converted(plain, value, types[plain])
        return cls(**given)


def read_file(path: str) -> dict[str, Any]:
    """Read settings from a TOML file.

    Args:
        path: The file, which is named in every error.

    Returns:
        The values by name, with ``_`` between words.

    Raises:
        ValueError: The file cannot be read, is no TOML, or has something that is not a setting.
    """
    try:
        values = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    types = get_type_hints(ProxySettings)
    found: dict[str, Any] = {}
    for name, value in values.items():
        plain = name.replace("-", "_")
        if plain not in types:
            raise ValueError(f"{path}: {name} is not a setting")
        if plain in found:
            raise ValueError(f"{path}: {name} is given twice")
        try:
            found[plain] = _converted(plain, value, types[plain])
        except SettingsError as error:
            raise ValueError(f"{path}: {error}") from None
    return found


def _converted(name: str, value: Any, kind: Any) -> Any:
    if kind in _KINDS:
        fits = isinstance(value, (int, float) if kind is float else kind) and (
            kind is bool or not isinstance(value, bool)
        )
        if fits:
            return value
    elif isinstance(value, str):
        return (value,)
    elif isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return tuple(value)
    # A URL can hold a password.
    shown = "not valid" if name == "cluster" else repr(value)
    raise SettingsError(name, f"is {shown}; it must be {_KINDS.get(kind, 'a list of texts')}")
