"""The plugin for ``twistd valkey-proxy``: its options, and the service that it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from .service import ProxyService, tune_garbage_collector
from .settings import ProxySettings, SettingsError, read_file
from .supervisor import Supervisor


def _number(name: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise UsageError(f"--{name} is {text!r}; it must be a number") from None

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
        ["timeout", None, None, "Seconds until a command fails.  [default: 10]", _number("timeout")],
        [
            "metrics",
            None,
            None,
            "Endpoint for Prometheus, such as tcp:9121:interface=127.0.0.1; metrics are at /metrics.",
        ],
        ["workers", None, None, "How many processes serve the clients.  [default: this process]", _number("workers")],
        ["config", None, None, "TOML file with these settings and more."],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._listen: list[str] = []

    def opt_listen(self, endpoint: str) -> None:
        """Twisted endpoint to listen on; can be given several times. The default is tcp:6379:interface=127.0.0.1."""
        self._listen.append(endpoint)

    def postOptions(self) -> None:
        """Make the settings.

        Raises:
            UsageError: A setting is not valid.
        """
        try:
            values = read_file(self["config"]) if self["config"] else {}
            for name in ("cluster", "users", "timeout", "metrics"):
                if self[name] is not None:
                    values[name] = self[name]
            if self["workers"] is not None:
                values["workers"] = int(self["workers"])
            if self["pass-through"]:
                values["pass_through"] = True
            if self._listen:
                values["listen"] = self._listen
            self["settings"] = ProxySettings.from_mapping(values)
        except SettingsError as error:
            raise UsageError(str(error)) from None
        if self["check"]:
            self._check()

    def _check(self) -> None:
        try:
            makeService(self)
        except (OSError, ValueError, ImportError) as error:
            raise UsageError(str(error)) from None
        print("The settings are valid.")
        raise SystemExit(0)


def makeService(options: Any) -> IService:
    """Make the service of the plugin."""
    from twisted.internet import reactor

    settings = options["settings"]
    service: IService
    if settings.workers:
        service = Supervisor(reactor, settings)
    else:
        tune_garbage_collector()
        service = ProxyService(reactor, settings)
    return service
