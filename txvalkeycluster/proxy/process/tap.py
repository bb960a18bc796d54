"""The plugin for ``twistd valkey-proxy``: its options, and the service that it makes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

from twisted.application.service import IService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from ...client import ClusterClient
from ..server import ProxyServer
from ..settings import ProxySettings, SettingsError, read_file
from .json_log import JSONLogService
from .listening import endpoint_of, is_passed_by_systemd
from .service import ProxyService, allow_open_files, made_server, tune_garbage_collector
from .supervisor import Supervisor
from .website import metrics_endpoint

_log = Logger()


def _number(name: str, kind: type[float], wanted: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            return kind(text)
        except ValueError:
            raise UsageError(f"--{name} is {text!r}; it must be {wanted}") from None

    return convert


class Options(UsageOptions):
    """The options of the command line.  They override the file."""

    synopsis = "--cluster URL [--listen ENDPOINT ...] [options]"
    longdesc = (
        "A proxy for a Valkey cluster: programs connect to it as to a single server.  "
        "All other settings, such as limits, are in the file of --config."
    )
    optFlags: ClassVar = [
        ["pass-through", None, "Clients log in to the cluster with their own users."],
        ["check", None, "Check the settings, and end."],
    ]
    optParameters: ClassVar = [
        ["cluster", None, None, "URL of the cluster: valkey://user:password@host:port,host:port?option=value"],
        ["users", None, None, "File with the proxy's own users; python -m txvalkeycluster.proxy.users writes a line."],
        ["timeout", None, None, "Seconds until a command fails.  [default: 10]", _number("timeout", float, "a number")],
        [
            "metrics",
            None,
            None,
            "Endpoint of a status page, /healthz, /readyz and /metrics, such as tcp:9121:interface=127.0.0.1.",
        ],
        ["log-format", None, None, "Form of the log: text, or json for one object per line.  [default: text]"],
        [
            "workers",
            None,
            None,
            "How many processes serve the clients.  [default: this process]",
            _number("workers", int, "a whole number"),
        ],
        ["config", None, None, "TOML file with these settings and more."],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._listen: list[str] = []

    @property
    def _twistd(self) -> Mapping[str, Any]:
        """The options of twistd."""
        parent: Mapping[str, Any] | None = self.parent
        return parent if parent is not None else {}

    def opt_listen(self, endpoint: str) -> None:
        """Twisted endpoint to listen on; can be given several times. The default is tcp:6379:interface=127.0.0.1."""
        self._listen.append(endpoint)

    def postOptions(self) -> None:
        """Make the settings.

        Raises:
            UsageError: A setting is not valid.
        """
        path = self["config"]
        try:
            values = read_file(path) if path else {}
        except ValueError as error:
            raise UsageError(f"--config {error}") from None
        given = {name: self[name] for name in ("cluster", "users", "timeout", "metrics", "workers", "log-format")}
        given = {name.replace("-", "_"): value for name, value in given.items() if value is not None}
        if self["pass-through"]:
            given["pass_through"] = True
        if self._listen:
            given["listen"] = self._listen
        # A password must not be where somebody prints these options.
        self["cluster"] = None
        try:
            self["settings"] = ProxySettings.from_mapping({**values, **given})
            check(self["settings"], started=not self["check"])
            if self["settings"].log_format == "json" and self._twistd.get("syslog"):
                raise SettingsError("log_format", "cannot be json together with --syslog")
        except SettingsError as error:
            in_file = error.name in values and error.name not in given
            name = f"{path}: {error.name}" if in_file else f"--{error.name.replace('_', '-')}"
            raise UsageError(f"{name} {error.problem}") from None
        if self["check"]:
            print("The settings are valid.")
            raise SystemExit(0)


def check(settings: ProxySettings, *, started: bool = True) -> None:
    """Check what settings refer to: files, endpoints and packages.  Nothing is opened or connected.

    Args:
        settings: The settings.
        started: Whether the sockets that systemd passes must be there.

    Raises:
        SettingsError: Something is not valid.
    """
    from twisted.internet import reactor

    for each in settings.listen:
        try:
            endpoint_of(reactor, "listen", each)
        except SettingsError as error:
            if started or not is_passed_by_systemd(error):
                raise
    metrics_endpoint(reactor, settings)
    made_server(lambda: ProxyServer(cast(IReactorTime, reactor), settings))
    try:
        ClusterClient(reactor, settings.cluster, raw_replies=True).abort()
    except (OSError, TypeError, ValueError) as error:
        raise SettingsError("cluster", f"is not valid: {error}") from error


def makeService(options: Any) -> IService:
    """Make the service of the plugin."""
    from twisted.internet import reactor

    settings = options["settings"]
    service: IService
    if settings.workers:
        service = Supervisor(reactor, settings)
    else:
        allow_open_files(settings)
        tune_garbage_collector()
        service = ProxyService(reactor, settings)
        # By default it would end the process, although it is how workers are replaced.
        signal.signal(signal.SIGHUP, lambda *_: _log.warn("SIGHUP replaces workers, and this proxy has none"))
    if settings.log_format == "json":
        logging = JSONLogService(options.parent or {})
        service.setServiceParent(logging)  # type: ignore[no-untyped-call]
        return logging
    return service
