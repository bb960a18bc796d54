"""Records of writes: which were acknowledged, which are in doubt, and which the servers may lose.

Replication is asynchronous.  A primary that is killed or replaced by force loses the acknowledged writes that its
replica has not received.  The servers allow this; it is not a defect of the client.

A run is divided into epochs, so that the checks excuse as few losses as possible.  A new epoch starts after each fault,
when the cluster is whole again.  The next fault waits until the replicas have all writes that were acknowledged before
this epoch.  So a fault can lose only writes of its own epoch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError

from txvalkeycluster import key_slot
from txvalkeycluster.errors import MaybeExecuted


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one command: a reply or an error."""

    reply: Any = None
    error: BaseException | None = None
    #: Whether the Deferred did not fire until long after the deadline.
    never_fired: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether there is a reply."""
        return self.error is None and not self.never_fired

    @property
    def in_doubt(self) -> bool:
        """Whether the command may have been executed although there is no reply."""
        if isinstance(self.error, MaybeExecuted):
            return self.error.maybe_executed
        return self.never_fired or isinstance(self.error, CancelledError)

    @classmethod
    def of(cls, result: Any) -> Outcome:
        """Return the outcome of a command from its result in a pipeline, which is a reply or an error."""
        return cls(error=result) if isinstance(result, Exception) else cls(result)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A violation, unless it turns out later that the servers have lost a write."""

    work: str
    text: str
    is_violation: Callable[[], bool]


class Ledger:
    """Records which slots may have lost writes, by epoch."""

    def __init__(self) -> None:
        #: The number of the current epoch.
        self.epoch = 0
        self.suspects: list[Suspect] = []
        self._endangered: dict[int, set[int]] = {}
        self._erasures: list[tuple[float, float]] = []

    def begin_epoch(self) -> None:
        """Start the next epoch."""
        self.epoch += 1

    def endanger(self, slots: Iterable[int], *, epochs: int = 1) -> None:
        """Record that writes to these slots that are acknowledged in the last ``epochs`` epochs may be lost."""
        slots = set(slots)
        for epoch in range(self.epoch - epochs + 1, self.epoch + 1):
            self._endangered.setdefault(epoch, set()).update(slots)

    def may_be_lost(self, slot: int, epoch: int) -> bool:
        """Return whether a write to a slot that was acknowledged in an epoch may be lost."""
        return slot in self._endangered.get(epoch, ())

    def erase(self, began: float, ended: float) -> None:
        """Record that writes between these times, in reactor.seconds(), may be lost even if replicas had them."""
        self._erasures.append((began, ended))

    def may_be_erased(self, time: float) -> bool:
        """Return whether a write at a time may be lost even if replicas had it."""
        return any(began <= time <= ended for began, ended in self._erasures)


class Tally:
    """A counter on the cluster, with the number of increments that may have been executed."""

    def __init__(self, ledger: Ledger, work: str, key: str) -> None:
        self.key = key
        self.slot = key_slot(key)
        self._ledger = ledger
        self._work = work
        self._issued = 0
        self._not_executed = 0
        # The number of acknowledged increments by epoch.
        self._acknowledged: Counter[int] = Counter()

    @property
    def at_most(self) -> int:
        """The highest possible value: each increment in doubt was executed."""
        return self._issued - self._not_executed

    @property
    def at_least(self) -> int:
        """The lowest possible value: no increment in doubt was executed, and all writes that may be lost are lost."""
        return self._least(self._acknowledged)

    def begin(self) -> Counter[int]:
        """Record that an increment is sent.  Return the acknowledged increments before, for `end`."""
        self._issued += 1
        return self._acknowledged.copy()

    def acknowledge(self) -> None:
        """Record that an increment was executed."""
        self._acknowledged[self._ledger.epoch] += 1

    def refuse(self) -> None:
        """Record that an increment was not executed."""
        self._not_executed += 1

    def end(self, before: Counter[int], outcome: Outcome) -> str | None:
        """Record the outcome of an INCR.  Return a text if its reply is wrong."""
        if not outcome.succeeded:
            if not outcome.in_doubt:
                self.refuse()
            return None
        self.acknowledge()
        value = outcome.reply
        if type(value) is not int:
            return f"INCR {self.key} gave {value!r}"
        if value > self.at_most:
            most = self.at_most
            # Later replies are one higher too: report the extra increment once.
            self._issued += value - most
            return f"INCR {self.key} gave {value}: only {most} can have been executed"
        if value <= self._least(before):
            text = f"INCR {self.key} gave {value}: {self._least(before)} had been acknowledged before"
            self._ledger.suspects.append(Suspect(self._work, text, lambda: value <= self._least(before)))
        return None

    def problems(self, value: int) -> Iterator[str]:
        """Yield what is wrong with the final value."""
        if value > self.at_most:
            yield f"{self.key} is {value}: only {self.at_most} increments can have been executed"
        if value < self.at_least:
            yield f"{self.key} is {value}: {self.at_least} increments were acknowledged and cannot be lost"

    def _least(self, acknowledged: Counter[int]) -> int:
        return sum(n for epoch, n in acknowledged.items() if not self._ledger.may_be_lost(self.slot, epoch))


class Tokens:
    """Unique tokens that are added to one key, with their outcomes."""

    def __init__(self, ledger: Ledger, key: str) -> None:
        self.key = key
        self.slot = key_slot(key)
        self.issued: set[str] = set()
        #: The acknowledged tokens, with the epoch of each.
        self.acknowledged: dict[str, int] = {}
        self.not_executed: set[str] = set()
        self._ledger = ledger
        self._next: Counter[int] = Counter()

    def new(self, worker: int) -> str:
        """Return the next token of a worker."""
        self._next[worker] += 1
        token = f"{worker}-{self._next[worker]}"
        self.issued.add(token)
        return token

    def end(self, token: str, outcome: Outcome) -> None:
        """Record the outcome of a token."""
        if outcome.succeeded:
            self.acknowledged[token] = self._ledger.epoch
        elif not outcome.in_doubt:
            self.not_executed.add(token)

    def lost(self, found: Sequence[str]) -> int:
        """Return how many acknowledged tokens are missing."""
        return len(self.acknowledged.keys() - set(found))

    def must_be_there(self, token: str) -> bool:
        """Return whether a token was acknowledged and cannot be lost."""
        epoch = self.acknowledged.get(token)
        return epoch is not None and not self._ledger.may_be_lost(self.slot, epoch)

    def problems(self, found: Sequence[str]) -> Iterator[str]:
        """Yield what is wrong with the tokens on the server."""
        for token, times in Counter(found).items():
            if times > 1:
                yield f"{self.key} holds {token} {times} times"
            if token not in self.issued:
                yield f"{self.key} holds {token}, which was never sent"
            if token in self.not_executed:
                yield f"{self.key} holds {token}, whose error said that it was not executed"
        there = set(found)
        for token in self.acknowledged:
            if token not in there and self.must_be_there(token):
                yield f"{self.key} lacks {token}, which was acknowledged and cannot be lost"
        yield from self._out_of_order(found)

    def _out_of_order(self, found: Sequence[str]) -> Iterator[str]:
        last: dict[str, int] = {}
        for token in found:
            if token in self.acknowledged:
                worker, _, number = token.partition("-")
                if int(number) < last.get(worker, 0):
                    yield f"{self.key} holds {token} after {worker}-{last[worker]}"
                last[worker] = int(number)
