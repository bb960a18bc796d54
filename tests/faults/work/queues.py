"""Queues: producers push unique items, and consumers block for them.  Each item is delivered at most once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

from ..ledger import Ledger, Outcome, Tokens
from .base import Environment, Work


class _Queue:
    """A list, its pushed items, and the epochs in which each item was delivered."""

    def __init__(self, ledger: Ledger, number: int, *, moves: bool) -> None:
        self.key = f"{{queue:{number}}}"
        #: The list to which BLMOVE moves the items; None for BLPOP.
        self.done = f"{self.key}:done" if moves else None
        self.pushed = Tokens(ledger, self.key)
        self.delivered: dict[str, list[int]] = {}
        #: The number of pops that ended without a reply.  Each of them may have removed an item.
        self.pops_in_doubt = 0
        self._ledger = ledger

    def deliver(self, item: str) -> str | None:
        """Record that a consumer got an item.  Return a text if this is wrong."""
        self.delivered.setdefault(item, []).append(self._ledger.epoch)
        if item not in self.pushed.issued:
            return f"{self.key} delivered {item!r}, which was never pushed"
        if item in self.pushed.not_executed:
            return f"{self.key} delivered {item}, whose error said that it was not pushed"
        return None

    def problems(self, waiting: Sequence[str], done: Sequence[str]) -> Iterable[str]:
        """Yield what is wrong, given the items that are still on the server."""
        yield from self._several_times(waiting, done)
        there = {*waiting, *done}
        lost = [item for item in self.pushed.acknowledged if self.pushed.must_be_there(item) and item not in there]
        if self.done is not None:
            # A move leaves the item on the server, even if its reply is lost.
            yield from (f"{self.key} lost {item}" for item in lost)
            return
        lost = [item for item in lost if item not in self.delivered]
        if len(lost) > self.pops_in_doubt:
            yield f"{self.key} lost {lost}, and only {self.pops_in_doubt} pops ended without a reply"

    def _several_times(self, waiting: Sequence[str], done: Sequence[str]) -> Iterable[str]:
        on_server = Counter([*waiting, *done])
        for item, times in on_server.items():
            if times > 1:
                yield f"{self.key} holds {item} {times} times"
        for item, epochs in self.delivered.items():
            again = len(epochs) - 1 + (item in waiting if self.done is None else item not in done)
            # If a primary is lost with the pop of an item, its replica may deliver the item again.
            if again and not any(self._ledger.may_be_lost(self.pushed.slot, epoch) for epoch in epochs):
                yield f"{self.key} delivered {item} in epochs {epochs}, and still holds it: {item in on_server}"


class Queues(Work):
    """RPUSH, BLPOP and BLMOVE."""

    name = "queues"
    workers = 6

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._queues = [_Queue(self.ledger, number, moves=number % 2 == 1) for number in range(6)]

    def keys(self) -> Sequence[str]:
        """Return the keys of all queues."""
        return [queue.key for queue in self._queues]

    async def step(self, worker: int) -> None:
        """Push an item, or wait for one."""
        queue = self.random.choice(self._queues)
        if worker < 2:
            item = queue.pushed.new(worker)
            queue.pushed.end(item, await self.run(f"RPUSH {queue.key}", self.client.rpush(queue.key, item)))
        else:
            await self._consume(queue)

    async def _consume(self, queue: _Queue) -> None:
        wait = round(self.random.uniform(0.05, 1.0), 2)
        cancel_after = self.random.uniform(0, wait) if self.random.random() < 0.15 else None
        timeout = wait + self.timeout
        if queue.done is None:
            sent = self.client.blpop(queue.key, wait)
            outcome = await self.run(f"BLPOP {queue.key}", sent, timeout=timeout, cancel_after=cancel_after, takes=wait)
            item = outcome.reply[1] if outcome.reply else None
        else:
            moved = self.client.blmove(queue.key, queue.done, "LEFT", "RIGHT", wait)
            outcome = await self.run(
                f"BLMOVE {queue.key}", moved, timeout=timeout, cancel_after=cancel_after, takes=wait
            )
            item = outcome.reply
        self._note(queue, outcome, item)

    def _note(self, queue: _Queue, outcome: Outcome, item: bytes | None) -> None:
        if outcome.in_doubt:
            queue.pops_in_doubt += 1
        elif item is not None and (problem := queue.deliver(item.decode())):
            self.violation(problem)

    async def check(self) -> None:
        """Check the items that are left."""
        for queue in self._queues:
            waiting = await self._list(queue.key)
            done = await self._list(queue.done) if queue.done is not None else []
            for problem in queue.problems(waiting, done):
                self.violation(problem)

    async def _list(self, key: str) -> list[str]:
        items = await self.certainly(f"LRANGE {key}", partial(self.client.lrange, key, 0, -1))
        return [item.decode() for item in items or ()]
