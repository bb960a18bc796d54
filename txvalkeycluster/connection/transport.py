"""The part of a connection that deals with its transport: TLS handshake, back-pressure, silence and closing."""

from __future__ import annotations

from typing import Any

from twisted.internet import protocol
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IHandshakeListener, INegotiated, IPushProducer, IReactorTime
from zope.interface import implementer

from ..options import Options
from ..requests.timer import Timer
from .forks import below_tls, close_copy


@implementer(IPushProducer, IHandshakeListener)
class TransportProtocol(protocol.Protocol):
    """Base class of `RESPProtocol` that follows the state of the transport, which may be TCP or TLS."""

    # Defaults are class attributes: CPython reads the attributes of an instance with more than 30 of them more slowly.
    #: Whether the connection accepts no more requests and has none left.
    ended: bool
    _clock: IReactorTime
    _options: Options
    # Why the connection ended.
    _reason: Exception | None = None
    _close_timer: Timer | None = None
    # Fires at the end of the TLS handshake; None afterwards, and without TLS.
    _secured: Deferred[None] | None = None
    _paused: bool
    #: The connection is aborted if replies are pending and nothing has come for this long, in seconds.
    patience: float
    #: When bytes last came, as clock.seconds(), or when the first pending command was written.
    heard_at: float
    # `heard_at` when a silent peer was first suspected.
    _suspected = -1.0
    # Unsent bytes of the transport when it was last looked at.
    _outgoing_seen = 0

    def _transport(self) -> Any:
        return self.transport

    def _begin(self, transport: Any) -> None:
        """Register with the transport for the end of the TLS handshake and for back-pressure."""
        if INegotiated.providedBy(transport):
            self._secured = Deferred()
        transport.registerProducer(self, True)

    def handshakeCompleted(self) -> None:
        """Handle the end of a successful TLS handshake."""
        secured, self._secured = self._secured, None
        if secured is not None:
            secured.callback(None)

    def when_secured(self) -> Deferred[None]:
        """Wait for the TLS handshake.

        Returns:
            A Deferred that fires with None at once without TLS, and with TLS when the handshake is done.  The Deferred
            fails with the reason if the connection ends before.
        """
        if self._secured is None:
            return fail(self._reason) if self._reason is not None else succeed(None)
        waiter: Deferred[None] = Deferred()
        self._secured.chainDeferred(waiter)
        return waiter

    def _not_secured(self, reason: Exception) -> None:
        """Fail `when_secured` if the connection ended before the TLS handshake was done."""
        secured, self._secured = self._secured, None
        if secured is not None:
            secured.addErrback(lambda _: None)
            secured.errback(reason)

    def pauseProducing(self) -> None:
        """Handle back-pressure: the transport has too many unsent bytes."""

    def resumeProducing(self) -> None:
        """Handle the end of back-pressure: the transport has sent its bytes."""

    def stopProducing(self) -> None:
        """Do nothing; connectionLost handles the end of the transport."""

    def _outgoing(self) -> int:
        """Return the number of unsent bytes in the transport, or in the TCP transport below TLS."""
        transport = below_tls(self._transport(), "dataBuffer")
        if transport is None:
            return 0
        return len(transport.dataBuffer) - int(transport.offset) + int(transport._tempDataLen)

    def _is_silent(self, now: float) -> bool:
        """Return whether the peer has been silent for too long; only called while replies are pending."""
        if now < self.heard_at + self.patience:
            return False
        outgoing = self._outgoing()
        if self._paused and outgoing < self._outgoing_seen:
            # The peer is slow, but it still reads our bytes.
            self._outgoing_seen = outgoing
            self.heard_at = now
            return False
        if self._suspected != self.heard_at:
            # Timers run before reads: after a delay of the reactor, a reply may be in the socket unread.
            self._suspected = self.heard_at
            return False
        return True

    def _close(self, transport: Any) -> None:
        """Close the socket when all bytes are written."""
        # TLS waits for the peer to close too.  A peer that hangs would never do that.
        self._close_timer = Timer(self._clock, self._abort_transport)
        self._close_timer.start(self._options.close_timeout)
        transport.unregisterProducer()
        transport.loseConnection()

    def give_up_copy(self) -> None:
        """End this copy of a connection in a forked child process, without an effect on the parent."""
        self.ended = True
        close_copy(self._transport())

    def _abort_transport(self) -> None:
        transport = self._transport()
        if transport is not None:
            transport.abortConnection()

    def _closed(self) -> None:
        """Handle the closing of the socket."""
        if self._close_timer is not None:
            self._close_timer.stop()
