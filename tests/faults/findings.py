"""The results of a run: operations, errors by kind, faults, recoveries and violations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from traceback import format_exception
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import provider

from txvalkeycluster import LostReason
from txvalkeycluster.errors import MaybeExecuted, ValkeyError

from .ledger import Outcome

# How many violations of one kind of work are printed at once.
_PRINTED = 10
#: The usual limit in seconds for a command on a healthy cluster, and for the recovery of a client.
HEALTHY = 2.0


@dataclass
class Count:
    """The results of the operations of one kind of work."""

    operations: int = 0
    successes: int = 0
    #: Errors by class, and by whether the command may have been executed.
    errors: Counter[str] = field(default_factory=Counter)


@dataclass
class Findings:
    """The results of one run.  ``say`` is called with a line for each violation when it is found."""

    reactor: Any
    say: Callable[[str], None]
    #: The limit in seconds for a command on a healthy cluster, and for the recovery of a client.
    healthy: float = HEALTHY
    work: dict[str, Count] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    #: The number of scans that ended without an error.
    scans: int = 0
    #: The number of acknowledged writes that were lost with a primary, which asynchronous replication allows.
    lost: int = 0
    #: The number of messages that the long subscriptions have received, and how often a channel was lost, by reason.
    messages: int = 0
    gaps: Counter[LostReason] = field(default_factory=Counter)
    #: The number of messages that were published at a node without subscribers while a fault lasted.
    unheard: int = 0
    #: The longest time in seconds until a client was healthy after the cluster was, and the fault before it.
    longest_recovery: float = 0.0
    longest_recovery_after: str = ""
    violations: list[str] = field(default_factory=list)
    #: The current fault or phase, for the texts of violations.
    happening: str = "before the first fault"
    #: The start of the run, in reactor.seconds().
    began: float = 0.0
    _healthy_times: list[tuple[float, float]] = field(default_factory=list)
    _printed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.began = self.reactor.seconds()

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return float(self.reactor.seconds()) - self.began

    def violation(self, kind: str, text: str) -> None:
        """Record a violation."""
        text = f"{kind} at {self.elapsed:.1f} s ({self.happening}): {text}"
        self.violations.append(text)
        self._printed[kind] += 1
        if self._printed[kind] <= _PRINTED:
            self.say(f"VIOLATION {text}")
        if self._printed[kind] == _PRINTED:
            self.say(f"Further violations of {kind} are printed at the end.")

    def observe(self, kind: str, what: str, deferred: Deferred[Any], limit: float) -> Deferred[Outcome]:
        """Wait for the end of a command.

        A command that has not ended after ``limit`` seconds is a violation, and is cancelled.

        Args:
            kind: The kind of work.
            what: The command, for the text of a violation.
            deferred: The Deferred of the command.
            limit: In seconds.

        Returns:
            A Deferred that fires with the outcome of the command.
        """
        observed: Deferred[Outcome] = Deferred()

        def give_up() -> None:
            self.violation(kind, f"{what} never fired, {limit:g} s after it was issued")
            observed.callback(Outcome(never_fired=True))
            deferred.cancel()

        def ended(result: Any) -> None:
            if observed.called:
                return
            timer.cancel()
            failed = isinstance(result, Failure)
            observed.callback(Outcome(error=result.value) if failed else Outcome(result))

        timer = self.reactor.callLater(limit, give_up)
        deferred.addBoth(ended)
        return observed

    def note(
        self,
        kind: str,
        what: str,
        outcome: Outcome,
        expected: Sequence[type[BaseException]],
        fits: Callable[[BaseException], bool] = lambda _: True,
    ) -> None:
        """Count an operation.  An error that is not one of ``expected``, or does not fit, is a violation."""
        count = self.work.setdefault(kind, Count())
        count.operations += 1
        if outcome.succeeded:
            count.successes += 1
        elif outcome.error is not None:
            error = outcome.error
            count.errors[_kind_of(error)] += 1
            if not isinstance(error, tuple(expected)) or not fits(error):
                self.violation(kind, f"{what} failed with an unexpected error: {described(error)}")

    def healthy_from_now(self) -> None:
        """Record that cluster and client are healthy."""
        self._healthy_times.append((self.reactor.seconds(), inf))

    def healthy_until_now(self) -> None:
        """Record that a fault starts."""
        if self._healthy_times:
            self._healthy_times[-1] = (self._healthy_times[-1][0], self.reactor.seconds())

    def healthy_for(self, seconds: float) -> bool:
        """Return whether cluster and client are healthy, and have been for some time."""
        now = self.reactor.seconds()
        return bool(self._healthy_times) and self._healthy_times[-1][0] + seconds <= now <= self._healthy_times[-1][1]

    def took(self, kind: str, what: str, outcome: Outcome, issued: float, takes: float) -> None:
        """Check that a command did not take too long while cluster and client were healthy.

        Args:
            kind: The kind of work.
            what: The command, for the text of a violation.
            outcome: The outcome of the command.
            issued: When it was sent, in reactor.seconds().
            takes: How long it blocks by itself, in seconds.
        """
        took = self.reactor.seconds() - issued
        if took < takes + self.healthy:
            return
        if any(began <= issued and issued + takes + self.healthy <= ended for began, ended in self._healthy_times):
            end = described(outcome.error) if outcome.error is not None else "a reply"
            self.violation(kind, f"{what} took {took:.2f} s while all was healthy, and ended with {end}")

    def recovered(self, after: str, seconds: float) -> None:
        """Record how long the client took to be healthy after the cluster was."""
        if seconds > self.longest_recovery:
            self.longest_recovery, self.longest_recovery_after = seconds, after

    def watch_log(self) -> Callable[[], None]:
        """Count every logged failure as a violation.  Return a function that ends this."""

        @provider(ILogObserver)
        def observer(event: LogEvent) -> None:
            failure = event.get("log_failure")
            if failure is not None:
                self.violation("log", failure.getTraceback())

        globalLogPublisher.addObserver(observer)
        return lambda: globalLogPublisher.removeObserver(observer)


def _kind_of(error: BaseException) -> str:
    doubt = ", maybe executed" if isinstance(error, MaybeExecuted) and error.maybe_executed else ""
    return f"{type(error).__name__}{doubt}"


def described(error: BaseException | None) -> str:
    """Return the type and text of a documented error, and the traceback of any other exception."""
    if error is None:
        return "no error"
    if isinstance(error, (ValkeyError, CancelledError)):
        return f"{_kind_of(error)}: {error}"
    return "".join(format_exception(error))
