"""The plain path of a connection: commands are queued, written together, and get their replies.

`RESPProtocol` handles everything else: limits, batches, redirects, errors and the end of the connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp

from ..requests.deadlines import DeadlineTimer
from ..requests.fast_deferred import fast
from ..requests.request import Request
from ..statistics import NodeStatistics
from .write_scheduler import WriteScheduler

#: Many commands in one turn are written in pieces of this many commands, so that the server starts early.
BURST = 1024


class CommandStream:
    """Base class of `RESPProtocol`.  `_fast` has the same class in C, which calls these methods for unusual cases."""

    #: Whether the connection accepts no more requests and has none left.
    ended: bool
    #: The counters of the node.
    counters: NodeStatistics
    #: Returns the current time.
    seconds: Callable[[], float]
    #: When bytes last came, as clock.seconds(), or when the first pending command was written.
    heard_at: float
    #: The connection is aborted if replies are pending and nothing has come for this long, in seconds.
    patience: float
    _unsent: list[Request]
    _sent: deque[Request]
    # With this many unsent commands, `send` checks the limits: a burst, the limit, or 0 while paused.
    _crowd: int
    _max_pending: int
    # Whether the unsent requests may include batches, transactions or commands of the client itself.
    _mixed: bool
    # Whether the transport has too many unsent bytes.
    _paused = False
    # Whether no more requests are accepted.
    _draining = False
    # See `carried`.
    _carried_more: bool
    _cancels_seen: int
    _deadline_timer: DeadlineTimer
    _write_scheduler: WriteScheduler
    # The transport and its function that writes to the socket at once; None without such a function.
    _direct: tcp.Connection | None
    _write_at_once: Callable[[bytes], object] | None
    _reader: Any
    # Returns the next reply; the one in C returns the next reply that is not the expected one of a plain command.
    _next_reply: Callable[[], Any]

    # ---- what `RESPProtocol` does

    def _admit(self, request: Request, count: int = 1) -> None:
        """Check the limits for new commands."""
        raise NotImplementedError

    def _drop_cancelled(self) -> None:
        """Remove cancelled commands from the queue."""
        raise NotImplementedError

    def _extend_sent(self, unsent: list[Request]) -> None:
        """Expect the replies of requests of any kind."""
        raise NotImplementedError

    def _write_large(self, requests: list[Request]) -> None:
        """Write requests with large values."""
        raise NotImplementedError

    def _write_later(self, data: bytes) -> None:
        """Give bytes to the transport, which writes them when it can."""
        raise NotImplementedError

    def _deliver(self, data: bytes) -> None:
        """Deliver the replies that are complete with ``data``."""
        raise NotImplementedError

    def _close_if_drained(self) -> None:
        """Close the connection if the last reply has come."""
        raise NotImplementedError

    # ---- commands out, replies in

    def send(self, request: Request) -> None:
        """Queue a request.

        Raises:
            TooManyPending: The limit is reached; the request was not accepted.
        """
        unsent = self._unsent
        queued = len(unsent)
        if not queued:
            self._write_scheduler.touch(self)  # type: ignore[arg-type]
        if queued >= self._crowd:
            self._admit(request)
        unsent.append(request)
        if request.deadline < self._deadline_timer.at:
            self._deadline_timer.by(request.deadline)
        if request.payload.__class__ is list or queued >= BURST:
            self._write_scheduler.write(self)  # type: ignore[arg-type]

    def flush(self) -> None:
        """Write all queued commands, unless the transport has too many unsent bytes."""
        unsent = self._unsent
        if not unsent or self._paused or self.ended:
            return
        # Calls are inlined by hand: with one command in flight, this method runs once per command.
        if self._cancels_seen != self._write_scheduler.cancels.count:
            self._drop_cancelled()
            if not unsent:
                return
        self._unsent = []
        sent = self._sent
        if not sent:
            # The first pending reply: silence counts from now.
            self.heard_at = now = self.seconds()
            if now + self.patience < self._deadline_timer.at:
                self._deadline_timer.by(now + self.patience)
        if self._mixed:
            self._extend_sent(unsent)
        else:
            sent.extend(unsent)
            self._carried_more = True
        room = self._max_pending - len(sent)
        self._crowd = BURST if room >= BURST else max(room, 0)
        data = joined(unsent)
        if data is None:
            self._write_large(unsent)
            return
        counters = self.counters
        counters.commands += len(unsent)
        counters.bytes_sent += len(data)
        direct = self._direct
        # See `direct_write`.
        if direct is not None and not direct.dataBuffer and not direct._tempDataBuffer:
            try:
                written = self._write_at_once(data)  # type: ignore[misc]
            except OSError:
                written = 0
            # Any other result means that the socket is broken; the reactor reports that later in connectionLost.
            if isinstance(written, int):
                if written == len(data):
                    return
                data = data[written:]
        self._write_later(data)

    def dataReceived(self, data: bytes) -> None:
        """Deliver the replies that are complete with ``data``."""
        if self.ended:
            return
        scheduler = self._write_scheduler
        outer, scheduler.held = scheduler.held, True
        self.heard_at = self.seconds()
        self.counters.bytes_received += len(data)
        owed = len(self._sent)
        try:
            self._deliver(data)
        finally:
            scheduler.held = outer
            if not outer:
                # TLS transports batch their writes themselves.
                scheduler.read_done(owed - len(self._sent) if self._direct is not None else 0)
        if self._draining:
            self._close_if_drained()


def joined(requests: list[Request]) -> bytes | None:
    """Return the payloads of requests as one bytes object; None if one of them has large values."""
    try:
        data = requests[0].payload if len(requests) == 1 else b"".join([r.payload for r in requests])  # type: ignore[misc]
    except TypeError:
        return None
    return data if isinstance(data, bytes) else None


#: The versions in Python.
PythonCommandStream, python_joined = CommandStream, joined
if fast is not None and not TYPE_CHECKING:

    class CommandStream(fast.CommandStream):
        """The version in C."""

        _flush_in_python = PythonCommandStream.flush

    joined = fast.joined
