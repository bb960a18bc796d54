"""Subscriptions to channels whose messages are numbered: each missing number lies in a gap that was reported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.cluster.numbered import Numbers, Trails
from txvalkeycluster import ClusterClient, Subscription

from ..findings import HEALTHY
from ..ledger import Outcome
from .base import GRACE, Environment, Work

_CHANNELS = 48
_POLL = 0.01


class Subscriptions(Work):
    """SSUBSCRIBE and SPUBLISH: a listener, an iterator, one that stops reading, and many short subscriptions."""

    name = "subscriptions"
    #: The publishers; and the two workers after them subscribe for a short time.
    workers = 10
    pause = 0.03

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._numbers = [Numbers(f"subscriptions:{number}") for number in range(_CHANNELS)]
        self._publishers = self.workers - 2
        self._turns = [0] * self._publishers
        # Its slot map is not refreshed by the end of a subscription.
        self._other = self.connect(refresh_period=1.0)
        self._trails = [Trails(self._numbers[start::3], self.violation) for start in range(3)]
        self._subscriptions: list[Subscription[bytes]] = []
        self._iterations: list[Deferred[None]] = []

    async def prepare(self) -> None:
        """Subscribe all channels."""
        options: list[dict[str, Any]] = [
            {"listener": self._trails[0].item},
            {},
            {"overflow": "pause", "max_messages": 20},
        ]
        for trails, each in zip(self._trails, options, strict=True):
            subscription = self.client.ssubscribe(*trails.by_channel, **each)
            self._subscriptions.append(await subscription.ready())
            trails.begin()
            if not each.get("listener"):
                self._iterations.append(Deferred.fromCoroutine(trails.iterate(subscription)))

    def keys(self) -> Sequence[str]:
        """Return all channels, so that their slots move."""
        return [numbers.channel for numbers in self._numbers]

    def probes(self) -> dict[str, Callable[[], Awaitable[Outcome]]]:
        """Return a probe: every channel receives a message that is published from now on."""
        return {"messages on all channels": self._all_received}

    async def _all_received(self) -> Outcome:
        goals = [trails.goals() for trails in self._trails]
        give_up = self.reactor.seconds() + 10 * HEALTHY
        while behind := [t for trails, goal in zip(self._trails, goals, strict=True) for t in trails.behind(goal)]:
            if self.reactor.seconds() > give_up:
                trail = behind[0]
                state = f"live={trail.live}, sent {trail.numbers.sent}, received {trail.received}"
                return Outcome(error=TimeoutError(f"{len(behind)} channels; {trail.numbers.channel}: {state}"))
            await deferLater(self.reactor, _POLL)
        return Outcome(True)

    async def step(self, worker: int) -> None:
        """Publish the next number of a channel, or subscribe for a moment."""
        if worker >= self._publishers:
            await self._subscribe_shortly()
            return
        own = self._numbers[worker :: self._publishers]
        self._turns[worker] += 1
        numbers = own[self._turns[worker] % len(own)]
        # Each client publishes to its own half of the channels.
        await self._publish(self.client if worker % 2 else self._other, numbers)

    async def _publish(self, client: ClusterClient[bytes], numbers: Numbers) -> None:
        number = numbers.next()
        outcome = await self.run(f"SPUBLISH {numbers.channel} {number}", client.spublish(numbers.channel, str(number)))
        if outcome.succeeded and not outcome.reply and not self.findings.healthy_for(HEALTHY):
            # It was published at a node without subscribers: a demoted primary that does not know it yet, or a replica.
            # Only the cluster bus brings it to the primary, and the bus may drop it.  No client can detect this.
            self.findings.unheard += 1
        elif outcome.succeeded:
            numbers.acknowledged(number, outcome.reply)
        elif not outcome.in_doubt:
            numbers.doubtful.discard(number)
            numbers.refused.add(number)

    async def _subscribe_shortly(self) -> None:
        trails = Trails(self.random.sample(self._numbers, self.random.randint(2, 6)), self.violation)
        first, *others = trails.by_channel
        subscription = self.client.ssubscribe(first, listener=trails.item)
        outcome = await self.run("SSUBSCRIBE", subscription.ready())
        if outcome.succeeded:
            trails.by_channel[first].begin()
            outcome = await self.run("SSUBSCRIBE", subscription.add(*others))
            if outcome.succeeded:
                trails.begin()
                await deferLater(self.reactor, self.random.uniform(0, 1))
                await self.findings.observe(self.name, "remove()", subscription.remove(first), self.timeout + GRACE)
        closing = self.findings.observe(self.name, "close()", subscription.close(), self.timeout + GRACE)
        messages = trails.messages
        await closing
        await deferLater(self.reactor, self.random.uniform(0, 0.2))
        if trails.messages != messages:
            self.violation(f"{trails.messages - messages} messages came after close()")

    async def check(self) -> None:
        """Check that all messages came, and that nothing is left on the servers after the end."""
        # The last number of a channel may be missing without a number after it.
        for numbers in self._numbers:
            await self._publish(self.client, numbers)
        for trails in self._trails:
            goals = {channel: trail.numbers.sent for channel, trail in trails.by_channel.items()}
            give_up = self.reactor.seconds() + self.timeout
            while behind := trails.behind(goals):
                if self.reactor.seconds() > give_up:
                    trail = behind[0]
                    self.violation(
                        f"{len(behind)} channels lack their last number, such as {trail.numbers.channel}: "
                        f"live={trail.live}, sent {trail.numbers.sent}, received {trail.received}"
                    )
                    break
                await deferLater(self.reactor, _POLL)
            self.findings.messages += trails.messages
            self.findings.gaps += trails.reasons
        for subscription in self._subscriptions:
            await self.findings.observe(self.name, "close()", subscription.close(), self.timeout + GRACE)
        for iteration in self._iterations:
            await self.findings.observe(self.name, "the end of an iteration", iteration, GRACE)
        left = await self.certainly("PUBSUB SHARDCHANNELS", partial(self.client.pubsub_shardchannels))
        if left:
            self.violation(f"the servers still have subscriptions: {left[:5]}")
