"""Publishers that number their messages, and the check of what a subscription receives.

A number may be missing only between the last message before a `Lost` and the first message after its `Resubscribed`.
No number comes twice, and the order never changes.  A number whose publication failed may be missing or come late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from txvalkeycluster import ClusterClient, Lost, LostReason, Message, Resubscribed, Subscription
from txvalkeycluster.errors import CommandTimeout, ConnectionLost, MaybeExecuted

_POLL = 0.01
# In seconds.
_PATIENCE = 30.0


class Trail:
    """The numbers of one channel.  The publisher waits for the outcome of a number before it sends the next one."""

    def __init__(self, channel: str, violation: Callable[[str], None]) -> None:
        """``violation`` is called with a text for each violation."""
        self.channel = channel
        #: The number that was sent last.
        self.sent = 0
        #: The highest number that was received.
        self.received = 0
        #: Whether there is no gap.
        self.live = True
        #: How many numbers are missing in gaps.
        self.missing_in_gaps = 0
        self._violation = violation
        # The number being sent, the numbers that may have been published, and those that were not published.
        self._doubtful: set[int] = set()
        self._refused: set[int] = set()
        # The acknowledged numbers that reached no subscriber at the node of the publisher.
        self._unheard: set[int] = set()
        # The numbers that a later number has overtaken.
        self._overtaken: set[int] = set()
        self._after_gap = False

    def next(self) -> int:
        """Return the next number to publish."""
        self.sent += 1
        self._doubtful.add(self.sent)
        return self.sent

    def acknowledged(self, number: int, receivers: int) -> None:
        """Record the reply to a publication."""
        self._doubtful.discard(number)
        if not receivers:
            self._unheard.add(number)

    def failed(self, number: int, error: BaseException) -> None:
        """Record the error of a publication."""
        if isinstance(error, MaybeExecuted) and not error.maybe_executed:
            self._doubtful.discard(number)
            self._refused.add(number)

    def message(self, number: int) -> None:
        """Check a number that was received."""
        if not self.live:
            self._violation(f"{self.channel}: {number} came in a gap, after {self.received}")
        if number in self._refused or number > self.sent:
            self._violation(f"{self.channel}: {number} came, although it was not published")
        if number > self.received:
            between = range(self.received + 1, number)
            missing = [each for each in between if each not in self._refused and each not in self._doubtful]
            if missing and not self._after_gap:
                self._violation(f"{self.channel}: {self._texts(missing)} missing before {number}, without a gap")
            self.missing_in_gaps += len(missing)
            self._overtaken.update(between)
            self.received = number
            self._after_gap = False
        elif number in self._overtaken:
            self._overtaken.discard(number)
            if number not in self._doubtful:
                self._violation(f"{self.channel}: {number} came after {self.received}")
        else:
            self._violation(f"{self.channel}: {number} came twice")

    def lost(self) -> None:
        """Record the start of a gap."""
        if not self.live:
            self._violation(f"{self.channel}: a second Lost after {self.received} without a Resubscribed")
        self.live = False

    def resubscribed(self) -> None:
        """Record the end of a gap."""
        if self.live:
            self._violation(f"{self.channel}: a Resubscribed after {self.received} without a Lost")
        self.live = self._after_gap = True

    def _texts(self, numbers: list[int]) -> str:
        unheard = [each for each in numbers if each in self._unheard]
        more = f" (without receivers: {unheard})" if unheard else ""
        return f"{numbers[:3]}{'...' if len(numbers) > 3 else ''}{more}"


class Trails:
    """The trails of several channels, and the items of their subscriptions."""

    def __init__(self, channels: Iterable[str], violation: Callable[[str], None]) -> None:
        """``violation`` is called with a text for each violation."""
        self.by_channel = {channel: Trail(channel, violation) for channel in channels}
        #: How often a channel was lost, by reason.
        self.reasons: Counter[LostReason] = Counter()
        #: How many messages came.
        self.messages = 0

    def item(self, item: Message[bytes] | Lost | Resubscribed) -> None:
        """Check an item of a subscription."""
        if isinstance(item, Message):
            self.messages += 1
            self.by_channel[item.channel.decode()].message(int(item.data))
            return
        for channel in item.channels:
            trail = self.by_channel[channel.decode()]
            if isinstance(item, Lost):
                self.reasons[item.reason] += 1
                trail.lost()
            else:
                trail.resubscribed()

    async def iterate(self, subscription: Subscription[bytes]) -> None:
        """Check the items of a subscription until it is closed."""
        async for item in subscription:
            self.item(item)

    def behind(self, goals: dict[str, int]) -> list[Trail]:
        """Return the trails that have a gap, or have not received a number of at least ``goals``."""
        trails = [(self.by_channel[channel], goal) for channel, goal in goals.items()]
        return [trail for trail, goal in trails if not trail.live or trail.received < goal]


class Publishers:
    """Publishes numbers to every channel of some trails, one after the other in each channel."""

    def __init__(
        self,
        reactor: Any,
        clients: Sequence[ClusterClient[bytes]],
        trails: Trails,
        *,
        sharded: bool = True,
        interval: float = 0.2,
    ) -> None:
        """Make publishers that do not run yet.

        Args:
            reactor: The Twisted reactor.
            clients: The clients that publish, each to some of the channels.
            trails: The channels.
            sharded: Whether the channels are sharded.
            interval: The mean pause between two messages of a channel, in seconds.
        """
        #: The publications that failed.
        self.errors: Counter[str] = Counter()
        self._reactor = reactor
        self._sends = [client.spublish if sharded else client.publish for client in clients]
        self._trails = trails
        self._interval = interval
        self._random = Random(17)
        self._stopping = False
        self._running: list[Deferred[None]] = []

    def start(self) -> None:
        """Start to publish."""
        trails = self._trails.by_channel.values()
        self._running = [
            Deferred.fromCoroutine(self._repeat(trail, send)) for trail, send in zip(trails, cycle(self._sends))
        ]

    def stop(self) -> Deferred[Any]:
        """Return a Deferred that fires when every publication has an outcome."""
        self._stopping = True
        running, self._running = self._running, []
        return gatherResults(running)

    async def _repeat(self, trail: Trail, send: Callable[[str, str], Deferred[int]]) -> None:
        while not self._stopping:
            await self._publish(trail, send)
            await deferLater(self._reactor, self._random.uniform(0, 2 * self._interval))

    async def _publish(self, trail: Trail, send: Callable[[str, str], Deferred[int]]) -> None:
        number = trail.next()
        try:
            trail.acknowledged(number, await send(trail.channel, str(number)))
        except (CommandTimeout, ConnectionLost) as error:
            self.errors[f"{type(error).__name__}, maybe executed: {error.maybe_executed}"] += 1
            trail.failed(number, error)

    async def all_received(self) -> float:
        """Wait until each channel has received a number that was published after this call.

        Returns:
            How long it took in seconds, without the longest delay of the reactor.

        Raises:
            TimeoutError: It takes 30 seconds; the text names a channel.
        """
        goals = {channel: trail.sent + 1 for channel, trail in self._trails.by_channel.items()}
        began = before = self._reactor.seconds()
        delay = 0.0
        while behind := self._trails.behind(goals):
            await deferLater(self._reactor, _POLL)
            now = self._reactor.seconds()
            delay, before = max(delay, now - before - _POLL), now
            if now > began + _PATIENCE:
                trail = behind[0]
                raise TimeoutError(
                    f"{len(behind)} channels receive nothing; {trail.channel}: live={trail.live}, "
                    f"sent {trail.sent}, received {trail.received}"
                )
        return float(before - began - delay)
