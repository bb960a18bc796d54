"""The limits of a connection: how many commands are pending, how many bytes are unsent, and how long both may wait."""

from __future__ import annotations

from ..errors import ConnectionLost, TooManyPending
from ..options import Options
from ..requests.deadlines import not_too_soon, split_expired
from ..requests.internal import ASKING
from ..requests.request import MultiRequest, Request, count_commands, size
from .command_stream import CommandStream
from .transport import TransportProtocol


class LimitedStream(CommandStream, TransportProtocol):
    """Refuses commands above the limits, and ends those that are past their deadlines."""

    #: The address of the node, for errors.
    peer: str
    _options: Options
    # The bytes that were queued while the transport had too many unsent bytes.
    _paused_bytes = 0
    # The number of commands in unsent batches minus the number of these batches.
    _batched = 0

    def abort(self, reason: Exception) -> None:
        """End the connection at once."""
        raise NotImplementedError

    @property
    def pending(self) -> int:
        """The number of commands without a reply: sent, unsent and tombstones."""
        return len(self._sent) + len(self._unsent) + self._batched

    def _admit(self, request: Request, count: int = 1) -> None:
        """Check the limits for new commands.  Commands that were accepted before are never refused."""
        if request.is_new:
            full = self.pending + count > self._max_pending
            if full or self._paused:
                self._drop_cancelled()
            if full and self.pending + count > self._max_pending:
                text = f"{self.pending} commands pending; the limit is {self._max_pending} (max_pending)"
                raise TooManyPending(f"{self.peer}: {text}")
            if self._paused and self._paused_bytes >= self._options.max_unsent_bytes:
                limit = self._options.max_unsent_bytes
                text = f"{self._paused_bytes} bytes unsent; the limit is {limit} (max_unsent_bytes)"
                raise TooManyPending(f"{self.peer}: {text}")
        if self._paused:
            self._paused_bytes += size(request)

    def _sweep(self) -> None:
        """Time out the commands past their deadlines; abort the connection if the peer is silent."""
        now = self.seconds()
        if self._sent and self._is_silent(now):
            silence = now - self.heard_at
            text = f"{self.peer} sent nothing for {silence:.1f} s while {len(self._sent)} replies were pending"
            self.abort(ConnectionLost(text))
            return
        where = self._describe(now)
        late_sent, _, next_sent = split_expired(self._sent, now)
        late_unsent, _, next_unsent = split_expired(self._unsent, now)
        if late_unsent:
            self._drop_unsent(set(map(id, late_unsent)))
        self._deadline_timer.by(not_too_soon(min(next_sent, next_unsent), now, self.pending))
        if self._sent:
            self._deadline_timer.by(self.heard_at + self.patience)
        # A request with several replies is in the queue of the sent ones several times.
        self.counters.timeouts += sum(not request.internal for request in late_sent) + count_commands(late_unsent)
        for written, late in ((True, late_sent), (False, late_unsent)):
            for request in late:
                request.time_out(now, where, written=written)
        if self._draining:
            self._close_if_drained()

    def _drop_cancelled(self) -> None:
        if self._cancels_seen != self._write_scheduler.cancels.count:
            self._cancels_seen = self._write_scheduler.cancels.count
            self._drop_unsent({id(r) for r in self._unsent if r.called and r is not ASKING})

    def _drop_unsent(self, late: set[int]) -> None:
        """Remove unsent requests, each with the ASKING before it; ``late`` holds their ids."""
        kept: list[Request] = []
        for request in self._unsent:
            if id(request) not in late:
                kept.append(request)
            else:
                self._paused_bytes -= size(request)
                if kept and kept[-1] is ASKING:
                    kept.pop()
        self._unsent[:] = kept
        self._batched = sum(len(request) - 1 for request in kept if isinstance(request, MultiRequest))

    def _describe(self, now: float) -> str:
        age = f", the oldest for {now - self._sent[0].since:.2f} s" if self._sent and self._sent[0].since else ""
        return f"{self.peer}: {len(self._sent)} replies pending{age}; {len(self._unsent)} commands unsent"
