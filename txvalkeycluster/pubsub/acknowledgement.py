"""Acknowledgement: waits until servers have confirmed some channels, or have refused one of them."""

from __future__ import annotations

from collections.abc import Iterable
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
        self,
        hub: SubscriptionHub,
        feed: Feed,
        added: Iterable[Upstream],
        awaited: Iterable[Upstream],
        timeout: float | None,
        *,
        first: bool,
    ) -> None:
        """Wait for upstreams.

        Args:
            hub: The hub.
            feed: The feed that wants them.
            added: What the feed did not have before.  It is removed if this fails.
            awaited: What is not confirmed yet.
            timeout: Seconds until it fails.  None: no limit.
            first: Whether the whole feed ends if it fails.
        """
        self.feed = feed
        self.first = first
        self.added = dict.fromkeys(added)
        self.missing = dict.fromkeys(awaited)
        self._hub = hub
        self._waiters: list[Deferred[None]] = []
        #: Whether it is decided.
        self.done = False
        self._told = False
        self._error: Exception | None = None
        self._timeout = timeout
        self._timer = Timer(hub.clock, self._time_out)
        if timeout is not None:
            self._timer.start(timeout)
        self._concerns = [*{**self.added, **self.missing}]
        feed.acknowledgements[self] = None
        for upstream in self._concerns:
            feed.concerned.setdefault(upstream, {})[self] = None
        for upstream in self.missing:
            upstream.acknowledgements[self] = None

    def wait(self) -> Deferred[None]:
        """Return a Deferred that fires when all are confirmed, or fails with the reason why they are not."""
        waiter: Deferred[None] = Deferred(self._waiter_cancelled)
        if not self._told:
            self._waiters.append(waiter)
        elif self._error is None:
            waiter.callback(None)
        else:
            # In a later turn, so that a loop that repeats what failed cannot stop the reactor.
            self._hub.next_turn(lambda: self._tell(waiter))
        return waiter

    def _waiter_cancelled(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def confirm(self, upstream: Upstream) -> None:
        """An upstream is confirmed wherever it belongs."""
        self.missing.pop(upstream, None)
        upstream.acknowledgements.pop(self, None)
        self.check()

    def remove(self, upstream: Upstream) -> None:
        """The feed does not want an upstream any more; `check` is to be called when all are removed."""
        self.added.pop(upstream, None)
        self.missing.pop(upstream, None)
        upstream.acknowledgements.pop(self, None)

    def check(self) -> None:
        """Succeed if nothing is missing."""
        if not self.missing and not self.done:
            self.decide(None)
            self.tell()

    def refuse(self, error: Exception) -> None:
        """Fail because a server has refused a channel.  Everything that was added is unsubscribed first."""
        if not self.done:
            self._log(error)
            self._withdraw(error).addCallback(lambda _: self.tell())

    def fail(self, error: Exception) -> None:
        """Fail at once, without waiting for a server."""
        if not self.done:
            self._withdraw(error)
        self.tell()

    def _withdraw(self, error: Exception) -> Deferred[None]:
        self.decide(error)
        if self.first:
            return self._hub.end(self.feed, error)
        return self._hub.unsubscribe(self.feed, list(self.added))

    def _time_out(self) -> None:
        if self.done:
            # It was refused, but a server has not processed the end of the others.
            self.tell()
            return
        names = ", ".join(sorted(repr(upstream.text) for upstream in self.missing)[:3])
        more = f" and {len(self.missing) - 3} more" if len(self.missing) > 3 else ""
        text = f"no acknowledgement of the subscription to {names}{more} within {self._timeout} s"
        calls = [part.call for upstream in self.missing for part in upstream.parts.values() if part.call is not None]
        if calls and calls[0].history is not None and calls[0].history.last:
            text += f"; attempts: {calls[0].history.attempts}, last error: {calls[0].history.last}"
        error = CommandTimeout(text, maybe_executed=False)
        self._log(error)
        self.fail(error)

    def _log(self, error: Exception) -> None:
        """Log a failure that nobody waits for: an iterator raises it, but a listener does not get it."""
        if not self._waiters and isinstance(self.feed, ListenerFeed):
            _log.error("a subscription has failed: {error}", error=error)

    def decide(self, error: Exception | None) -> None:
        """Note the outcome; `tell` passes it on."""
        self.done = True
        self._error = error
        del self.feed.acknowledgements[self]
        for upstream in self._concerns:
            upstream.acknowledgements.pop(self, None)
            others = self.feed.concerned.get(upstream, {})
            others.pop(self, None)
            if not others:
                self.feed.concerned.pop(upstream, None)

    def tell(self) -> None:
        """Pass the outcome on to the waiters."""
        self._told = True
        self._timer.stop()
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
