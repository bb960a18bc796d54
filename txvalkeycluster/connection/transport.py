"""The side of a connection that faces its transport: the TLS handshake, a full or silent peer, the close."""

from __future__ import annotations

from typing import Any

from twisted.internet import protocol
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IHandshakeListener, INegotiated, IPushProducer, IReactorTime
from zope.interface import implementer

from ..options import Options
from ..requests.timer import Timer
from .forks import close_copy


@implementer(IPushProducer, IHandshakeListener)
class TransportProtocol(protocol.Protocol):
    """A protocol that knows when its transport is secured, busy, and closed.  Below it there may be TLS."""

    # In the class until they are set: CPython reads attributes of an instance with more than 30 of them more slowly.
    #: No requests are taken any more, and none is left.
    ended: bool
    _clock: IReactorTime
    _options: Options
    # Why it has ended.
    _reason: Exception | None = None
    _close_timer: Timer | None = None
    # Until the TLS handshake is done.
    _secured: Deferred[None] | None = None
    _paused = False
    #: Seconds of silence, while replies are owed, after which the peer is given up.
    patience: float
    #: When bytes came last, as clock.seconds(), or when the first reply came to be owed.
    heard_at: float
    _suspected: float
    _outgoing_seen: int

    def _transport(self) -> Any:
        return self.transport

    def _begin(self, transport: Any) -> None:
        """Have the transport tell when it is secured, and when it is busy."""
        if INegotiated.providedBy(transport):
            self._secured = Deferred()
        transport.registerProducer(self, True)

    def handshakeCompleted(self) -> None:
        """The TLS handshake below is done, and the certificate was good."""
        secured, self._secured = self._secured, None
        if secured is not None:
            secured.callback(None)

    def when_secured(self) -> Deferred[None]:
        """Fires when bytes can be exchanged: at once without TLS, else when its handshake is done."""
        if self._secured is None:
            return fail(self._reason) if self._reason is not None else succeed(None)
        waiter: Deferred[None] = Deferred()
        self._secured.chainDeferred(waiter)
        return waiter

    def _not_secured(self, reason: Exception) -> None:
        """The connection has ended, perhaps before the handshake was done."""
        secured, self._secured = self._secured, None
        if secured is not None:
            secured.addErrback(lambda _: None)
            secured.errback(reason)

    def pauseProducing(self) -> None:
        """The transport has more unsent than it likes."""

    def resumeProducing(self) -> None:
        """The transport is empty again."""

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost tells us more."""

    def _outgoing(self) -> int:
        """Bytes that the transport, or the one below its TLS, has yet to send."""
        transport = self._transport()
        while transport is not None and not hasattr(transport, "dataBuffer"):
            transport = getattr(transport, "transport", None)
        if transport is None:
            return 0
        return len(transport.dataBuffer) - int(transport.offset) + int(transport._tempDataLen)

    def _is_silent(self, now: float) -> bool:
        """Whether a peer that owes replies has to be given up."""
        if now < self.heard_at + self.patience:
            return False
        outgoing = self._outgoing()
        if self._paused and outgoing < self._outgoing_seen:
            # It takes what we send, be it slowly.
            self._outgoing_seen = outgoing
            self.heard_at = now
            return False
        if self._suspected != self.heard_at:
            # Timers run before reads: when the reactor was held up, the reply may be there unread.
            self._suspected = self.heard_at
            return False
        return True

    def _close(self, transport: Any) -> None:
        """Close the socket when all is written."""
        # A TLS close waits for the peer's answer, without end if the peer hangs.
        self._close_timer = Timer(self._clock, self._abort_transport)
        self._close_timer.start(self._options.close_timeout)
        transport.unregisterProducer()
        transport.loseConnection()

    def give_up_copy(self) -> None:
        """Send and read nothing any more, as a forked child's copy of a connection."""
        self.ended = True
        close_copy(self._transport())

    def _abort_transport(self) -> None:
        transport = self._transport()
        if transport is not None:
            transport.abortConnection()

    def _closed(self) -> None:
        """The socket is closed."""
        if self._close_timer is not None:
            self._close_timer.stop()
