"""What a run has seen: operations, errors by kind, faults, recoveries and violations."""

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

from txvalkeycluster.errors import MaybeExecuted, ValkeyError

from .ledger import Outcome

# Violations of one kind of work that are told at once.
_TOLD = 10
#: How long a healthy client and cluster may need for a command, and a client to become healthy, in seconds.
HEALTHY = 2.0


@dataclass
class Count:
    """What became of the operations of one kind of work."""

    operations: int = 0
    successes: int = 0
    #: By class, and whether the command may have been executed.
    errors: Counter[str] = field(default_factory=Counter)


@dataclass
class Findings:
    """All that is counted in one run.  ``say`` is called with a line for each violation as it is found."""

    reactor: Any
    say: Callable[[str], None]
    work: dict[str, Count] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    #: Scans that ended without an error.
    scans: int = 0
    #: Writes that were acknowledged and then lost with a primary, as asynchronous replication has it.
    lost: int = 0
    #: Seconds from when the cluster was healthy to when the client was, and after which fault.
    longest_recovery: float = 0.0
    longest_recovery_after: str = ""
    violations: list[str] = field(default_factory=list)
    #: What happens at present, which is told with each violation.
    happening: str = "before the first fault"
    #: When the run began, as reactor.seconds().
    began: float = 0.0
    _healthy_times: list[tuple[float, float]] = field(default_factory=list)
    _told: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.began = self.reactor.seconds()

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return float(self.reactor.seconds()) - self.began

    def violation(self, kind: str, text: str) -> None:
        """Note that something happened which must not happen."""
        text = f"{kind} at {self.elapsed:.1f} s ({self.happening}): {text}"
        self.violations.append(text)
        self._told[kind] += 1
        if self._told[kind] <= _TOLD:
            self.say(f"VIOLATION {text}")
        if self._told[kind] == _TOLD:
            self.say(f"What else there is of {kind} is counted, and told at the end.")

    def observe(self, kind: str, what: str, deferred: Deferred[Any], limit: float) -> Deferred[Outcome]:
        """Wait for a command, but no longer than ``limit`` seconds, which it must not need; fires with its outcome."""
        told: Deferred[Outcome] = Deferred()

        def give_up() -> None:
            self.violation(kind, f"{what} never fired, {limit:g} s after it was issued")
            told.callback(Outcome(never_fired=True))
            deferred.cancel()

        def ended(result: Any) -> None:
            if told.called:
                return
            timer.cancel()
            failed = isinstance(result, Failure)
            told.callback(Outcome(error=result.value) if failed else Outcome(result))

        timer = self.reactor.callLater(limit, give_up)
        deferred.addBoth(ended)
        return told

    def note(
        self,
        kind: str,
        what: str,
        outcome: Outcome,
        expected: Sequence[type[BaseException]],
        fits: Callable[[BaseException], bool] = lambda _: True,
    ) -> None:
        """Count an operation; an error that is not of the ``expected`` classes, or does not fit, is a violation."""
        count = self.work.setdefault(kind, Count())
        count.operations += 1
        if outcome.succeeded:
            count.successes += 1
        elif outcome.error is not None:
            error = outcome.error
            count.errors[_kind_of(error)] += 1
            if not isinstance(error, tuple(expected)) or not fits(error):
                self.violation(kind, f"{what} failed with what it must not fail with: {described(error)}")

    def healthy_from_now(self) -> None:
        """Note that cluster and client are healthy."""
        self._healthy_times.append((self.reactor.seconds(), inf))

    def healthy_until_now(self) -> None:
        """Note that a fault begins."""
        if self._healthy_times:
            self._healthy_times[-1] = (self._healthy_times[-1][0], self.reactor.seconds())

    def took(self, kind: str, what: str, outcome: Outcome, issued: float, takes: float) -> None:
        """Verify that a command was no longer under way than it may be while all is healthy.

        ``takes`` is for how long it waits for something by itself.
        """
        took = self.reactor.seconds() - issued
        if took < takes + HEALTHY:
            return
        if any(began <= issued and issued + takes + HEALTHY <= ended for began, ended in self._healthy_times):
            end = described(outcome.error) if outcome.error is not None else "a reply"
            self.violation(kind, f"{what}, issued {took:.2f} s ago while all was healthy, ended with {end}")

    def recovered(self, after: str, seconds: float) -> None:
        """Note how long the client needed to be healthy after the cluster was."""
        if seconds > self.longest_recovery:
            self.longest_recovery, self.longest_recovery_after = seconds, after

    def watch_log(self) -> Callable[[], None]:
        """Take every failure that is logged for a violation, until the function that is returned is called."""

        @provider(ILogObserver)
        def saw(event: LogEvent) -> None:
            failure = event.get("log_failure")
            if failure is not None:
                self.violation("log", failure.getTraceback())

        globalLogPublisher.addObserver(saw)
        return lambda: globalLogPublisher.removeObserver(saw)


def _kind_of(error: BaseException) -> str:
    doubt = ", maybe executed" if isinstance(error, MaybeExecuted) and error.maybe_executed else ""
    return f"{type(error).__name__}{doubt}"


def described(error: BaseException | None) -> str:
    """The kind and the text of one of the documented errors, the traceback of any other."""
    if error is None:
        return "no error"
    if isinstance(error, (ValkeyError, CancelledError)):
        return f"{_kind_of(error)}: {error}"
    # With the exceptions that led to it.
    return "".join(format_exception(error))
