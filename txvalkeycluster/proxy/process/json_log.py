"""The log as lines of JSON: an observer for twistd, and the log of the workers, which goes through the supervisor."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO, cast

from twisted.application.service import MultiService
from twisted.logger import FileLogObserver, ILogObserver, LogEvent, Logger, LogLevel, eventAsText
from twisted.python.logfile import LogFile

# What a worker writes that is no event of the log, such as the last words of an interpreter.
_log = Logger("txvalkeycluster.proxy.process.worker")
# What Twisted's log itself puts into an event, and what is in every line.
_NOT_FIELDS = frozenset(["message", "isError", "failure", "why", "time", "system", "format", "level", "namespace"])
# The most characters of a field.
_LONGEST = 1000


def as_json(event: LogEvent) -> str:
    """Write an event of the log as one line: time, level, namespace, message, and the fields of the event.

    Returns:
        The line; empty if the event has no message.
    """
    message = eventAsText(event, includeTimestamp=False, includeSystem=False).strip()
    if not message:
        return ""
    level = event.get("log_level")
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    values = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level.name if level is not None else "info",
        "namespace": event.get("log_namespace", "-"),
        "message": message,
    }
    values |= {
        name: _plain(value)
        for name, value in event.items()
        if not name.startswith(("log_", "_")) and name not in _NOT_FIELDS
    }
    return json.dumps(values) + "\n"


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception:
        return "?"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def log_line(number: int, line: str) -> None:
    """Log a line that a worker has written to its standard error.

    Args:
        number: The number of the worker.
        line: A line that `as_json` has made, or any other text.
    """
    values: Any = None
    with suppress(ValueError):
        values = json.loads(line)
    if not isinstance(values, dict) or not isinstance(values.get("message"), str):
        _log.info("worker {worker}: {line}", worker=number, line=line)
        return
    level = LogLevel.info
    with suppress(Exception):
        level = LogLevel.levelWithName(values["level"])
    fields = {name: value for name, value in values.items() if name not in _NOT_FIELDS and not name.startswith("log_")}
    fields |= {"worker": number, "line": values["message"]}
    Logger(str(values.get("namespace"))).emit(level, "worker {worker}: {line}", **fields)


def json_observer(options: Mapping[str, Any]) -> ILogObserver:
    """Make an observer that writes lines of JSON to where twistd would write text.

    Args:
        options: The options of twistd.
    """
    name = options.get("logfile") or ("-" if options.get("nodaemon") else "twistd.log")
    if name == "-":
        if not options.get("nodaemon"):
            sys.exit("Daemons cannot log to stdout, exiting!")
        output: Any = sys.stdout
    else:
        output = LogFile.fromFullPath(name)  # type: ignore[no-untyped-call]
        if not signal.getsignal(signal.SIGUSR1):
            from twisted.internet import reactor

            loop: Any = reactor
            signal.signal(signal.SIGUSR1, lambda *_: loop.callFromThread(output.rotate))
    return cast(ILogObserver, FileLogObserver(cast(TextIO, output), as_json))


class JSONLogService(MultiService):
    """Makes the application that it becomes a part of write its log as JSON."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Make a service without parts.

        Args:
            options: The options of twistd.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._options = options

    def setServiceParent(self, parent: Any) -> None:
        """Set the observer of the application.  twistd starts its log afterwards."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]
        parent.setComponent(ILogObserver, json_observer(self._options))
