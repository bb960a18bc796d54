"""Publishers that number their messages, and the check of what a subscription receives.

A number may be missing only between the last message before a `Lost` and the first message after its `Resubscribed`.
No number comes twice, and the order never changes.  A number whose publication failed may be missing or come late.  A
number that had no receiver at the node that published it comes through the cluster bus, which can be late.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from txvalkeycluster import ClusterClient, Lost, LostReason, Message, Resubscribed, Subscription
from txvalkeycluster.errors import CommandTimeout, ConnectionLost, MaybeExecuted

_POLL = 0.01
# How many items the text of a violation names.
_RECENT = 8
# In seconds.
_PATIENCE = 30.0


class Numbers:
    """The numbers that are published to one channel.  The next one is sent when the last one has an outcome."""

    def __init__(self, channel: str) -> None:
        """Begin with 1."""
        self.channel = channel
        #: The number that was sent last.
        self.sent = 0
        #: The numbers without a reply: they may be missing, or come late.
        self.doubtful: set[int] = set()
        #: The numbers that were not published, as their errors say.
        self.refused: set[int] = set()
        #: The acknowledged numbers that had no receiver at the node that published them.
        self.unheard: set[int] = set()

    def next(self) -> int:
        """Return the next number to publish."""
        self.sent += 1
        self.doubtful.add(self.sent)
        return self.sent

    def acknowledged(self, number: int, receivers: int) -> None:
        """Record the reply to a publication."""
        self.doubtful.discard(number)
        if not receivers:
            self.unheard.add(number)

    def failed(self, number: int, error: BaseException) -> None:
        """Record the error of a publication."""
        if isinstance(error, MaybeExecuted) and not error.maybe_executed:
            self.doubtful.discard(number)
            self.refused.add(number)


class Trail:
    """What one subscription receives of one channel."""

    def __init__(self, numbers: Numbers, violation: Callable[[str], None]) -> None:
        """``violation`` is called with a text for each violation."""
        self.numbers = numbers
        #: The highest number that was received.
        self.received = 0
        #: Whether there is no gap.
        self.live = True
        #: How many acknowledged numbers are missing in gaps.
        self.missing_in_gaps = 0
        self._violation = violation
        self._begun = False
        # The numbers below the highest one that have not been received.
        self._overtaken: set[int] = set()
        #: Those of them that still have to come, through the cluster bus.
        self.on_the_bus: set[int] = set()
        # The number that was being published when the subscription was acknowledged.
        self._first = 0
        self._after_gap = False
        # What came last, for the texts of violations.
        self._recent: deque[str] = deque(maxlen=_RECENT)

    def begin(self) -> None:
        """Expect every number that is published from now on, because the subscription is acknowledged."""
        if not self._begun:
            self._begun = True
            self.received = self._first = self.numbers.sent
            self._overtaken |= {self._first, *self.numbers.doubtful}

    def message(self, number: int) -> None:
        """Check a number that was received."""
        numbers = self.numbers
        if not self.live:
            self._wrong(f"{number} came in a gap")
        if number in numbers.refused or number > numbers.sent:
            self._wrong(f"{number} came, although it was not published")
        if not self._begun:
            self._begun = True
            self.received = number
            self._overtaken.update(numbers.doubtful - {number})
        elif number > self.received:
            self._advance(number)
        elif number in self._overtaken:
            self._overtaken.discard(number)
            late = number in self.on_the_bus
            self.on_the_bus.discard(number)
            if number not in numbers.doubtful and number != self._first and not late:
                self._wrong(f"{number} came too late")
        else:
            self._wrong(f"{number} came twice")
        self._recent.append(str(number))

    def _advance(self, number: int) -> None:
        between = range(self.received + 1, number)
        missing = [each for each in between if each not in self.numbers.refused and each not in self.numbers.doubtful]
        if not self._after_gap:
            self.on_the_bus.update(each for each in missing if each in self.numbers.unheard)
            missing = [each for each in missing if each not in self.on_the_bus]
        if missing and not self._after_gap:
            self._wrong(f"{self._texts(missing)} missing before {number}, without a gap")
        self.missing_in_gaps += len(missing)
        self._overtaken.update(between)
        self.received = number
        self._after_gap = False

    def lost(self, item: Lost) -> None:
        """Record the start of a gap."""
        if not self.live:
            self._wrong("a Lost without a Resubscribed before")
        self.live = False
        self.missing_in_gaps += len(self.on_the_bus)
        self.on_the_bus.clear()
        self._recent.append(f"Lost({item.reason.name}, {item.node})")

    def resubscribed(self, item: Resubscribed) -> None:
        """Record the end of a gap."""
        if self.live:
            self._wrong("a Resubscribed without a Lost before")
        self.live = self._after_gap = True
        self._recent.append(f"Resubscribed({item.node})")

    def _wrong(self, text: str) -> None:
        self._violation(f"{self.numbers.channel}: {text}, after {', '.join(self._recent)}; sent {self.numbers.sent}")

    def _texts(self, numbers: list[int]) -> str:
        unheard = [each for each in numbers if each in self.numbers.unheard]
        more = f" (without receivers: {unheard[:3]})" if unheard else ""
        return f"{numbers[:3]}{'...' if len(numbers) > 3 else ''}{more}"


class Trails:
    """The trails of several channels, and the items of their subscriptions."""

    def __init__(self, channels: Iterable[Numbers], violation: Callable[[str], None]) -> None:
        """``violation`` is called with a text for each violation."""
        self.by_channel = {numbers.channel: Trail(numbers, violation) for numbers in channels}
        #: How often a channel was lost, by reason.
        self.reasons: Counter[LostReason] = Counter()
        #: The details of lost connections.
        self.details: set[str] = set()
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
                self.details |= {item.detail}
                trail.lost(item)
            else:
                trail.resubscribed(item)

    def begin(self) -> None:
        """Expect every number from now on, because the subscription is acknowledged."""
        for trail in self.by_channel.values():
            trail.begin()

    async def iterate(self, subscription: Subscription[bytes]) -> None:
        """Check the items of a subscription until it is closed."""
        async for item in subscription:
            self.item(item)

    def goals(self) -> dict[str, int]:
        """Return a number for each channel that is published after this call."""
        return {channel: trail.numbers.sent + 1 for channel, trail in self.by_channel.items()}

    def behind(self, goals: dict[str, int]) -> list[Trail]:
        """Return the trails that have a gap, wait for the bus, or have not received their number of `goals`."""
        trails = [(self.by_channel[channel], goal) for channel, goal in goals.items()]
        return [trail for trail, goal in trails if not trail.live or trail.received < goal or trail.on_the_bus]


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
            Deferred.fromCoroutine(self._repeat(trail.numbers, send)) for trail, send in zip(trails, cycle(self._sends))
        ]

    def stop(self) -> Deferred[Any]:
        """Return a Deferred that fires when every publication has an outcome."""
        self._stopping = True
        running, self._running = self._running, []
        return gatherResults(running)

    async def _repeat(self, numbers: Numbers, send: Callable[[str, str], Deferred[int]]) -> None:
        while not self._stopping:
            await self._publish(numbers, send)
            await deferLater(self._reactor, self._random.uniform(0, 2 * self._interval))

    async def _publish(self, numbers: Numbers, send: Callable[[str, str], Deferred[int]]) -> None:
        number = numbers.next()
        try:
            numbers.acknowledged(number, await send(numbers.channel, str(number)))
        except (CommandTimeout, ConnectionLost) as error:
            self.errors[f"{type(error).__name__}, maybe executed: {error.maybe_executed}"] += 1
            numbers.failed(number, error)

    async def all_received(self) -> float:
        """Wait until each channel has received a number that was published after this call.

        Returns:
            How long it took in seconds, without the longest delay of the reactor.

        Raises:
            TimeoutError: It takes 30 seconds; the text names a channel.
        """
        goals = self._trails.goals()
        began = before = self._reactor.seconds()
        delay = 0.0
        while behind := self._trails.behind(goals):
            await deferLater(self._reactor, _POLL)
            now = self._reactor.seconds()
            delay, before = max(delay, now - before - _POLL), now
            if now > began + _PATIENCE:
                trail = behind[0]
                raise TimeoutError(
                    f"{len(behind)} channels receive nothing; {trail.numbers.channel}: live={trail.live}, "
                    f"sent {trail.numbers.sent}, received {trail.received}, on the bus {sorted(trail.on_the_bus)[:3]}"
                )
        return float(before - began - delay)
