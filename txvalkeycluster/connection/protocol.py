"""RESPProtocol: one connection, its queue of unanswered commands, deadlines and pushes.

A server answers in the order it was asked, so a queue is all it takes to pair replies with commands, as long as every
command that was written keeps its place until its reply has come: one that timed out or was cancelled leaves a
tombstone.  Whatever puts the order in doubt ends the connection.

When queued commands are written, `write_scheduler` decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import hiredis
from twisted.internet import protocol, tcp
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from ..errors import ConnectionLost, ProtocolError, ReplyError, TooManyPending
from ..options import Options
from ..requests.deadlines import DeadlineTimer, not_too_soon, split_expired
from ..requests.request import ASKING, InternalCall, MultiRequest, Request, size
from ..sentinel import Sentinel
from .decoder import decoder
from .direct_write import direct_writer
from .listener import ConnectionListener
from .transport import TransportProtocol
from .write_scheduler import WriteScheduler

# The reader's own default, False, is also RESP3's #f.
_NOTHING = Sentinel("NOTHING")
_PUSH = hiredis.PushNotification
_UNUSUAL = frozenset([_PUSH, ReplyError])
# Idle memory the reader may keep: at hiredis' 16 KiB a reply of 60 KB costs 52 us, at 1 MiB 3 us.
_READER_MEMORY = 1 << 20
# A burst within one turn is written in pieces of this many commands, so that the server starts early.
_BURST = 1024
# A batch of as many is worth a write of its own.
_LARGE_BATCH = 128


class RESPProtocol(TransportProtocol):
    """One connection to one node."""

    # In the class until they are set: CPython reads attributes of an instance with more than 30 of them more slowly.
    #: Called with each push; a push nobody asked for is passed over.
    on_push: Callable[[list[Any]], None] | None = None
    #: How many of the writes that held callers' commands WAIT has confirmed.
    confirmed = 0
    # Whether it was closed before the replies to cancelled commands had come.
    _owed_at_close = False
    _draining = False

    def __init__(self, clock: IReactorTime, options: Options, scheduler: WriteScheduler, peer: str) -> None:
        self.peer = peer
        self.owner = ConnectionListener()
        #: No requests are taken any more, and none is left.
        self.ended = False
        #: Seconds of silence, while replies are owed, after which the peer is given up.
        self.patience = options.unresponsive_after
        self._clock = clock
        self.seconds = clock.seconds
        self._options = options
        self._write_scheduler = scheduler
        self._cancels_seen = scheduler.cancels.count
        self._decode = decoder(options)
        self._reader = hiredis.Reader(protocolError=ProtocolError, replyError=ReplyError, notEnoughData=_NOTHING)
        self._reader.setmaxbuf(_READER_MEMORY)
        self._unsent: list[Request] = []
        self._sent: deque[Request] = deque()
        # How many unsent commands make `send` look closer: a burst, the limit, or any at all while paused.
        self._crowd = min(_BURST, options.max_pending)
        self._max_pending = options.max_pending
        # Writes so far that held callers' commands, but for those since the last request that asked for the number.
        self._carried = 0
        self._carried_more = False
        # By how much the commands of unsent batches outnumber the batches.
        self._batched = 0
        # Whether there may be others than callers' commands among the unsent: batches, transactions, the client's own.
        self._mixed = False
        self._paused = False
        self._paused_bytes = 0
        self._deadline_timer = DeadlineTimer(clock, self._sweep)
        self.heard_at = 0.0
        self._suspected = -1.0
        self._outgoing_seen = 0
        self._direct: tcp.Connection | None = None

    def __repr__(self) -> str:
        state = "ended" if self.ended else "draining" if self._draining else "paused" if self._paused else "open"
        return f"<RESPProtocol {self.peer} {state} sent={len(self._sent)} unsent={len(self._unsent)}>"

    @property
    def pending(self) -> int:
        """Commands without reply, sent and unsent, tombstones included."""
        return len(self._sent) + len(self._unsent) + self._batched

    def everything(self) -> list[Request]:
        """Every request it has, sent and unsent."""
        return [*self._sent, *self._unsent]

    def carried(self) -> int:
        """Grows from one question to the next if callers' commands were written in between."""
        if self._carried_more:
            self._carried_more = False
            self._carried += 1
        return self._carried

    @property
    def has_any_unsent(self) -> bool:
        """Whether requests are queued and not written."""
        return bool(self._unsent)

    # ---- commands out

    def send(self, request: Request) -> None:
        """Queue a request.  Raises TooManyPending, and then has not taken it."""
        unsent = self._unsent
        queued = len(unsent)
        if not queued:
            self._write_scheduler.touch(self)
        if queued >= self._crowd:
            self._admit(request)
        unsent.append(request)
        if request.deadline < self._deadline_timer.at:
            self._deadline_timer.by(request.deadline)
        if request.payload.__class__ is list or queued >= _BURST:
            self._write_scheduler.write(self)

    def send_batch(self, batch: MultiRequest) -> None:
        """Queue a request with several replies.  Raises TooManyPending, and then has not taken it."""
        self._admit(batch, len(batch))
        if not self._unsent:
            self._write_scheduler.touch(self)
        self._unsent.append(batch)
        self._mixed = True
        self._batched += len(batch) - 1
        self._crowd = min(self._crowd, max(self._max_pending - len(self._sent) - self._batched, 0))
        if batch.deadline < self._deadline_timer.at:
            self._deadline_timer.by(batch.deadline)
        if len(batch) >= _LARGE_BATCH or len(self._unsent) > _BURST:
            self._write_scheduler.write(self)

    def ask(self, request: Request) -> None:
        """Queue a request behind an ASKING; the two leave in one write."""
        # Not through `send`, whose early flush could part them.
        if not self._unsent:
            self._write_scheduler.touch(self)
        self._mixed = True
        if isinstance(request, MultiRequest):
            self._batched += len(request) - 1
        self._unsent += (ASKING, request)
        self._paused_bytes += size(request)
        self._deadline_timer.by(request.deadline)

    def call(self, *args: str | int) -> Any:
        """Ask something on the client's own behalf; return a Deferred of the reply."""
        request = InternalCall(args, self.seconds(), self._options.connect_timeout)
        if self.ended:
            request.fail(ConnectionLost(f"{self.peer}: the connection has ended"))
        else:
            self.send_mixed(request)
        return request

    def send_mixed(self, request: Request) -> None:
        """As `send`, for a request that is not simply a caller's command."""
        self._mixed = True
        self.send(request)

    # For a request that needs a connection to itself, and has been lent this one.
    send_exclusive = send_mixed

    def flush(self) -> None:
        """Write what is queued, unless the transport is still busy with what it has."""
        unsent = self._unsent
        if not unsent or self._paused or self.ended:
            return
        # Inlined by hand: this runs once per write, which with one command in flight is once per command.
        if self._cancels_seen != self._write_scheduler.cancels.count:
            self._drop_cancelled()
            if not unsent:
                return
        self._unsent = []
        sent = self._sent
        if not sent:
            # From now on a reply is owed.
            self.heard_at = now = self.seconds()
            if now + self.patience < self._deadline_timer.at:
                self._deadline_timer.by(now + self.patience)
        if self._mixed:
            self._extend_sent(unsent)
        else:
            sent.extend(unsent)
            self._carried_more = True
        room = self._max_pending - len(sent)
        self._crowd = _BURST if room >= _BURST else max(room, 0)
        try:
            data: Any = unsent[0].payload if len(unsent) == 1 else b"".join([r.payload for r in unsent])  # type: ignore[misc]
        except TypeError:
            data = None
        if data.__class__ is not bytes:
            self._write_large(unsent)
            return
        direct = self._direct
        # See `direct_write`.
        if direct is not None and not direct.dataBuffer and not direct._tempDataBuffer:
            written = direct.writeSomeData(data)
            # After an error, the reactor will report the broken socket through connectionLost.
            if isinstance(written, int):
                if written == len(data):
                    return
                data = data[written:]
        self._transport().write(data)

    def _extend_sent(self, unsent: list[Request]) -> None:
        """Await a reply for each command of these, and count what callers have written."""
        self._mixed = False
        self._batched = 0
        for request in unsent:
            self._sent.extend([request] * len(request) if isinstance(request, MultiRequest) else [request])
            if request.notes_write:
                request.written_on(self)
            if not request.internal:
                self._carried_more = True

    def _admit(self, request: Request, count: int = 1) -> None:
        """Refuse new commands where too much is waiting; those that were taken before are not turned away."""
        if request.is_new:
            if self.pending + count > self._max_pending or self._paused:
                self._drop_cancelled()
            if self.pending + count > self._max_pending:
                raise TooManyPending(f"{self.peer}: {self.pending} commands pending; the limit is {self._max_pending}")
            if self._paused and self._paused_bytes >= self._options.max_unsent_bytes:
                limit = self._options.max_unsent_bytes
                raise TooManyPending(f"{self.peer}: {self._paused_bytes} bytes unsent; the limit is {limit}")
        if self._paused:
            self._paused_bytes += size(request)

    def _write_large(self, requests: list[Request]) -> None:
        parts: list[bytes] = []
        for request in requests:
            payload = request.payload
            if isinstance(payload, list):
                parts += payload
            else:
                parts.append(payload)
        self._transport().writeSequence(parts)

    # ---- replies in

    def dataReceived(self, data: bytes) -> None:
        """Hand out the replies that ``data`` completes."""
        if self.ended:
            return
        scheduler = self._write_scheduler
        outer, scheduler.held = scheduler.held, True
        self.heard_at = self.seconds()
        sent = self._sent
        owed = len(sent)
        decode = self._decode
        request: Request | None = None
        gets: Callable[[], Any] = self._reader.gets
        try:
            self._reader.feed(data)
            while True:
                reply = gets()
                if reply is _NOTHING:
                    break
                kind = reply.__class__
                if kind is not bytes and kind in _UNUSUAL:
                    if kind is _PUSH:
                        self._pushed(reply)
                        continue
                    if sent:
                        self._refused(sent.popleft(), reply)
                        continue
                if not sent:
                    if self.ended:
                        break
                    raise ProtocolError(f"{self.peer} sent a reply that nothing asked for")
                request = sent.popleft()
                if not request.called:
                    if decode is None and request.history is None:
                        request.payload = b""
                        request.callback(reply)
                    else:
                        self._answer(request, reply)
            if sent and isinstance(sent[0], MultiRequest):
                # The rest may be long in coming, and be large.
                sent[0].hand_over()
        except Exception as error:
            self._broken(error, request)
        finally:
            scheduler.held = outer
            if not outer:
                # TLS transports batch their writes themselves.
                scheduler.read_done(owed - len(sent) if self._direct is not None else 0)
        if self._draining:
            self._close_if_drained()

    def _refused(self, request: Request, error: Any) -> None:
        try:
            request.refused(self, error)
        except Exception as raised:
            if request.called:
                raise
            # Whoever has to deal with the error could not.
            request.fail(raised)

    def _broken(self, error: Exception, request: Request | None) -> None:
        """End it because a reply cannot be read, or what it set off has raised.  ``request`` was answered last."""
        doubt = error if isinstance(error, ProtocolError) else ProtocolError(f"{self.peer}: {error!r}")
        if request is not None and not request.called and not isinstance(request, MultiRequest):
            request.fail(doubt)
        elif self._sent:
            # The command whose reply cannot be read may be the reason, and is not sent again.
            self._sent.popleft().undecodable(doubt)
        else:
            self.abort(doubt)
            return
        lost = ConnectionLost(f"{self.peer}: the reply to another command could not be read: {doubt}")
        lost.__cause__ = doubt
        self.abort(lost)

    def decoded(self, reply: Any) -> Any:
        """A reply as text, if the client has an encoding.  Raises what the codec raises."""
        if self._decode is None:
            return reply
        try:
            return self._decode(reply)
        except RecursionError:
            raise ProtocolError(f"{self.peer} sent a reply that is nested too deeply to be decoded") from None

    def _answer(self, request: Request, reply: Any) -> None:
        if not request.raw:
            try:
                reply = self.decoded(reply)
            except Exception as error:
                # Some codecs and error handlers raise others than UnicodeDecodeError.
                request.undecodable(error)
                return
        request.answer(reply)

    def _pushed(self, push: list[Any]) -> None:
        if self.on_push is not None:
            self.on_push(push)

    # ---- time

    def _sweep(self) -> None:
        """End what is past its deadline; end it all if the peer has gone silent."""
        now = self.seconds()
        if self._sent and self._is_silent(now):
            silence = now - self.heard_at
            text = f"{self.peer} sent nothing for {silence:.1f} s while {len(self._sent)} replies were due"
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
        """Take requests out of the queue, each with the ASKING before it."""
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
        return f"{self.peer}: {len(self._sent)} replies due{age}; {len(self._unsent)} commands unsent"

    # ---- the transport

    def connectionMade(self) -> None:
        """Take over a transport that has just connected."""
        transport = self._transport()
        self.heard_at = self.seconds()
        self._direct = direct_writer(transport)
        if self._direct is not None and getattr(transport.protocol, "_wrappedProtocol", None) is self:
            # Past the wrapper that Twisted's endpoints put around a protocol until it is connected.
            transport.protocol = self
        self._begin(transport)

    def pauseProducing(self) -> None:
        """The transport has more unsent than it likes: commands stay with us, provably unsent, until it has less."""
        self._paused = True
        self._crowd = 0
        self._outgoing_seen = self._outgoing()
        self._paused_bytes = sum(size(request) for request in self._unsent)

    def resumeProducing(self) -> None:
        """The transport is empty again."""
        self._paused = False
        self._paused_bytes = 0
        self.heard_at = self.seconds()
        self.flush()

    def drain(self) -> None:
        """Take nothing more; close when the last reply has come."""
        self._draining = True
        self.flush()
        self._close_if_drained()

    def abort(self, reason: Exception) -> None:
        """End at once."""
        if not self.ended:
            self._end(reason)
        self._abort_transport()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """The socket is closed."""
        self.transport = None
        self._direct = None
        self._closed()
        clean = self._draining and self._reason is None and not self.pending and not self._owed_at_close
        if not self.ended:
            error = reason.value
            text = f"{self.peer}: {error}"
            lost = ConnectionLost(text)
            lost.__cause__ = error
            self._end(lost)
        ended_by = self._reason if self._reason is not None else ConnectionLost(self.peer)
        self.owner.connection_gone(self, ended_by, clean=clean)

    def _close_if_drained(self) -> None:
        if self.ended or self._unsent or not all(r.called for r in self._sent):
            return
        self.ended = True
        self._deadline_timer.stop()
        self._owed_at_close = bool(self._sent)
        self._sent.clear()
        self._close(self._transport())

    def _end(self, reason: Exception) -> None:
        self.ended = True
        self._reason = reason
        self._deadline_timer.stop()
        # Each once, however many replies it is owed.
        requests = [list(dict.fromkeys(self._unsent)), list(dict.fromkeys(self._sent))]
        batches = [r for r in chain(*requests) if isinstance(r, MultiRequest)]
        ended = [list(chain.from_iterable(map(_dissolved, part))) for part in requests]
        self._sent.clear()
        self._unsent = []
        self._batched = 0
        unsent, sent = ([r for r in part if not r.internal and not r.called] for part in ended)
        internal = [r for r in chain(*ended) if r.internal and not r.called]
        self.owner.connection_ended(self, unsent, sent, reason)
        for batch in batches:
            batch.settle()
        self._not_secured(reason)
        for request in internal:
            lost = ConnectionLost(str(reason))
            lost.__cause__ = reason
            request.fail(lost)


def _dissolved(request: Request) -> Sequence[Request]:
    return request.dissolve() if isinstance(request, MultiRequest) else (request,)
