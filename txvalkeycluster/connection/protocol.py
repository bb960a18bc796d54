"""RESPProtocol: one connection with its queue of pending commands, deadlines and push messages.

A server replies in the order of the commands, so one queue pairs replies with commands.  A written command keeps its
place in the queue until its reply has come, even if the command timed out or was cancelled; such an entry is called a
tombstone.  If the order of replies is in doubt, the connection ends.

`write_scheduler` decides when queued commands are written.
The protocol is described at https://valkey.io/topics/protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import hiredis
from twisted.internet import protocol
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from ..direct_write import direct_writer, write_at_once
from ..errors import ConnectionLost, ProtocolError, ReplyError
from ..options import Options
from ..requests.deadlines import DeadlineTimer
from ..requests.fast_deferred import fast
from ..requests.internal import ASKING, InternalCall
from ..requests.request import MultiRequest, Request, size
from ..sentinel import Sentinel
from ..statistics import NodeStatistics, Purpose
from .command_stream import BURST
from .decoder import decoder
from .limited_stream import LimitedStream
from .listener import ConnectionListener
from .write_scheduler import WriteScheduler

if TYPE_CHECKING:
    from .login import Login

# A value of our own for "no complete reply": the reader's default, False, is also the RESP3 value false.
NOTHING = Sentinel("NOTHING")
PUSH = hiredis.PushNotification
_UNUSUAL = frozenset([PUSH, ReplyError])
# Idle memory that the reader may keep, in bytes.  A reply of 60 KB costs 52 us with hiredis' 16 KiB, 3 us with 1 MiB.
_READER_MEMORY = 1 << 20
# A batch with at least this many commands is written at once.
_LARGE_BATCH = 128


class RESPProtocol(LimitedStream):
    """One connection to one node."""

    # Defaults are class attributes: CPython reads the attributes of an instance with more than 30 of them more slowly.
    #: Called with each push message; without it, push messages are ignored.
    on_push: Callable[[list[Any]], None] | None = None
    #: The value of `carried` for the latest writes that WAIT has confirmed.
    confirmed = 0
    #: What the connection is for.
    purpose: Purpose = "shared"
    #: Logs in, and logs in again.
    login: Login | None = None
    #: The number of commands of callers that were without a reply when the connection ended.
    unanswered = 0
    # Whether the connection was closed before the replies to cancelled commands came.
    _owed_at_close = False

    def __init__(
        self, clock: IReactorTime, options: Options, scheduler: WriteScheduler, peer: str, counters: NodeStatistics
    ) -> None:
        #: The address of the node, for errors.
        self.peer = peer
        #: The counters of the node.
        self.counters = counters
        #: Gets the error replies and the requests that are left at the end.
        self.owner = ConnectionListener()
        #: Whether the connection accepts no more requests and has none left.
        self.ended = False
        #: The connection is aborted if replies are pending and nothing has come for this long, in seconds.
        self.patience = options.unresponsive_after
        self._clock = clock
        self.seconds = clock.seconds
        self._options = options
        self._write_scheduler = scheduler
        self._cancels_seen = scheduler.cancels.count
        self._decode = decoder(options)
        reader = hiredis.Reader(protocolError=ProtocolError, replyError=ReplyError, notEnoughData=NOTHING)
        reader.setmaxbuf(_READER_MEMORY)
        # The one in C parses short replies itself.
        self._reader: Any = reader if fast is None else fast.Reader(reader, NOTHING, PUSH)
        self._unsent: list[Request] = []
        self._sent: deque[Request] = deque()
        # Returns the next reply; the one in C returns the next reply that is not the expected one of a plain command.
        self._next_reply: Callable[[], Any] = self._reader.gets
        if fast is not None:
            self._next_reply = fast.Replies(self._reader, self._sent, self._decode, _UNUSUAL)
        self._crowd = min(BURST, options.max_pending)
        self._max_pending = options.max_pending
        # See `carried`.
        self._carried = 0
        self._carried_more = False
        # Whether the unsent requests may include batches, transactions or commands of the client itself.
        self._mixed = False
        self._deadline_timer = DeadlineTimer(clock, self._sweep)
        self.heard_at = 0.0
        self._direct = self._write_at_once = None

    def __repr__(self) -> str:
        state = "ended" if self.ended else "draining" if self._draining else "paused" if self._paused else "open"
        return f"<RESPProtocol {self.peer} {state} sent={len(self._sent)} unsent={len(self._unsent)}>"

    def everything(self) -> list[Request]:
        """Return every request on this connection, sent and unsent."""
        return [*self._sent, *self._unsent]

    def carried(self) -> int:
        """Return the number of writes with commands of callers; several writes between two calls count as one."""
        if self._carried_more:
            self._carried_more = False
            self._carried += 1
        return self._carried

    @property
    def has_any_unsent(self) -> bool:
        """Whether requests are queued that are not written yet."""
        return bool(self._unsent)

    # ---- commands out

    def send_batch(self, batch: MultiRequest) -> None:
        """Queue a request with several replies.

        Raises:
            TooManyPending: The limit is reached; the request was not accepted.
        """
        count = len(batch)
        if self._paused or self.pending + count > self._max_pending:
            self._admit(batch, count)
        unsent = self._unsent
        if not unsent:
            self._write_scheduler.touch(self)
        unsent.append(batch)
        self._mixed = True
        self._batched += count - 1
        room = self._max_pending - len(self._sent) - self._batched
        if room < self._crowd:
            self._crowd = max(room, 0)
        if batch.deadline < self._deadline_timer.at:
            self._deadline_timer.by(batch.deadline)
        if count >= _LARGE_BATCH or len(unsent) > BURST:
            self._write_scheduler.write(self)

    def ask(self, request: Request) -> None:
        """Queue ASKING and a request; both are sent in one write."""
        # `send` is not used here, because it could write between the two.
        if not self._unsent:
            self._write_scheduler.touch(self)
        self._mixed = True
        if isinstance(request, MultiRequest):
            self._batched += len(request) - 1
        self._unsent += (ASKING, request)
        self._paused_bytes += size(request)
        self._deadline_timer.by(request.deadline)

    def call(self, *args: str | int) -> InternalCall:
        """Send a command of the client itself.

        Args:
            args: The command's words.

        Returns:
            A Deferred that fires with the raw reply.  It fails with `ReplyError`, `ConnectionLost` or
            `CommandTimeout`; the timeout is ``connect_timeout``.
        """
        request = InternalCall(args, self.seconds(), self._options.connect_timeout)
        if self.ended:
            request.fail(ConnectionLost(f"{self.peer}: the connection has ended"))
        else:
            self.send_mixed(request)
        return request

    def send_mixed(self, request: Request) -> None:
        """Queue a request that is not a plain command of a caller.

        Raises:
            TooManyPending: The limit is reached; the request was not accepted.
        """
        self._mixed = True
        self.send(request)

    # The request needs an exclusive connection, and has leased this one.
    send_exclusive = send_subscription = send_mixed

    def _write_later(self, data: bytes) -> None:
        self._transport().write(data)

    def _extend_sent(self, unsent: list[Request]) -> None:
        """Add an entry for each expected reply, and count the writes with commands of callers."""
        self._mixed = False
        if self._batched:
            self._batched = 0
        for request in unsent:
            if isinstance(request, MultiRequest):
                count = len(request)
                self._sent.extend([request] * count)
                self.counters.commands += count - 1
            else:
                self._sent.append(request)
            if request.notes_write:
                request.written_on(self)
            if not request.internal:
                self._carried_more = True

    def _write_large(self, requests: list[Request]) -> None:
        parts: list[bytes] = []
        for request in requests:
            payload = request.payload
            if isinstance(payload, list):
                parts += payload
            else:
                parts.append(payload)
        self.counters.commands += len(requests)
        self.counters.bytes_sent += sum(map(len, parts))
        self._transport().writeSequence(parts)

    # ---- replies in

    def _deliver(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            reply = self._next_reply()
        except Exception as error:
            self._broken(error, None)
        else:
            self._handle(reply)

    def _handle(self, reply: Any) -> None:
        """Handle a reply, and all replies after it that have come."""
        sent = self._sent
        decode = self._decode
        request: Request | None = None
        next_reply = self._next_reply
        try:
            while reply is not NOTHING:
                kind = reply.__class__
                if kind is not bytes and kind in _UNUSUAL and (sent or kind is PUSH):
                    if kind is PUSH:
                        self._pushed(reply)
                    else:
                        self._refused(sent.popleft(), reply)
                elif not sent:
                    if self.ended:
                        break
                    raise ProtocolError(f"{self.peer} sent a reply without a pending command")
                else:
                    request = sent.popleft()
                    if not request.called:
                        if decode is None and request.history is None:
                            request.payload = b""
                            request.callback(reply)
                        else:
                            self._answer(request, reply)
                reply = next_reply()
            if sent and isinstance(sent[0], MultiRequest):
                # The other replies of the batch may be large and come much later.
                sent[0].hand_over()
        except Exception as error:
            self._broken(error, request)

    def _refused(self, request: Request, error: ReplyError) -> None:
        self.counters.count_error(error.code)
        try:
            request.refused(self, error)
        except Exception as raised:
            if request.called:
                raise
            # The handling of the error failed.
            request.fail(raised)

    def _broken(self, error: Exception, request: Request | None) -> None:
        """End the connection because a reply is unreadable, or because its handling raised an error.

        Args:
            error: What was raised.
            request: The last request that was taken from the queue by `dataReceived`.
        """
        doubt = error if isinstance(error, ProtocolError) else ProtocolError(f"{self.peer}: {error!r}")
        if request is not None and not request.called and not isinstance(request, MultiRequest):
            request.fail(doubt)
        elif self._sent:
            # The command with the unreadable reply may be the cause, so it is not sent again.
            self._sent.popleft().undecodable(doubt)
        else:
            self.abort(doubt)
            return
        lost = ConnectionLost(f"{self.peer}: the reply to another command could not be read: {doubt}")
        lost.__cause__ = doubt
        self.abort(lost)

    def decoded(self, reply: Any) -> Any:
        """Return a reply with its bytes decoded, or the unchanged reply if the client has no encoding.

        Raises:
            ProtocolError: The reply is nested too deeply.
            Exception: Whatever the codec raises.
        """
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
                # Some codecs and error handlers raise other errors than UnicodeDecodeError.
                request.undecodable(error)
                return
        request.answer(reply)

    def _pushed(self, push: list[Any]) -> None:
        if self.on_push is not None:
            self.on_push(push)

    # ---- the transport

    def connectionMade(self) -> None:
        """Start to use a transport that has just connected."""
        transport = self._transport()
        self.heard_at = self.seconds()
        self._direct = direct_writer(transport)
        self._write_at_once = None if self._direct is None else write_at_once(self._direct)
        if self._direct is not None and getattr(transport.protocol, "_wrappedProtocol", None) is self:
            # Skip the wrapper that Twisted's endpoints put around a protocol until it is connected.
            transport.protocol = self
        self._begin(transport)

    def pauseProducing(self) -> None:
        """Keep new commands in the queue while the transport has too many unsent bytes."""
        self._paused = True
        self._crowd = 0
        self._outgoing_seen = self._outgoing()
        self._paused_bytes = sum(size(request) for request in self._unsent)

    def resumeProducing(self) -> None:
        """Write the queue: the transport has sent its bytes."""
        self._paused = False
        self._paused_bytes = 0
        self.heard_at = self.seconds()
        self.flush()

    def drain(self) -> None:
        """Accept no more requests; close the connection when the last reply has come."""
        self._draining = True
        if self.login is not None:
            self.login.stop()
        self.flush()
        self._close_if_drained()

    def abort(self, reason: Exception) -> None:
        """End the connection at once.

        Args:
            reason: Why.  The owner gets it with the requests that are left.
        """
        if not self.ended:
            self._end(reason)
        self._abort_transport()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Handle the closing of the socket."""
        self.transport = None
        self._direct = self._write_at_once = None
        self._closed()
        if self.login is not None:
            self.login.stop()
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
        # A request with several replies is in the queue several times.
        requests = [list(dict.fromkeys(self._unsent)), list(dict.fromkeys(self._sent))]
        batches = [r for r in chain(*requests) if isinstance(r, MultiRequest)]
        ended = [list(chain.from_iterable(map(_dissolved, part))) for part in requests]
        self._sent.clear()
        self._unsent = []
        if self._batched:
            self._batched = 0
        unsent, sent = ([r for r in part if not r.internal and not r.called] for part in ended)
        self.unanswered = len(sent)
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
