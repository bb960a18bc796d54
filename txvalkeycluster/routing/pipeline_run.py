"""Sends many commands.  A limited number is pending at any time: enough to keep all nodes busy with bounded memory.

Commands whose only key is argument 1 are sent in batches, one for each node.  All others are sent one by one.  What
full queues reject is sent again before any new command.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from math import inf
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..commands import Command
from ..commands.encoder import Arg
from ..errors import ClientClosed, PartialFailure, TooManyPending
from ..requests.batch import Batch, Batches
from ..requests.history import timeout_error
from .batches import Intake, store, take
from .router import Router

# The most commands that are pending at any time.
_COMMANDS = 4096
# The most commands that are packed before they are sent, so that the servers start early.
_AT_ONCE = 2048
# The most commands that are taken before the reactor can do other work, even if all of them end at once.
_AT_A_TIME = 2 * _COMMANDS
_PIPELINE = Command("a pipeline")


class PipelineRun:
    """Sends the commands of an iterable, and passes each result to a function."""

    def __init__(
        self,
        router: Router,
        calls: Iterable[Sequence[Arg]],
        timeout: float | None,
        each: Callable[[int, Any], object] | list[Any],
        *,
        to_the_end: bool,
        backlog: Sized = (),
    ) -> None:
        """Start to send the commands.

        Args:
            router: Routes the commands.
            calls: The commands.  They are read while earlier ones are pending.
            timeout: The seconds that each command may take; None means no limit.
            each: Called with the number of a command, counted from 0, and its reply or error.  Or a list, which gets
                the results at the places of their commands.
            to_the_end: Whether ``close()`` of the client waits for all commands of ``calls``, and not only for the
                pending ones.
            backlog: Results that ``each`` has stored.  The number of pending commands is lower by as many.
        """
        self._ended: Deferred[int] = Deferred(self._cancelled)
        call = router.delegate(_PIPELINE, self._ended)
        #: Fires with the number of commands.  Fails with ClientClosed, or with what ``calls`` or ``each`` raised.
        self.done: Deferred[Any] = call
        self._history = call.admit()
        #: Whether the run has ended or was cancelled.
        self.called = False
        self._router = router
        self._calls: Iterator[Sequence[Arg]] | None = None
        self._timeout = timeout
        self._each = each
        self._backlog = backlog
        self._to_the_end = to_the_end
        self._intake = Intake()
        self._under_way = 0
        self._most = max(min(_COMMANDS, router.max_pending // 2), 1)
        # More commands are sent when the number of pending ones has fallen to this.
        self._resume_at = self._most // 2
        # The pending batches, and the Deferreds of the commands that were sent one by one.
        self._batches: list[Batch] = []
        self._others: dict[int, Deferred[Any]] = {}
        # Rejected by full queues.  They are sent again before any new command.
        self._refused: deque[_Entry] = deque()
        # Whether an entry was rejected.  All further entries wait behind it.
        self._full = False
        self._sending = False
        self._failure: BaseException | None = None
        # Whether ``each`` has raised.  It is not called again.
        self._given_up = False
        if router.closed:
            self._stop(ClientClosed(router.closed_because))
        else:
            try:
                self._calls = iter(calls)
            except BaseException as error:
                # The iterable is code of the caller, which can raise anything.
                self._stop(error)
        self._send()
        self.done = router.next_turn.postponed(self.done)

    # ---- results

    def answered(self, places: Sequence[int], replies: Sequence[Any]) -> None:
        """Pass replies or errors to ``each``."""
        each = self._each
        try:
            if isinstance(each, list):
                store(each, places, replies)
            else:
                for place, reply in zip(places, replies, strict=True):
                    if self.called or self._given_up:
                        break
                    each(place, reply)
        except BaseException as error:
            # Keep any exception, as a Deferred does for its callbacks.
            self._give_up(error)
        finally:
            # Decrement after the callbacks: they may complete other commands.
            self._under_way -= len(replies)
            self._intake.remove(places)
        if self._under_way <= self._resume_at and not self._sending:
            self._go_on()

    def give_up(self, error: BaseException) -> None:
        """Send nothing more, drop all further results, and fail with ``error`` when the pending commands have ended."""
        self._give_up(error)
        self._check()

    def go_on(self) -> None:
        """Send more commands, because the backlog has become shorter."""
        if not self._sending:
            self._go_on()

    def _give_up(self, error: BaseException) -> None:
        self._given_up = True
        self._refused.clear()
        self._stop(error)

    def failed(self, place: int, error: BaseException | Failure) -> None:
        """Pass an error to ``each``."""
        self.answered((place,), (error.value if isinstance(error, Failure) else error,))

    def _other_ended(self, result: Any, single: _SingleCommand) -> None:
        self._others.pop(single.place)
        error = result.value if isinstance(result, Failure) else None
        if self._is_queue_full(error) and not self.called and not self._given_up:
            self._turn_away(single)
            if not self._sending:
                self._try_again()
        elif error is not None:
            self.failed(single.place, error)
        else:
            self.answered((single.place,), (result,))

    def _is_queue_full(self, error: BaseException | None) -> bool:
        """Tell whether full queues rejected a command or all of its parts, and may accept it later."""
        if isinstance(error, PartialFailure):
            refused = all(isinstance(outcome, TooManyPending) for _, outcome in error.outcomes)
            return refused and len(error.outcomes) <= self._router.max_pending
        return isinstance(error, TooManyPending)

    # ---- sending

    @property
    def _more(self) -> bool:
        """Whether there are commands that were not sent yet."""
        return self._calls is not None or bool(self._refused)

    @property
    def _room(self) -> int:
        """The number of commands that may be sent now."""
        if self._full or self.called or (self._intake.bytes >= self._intake.limit and self._under_way):
            return 0
        return self._most - self._under_way - len(self._backlog)

    def _go_on(self) -> None:
        if self._more and (self._intake.bytes <= self._intake.limit // 2 or not self._under_way):
            self._send()
        else:
            self._check()

    def _send(self) -> None:
        if self._sending:
            return
        # Commands that fail at once call `answered` during this method.
        self._sending = True
        self._full = False
        self._batches = [batch for batch in self._batches if not batch.called]
        refused, self._refused = self._refused, deque()
        now = self._router.clock.seconds()
        for entry in refused:
            if entry.deadline <= now:
                self._under_way += len(entry)
                entry.time_out(now, "rejected because the queue of its node is full", written=False)
            elif isinstance(entry, Batch):
                for batch in entry.regrouped(self._router.destinations):
                    self._send_entry(batch)
            else:
                self._send_entry(entry)
        enough = self._intake.count + _AT_A_TIME
        while self._calls is not None and self._room > 0:
            if self._router.closed and not self._to_the_end:
                self._stop(ClientClosed("the client was closed", maybe_executed=self._history.written))
            elif self._intake.count >= enough:
                # All of them failed at once.  The iterable may be endless, so continue in a later turn of the reactor.
                self._router.retries.add(self._send)
                break
            else:
                self._take(self._calls, min(self._room, _AT_ONCE))
        self._sending = False
        # Wait for half of the pending commands: each write then has many commands, and the rejected ones are not tried
        # again after each reply.
        self._resume_at = (self._under_way if self._full else self._most) // 2
        self._try_again()
        self._check()

    def _try_again(self) -> None:
        """Try again later if other callers fill the queues and no reply to this run will start the next attempt."""
        if self._full and not self._under_way and not self.called:
            self._router.retries.add(self._send)

    def _send_entry(self, entry: _Entry) -> None:
        """Send a batch or a single command, or let it wait behind the rejected ones."""
        if self.called or self._given_up:
            return
        self._under_way += len(entry)
        if self._full:
            self._turn_away(entry)
        elif isinstance(entry, Batch):
            try:
                self._router.route(entry)
            except TooManyPending:
                self._turn_away(entry)
            else:
                self._batches.append(entry)
                self._history.written = True
        else:
            timeout = None if entry.deadline == inf else max(entry.deadline - self._router.clock.seconds(), 0)
            self._history.written = True
            sent = self._router.execute(entry.words, None, timeout, terms=self._router.admitted)
            self._others[entry.place] = sent
            sent.addBoth(self._other_ended, entry)

    def _turn_away(self, entry: _Entry) -> None:
        self._under_way -= len(entry)
        self._full = True
        if not self._given_up:
            self._refused.append(entry)

    def _take(self, calls: Iterator[Sequence[Arg]], most: int) -> None:
        """Send up to ``most`` commands: most of them in batches, one for each node, the others one by one."""
        router, intake = self._router, self._intake
        now = router.clock.seconds()
        deadline = inf if self._timeout is None else now + self._timeout
        batches = Batches(self, router.destinations, now, deadline)
        end = intake.count + most

        def stopped() -> bool:
            # The caller's code has ended the run, while it gave a command or took a result.
            return self._calls is not calls or (router.closed and not self._to_the_end)

        try:
            while True:
                single = take(intake, calls, end - intake.count, router.commands, batches, stopped)
                if single is not None:
                    # Send earlier commands first: they can have the same keys.
                    self._send_batches(batches)
                    self._take_single(intake.count - 1, *single, now, deadline)
                if intake.count == end or intake.bytes >= intake.limit or stopped():
                    break
                if single is None:
                    self._calls = None
                    break
        except BaseException as error:
            # The iterable of the caller raised.
            self._stop(error)
        self._send_batches(batches)

    def _take_single(self, place: int, words: Sequence[Arg], now: float, deadline: float) -> None:
        if isinstance(words, (str, bytes)):
            raise TypeError(f"a command must be a sequence of words, not {type(words).__name__}")
        # Copy the words: the caller may change the list later.
        single = _SingleCommand(self, place, tuple(words), now, deadline)
        self._intake.add(place, sum(len(w) for w in single.words if isinstance(w, (bytes, str, bytearray, memoryview))))
        self._send_entry(single)

    def _send_batches(self, batches: Batches) -> None:
        gathered = list(batches.values())
        batches.clear()
        for batch in gathered:
            batch.seal()
            self._send_entry(batch)

    # ---- the end

    def _stop(self, error: BaseException) -> None:
        """Take no further commands, and fail when the pending ones have ended."""
        self._failure = self._failure or error
        self._calls = None

    def _check(self) -> None:
        if not self._more and not self._under_way and not self.called:
            self.called = True
            self._batches = []
            self._each = _ignore
            failure, self._failure = self._failure, None
            if failure is not None:
                self._ended.errback(failure)
            else:
                self._ended.callback(self._intake.count)

    def _cancelled(self, done: Deferred[Any]) -> None:
        self.called = True
        self._calls = None
        # Cancelled requests can refer to this object for a long time.
        self._each = _ignore
        self._refused.clear()
        batches, self._batches = self._batches, []
        for batch in batches:
            batch.called = True
        # Commands that are not written yet are not sent.
        self._router.note_cancel(done)
        for sent in list(self._others.values()):
            sent.cancel()


class _SingleCommand:
    """A command of a run that is sent by itself."""

    def __init__(self, run: PipelineRun, place: int, words: tuple[Arg, ...], since: float, deadline: float) -> None:
        self._since = since
        self.place = place
        self.words = words
        self.deadline = deadline
        self._run = run

    def __len__(self) -> int:
        """The number of commands, as for a batch."""
        return 1

    def time_out(self, now: float, where: str, *, written: bool) -> None:
        """Fail it with CommandTimeout: its deadline has passed while it was ``where``."""
        name = str(self.words[0]) if self.words else "a command"
        self._run.failed(self.place, timeout_error(name, now - self._since, None, where, written=written))


_Entry = Batch | _SingleCommand


def _ignore(place: int, reply: object) -> None:
    """Replaces ``each`` when it must not be called any more."""
