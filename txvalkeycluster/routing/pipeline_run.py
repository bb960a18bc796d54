"""Sending very many commands: so many are under way at a time that every node is busy and memory is bounded.

Most commands go in batches, one for each node.  Those without one key in a fixed place go by themselves.  What full
queues refuse is sent again, before anything new.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import islice
from math import inf
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..commands import Command
from ..commands.encoder import Arg, Packed, pack_keyed
from ..connection.node import NodeConnection
from ..errors import ClientClosed, PartialFailure, TooManyPending
from ..requests.batch import Batch
from ..requests.history import timeout_error
from ..requests.retry_queue import RetryQueue
from .router import Router

# What is on its way at any time: enough to keep every node busy, too little to fill the memory.
_COMMANDS = 4096
_BYTES = 1 << 20
# Sent before the next are packed, so that the servers start early.
_AT_ONCE = 2048
# Taken before others have their turn, however fast they end.
_AT_A_TIME = 2 * _COMMANDS
# Below this a command counts as one, and its bytes do not.
_SMALL = 256
_PIPELINE = Command("a pipeline")


class PipelineRun:
    """Keeps so many commands on their way until there are no more: the whole that they are parts of."""

    def __init__(
        self,
        router: Router,
        calls: Iterable[Sequence[Arg]],
        timeout: float | None,
        each: Callable[[int, Any], object],
        *,
        to_the_end: bool,
        backlog: Sized = (),
    ) -> None:
        """``to_the_end`` has a client that is closed meanwhile serve them all, and not only what is on its way.

        ``backlog`` holds results that have yet to be dealt with; so many commands fewer are on their way.
        """
        self._ended: Deferred[int] = Deferred(self._cancelled)
        #: Fires with how many there were.
        call = router.delegate(_PIPELINE, self._ended)
        self.done: Deferred[Any] = call
        self._history = call.admit()
        #: Whether nobody waits for it any more.
        self.called = False
        self._router = router
        self._calls: Iterator[Sequence[Arg]] | None = None
        self._timeout = timeout
        self._each = each
        self._backlog = backlog
        self._to_the_end = to_the_end
        self._count = 0
        self._under_way = 0
        self._most = max(min(_COMMANDS, router.max_pending // 2), 1)
        # The next ones go out when so many are left under way.
        self._resume_at = self._most // 2
        # Of those that are not small.
        self._sizes: dict[int, int] = {}
        self._bytes = 0
        # Those that go as one, and the Deferred of each other.
        self._batches: list[Batch] = []
        self._others: dict[int, Deferred[Any]] = {}
        # Turned away for want of room, to be sent again before any others.
        self._refused: deque[_Entry] = deque()
        # Whether one has been turned away: what follows waits behind it.
        self._full = False
        self._sending = False
        self._failure: BaseException | None = None
        # Whether ``each`` has raised, and is told nothing more.
        self._given_up = False
        if router.closed:
            self._stop(ClientClosed(router.closed_because))
        else:
            try:
                self._calls = iter(calls)
            except BaseException as error:
                # It is the caller's, and may be anything.
                self._stop(error)
        self._send()
        if self.done.called:
            self.done = router.next_turn.postponed(self.done)

    # ---- what becomes of them

    def answered(self, places: Sequence[int], replies: Sequence[Any]) -> None:
        """Hand replies, or errors, over."""
        each = self._each
        try:
            for place, reply in zip(places, replies, strict=True):
                if self.called or self._given_up:
                    break
                each(place, reply)
        except BaseException as error:
            # As a Deferred keeps whatever its callbacks raise.
            self._give_up(error)
        finally:
            # Decrement after the callbacks: they may complete other commands.
            self._under_way -= len(replies)
            if self._sizes:
                self._bytes -= sum(self._sizes.pop(place, 0) for place in places)
        if self._under_way <= self._resume_at and not self._sending:
            self._go_on()

    def give_up(self, error: BaseException) -> None:
        """Take no more, tell no more, and fail with ``error`` when what is on its way has ended."""
        self._give_up(error)
        self._check()

    def go_on(self) -> None:
        """Send more, now that the backlog is shorter."""
        if not self._sending:
            self._go_on()

    def _give_up(self, error: BaseException) -> None:
        self._given_up = True
        self._refused.clear()
        self._stop(error)

    def failed(self, place: int, error: Any) -> None:
        """Hand an error over."""
        self.answered((place,), (error.value if isinstance(error, Failure) else error,))

    def _other_ended(self, result: Any, single: _SingleCommand) -> None:
        self._others.pop(single.place)
        error = result.value if isinstance(result, Failure) else None
        if self._is_for_want_of_room(error) and not self.called and not self._given_up:
            self._turn_away(single)
            if not self._sending:
                self._try_again()
        elif error is not None:
            self.failed(single.place, error)
        else:
            self.answered((single.place,), (result,))

    def _is_for_want_of_room(self, error: BaseException | None) -> bool:
        """Whether a command, or every part of it, was turned away, and need not be the next time."""
        if isinstance(error, PartialFailure):
            refused = all(isinstance(outcome, TooManyPending) for _, outcome in error.outcomes)
            return refused and len(error.outcomes) <= self._router.max_pending
        return isinstance(error, TooManyPending)

    # ---- what goes out

    @property
    def _more(self) -> bool:
        """Whether there are commands that are not on their way."""
        return self._calls is not None or bool(self._refused)

    @property
    def _room(self) -> int:
        """How many commands may go out now."""
        if self._full or self.called or (self._bytes >= _BYTES and self._under_way):
            return 0
        return self._most - self._under_way - len(self._backlog)

    def _go_on(self) -> None:
        if self._more and (self._bytes <= _BYTES // 2 or not self._under_way):
            self._send()
        else:
            self._check()

    def _send(self) -> None:
        if self._sending:
            return
        # Replies may come while we send, of commands that fail at once.
        self._sending = True
        self._full = False
        self._batches = [batch for batch in self._batches if not batch.called]
        refused, self._refused = self._refused, deque()
        now = self._router.clock.seconds()
        for entry in refused:
            if entry.deadline <= now:
                self._under_way += len(entry)
                entry.time_out(now, "turned away for want of room", written=False)
            elif isinstance(entry, Batch):
                for batch in entry.regrouped(self._router.destinations):
                    self._send_entry(batch)
            else:
                self._send_entry(entry)
        enough = self._count + _AT_A_TIME
        while self._calls is not None and self._room > 0:
            if self._router.closed and not self._to_the_end:
                self._stop(ClientClosed("the client was closed", maybe_executed=self._history.written))
            elif self._count >= enough:
                # They all fail at once, and there may be no end of them.
                self._router.retries.add(self._send)
                break
            else:
                self._take(self._calls, min(self._room, _AT_ONCE))
        self._sending = False
        # Half a load at a time, so that each write holds many, and that not every reply has the refused tried again.
        self._resume_at = (self._under_way if self._full else self._most) // 2
        self._try_again()
        self._check()

    def _try_again(self) -> None:
        """If others fill the queues, and nothing of ours will tell when there is room."""
        if self._full and not self._under_way and not self.called:
            self._router.retries.add(self._send)

    def _send_entry(self, entry: _Entry) -> None:
        """Send a batch or a command by itself, or have it wait behind what was turned away."""
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
        """Send up to so many commands: most of them as batches, one for each node, the others by themselves."""
        commands, destinations = self._router.commands, self._router.destinations
        now = self._router.clock.seconds()
        deadline = inf if self._timeout is None else now + self._timeout
        batches: dict[NodeConnection | RetryQueue, Batch] = {}
        first, router, to_the_end = self._count, self._router, self._to_the_end
        try:
            for place, words in enumerate(islice(calls, most), first):
                self._count = place + 1
                payload: Packed = []
                try:
                    command = commands[words[0]]
                    if command.keyed and len(words) > 1 and words.__class__ is not str:
                        slot, payload = pack_keyed(command.wire_name, words)
                except Exception:
                    # Sent by itself, it will be said what is wrong with it.
                    payload = []
                if payload.__class__ is bytes:
                    destination = destinations[slot]
                    batch = batches.get(destination)
                    if batch is None:
                        batch = batches[destination] = Batch(self, slot, now, deadline)
                    batch.add(place, payload, command, slot)
                    if len(payload) > _SMALL:
                        self._sizes[place] = len(payload)
                        self._bytes += len(payload)
                else:
                    # Those before it may be about the same keys.
                    self._send_batches(batches)
                    self._take_single(place, words, now, deadline)
                if self._bytes >= _BYTES or self._calls is not calls or (router.closed and not to_the_end):
                    # In the last two cases the caller's code has ended it, while it gave a command or was told of one.
                    break
            else:
                if self._count - first < most:
                    self._calls = None
        except BaseException as error:
            # The caller's iterable raised.
            self._stop(error)
        self._send_batches(batches)

    def _take_single(self, place: int, words: Sequence[Arg], now: float, deadline: float) -> None:
        if isinstance(words, (str, bytes)):
            raise TypeError(f"a command is a sequence of words, not {type(words).__name__}")
        # The caller may use a list of words again.
        single = _SingleCommand(self, place, tuple(words), now, deadline)
        self._sizes[place] = sum(len(w) for w in single.words if isinstance(w, (bytes, str, bytearray, memoryview)))
        self._bytes += self._sizes[place]
        self._send_entry(single)

    def _send_batches(self, batches: dict[NodeConnection | RetryQueue, Batch]) -> None:
        gathered = list(batches.values())
        batches.clear()
        for batch in gathered:
            batch.seal()
            self._send_entry(batch)

    # ---- the end

    def _stop(self, error: BaseException) -> None:
        """Take no more, and fail when those that were taken have ended."""
        self._failure = self._failure or error
        self._calls = None

    def _check(self) -> None:
        if not self._more and not self._under_way and not self.called:
            self.called = True
            self._batches = []
            self._each = _to_nobody
            failure, self._failure = self._failure, None
            if failure is not None:
                self._ended.errback(failure)
            else:
                self._ended.callback(self._count)

    def _cancelled(self, done: Deferred[Any]) -> None:
        self.called = True
        self._calls = None
        # Tombstones may know us for long.
        self._each = _to_nobody
        self._refused.clear()
        batches, self._batches = self._batches, []
        for batch in batches:
            batch.called = True
        # What is not written will not be.
        self._router.note_cancel(done)
        for sent in list(self._others.values()):
            sent.cancel()


class _SingleCommand:
    """A command of a run that goes by itself."""

    def __init__(self, run: PipelineRun, place: int, words: tuple[Arg, ...], since: float, deadline: float) -> None:
        self._since = since
        self.place = place
        self.words = words
        self.deadline = deadline
        self._run = run

    def __len__(self) -> int:
        """How many commands it is, as of a batch."""
        return 1

    def time_out(self, now: float, where: str, *, written: bool) -> None:
        """End it because its deadline has passed while it was ``where``."""
        name = str(self.words[0]) if self.words else "a command"
        self._run.failed(self.place, timeout_error(name, now - self._since, None, where, written=written))


_Entry = Batch | _SingleCommand


def _to_nobody(place: int, reply: object) -> None:
    """In the place of ``each`` when that is not to be told any more."""
