"""A call that reports its end, for the listeners of finished commands."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet import defer
from twisted.python.failure import Failure

from ..address import Address
from ..commands import Command
from ..statistics import FinishedCommand
from .fast_deferred import fast
from .history import History
from .interfaces import Destination
from .request import Call, lay_out
from .target import UNROUTED

# FinishedCommand(...) costs 0.15 us more: it calls a function that is written in Python.
_new = object.__new__
# super().callback(...) costs 0.1 us more.
_fire = Call.callback


#: Gets the name of a command that has ended, how long it took, and its error.
NoteTime = Callable[[str, float, BaseException | None], object]


class Observer(Protocol):
    """What gets the reports."""

    #: Returns the current time.
    seconds: Callable[[], float]
    #: Called with each finished command.  It may raise anything.
    report: Callable[[FinishedCommand], object]
    #: If it is not None, it is called with name, seconds and error instead.  It may raise anything.
    note_time: NoteTime | None
    #: Returns the context variables of the caller.
    context: Callable[[], Context]

    def report_failed(self, name: str) -> None:
        """Handle that `report` or `note_time` has raised an exception for a command with this name."""


class _Observed:
    """The attributes that `ObservedCall` adds to a call.  `_fast` has the same class in C."""

    __slots__ = ()

    _observer: Observer
    #: The node that this call was given to last; None if there was none yet.
    address: Address | None
    #: The context variables of the caller.
    context: Context


if fast is not None and not TYPE_CHECKING:
    _Observed = fast.ObservedRecord


class ObservedCall(_Observed, Call):
    """A call that reports its end to an observer.

    A callback on an ordinary call would do the same, but cost 1 us: it prevents the direct resumption of a coroutine.
    """

    __slots__ = () if fast is not None else ("_observer", "address", "context")

    def __init__(self, observer: Observer, *call: Any, **rest: Any) -> None:
        """Make the call.  `routing.observation` makes most calls without this method, to save time.

        Args:
            observer: Gets the report.
            *call: The arguments of `Call`.
            **rest: As ``call``.
        """
        super().__init__(*call, **rest)
        self._observer = observer
        self.address = None
        self.context = observer.context()

    def give_to(self, destination: Destination) -> None:
        """Give this call to a destination, and note which node that is."""
        self.address = getattr(destination, "address", self.address)
        super().give_to(destination)

    def callback(self, result: Any) -> None:
        """Report the success, then give the caller the reply."""
        observer = self._observer
        seconds, report, note_time = observer.seconds, observer.report, observer.note_time
        if note_time is not None:
            try:
                note_time(self.command.name, seconds() - self.since, None)
            except BaseException:
                # SystemExit too must not keep a command from ending.
                observer.report_failed(self.command.name)
            _fire(self, result)
            return
        history = self.history
        finished = _new(FinishedCommand)
        finished.name = self.command.name
        finished.node = self.address
        finished.seconds = seconds() - self.since
        finished.attempts = 1 if history is None else history.attempts + 1
        finished.error = None
        finished.commands = 1
        finished.context = self.context
        try:
            report(finished)
        except BaseException:
            observer.report_failed(self.command.name)
        _fire(self, result)

    def errback(self, fail: Any = None) -> None:
        """Report the error, then give it to the caller."""
        observer = self._observer
        error = fail.value if isinstance(fail, Failure) else fail
        seconds, name = observer.seconds() - self.since, self.command.name
        try:
            if observer.note_time is not None:
                observer.note_time(name, seconds, error)
            else:
                attempts = attempts_of(self.history, error)
                observer.report(FinishedCommand(name, self.address, seconds, attempts, error, 1, self.context))
        except BaseException:
            observer.report_failed(name)
        super().errback(fail)


def attempts_of(history: History | None, error: BaseException | None) -> int:
    """Return how often a request was tried that has ended now, with an error or without.

    Args:
        history: The history of the request; None if it has none.
        error: The error; None if it succeeded.
    """
    if history is None:
        return 1
    return history.attempts + 1 if error is None else max(history.attempts, 1)


def _put_forward() -> None:
    """Let Twisted find the type of an `ObservedCall` early: it looks for the type of an awaited object in a list.

    Behind the other classes of this package, this look-up costs 0.1 us.
    """
    known: Any = getattr(defer, "_DEFERRED_SUBCLASSES", None)
    if isinstance(known, list) and Call in known and ObservedCall in known:
        known.remove(ObservedCall)
        known.insert(known.index(Call) + 1, ObservedCall)


class _Nobody:
    """An observer that ignores the reports."""

    def __init__(self) -> None:
        self.seconds: Callable[[], float] = lambda: 0.0
        self.report: Callable[[FinishedCommand], object] = lambda finished: None
        self.note_time: NoteTime | None = None
        self.context: Callable[[], Context] = Context

    def report_failed(self, name: str) -> None:
        """Not called."""


_put_forward()
if fast is not None:
    fast.use_observed(ObservedCall)
lay_out(ObservedCall(_Nobody(), b"", Command("a first call"), UNROUTED, 0.0, 0.0))
