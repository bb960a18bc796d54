"""Acknowledgement: waits until servers have confirmed some channels, or have refused one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..errors import CommandTimeout
from ..requests.timer import Timer
from .feed import Feed, ListenerFeed
from .upstream import Upstream

if TYPE_CHECKING:
    from .hub import SubscriptionHub

_log = Logger()


class Acknowledgement:
    """The channels that were added to a subscription together.  They are all subscribed in the end, or none is."""

    def __init__(
        self, hub: SubscriptionHub, feed: Feed, upstreams: Iterable[Upstream], timeout: float | None, *, first: bool
    ) -> None:
        """Wait for upstreams.

        Args:
            hub: The hub.
            feed: The feed that wants them.
            upstreams: What is waited for.
            timeout: Seconds until it fails.  None: no limit.
            first: Whether the feed ends if it fails.
        """
        self.feed = feed
        self.upstreams = list(upstreams)
        #: What is not confirmed yet.
        self.missing = set(self.upstreams)
        #: Called with the upstreams if it fails.
        self.on_failure: Callable[[list[Upstream]], None] | None = None
        self._hub = hub
        self._first = first
        self._waiters: list[Deferred[None]] = []
        self._done = False
        self._error: Exception | None = None
        self._timeout = timeout
        self._timer = Timer(hub.clock, self._time_out)
        if timeout is not None:
            self._timer.start(timeout)

    def wait(self) -> Deferred[None]:
        """Return a Deferred that fires when all are confirmed, or fails with the reason why they are not."""
        waiter: Deferred[None] = Deferred(self._waiter_cancelled)
        if self._done and self._error is None:
            waiter.callback(None)
        elif self._done:
            # In a later turn, so that a loop that repeats what failed cannot stop the reactor.
            self._hub.next_turn(lambda: self._tell(waiter))
        else:
            self._waiters.append(waiter)
        return waiter

    def _waiter_cancelled(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def confirm(self, upstream: Upstream) -> None:
        """An upstream is confirmed wherever it belongs, or is not wanted any more."""
        self.missing.discard(upstream)
        if not self.missing:
            self._end()

    def finish(self) -> None:
        """There was nothing to wait for."""
        self._end()

    def refuse(self, error: Exception) -> None:
        """A server has refused one: nothing of the others stays subscribed."""
        if not self._done:
            self._log(error)
            self._stop(error)
            self._hub.unsubscribe(self.feed, self._withdraw(error)).addCallback(lambda _: self._tell_all())

    def give_up(self, error: Exception) -> None:
        """Fail; the caller ends what was subscribed."""
        if not self._done:
            self._stop(error)
            self._tell_all()

    def fail(self, error: Exception) -> None:
        """Give up, without waiting for a server."""
        if not self._done:
            self._stop(error)
            self._hub.unsubscribe(self.feed, self._withdraw(error))
            self._tell_all()

    def _withdraw(self, error: Exception) -> list[Upstream]:
        if self._first:
            self.feed.end(error)
            self._hub.forget(self.feed)
        if self.on_failure is not None:
            self.on_failure(self.upstreams)
        return self.upstreams

    def _time_out(self) -> None:
        names = ", ".join(sorted(repr(upstream.text) for upstream in self.missing)[:3])
        more = f" and {len(self.missing) - 3} more" if len(self.missing) > 3 else ""
        text = f"no acknowledgement of the subscription to {names}{more} within {self._timeout} s"
        calls = [part.call for upstream in self.missing for part in upstream.parts.values() if part.call is not None]
        if calls and calls[0].history is not None and calls[0].history.last:
            text += f"; attempts: {calls[0].history.attempts}, the last ended with: {calls[0].history.last}"
        error = CommandTimeout(text, maybe_executed=False)
        self._log(error)
        self.fail(error)

    def _log(self, error: Exception) -> None:
        """Say in the log what nobody waits for: an iterator raises it, a listener does not hear of it."""
        if not self._waiters and isinstance(self.feed, ListenerFeed):
            _log.error("a subscription has failed: {error}", error=error)

    def _stop(self, error: Exception | None) -> None:
        self._done = True
        self._error = error
        self._timer.stop()
        self._hub.acknowledged(self)

    def _end(self) -> None:
        if not self._done:
            self._stop(None)
            self._tell_all()

    def _tell_all(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self._tell(waiter)

    def _tell(self, waiter: Deferred[None]) -> None:
        if waiter.called:
            return
        if self._error is not None:
            waiter.errback(self._error)
        else:
            waiter.callback(None)
