"""`WorkerProcess`: what the supervisor knows of the process of one worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..snapshot import Snapshot
from .json_log import log_line

if TYPE_CHECKING:
    from .supervisor import Supervisor

_log = Logger()


class WorkerProcess(ProcessProtocol):
    """The process of one worker."""

    transport: Any

    def __init__(self, supervisor: Supervisor, serial: int, number: int, place: int) -> None:
        """Make a worker whose process is not started yet.

        Args:
            supervisor: Is told what happens.
            serial: A later worker has a higher one.
            number: The number that no other worker has at the same time.
            place: Which part of the limits it has, from 0.  Its successor has the same.
        """
        self.serial = serial
        self.number = number
        self.place = place
        #: Fires with whether the worker accepts clients.  False: it has ended before.
        self.ready: Deferred[bool] = Deferred()
        #: Fires with None when the process has ended.
        self.gone: Deferred[None] = Deferred()
        #: Whether it was told to stop.
        self.stopping = False
        #: Whether it has as many clients as it may have.
        self.full = False
        #: What it has done, as far as it has told, and whether that is all.
        self.numbers = Snapshot()
        self.told_all = False
        self.started = supervisor.seconds()
        self._supervisor = supervisor
        self._partial = {1: b"", 2: b""}

    @property
    def accepts(self) -> bool:
        """Whether it accepts clients, or would if it had not enough of them."""
        return self.ready.called and not self.stopping

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Pass on the lines that are complete."""
        *lines, self._partial[childFD] = (self._partial[childFD] + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace")
            if childFD == 1:
                try:
                    self._told(json.loads(text))
                except (ValueError, TypeError):
                    _log.warn("worker {number} has written {line!r}", number=self.number, line=text)
            else:
                log_line(self.number, text)

    def _told(self, told: Any) -> None:
        if not isinstance(told, dict):
            raise TypeError("it is no object")
        if "numbers" in told:
            self.numbers = Snapshot.from_json(told["numbers"])
            self.told_all = True
        if "event" in told:
            level, event = told["event"]
            self._supervisor.history.add(str(level), str(event), self.number)
        if "full" in told:
            self.full = bool(told["full"])
            self._supervisor.changed()
        if "ready" in told and not self.ready.called:
            self.ready.callback(True)

    def tell(self, **what: Any) -> None:
        """Send a line."""
        self.transport.write(json.dumps(what).encode() + b"\n")

    def stop(self) -> None:
        """Tell the worker to end when the requests of its clients have ended.

        A signal would not do: systemd and terminals send signals to all processes, and a second one means to hurry.
        """
        if not self.stopping:
            self.stopping = True
            self.tell(stop="drain")

    def kill(self) -> None:
        """End the process now."""
        if self.transport.pid:
            self.transport.signalProcess("KILL")

    def processEnded(self, reason: Failure) -> None:
        """Tell everybody."""
        self._supervisor.ended(self, reason)
        if not self.ready.called:
            self.ready.callback(False)
        self.gone.callback(None)
