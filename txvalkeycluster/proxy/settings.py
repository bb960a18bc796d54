"""The settings of a proxy: from the command line, or from a TOML file with the same names."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from ..options import Options


class SettingsError(ValueError):
    """A setting is not valid.  The text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """Every setting of a proxy."""

    #: The cluster, as for `connect`: ``valkey://user:password@host:port,host:port?option=value``.
    cluster: str = field(default="", repr=False)
    #: The endpoints to listen on, as Twisted's endpoint strings.
    listen: tuple[str, ...] = ("tcp:6379:interface=127.0.0.1",)
    #: A file with the proxy's own users.  Every client must log in as one of them.
    users: str = ""
    #: Whether clients log in to the cluster with their own users.
    pass_through: bool = False
    #: How many different logins there may be at the same time, with ``pass_through``.
    max_logins: int = 100
    #: The endpoint of the metrics for Prometheus, at ``/metrics``; empty for none.
    metrics: str = ""
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
    #: Seconds that the clients' commands may take to end after the proxy was told to stop.
    stop_timeout: float = 10.0
    #: Commands that take longer than this are in SLOWLOG, in microseconds.
    slowlog_slower_than: int = 10_000
    #: How many commands SLOWLOG keeps.
    slowlog_max_len: int = 128

    def __post_init__(self) -> None:
        if not self.cluster:
            raise SettingsError("cluster is missing: give the URL of the cluster")
        if not self.listen:
            raise SettingsError("listen is empty: give at least one endpoint")
        if self.users and self.pass_through:
            raise SettingsError("users and pass_through cannot be used together")
        for name in ("timeout", "request_timeout", "output_timeout"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} is {getattr(self, name)!r}; it must be above 0")
        for name in (
            *("max_logins", "max_clients", "max_pending", "max_pending_bytes", "max_total_bytes", "max_request"),
            "max_output",
        ):
            if not getattr(self, name) >= 1:
                raise SettingsError(f"{name} is {getattr(self, name)!r}; it must be at least 1")
        for name in ("workers", "idle_timeout", "stop_timeout", "slowlog_slower_than", "slowlog_max_len"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name} is {getattr(self, name)!r}; it must be at least 0")
        try:
            Options.from_url(self.cluster)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"cluster is not valid: {error}") from None

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
                raise SettingsError(f"there is no setting {name}")
            given[plain] = _converted(plain, value, types[plain])
        return cls(**given)


def read_file(path: str) -> dict[str, Any]:
    """Read settings from a TOML file.

    Raises:
        SettingsError: The file cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from None


def _converted(name: str, value: Any, kind: Any) -> Any:
    wanted = getattr(kind, "__name__", "a list of texts")
    if kind in (int, float, bool, str):
        fits = isinstance(value, (int, float) if kind is float else kind) and (
            kind is bool or not isinstance(value, bool)
        )
        if fits:
            return value
    elif isinstance(value, str):
        return (value,)
    elif isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise SettingsError(f"{name} is {value!r}; it must be {wanted}")
