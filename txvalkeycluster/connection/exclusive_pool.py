"""Connections that one caller has to itself for a while: to block on, or to watch keys on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

from twisted.internet.defer import Deferred

from ..errors import ConnectionLost, ReplyError
from ..options import Options
from ..requests.request import Request
from ..requests.timer import Timer
from .handshake import ServerInfo
from .protocol import ConnectionListener, RESPProtocol

# An idle one is closed after about this long.
_KEPT = 30.0


class Lease(ConnectionListener):
    """One such connection.  It is given back with `ExclusivePool.give_back`, whatever has become of it."""

    def __init__(self, connection: RESPProtocol, info: ServerInfo, failed: Callable[[Lease, Exception], None]) -> None:
        """``failed`` is told error replies, and the loss of the connection."""
        self.connection = connection
        self.info = info
        #: Whether it is waiting for a reply that the server may hold back for long.
        self.blocked = False
        self.idle_since = 0.0
        self._failed = failed
        connection.owner = self
        # A reply that is held back is no silence; of a dead peer keepalive tells.
        connection.patience = inf

    def reply_failed(self, connection: RESPProtocol, request: Request, error: ReplyError) -> None:
        """The error is the caller's."""
        self._failed(self, error)
        request.fail(error)

    def connection_ended(
        self, connection: RESPProtocol, unsent: list[Request], sent: list[Request], reason: Exception
    ) -> None:
        """What was asked fails."""
        self._failed(self, reason)
        super().connection_ended(connection, unsent, sent, reason)


class ExclusivePool:
    """The exclusive connections of one node: made when needed, at most ``max_exclusive``, kept for a while."""

    def __init__(
        self,
        clock: Any,
        options: Options,
        establish: Callable[[], Deferred[tuple[RESPProtocol, ServerInfo]]],
        where: str,
        failed: Callable[[Exception], None],
    ) -> None:
        """``failed`` is told error replies, and lost connections that somebody had."""
        self._clock = clock
        self._options = options
        self._establish = establish
        self._where = where
        self._failed = failed
        self._idle: list[Lease] = []
        self._leased: set[Lease] = set()
        self._dialling: set[Deferred[Any]] = set()
        self._waiting: deque[Deferred[Lease]] = deque()
        self._idle_timer = Timer(clock, self._close_idle)
        self._closed: Exception | None = None
        self._failures = 0
        self._next_dial = Timer(clock, self._serve)

    def __repr__(self) -> str:
        counts = f"leased={len(self._leased)} idle={len(self._idle)} waiting={len(self._waiting)}"
        return f"<ExclusivePool {self._where} {counts}>"

    @property
    def leases(self) -> list[Lease]:
        """Those that somebody has."""
        return list(self._leased)

    def lease(self) -> Deferred[Lease]:
        """Fires with a connection, in the order asked.  Fails with ConnectFailed; cancelling gives the place up."""
        wanted: Deferred[Lease] = Deferred(self._given_up)
        if self._closed is not None:
            wanted.errback(self._closed)
            return wanted
        self._waiting.append(wanted)
        self._serve()
        return wanted

    def give_back(self, lease: Lease, *, clean: bool) -> None:
        """Take one back; one that is not ``clean`` owes replies or holds state, and is cut."""
        self._leased.discard(lease)
        if not clean or lease.connection.ended or lease.connection.pending:
            lease.connection.abort(ConnectionLost(f"{self._where}: given up"))
        elif self._closed is not None:
            lease.connection.drain()
        else:
            lease.blocked = False
            lease.idle_since = self._clock.seconds()
            self._idle.append(lease)
            self._watch_idle()
        self._serve()

    def close(self, reason: Exception | None = None) -> None:
        """Lease nothing more; those that are leased are closed when they come back, or now if they do nothing."""
        self._shut(reason or ConnectionLost(f"{self._where}: the connection was closed"))

    def cut_idle(self) -> None:
        """Cut those that are leased and have nothing on its way: whoever has them is not waiting for anything."""
        for lease in list(self._leased):
            if not lease.connection.pending:
                lease.connection.abort(ConnectionLost(f"{self._where}: the connection was closed"))

    def forget(self) -> None:
        """Close the idle ones: their address names another machine now."""
        idle, self._idle = self._idle, []
        for lease in idle:
            lease.connection.drain()

    def abort(self, reason: Exception) -> None:
        """Cut every one."""
        self._shut(reason)
        for lease in list(self._leased):
            lease.connection.abort(reason)

    def _shut(self, reason: Exception) -> None:
        self._closed = reason
        self._idle_timer.stop()
        self._next_dial.stop()
        idle, self._idle = self._idle, []
        waiting, self._waiting = list(self._waiting), deque()
        for dialling in list(self._dialling):
            dialling.cancel()
        for lease in idle:
            lease.connection.drain()
        for wanted in waiting:
            if not wanted.called:
                wanted.errback(reason)

    def _serve(self) -> None:
        """Hand out idle ones, newest first, and dial for those that go without."""
        while self._waiting and self._idle:
            lease = self._idle.pop()
            if not lease.connection.ended:
                wanted = self._waiting.popleft()
                self._leased.add(lease)
                wanted.callback(lease)
        room = self._options.max_exclusive - len(self._leased) - len(self._dialling)
        if self._failures:
            room = min(room, 1 - len(self._dialling))
        if not self._next_dial.running:
            for _ in range(min(room, len(self._waiting) - len(self._dialling))):
                dialling = self._establish()
                self._dialling.add(dialling)
                dialling.addBoth(self._dialled, dialling)

    def _back_off(self) -> None:
        """Dial again only after a while, that doubles with each failure, and one at a time."""
        self._failures += 1
        if not self._next_dial.running:
            self._next_dial.start(self._options.backoff(self._failures))

    def _dialled(self, result: Any, dialling: Deferred[Any]) -> None:
        self._dialling.discard(dialling)
        if isinstance(result, tuple):
            self._failures = 0
            connection, info = result
            lease = Lease(connection, info, self._lease_failed)
            if self._closed is not None:
                lease.connection.drain()
                return
            lease.idle_since = self._clock.seconds()
            self._idle.append(lease)
            self._watch_idle()
        elif self._closed is None:
            # Fail all waiters: each is routed anew.
            self._back_off()
            waiting, self._waiting = list(self._waiting), deque()
            for wanted in waiting:
                if not wanted.called:
                    wanted.errback(result.value)
        self._serve()

    def _lease_failed(self, lease: Lease, error: Exception) -> None:
        """Pass on what befell a connection, unless nobody has it."""
        if lease in self._leased:
            self._failed(error)

    def _given_up(self, wanted: Deferred[Lease]) -> None:
        if wanted in self._waiting:
            self._waiting.remove(wanted)

    def _watch_idle(self) -> None:
        if not self._idle_timer.running and self._closed is None:
            self._idle_timer.start(_KEPT)

    def _close_idle(self) -> None:
        now = self._clock.seconds()
        old = [lease for lease in self._idle if now - lease.idle_since >= _KEPT / 2 or lease.connection.ended]
        self._idle = [lease for lease in self._idle if lease not in old]
        for lease in old:
            lease.connection.drain()
        if self._idle:
            self._watch_idle()
