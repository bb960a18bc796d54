"""Pipeline: many commands, one Deferred for the whole, results in the order they were queued."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .commands.building import Text
from .commands.queued import QueuedCommands
from .commands.replies import Convert
from .errors import ClientClosed, TooManyPending
from .pack import Arg
from .router import Router

# What is on its way at any time: enough to keep every node busy, too little to fill the memory.
_BYTES = 1 << 20
_COMMANDS = 4096
_OVERHEAD = 64

_PAUSE = 0.01

_Call = tuple[Sequence[Arg], Convert | None]
_Taken = tuple[int, Sequence[Arg], Convert | None, int]


class Pipeline(QueuedCommands[Text]):
    """Commands that are queued by the client's own methods, and go out together.

    They go to their nodes side by side, in order for each key, and each follows its own redirects.  It is no
    transaction: other clients' commands may come in between, and one that fails keeps no other from being executed.
    """

    def __init__(self, router: Router, timeout: float | None) -> None:
        self._router = router
        self._timeout = timeout
        self._calls: list[_Call] = []

    def __len__(self) -> int:
        return len(self._calls)

    def __repr__(self) -> str:
        return f"<Pipeline of {len(self._calls)} commands>"

    def add(self, *args: Arg) -> Self:
        """Queue any command."""
        self._calls.append((args, None))
        return self

    def execute(self, *, raise_first: bool = False) -> Deferred[list[Any]]:
        """Send what is queued, and begin anew; fires with the results in order, errors in their places.

        With ``raise_first`` it fails, when all have ended, with the first error there is.
        """
        calls, self._calls = self._calls, []
        results: list[Any] = [None] * len(calls)
        done = _Run(self._router, iter(calls), self._timeout, results.__setitem__).done

        def finish(_: object) -> list[Any]:
            if raise_first:
                for result in results:
                    if isinstance(result, Exception):
                        raise result
            return results

        return done.addCallback(finish)

    def stream(self, commands: Iterable[Sequence[Arg]], each: Callable[[int, Any], object]) -> Deferred[int]:
        """Send commands as they come out of an iterable, and hand each result, or error, to ``each`` with its number.

        No more of them is held in memory than is on its way.  Results come in the order in which they arrive.  Fires
        with how many there were; fails with what ``commands`` or ``each`` raises, when those on their way have ended.
        """
        calls: Iterator[_Call] = ((args, None) for args in commands)
        return _Run(self._router, calls, self._timeout, each).done

    def _run(self, words: Sequence[Any], convert: Convert | None = None) -> Any:
        self._calls.append((words, convert))
        return self


class _Run:
    """Keeps so many commands on their way until there are no more."""

    def __init__(
        self, router: Router, calls: Iterator[_Call], timeout: float | None, each: Callable[[int, Any], object]
    ) -> None:
        self.done: Deferred[Any] = Deferred(self._cancelled)
        self._router = router
        self._calls: Iterator[_Call] | None = calls
        self._timeout = timeout
        self._each = each
        self._count = 0
        self._bytes = 0
        self._sending = False
        self._given_up = False
        self._full = False
        # Turned away for want of room, to be sent again.
        self._refused: deque[_Taken] = deque()
        self._most = max(min(_COMMANDS, router.max_pending // 2), 1)
        self._failure: Exception | None = None
        self._on_their_way: dict[int, Deferred[Any]] = {}
        self._send()

    def _send(self) -> None:
        # Replies may come while we send, of commands that fail at once.
        self._sending = True
        self._full = False
        while self._bytes < _BYTES and len(self._on_their_way) < self._most and not self._full:
            taken = self._refused.popleft() if self._refused else self._take()
            if taken is None:
                break
            number, words, convert, size = taken
            self._bytes += size
            sent = self._router.execute(words, convert, self._timeout)
            self._on_their_way[number] = sent
            sent.addBoth(self._arrived, taken)
        self._sending = False
        if self._full and not self._on_their_way and not self._given_up:
            # Others fill the queues; nothing of ours will tell when there is room.
            self._router.clock.callLater(_PAUSE, self._send)
        self._check()

    def _take(self) -> _Taken | None:
        if self._calls is None:
            return None
        try:
            words, convert = next(self._calls)
            if isinstance(words, (str, bytes)):
                raise TypeError(f"a command is a sequence of words, not {type(words).__name__}")
            size = _size(words)
        except StopIteration:
            self._calls = None
            return None
        except Exception as error:
            self._stop(error)
            return None
        self._count += 1
        return self._count - 1, words, convert, size

    def _arrived(self, result: Any, taken: _Taken) -> None:
        number, _, _, size = taken
        self._on_their_way.pop(number, None)
        self._bytes -= size
        result = result.value if isinstance(result, Failure) else result
        if isinstance(result, TooManyPending) and not self._given_up:
            self._full = True
            self._refused.append(taken)
            return
        if isinstance(result, ClientClosed):
            # Nobody will serve the rest.
            self._stop(result)
        if self._failure is None and not self._given_up:
            try:
                self._each(number, result)
            except Exception as error:
                self._stop(error)
        if self._sending:
            return
        # The next ones go out half a load at a time, so that each write holds many.
        more = self._calls is not None or self._refused
        if more and self._bytes <= _BYTES // 2 and len(self._on_their_way) <= self._most // 2:
            self._send()
        else:
            self._check()

    def _stop(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._calls = None
        self._refused.clear()

    def _check(self) -> None:
        if self._calls is None and not self._refused and not self._on_their_way and not self._given_up:
            if self._failure is not None:
                self.done.errback(self._failure)
            else:
                self.done.callback(self._count)

    def _cancelled(self, _: Deferred[Any]) -> None:
        self._calls = None
        self._given_up = True
        self._refused.clear()
        for sent in list(self._on_their_way.values()):
            sent.cancel()


def _size(words: Sequence[Any]) -> int:
    return _OVERHEAD + sum(len(word) for word in words if isinstance(word, (bytes, str, bytearray, memoryview)))
